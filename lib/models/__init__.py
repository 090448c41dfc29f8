"""The embedding network: a timm backbone, pooling, the reduction to 512 numbers; weight files."""

from lib.models.network import Checkpoint, EmbeddingNetwork, GeM, build_model, load, normalise, save
from lib.models.weights import check_weights

__all__ = [
    "Checkpoint",
    "EmbeddingNetwork",
    "GeM",
    "build_model",
    "check_weights",
    "load",
    "normalise",
    "save",
]

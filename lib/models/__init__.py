"""The embedding network: a timm backbone, pooling, the reduction to 512 numbers; weight files."""

from lib.models.network import (
    Checkpoint,
    EmbeddingNetwork,
    build_model,
    fit_pca_neck,
    load,
    normalise,
    save,
)

"""The embedding network of both systems: backbone, pooling, reduction to 512, BatchNorm.

GLR20 §2.2: global average pooling; GLR21: GeM (p = 3). Losses receive the output of BatchNorm.
GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.); GLR21 = 2nd place, Google Landmark
Retrieval 2021 (Zhang et al.).
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from lib.artifacts import atomic_path
from lib.config import ModelConfig
from lib.models.backbones import build_backbone, fetch_ibn_net, from_ibn_net, try_backbone
from lib.models.weights import WeightReport, check_weights, load_weights, read_file, read_weights


def normalise(
    images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Pixel values 0 to 255, of any dtype, → float32 `(x / 255 - mean) / std` per channel.

    >>> normalise(torch.full((1, 3, 1, 1), 255), (0.5, 0.5, 0.5), (0.5, 0.5, 0.25)).flatten()
    tensor([1., 1., 2.])
    """
    factor = 1.0 / (255.0 * torch.tensor(std, device=images.device).view(-1, 1, 1))
    shift = torch.tensor(mean, device=images.device).view(-1, 1, 1) * 255.0
    return images.float().sub(shift).mul_(factor)


class GeM(nn.Module):
    """Generalised-mean pooling: (B, C, H, W) → (B, C, 1, 1), `mean(x^p)^(1/p)`; GLR21: p = 3."""

    def __init__(self, p: float = 3.0, *, is_trained: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        # A plain number when fixed: raising to it is several times faster than to a tensor.
        self.p = nn.Parameter(torch.tensor(float(p))) if is_trained else float(p)
        self.eps = eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # In float32, because the cube of a half-precision activation overflows.
        with torch.autocast(features.device.type, enabled=False):
            powers = features.float().clamp(min=self.eps).pow(self.p)
            return powers.mean(dim=(2, 3), keepdim=True).pow(1.0 / self.p)


class EmbeddingNetwork(nn.Module):
    """Normalised images (B, 3, H, W) → raw embeddings (B, `training_dim`) for the losses.

    They are the output of the neck; of the neck `pca` its input, because it is fitted after
    training. `embed` gives (B, `config.embedding_dim`) in any case. `mean` and `std`, in [0, 1],
    are the configuration's, else those of the backbone's training; `weight_report` tells which
    weights of a file fitted the backbone.
    """

    def __init__(self, backbone: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        width, dim = backbone.output.channels, config.embedding_dim
        dim = {"none": width, "pca": min(width, dim)}.get(config.neck, dim)
        self.config = dataclasses.replace(config, embedding_dim=dim)
        self.training_dim = width if config.neck == "pca" else dim
        self.weight_report: WeightReport | None = None
        self.mean: tuple[float, ...] = config.mean or tuple(backbone.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = config.std or tuple(backbone.pretrained_cfg["std"])
        self.backbone = backbone
        gem = GeM(config.gem_p, is_trained=config.gem_trained)
        self.pool = gem if config.pooling == "gem" else nn.AdaptiveAvgPool2d(1)
        if config.pooling == "cls" and not backbone.output.has_class_token:
            raise ValueError(
                f"expected a backbone with a class token for the pooling 'cls', found "
                f"{config.backbone} without; choose 'gap' or 'gem'"
            )
        self.reduce, self.norm = nn.Identity(), nn.Identity()
        if config.neck != "none":
            self.reduce = nn.Conv2d(width, dim, 1, bias=config.neck == "pca")
            nn.init.xavier_uniform_(self.reduce.weight)
        if config.neck == "pca":
            self.reduce.requires_grad_(False)
        if config.neck == "linear_bn":
            self.norm = nn.BatchNorm1d(dim)
            self.norm.bias.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Raw embeddings for the losses, (B, D)."""
        features = self._pool(images)
        is_pca = self.config.neck == "pca"
        return features.flatten(1) if is_pca else self.norm(self.reduce(features).flatten(1))

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        """The pooled features as float32 rows of unit length, (B, C): what `fit_pca_neck` takes."""
        return F.normalize(self._pool(images).flatten(1).float(), dim=1)

    def _pool(self, images: torch.Tensor) -> torch.Tensor:
        output, is_class_token = self.backbone(images), self.config.pooling == "cls"
        return self.pool(self.backbone.output.as_map(output, is_class_token=is_class_token))

    def check_size(self, size: int) -> None:
        """Refuse (ValueError) images of a size that the backbone does not take."""
        tried = self.backbone.output
        if size == tried.size or (tried.is_any_size and size > tried.size):
            return
        try:
            try_backbone(self.backbone, size)
        except Exception as error:  # networks raise nearly anything for a size that does not fit
            other = "another img_size in backbone_options where it has one, or another backbone"
            is_small = "raise `size` or choose another backbone"
            advice = is_small if tried.is_any_size else f"give {tried.size} px, {other}"
            raise ValueError(
                f"expected images of a size for {self.config.backbone}, found {size} px; {advice}"
            ) from error

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings for search: float32 rows of unit length, (B, D)."""
        if self.config.neck != "pca":
            return F.normalize(self(images).float(), dim=1)
        features = self.pooled(images)
        # In float32, because whitening enlarges small differences.
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.reduce(features[:, :, None, None]).flatten(1), dim=1)


def build_model(config: ModelConfig) -> EmbeddingNetwork:
    """Build the network with random reduction and the backbone weights of `config.weights`.

    `weights` is "" (random), "pretrained" (fetched by timm; with IBN the official ones) or the path
    of a local file.
    """
    name, options, weights = config.backbone, config.backbone_options, config.weights
    is_fetched = weights == "pretrained" and not options.get("ibn")
    backbone = build_backbone(name, options, drop_path=config.drop_path, is_pretrained=is_fetched)
    model = EmbeddingNetwork(backbone, config)
    if weights and not is_fetched:
        is_ibn_net = weights == "pretrained"
        found = fetch_ibn_net(name) if is_ibn_net else from_ibn_net(read_weights(weights))
        origin = "the file of IBN-Net" if is_ibn_net else weights
        model.weight_report = load_weights(backbone, found, origin=origin)
    return model


def fit_pca_neck(model: EmbeddingNetwork, features: np.ndarray) -> None:
    """Set the neck `pca` to the PCA of `features` (N, C), rows of `EmbeddingNetwork.pooled`.

    Components are divided by their singular values to the power `whitening`, relative to the mean
    singular value. Where N images span fewer dimensions than the embedding has, the others are 0.
    Features that are not finite, or all equal, raise ValueError.
    """
    width, dim = features.shape[1], model.config.embedding_dim
    if not np.isfinite(features).all():
        raise ValueError(
            "expected finite features for the neck 'pca', found NaN or infinity; look at the "
            "weights of the backbone"
        )
    mean = features.mean(axis=0, dtype=np.float64)
    _, s, components = np.linalg.svd(features - mean, full_matrices=False)  # s falls
    s = s[:dim]
    s = s[s > 1e-5 * s[0]]  # less is rounding of float32
    if not len(s):
        raise ValueError(
            f"expected features that differ for the neck 'pca', found {len(features):,} equal "
            "rows; look at the images and at the weights of the backbone"
        )
    weight = np.zeros((dim, width))
    weight[: len(s)] = (s / s.mean())[:, None] ** -model.config.whitening * components[: len(s)]
    with torch.no_grad():
        model.reduce.weight.copy_(torch.from_numpy(weight)[:, :, None, None])
        model.reduce.bias.copy_(torch.from_numpy(-weight @ mean))


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: the network, the head's weights by name, and recorded facts."""

    model: EmbeddingNetwork
    head: Mapping[str, torch.Tensor]
    facts: Mapping[str, object]


def save(
    path: str | Path, model: EmbeddingNetwork, head: nn.Module | None = None, **facts: object
) -> Path:
    """Write network, its configuration, head and `facts` (JSON values) as one safetensors file."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{name}": value for name, value in head.state_dict().items()}
    notes = {"config": json.dumps(dataclasses.asdict(model.config)), "facts": json.dumps(facts)}
    with atomic_path(path) as temporary:
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary, notes)
    return Path(path)


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Checkpoint:
    """Read what `save` wrote and build the network again, in evaluation mode."""
    tensors, notes = read_file(path)
    if "config" not in notes:
        raise ValueError(
            f"expected a checkpoint with its configuration, found only weights in "
            f"{path}; name the file in `weights` of a ModelConfig instead"
        )
    try:
        settings = json.loads(notes["config"], object_hook=_with_tuples)
        config, facts = ModelConfig(**settings), json.loads(notes["facts"])
        model = build_model(dataclasses.replace(config, weights=""))
        model.load_state_dict(_under("model.", tensors))
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"expected a checkpoint of this version in {path}, found other settings or weights "
            f"({type(error).__name__}); train it again"
        ) from error
    check_weights(tensors, str(path))
    model.config = config
    return Checkpoint(model.to(device).eval(), _under("head.", tensors), facts)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

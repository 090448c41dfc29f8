"""From pixels to descriptors: one image seen several ways, as one unit row.

[20] and [21] test at a larger size than they train at; mirrored and rescaled views are the usual
cheap additions, whose embeddings are averaged ([21]'s code has the scales 0.707, 1 and 1.414 and
multiples of 16 pixels).
"""

import torch
import torch.nn.functional as F

from lib.augment import normalise
from lib.config import InferenceConfig
from lib.models import EmbeddingNetwork

STEP = 16  # pixels; the sizes of other scales are multiples of it


def sizes(config: InferenceConfig) -> tuple[int, ...]:
    """The side of every view in pixels.

    >>> sizes(InferenceConfig(448, scales=(0.707, 1.0, 1.414)))
    (320, 448, 640)
    """
    return tuple(
        config.size if scale == 1 else max(STEP, STEP * round(config.size * scale / STEP))
        for scale in config.scales
    )


def largest_size(config: InferenceConfig) -> int:
    """The side at which images are read; the smaller views are made from that.

    Raises:
        ValueError: if there is no scale, or one is not positive.
    """
    if not config.scales or min(config.scales) <= 0:
        raise ValueError(
            f"expected one or more positive scales, found {config.scales}; (1.0,) is one plain view"
        )
    return max(sizes(config))


def describe(
    model: EmbeddingNetwork, pixels: torch.Tensor, config: InferenceConfig
) -> torch.Tensor:
    """Describe uint8 images (B, 3, S, S) by unit rows (B, D) in float32.

    Args:
        model: on the device of `pixels`.
        pixels: values 0 to 255, S as `largest_size` says.
        config: which views there are.
    """
    images = normalise(pixels, model.mean, model.std)
    total = torch.zeros((), device=images.device)
    for side in sizes(config):
        view = images if side == images.shape[-1] else _resized(images, side)
        view = view.contiguous(memory_format=torch.channels_last)
        total = total + model.embed(view)
        if config.flip:
            total = total + model.embed(view.flip(3))
    return F.normalize(total, dim=1)


def _resized(images: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)

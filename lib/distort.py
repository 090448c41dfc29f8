"""Random geometry of a batch: one resampling per image ([20], code).

Rotation, zoom and crop compose into a single `grid_sample`, so nothing is interpolated twice; it
costs a few milliseconds per batch on two cores. Colour is in `lib.recolour`.
"""

import math

import torch
import torch.nn.functional as F


def draw_uniform(
    images: torch.Tensor, generator: torch.Generator, low: float, high: float, *shape: int
) -> torch.Tensor:
    """Draws in [low, high) on the device of `images`, (B, *shape)."""
    draws = torch.rand(len(images), *shape, generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def random_affine(
    images: torch.Tensor,
    *,
    degrees: float = 0.0,
    scale: tuple[float, float] = (0.7, 1.3),
    aspect: tuple[float, float] = (1.0, 1.0),
    rotate_p: float = 0.5,
    generator: torch.Generator,
) -> torch.Tensor:
    """Rotate, resize, then crop or pad back to the old size at a random place ([20], code).

    Each image has its own draws. What comes from outside the image is 0.

    Args:
        images: (B, C, H, W), any dtype.
        degrees: the angle is uniform in ± this, with probability `rotate_p`, otherwise 0.
        scale: range of the zoom; below 1 the whole image is seen with a border.
        aspect: range of width over height of the zoom.
        rotate_p: probability of a rotation.
        generator: source of all draws.
    """
    angle = draw_uniform(images, generator, -degrees, degrees)
    angle = angle * (draw_uniform(images, generator, 0.0, 1.0) < rotate_p)
    zoom = draw_uniform(images, generator, *scale)
    stretch = draw_uniform(images, generator, *aspect).sqrt()
    zooms = torch.stack([zoom * stretch, zoom / stretch], dim=1)
    # The window may stand anywhere inside a larger image, or around a smaller one.
    place = torch.stack([draw_uniform(images, generator, -1.0, 1.0) for _ in range(2)], dim=1)
    return affine(images, angle * (math.pi / 180), zooms, place * (1 - 1 / zooms).abs())


def affine(
    images: torch.Tensor, angle: torch.Tensor, zooms: torch.Tensor, shifts: torch.Tensor
) -> torch.Tensor:
    """Resample each image bilinearly, turned by `angle` and zoomed about a shifted centre.

    Args:
        images: (B, C, H, W); integers are resampled as float32.
        angle: (B,) radians, counter-clockwise as one looks at the image.
        zooms: (B, 2) factors along x and y, applied after the turn.
        shifts: (B, 2) where the middle of the result lies in the turned image, in half sides.
    """
    images = images if images.is_floating_point() else images.float()
    height, width = images.shape[-2:]
    x = _pixel_centres(width, images)[None, None, :] / _column(zooms[:, 0]) + _column(shifts[:, 0])
    y = _pixel_centres(height, images)[None, :, None] / _column(zooms[:, 1]) + _column(shifts[:, 1])
    cos, sin = _column(angle.cos()), _column(angle.sin())
    # Coordinates run from -1 to 1 along both sides, so a turn must know their ratio.
    grid = torch.stack(
        [cos * x - sin * (height / width) * y, sin * (width / height) * x + cos * y], -1
    )
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def _pixel_centres(side: int, images: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(side, device=images.device, dtype=images.dtype)
    return (2 * steps + 1) / side - 1


def _column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None]

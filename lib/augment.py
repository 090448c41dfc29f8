"""Augmentation of whole batches on their device, every draw from a generator that is passed in.

[21]: flip, zero padding and random crop, Random Erasing after normalisation. [20]: colour
(`lib.recolour`), flip or quarter turn, rotation, random zoom and crop (`lib.distort`), and
Corner-Cutmix (§2.1), which the training stage calls because it mixes two batches. Images are
(B, 3, H, W), pixel values 0 to 255 until `normalise`. A generator on the CPU gives the same draws
whatever device the images are on.
"""

import torch
import torch.nn.functional as F

from lib.config import AugmentConfig
from lib.distort import draw_uniform, random_affine
from lib.imagewise import ImageChain
from lib.recolour import colour_jitter, random_blur


class Augment:
    """The training pipeline of an `AugmentConfig`, for networks that expect `mean` and `std`."""

    def __init__(
        self, config: AugmentConfig, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        self.config = config
        self.mean = mean
        self.std = std
        self.chain: ImageChain | None = None  # built with the first batch, which tells its size

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment uint8 images (B, 3, H, W) and normalise them; the sides do not change."""
        c = self.config
        if c.chain:
            self.chain = self.chain or ImageChain(images.shape[-1])
            images = self.chain(images, generator)
        flip = random_turn if c.quarter_turns else random_flip
        images = flip(images, c.flip, generator=generator)
        images = pad_and_crop(images, c.pad, generator=generator)
        if c.brightness or c.contrast or c.saturation or c.hue or c.permute:
            images = colour_jitter(
                images,
                brightness=c.brightness,
                contrast=c.contrast,
                saturation=c.saturation,
                hue=c.hue,
                permute=c.permute,
                p=c.colour_p,
                generator=generator,
            )
        if c.blur:
            images = random_blur(images.float(), c.blur, generator=generator)
        images = normalise(images, self.mean, self.std)
        # From here on 0 is the mean colour, which both papers' code shows beside and in the image.
        if c.rotate or c.scale != (1.0, 1.0) or c.aspect != (1.0, 1.0):
            images = random_affine(
                images, degrees=c.rotate, scale=c.scale, aspect=c.aspect, generator=generator
            )
        return random_erasing(
            images, c.erasing, area=c.erasing_area, aspect=c.erasing_aspect, generator=generator
        )


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


def random_flip(
    images: torch.Tensor, p: float = 0.5, *, generator: torch.Generator
) -> torch.Tensor:
    """Mirror each image left to right with probability `p`."""
    if p <= 0.0:
        return images
    chosen = draw_uniform(images, generator, 0.0, 1.0) < p
    return torch.where(_per_image(chosen), images.flip(-1), images)


def random_turn(
    images: torch.Tensor, p: float = 0.5, *, generator: torch.Generator
) -> torch.Tensor:
    """With probability `p`, mirror a square image or turn it by 90 degrees either way ([20], code).

    The three come with equal odds.

    Raises:
        ValueError: the images are not square.
    """
    if images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"expected square images to turn, found {tuple(images.shape)}; resize them first"
        )
    kind = (draw_uniform(images, generator, 0.0, 1.0) / max(p, 1e-9) * 3).floor()
    views = images.flip(-1), images.rot90(1, (2, 3)), images.rot90(3, (2, 3))
    for place, turned in enumerate(views):
        images = torch.where(_per_image(kind == place), turned, images)
    return images


def pad_and_crop(images: torch.Tensor, pad: int, *, generator: torch.Generator) -> torch.Tensor:
    """Surround each image with `pad` zeros and cut a random window of the old size ([21])."""
    if pad == 0:
        return images
    count, _, height, width = images.shape
    corners = torch.randint(
        2 * pad + 1, (count, 2), generator=generator, device=generator.device
    ).tolist()
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = torch.empty_like(images)
    # Slices beat one gather, which needs an index per pixel (six times slower at 128 px).
    for window, image, (y, x) in zip(windows, padded, corners, strict=True):
        window.copy_(image[:, y : y + height, x : x + width])
    return windows


def random_erasing(
    images: torch.Tensor,
    p: float = 1.0,
    *,
    area: tuple[float, float] = (0.02, 0.20),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    value: float = 0.0,
    attempts: int = 100,
    generator: torch.Generator,
) -> torch.Tensor:
    """Fill one rectangle of each image with `value`, with probability `p` ([21]).

    Args:
        images: (B, C, H, W), normalised, so that the default value is the mean colour.
        p: share of images that lose a rectangle.
        area: range of the rectangle's share of the image.
        aspect: range of its height over its width.
        value: what fills it.
        attempts: draws of a size; an image for which none is smaller than itself stays whole.
        generator: source of all draws.
    """
    if p <= 0.0:
        return images
    rows, columns = images.shape[-2:]
    shares = draw_uniform(images, generator, *area, attempts) * (rows * columns)
    ratios = draw_uniform(images, generator, *aspect, attempts)
    heights, widths = (shares * ratios).sqrt().round(), (shares / ratios).sqrt().round()
    is_inside = (heights < rows) & (widths < columns)
    first = is_inside.int().argmax(dim=1, keepdim=True)
    height, width = (sides.gather(1, first)[:, 0] for sides in (heights, widths))
    top = (draw_uniform(images, generator, 0.0, 1.0) * (rows - height + 1)).floor()
    left = (draw_uniform(images, generator, 0.0, 1.0) * (columns - width + 1)).floor()
    chosen = (draw_uniform(images, generator, 0.0, 1.0) < p) & is_inside.any(dim=1)
    vertical = _between(rows, top, height) & chosen[:, None]
    erased = vertical[:, None, :, None] & _between(columns, left, width)[:, None, None, :]
    return images.masked_fill(erased, value)


def corner_cutmix(
    images: torch.Tensor,
    partners: torch.Tensor,
    *,
    generator: torch.Generator,
    low: float = 0.4,
    high: float = 0.6,
) -> torch.Tensor:
    """Paste the whole of each image, resized, over one corner of its partner ([20] §2.1).

    Height and width factors (uniform in `low` to `high`, independent) and the corner are drawn once
    per batch, so a patch covers 16 to 36 % of the partner.

    Args:
        images: (B, C, H, W) floats, the images A whose resized copies are pasted.
        partners: the same shape, the images B; not changed.
        generator: source of the three draws.
        low: smallest side of the patch over the side of the image.
        high: largest.

    Raises:
        ValueError: the shapes differ.
    """
    if images.shape != partners.shape:
        raise ValueError(
            f"expected images and partners of one shape, found {tuple(images.shape)} and "
            f"{tuple(partners.shape)}; pair the batches first"
        )
    height, width = images.shape[-2:]
    draws = torch.rand(2, generator=generator, device=generator.device).tolist()
    corner = int(torch.randint(4, (), generator=generator, device=generator.device))
    h, w = (
        max(1, round(side * (low + (high - low) * draw)))
        for side, draw in zip((height, width), draws, strict=True)
    )
    patch = F.interpolate(images, size=(h, w), mode="bilinear", align_corners=False)
    top, left = (corner // 2) * (height - h), (corner % 2) * (width - w)
    mixed = partners.clone()
    mixed[..., top : top + h, left : left + w] = patch
    return mixed


def _between(side: int, start: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Which of the positions 0 … side-1 lie in start … start+length-1, (B, side)."""
    positions = torch.arange(side, device=start.device)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


def _per_image(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]

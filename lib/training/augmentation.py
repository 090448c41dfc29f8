"""Random geometry of a batch: one resampling per image (GLR20, code).

Rotation, zoom and crop compose into a single `grid_sample`, so nothing is interpolated twice; it
costs a few milliseconds per batch on two cores. Colour is in `lib.training.augmentation`.

Random colour of a batch: one colour matrix per image, and blur (GLR20, code).

Brightness, contrast, saturation, hue and the order of the channels are linear in the pixel, so they
compose into a 3×3 matrix and cost one small product per batch, on whatever device the images are.

Augmentation of whole batches on their device, every draw from a generator that is passed in.

GLR21: flip, zero padding and random crop, Random Erasing after normalisation. GLR20: colour
(`lib.training.augmentation`), flip or quarter turn, rotation, random zoom and crop
(`lib.training.augmentation`), and
Corner-Cutmix (§2.1), which the training stage calls because it mixes two batches. Images are
(B, 3, H, W), pixel values 0 to 255 until `normalise`. A generator on the CPU gives the same draws
whatever device the images are on."""

import math

import torch
import torch.nn.functional as F

from lib.config import AugmentConfig
from lib.models import normalise
from lib.training.albumentations_chain import ImageChain


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
    """Rotate, resize, then crop or pad back to the old size at a random place (GLR20, code).

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


GREY = (0.299, 0.587, 0.114)  # luma of ITU-R 601, as PIL and torchvision have it
BLUR_SIGMA = 3 / 448  # largest, as a share of the side: GLR20 blurs by up to 3 pixels of 448


def colour_jitter(
    images: torch.Tensor,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    channel_shuffle: float = 0.0,
    p: float = 1.0,
    generator: torch.Generator,
) -> torch.Tensor:
    """Change brightness, contrast, saturation, hue and channel order of each image by its own draw.

    Contrast is about the image's mean grey and saturation about each pixel's grey, as in
    torchvision; the hue turns about the grey axis, so that greys stay as they are. They apply in
    this order, and values are clipped to 0 to 255 once, at the end.

    Args:
        images: (B, 3, H, W), values 0 to 255, any dtype.
        brightness: the factor is uniform in 1 ± this.
        contrast: likewise.
        saturation: likewise.
        hue: the angle is uniform in ± this, in degrees.
        channel_shuffle: probability of a random order of the channels.
        p: probability of each of the first four.
        generator: source of all draws.

    Returns:
        Floats of the same shape.
    """
    images = images if images.is_floating_point() else images.float()
    b, c, s = (
        1 + _draw(images, generator, max(-1.0, -width), width, p)[:, None, None]
        for width in (brightness, contrast, saturation)
    )
    grey = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    matrix = b * c * (s * torch.eye(3, device=images.device) + (1 - s) * grey.expand(3, 3))
    pixels = images.flatten(2)
    offset = ((1 - c) * b * (pixels.mean(2) @ grey)[:, None, None]).expand(-1, 3, 1)
    if hue:
        matrix = hue_matrix(_draw(images, generator, -hue, hue, p) * (math.pi / 180)) @ matrix
    if channel_shuffle:
        # The offset is the same for all channels, so it minds neither a turn nor an exchange.
        matrix = _orders(images, generator, channel_shuffle) @ matrix
    return torch.baddbmm(offset, matrix, pixels).clamp_(0.0, 255.0).view_as(images)


def hue_matrix(angle: torch.Tensor) -> torch.Tensor:
    """Rotations of RGB about the grey axis by angles (B,) in radians, (B, 3, 3).

    >>> hue_matrix(torch.tensor([2 * math.pi / 3])).round(decimals=3)[0].abs().tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    third, root = torch.full((3, 3), 1 / 3), 1 / math.sqrt(3)
    cross = root * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    third, cross = third.to(angle), cross.to(angle)
    return cos * torch.eye(3).to(angle) + (1 - cos) * third + sin * cross


def random_blur(
    images: torch.Tensor, p: float = 0.5, *, generator: torch.Generator
) -> torch.Tensor:
    """Blur each image with probability `p` by a Gaussian of its own width.

    The standard deviation is uniform up to 3 pixels at 448 px, and in proportion at other sizes.

    Args:
        images: (B, C, H, W) floats.
        p: share of images that are blurred.
        generator: source of all draws.
    """
    count, channels, height, width = images.shape
    largest = BLUR_SIGMA * max(height, width)
    sigma = _draw(images, generator, 0.0, largest, p).clamp(min=1e-3)
    reach = min(math.ceil(3 * largest), min(height, width) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=count * channels)
    return F.conv2d(rows, kernel[:, None, :, None], groups=count * channels).view_as(images)


def _draw(
    images: torch.Tensor, generator: torch.Generator, low: float, high: float, p: float
) -> torch.Tensor:
    """(B,) uniform draws, each with probability `p`, otherwise 0."""
    draws = draw_uniform(images, generator, low, high)
    return draws if p >= 1.0 else draws * (draw_uniform(images, generator, 0.0, 1.0) < p)


def _orders(images: torch.Tensor, generator: torch.Generator, p: float) -> torch.Tensor:
    """(B, 3, 3) random permutation matrices with probability `p`, otherwise the identity."""
    order = draw_uniform(images, generator, 0.0, 1.0, 3).argsort(dim=1)
    kept = draw_uniform(images, generator, 0.0, 1.0) >= p
    order = torch.where(kept[:, None], torch.arange(3, device=images.device), order)
    return F.one_hot(order, 3).to(images.dtype)


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
        if c.brightness or c.contrast or c.saturation or c.hue or c.channel_shuffle:
            images = colour_jitter(
                images,
                brightness=c.brightness,
                contrast=c.contrast,
                saturation=c.saturation,
                hue=c.hue,
                channel_shuffle=c.channel_shuffle,
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
    """With probability `p`, mirror a square image or turn it by 90 degrees either way (GLR20,
    code).

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
    """Surround each image with `pad` zeros and cut a random window of the old size (GLR21)."""
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
    """Fill one rectangle of each image with `value`, with probability `p` (GLR21).

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
    """Paste the whole of each image, resized, over one corner of its partner (GLR20 §2.1).

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

"""Augmentation steps by name, albumentations image by image, and Corner-Cutmix.

Steps take batches (B, 3, H, W) on any device, values 0 to 255 until "normalise", and draw for each
image from a generator; "affine" may change the size. What albumentations does comes before them, in
the processes that read the images, with a seed for each image. GLR20 = 3rd place, Google Landmark
Retrieval 2020 (Mei et al.); GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

import copy
import functools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.config import AugmentConfig, StageConfig
from lib.data import ImageSource
from lib.models import normalise

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R 601, as PIL and torchvision have it
BLUR_SIGMA = 3 / 448  # largest, as a share of the side: GLR20 blurs by up to 3 pixels of 448
MEAN_COLOUR = (123, 117, 104)  # RGB, the border of GLR20's code
PAPER_SIZE = 448  # pixels; blur kernels of the chain are scaled from there


@dataclass
class Augment:
    """The steps of an `AugmentConfig`, for networks that expect `mean` and `std`.

    `each` comes before them: the chain of GLR20's code, or an own `albumentations.Compose` as
    `pipeline`, after which images are only normalised. The step "affine" makes squares of `size`
    pixels, or of the size that images have where it is 0.
    """

    config: AugmentConfig
    mean: Sequence[float]
    std: Sequence[float]
    pipeline: Any = None
    size: int = 0

    def __post_init__(self) -> None:
        self.pipeline = copy.deepcopy(self.pipeline)  # setting its seed changes it

    @property
    def has_each(self) -> bool:
        """Whether `each` changes anything."""
        return self.pipeline is not None or self.config.chain

    def each(self, pixels: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """What albumentations does to uint8 pixels (B, 3, H, W), with a seed for each image."""
        pipeline = self.pipeline if self.pipeline is not None else build_chain(pixels.shape[-1])
        found = np.empty_like(pixels)
        for place, (image, seed) in enumerate(zip(pixels, seeds, strict=True)):
            pipeline.set_random_seed(int(seed))
            image = np.ascontiguousarray(image.transpose(1, 2, 0))
            changed = pipeline(image=image)["image"]
            if getattr(changed, "dtype", None) != np.uint8 or changed.shape != image.shape:
                raise ValueError(
                    f"expected uint8 images {image.shape} from albumentations, found "
                    f"{changed.dtype} {tuple(changed.shape)}; crop to this size, and leave "
                    "Normalize and ToTensorV2 out: the stage normalises"
                )
            found[place] = changed.transpose(2, 0, 1)
        return found

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Augment uint8 images (B, 3, H, W), of `each` where it has one, and normalise them."""
        for name in self.config.steps if self.pipeline is None else ("normalise",):
            if name == "normalise":
                images = normalise(images, self.mean, self.std)
            else:
                options = {"size": self.size} if name == "affine" and self.size else {}
                images = AUGMENTATIONS[name](images, self.config, generator, **options)
        return images


def random_flip(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Mirror each image left to right with probability `flip`.

    With `quarter_turns` mirror image and turns by ±90 degrees have equal odds (GLR20, code).
    """
    if config.quarter_turns and images.shape[-2] != images.shape[-1]:
        raise ValueError(
            f"expected square images to turn, found {tuple(images.shape)}; resize them first"
        )
    if config.flip <= 0.0:
        return images
    turns = (1, 3) if config.quarter_turns else ()
    views = [images.flip(-1), *(images.rot90(turn, (2, 3)) for turn in turns)]
    draws = uniform(images, generator, 0.0, 1.0, 1, 1, 1)
    kind = (draws / config.flip * len(views)).floor()
    for place, view in enumerate(views):
        images = torch.where(kind == place, view, images)
    return images


def pad_and_crop(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Surround each image with `pad` zeros and cut a random window of the old size (GLR21)."""
    pad = config.pad
    if pad == 0:
        return images
    count, _, height, width = images.shape
    corners = torch.randint(2 * pad + 1, (count, 2), generator=generator, device=generator.device)
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = torch.empty_like(images)
    # Slices beat one gather, which needs an index per pixel (six times slower at 128 px).
    for window, image, (y, x) in zip(windows, padded, corners.tolist(), strict=True):
        window.copy_(image[:, y : y + height, x : x + width])
    return windows


def colour_jitter(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Change brightness, contrast, saturation, hue and order of the channels (GLR20, code).

    All are linear in the pixel: one 3×3 matrix per image. Each applies with probability `colour_p`,
    in this order; contrast is about the image's mean grey. Values are clipped once, at the end.
    """
    c = config
    if not (c.brightness or c.contrast or c.saturation or c.hue or c.channel_shuffle):
        return images
    images = images if images.is_floating_point() else images.float()
    brightness, contrast, saturation = (
        1 + _draw(images, generator, max(-1.0, -width), width, c.colour_p)[:, None, None]
        for width in (c.brightness, c.contrast, c.saturation)
    )
    grey = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    matrix = saturation * torch.eye(3, device=images.device) + (1 - saturation) * grey.expand(3, 3)
    matrix = brightness * contrast * matrix
    pixels = images.flatten(2)
    mean_grey = (pixels.mean(2) @ grey)[:, None, None]
    offset = ((1 - contrast) * brightness * mean_grey).expand(-1, 3, 1)
    if c.hue:
        turn = _draw(images, generator, -c.hue, c.hue, c.colour_p) * (math.pi / 180)
        matrix = hue_matrix(turn) @ matrix
    if c.channel_shuffle:
        # The offset is the same for all channels, so neither hue nor order changes it.
        order = uniform(images, generator, 0.0, 1.0, 3).argsort(dim=1)
        is_kept = uniform(images, generator, 0.0, 1.0) >= c.channel_shuffle
        order = torch.where(is_kept[:, None], torch.arange(3, device=images.device), order)
        matrix = F.one_hot(order, 3).to(images.dtype) @ matrix
    return torch.baddbmm(offset, matrix, pixels).clamp_(0.0, 255.0).view_as(images)


def hue_matrix(angle: Tensor) -> Tensor:
    """Rotations (B, 3, 3) of RGB about the grey axis by angles (B,) in radians."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    cross = 1 / math.sqrt(3) * angle.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cos * torch.eye(3).to(angle) + (1 - cos) * (1 / 3) + sin * cross


def random_blur(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Blur each image with probability `blur` by a Gaussian of its own width (GLR20, code).

    The standard deviation is uniform up to 3 pixels at 448 px, and in proportion at other sizes.
    """
    if not config.blur:
        return images
    images = images.float()
    count, channels, height, width = images.shape
    largest = BLUR_SIGMA * max(height, width)
    sigma = _draw(images, generator, 0.0, largest, config.blur).clamp(min=1e-3)
    reach = min(math.ceil(3 * largest), min(height, width) - 1)
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (offsets / sigma[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, dim=0)
    padded = F.pad(images, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    rows = F.conv2d(padded, kernel[:, None, None, :], groups=count * channels)
    return F.conv2d(rows, kernel[:, None, :, None], groups=count * channels).view_as(images)


def random_affine(
    images: Tensor, config: AugmentConfig, generator: Generator, *, size: int = 0
) -> Tensor:
    """Rotate, resize, then crop or pad to the old size at a random place (GLR20, code).

    With `crop_area` what is rotated is a random resized crop (`random_windows`). The angle is
    uniform in ± `rotate` with probability 0.5, the zoom in `scale`, width over height of the zoom
    in `aspect`. Outside of the image is 0: the mean colour, after normalisation. All is one
    resampling, to squares of `size` pixels unless it is 0.
    """
    is_cropped = config.crop_area != (1.0, 1.0)
    is_still = not config.rotate and config.scale == config.aspect == (1.0, 1.0)
    if is_still and not is_cropped and size in (0, images.shape[-1]):
        return images
    angle = uniform(images, generator, -config.rotate, config.rotate)
    angle = angle * (uniform(images, generator, 0.0, 1.0) < 0.5)
    zoom = uniform(images, generator, *config.scale)
    stretch = uniform(images, generator, *config.aspect).sqrt()
    zooms = torch.stack([zoom * stretch, zoom / stretch], dim=1)
    # The window may stand anywhere inside a larger image, or around a smaller one.
    place = torch.stack([uniform(images, generator, -1.0, 1.0) for _ in "xy"], dim=1)
    shifts = place * (1 - 1 / zooms).abs()
    windows = random_windows(images, config, generator) if is_cropped else None
    return affine(images, angle * (math.pi / 180), zooms, shifts, windows=windows, size=size)


def random_windows(
    images: Tensor, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Sides and centres (B, 2), along x and y, of the windows of a random resized crop.

    Sides are shares of the image's, centres lie in half sides from its middle. As in torchvision,
    area and aspect are drawn anew, up to ten times, until the window fits; otherwise it is the
    largest one in the middle. The aspect is that of a square image.
    """
    areas = uniform(images, generator, *config.crop_area, 10)
    low, high = (math.log(ratio) for ratio in config.crop_aspect)
    ratios = uniform(images, generator, low, high, 10).exp()
    across, down = (areas * ratios).sqrt(), (areas / ratios).sqrt()
    is_inside = (across <= 1.0) & (down <= 1.0)
    sides = torch.stack(_first(is_inside, across, down), dim=1)
    ratio = min(max(1.0, config.crop_aspect[0]), config.crop_aspect[1])
    largest = sides.new_tensor([min(1.0, ratio), min(1.0, 1.0 / ratio)])
    fits = is_inside.any(dim=1, keepdim=True)
    centres = uniform(images, generator, -1.0, 1.0, 2) * (1.0 - sides)
    return torch.where(fits, sides, largest), torch.where(fits, centres, 0.0)


def affine(
    images: Tensor,
    angle: Tensor,
    zooms: Tensor,
    shifts: Tensor,
    *,
    windows: tuple[Tensor, Tensor] | None = None,
    size: int = 0,
) -> Tensor:
    """Resample images (B, C, H, W) bilinearly, turned by `angle` and zoomed about a shifted centre.

    Args:
        angle: (B,) radians, counter-clockwise as one looks at the image.
        zooms: (B, 2) factors along x and y, applied after the turn.
        shifts: (B, 2) where the middle of the result lies in the turned image, in half sides.
        windows: sides and centres of `random_windows` to crop to before.
        size: height and width of the result; 0: those of `images`.
    """
    images = images if images.is_floating_point() else images.float()
    height, width = images.shape[-2:]
    zoom_x, zoom_y, shift_x, shift_y, cos, sin = (
        values[:, None, None] for values in (*zooms.T, *shifts.T, angle.cos(), angle.sin())
    )
    across, down = (
        (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1
        for side in (size or width, size or height)
    )
    x = across[None, None, :] / zoom_x + shift_x
    y = down[None, :, None] / zoom_y + shift_y
    # Coordinates run from -1 to 1 along both sides, so a turn must know their ratio.
    grid = torch.stack(
        [cos * x - sin * (height / width) * y, sin * (width / height) * x + cos * y], -1
    )
    if windows:
        sides, centres = (values[:, None, None] for values in windows)
        grid = grid * sides + centres
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def random_erasing(images: Tensor, config: AugmentConfig, generator: Generator) -> Tensor:
    """Fill one rectangle of each image with 0, the mean colour, with probability `erasing` (GLR21).

    Its share of the image is uniform in `erasing_area`, its height over width in `erasing_aspect`;
    an image for which none of 100 draws fits stays whole.
    """
    if config.erasing <= 0.0:
        return images
    rows, columns = images.shape[-2:]
    shares = uniform(images, generator, *config.erasing_area, 100) * (rows * columns)
    ratios = uniform(images, generator, *config.erasing_aspect, 100)
    heights, widths = (shares * ratios).sqrt().round(), (shares / ratios).sqrt().round()
    is_inside = (heights < rows) & (widths < columns)
    height, width = _first(is_inside, heights, widths)
    top = (uniform(images, generator, 0.0, 1.0) * (rows - height + 1)).floor()
    left = (uniform(images, generator, 0.0, 1.0) * (columns - width + 1)).floor()
    is_erased = (uniform(images, generator, 0.0, 1.0) < config.erasing) & is_inside.any(dim=1)
    vertical = _between(rows, top, height) & is_erased[:, None]
    erased = vertical[:, None, :, None] & _between(columns, left, width)[:, None, None, :]
    return images.masked_fill(erased, 0.0)


def _first(is_inside: Tensor, *draws: Tensor) -> list[Tensor]:
    """Of (B, n) draws the (B,) first ones that are inside, or the first of all."""
    place = is_inside.int().argmax(dim=1, keepdim=True)
    return [values.gather(1, place)[:, 0] for values in draws]


def _between(side: int, start: Tensor, length: Tensor) -> Tensor:
    """Which of the positions 0 … side-1 lie in start … start+length-1, (B, side)."""
    positions = torch.arange(side, device=start.device)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


def uniform(images: Tensor, generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    """(B, *shape) draws in [low, high) on the device of `images`."""
    draws = torch.rand(len(images), *shape, generator=generator, device=generator.device)
    return (low + (high - low) * draws).to(images.device)


def _draw(images: Tensor, generator: Generator, low: float, high: float, p: float) -> Tensor:
    """(B,) uniform draws, each with probability `p`, otherwise 0."""
    draws = uniform(images, generator, low, high)
    return draws if p >= 1.0 else draws * (uniform(images, generator, 0.0, 1.0) < p)


def corner_cutmix(
    images: Tensor, partners: Tensor, *, generator: Generator, low: float = 0.4, high: float = 0.6
) -> Tensor:
    """Paste the whole of each image, resized, over one corner of its partner (GLR20 §2.1).

    Both are (B, C, H, W) floats; partners are not changed. Height and width factors (uniform in
    `low` to `high`) and the corner are drawn once per batch.
    """
    if images.shape != partners.shape:
        raise ValueError(
            f"expected images and partners of one shape, found {tuple(images.shape)} and "
            f"{tuple(partners.shape)}; pair the batches first"
        )
    height, width = images.shape[-2:]
    draws = torch.rand(2, generator=generator, device=generator.device).tolist()
    corner = int(torch.randint(4, (), generator=generator, device=generator.device))
    sides = zip((height, width), draws, strict=True)
    h, w = (max(1, round(side * (low + (high - low) * draw))) for side, draw in sides)
    patch = F.interpolate(images, size=(h, w), mode="bilinear", align_corners=False)
    top, left = (corner // 2) * (height - h), (corner % 2) * (width - w)
    mixed = partners.clone()
    mixed[..., top : top + h, left : left + w] = patch
    return mixed


@functools.cache
def build_chain(size: int) -> Any:
    """The albumentations pipeline of GLR20's code for squares of `size` pixels."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network on import
    import albumentations as A  # takes seconds

    kernel = max(3, 11 * size // PAPER_SIZE // 2 * 2 + 1)
    blurs = [
        A.GaussianBlur(sigma_limit=(0.0, 3.0 * size / PAPER_SIZE), p=1.0),
        A.Blur(blur_limit=(3, kernel), p=1.0),
        A.MedianBlur(blur_limit=(3, kernel), p=1.0),
    ]
    colours = [
        A.RandomBrightnessContrast(brightness_limit=0.0, contrast_limit=0.5, p=0.5),
        A.RandomBrightnessContrast(brightness_limit=32 / 255, contrast_limit=0.0, p=0.5),
        # OpenCV counts 180 steps of hue in 8 bits: 9 steps are the 18 degrees of GLR20.
        A.HueSaturationValue(hue_shift_limit=9, sat_shift_limit=0, val_shift_limit=0, p=0.5),
        A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(0.5, 1.5), hue=(0, 0), p=0.5),
        A.ChannelShuffle(p=0.5),
        A.OneOf(blurs, p=0.5),
    ]
    turns = [A.Lambda(image=functools.partial(_quarter_turn, quarters=q), p=1.0) for q in (1, 3)]
    return A.Compose(
        [
            A.RandomOrder(colours, n=6),
            A.OneOf([A.HorizontalFlip(p=1.0), *turns], p=0.5),
            A.Affine(rotate=(-30, 30), fit_output=True, fill=MEAN_COLOUR, p=0.5),
            A.RandomScale(scale_limit=(-0.3, 0.3), p=1.0),
            # Two independent sides within 5 % make aspect ratios from 0.9 to 1.1.
            A.Affine(scale={"x": (0.95, 1.05), "y": (0.95, 1.05)}, fit_output=True, p=1.0),
            A.RandomCrop(
                size, size, pad_if_needed=True, pad_position="random", fill=MEAN_COLOUR, p=1.0
            ),
        ]
    )


def _quarter_turn(image: np.ndarray, quarters: int, **_: Any) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, quarters))


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {
    "flip": random_flip,
    "crop": pad_and_crop,
    "colour": colour_jitter,
    "blur": random_blur,
    "affine": random_affine,
    "erasing": random_erasing,
}


def augmentation_examples(
    source: ImageSource,
    table: pd.DataFrame,
    stage: StageConfig,
    *,
    count: int = 8,
    generator: Generator,
) -> dict[str, list[np.ndarray]]:
    """A batch of `table` on disk, as trained on, and mixed: what was done → (H, W, 3) uint8."""

    def shown(images: Tensor) -> list[np.ndarray]:
        values = ((images + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
        return list(values.permute(0, 2, 3, 1).numpy())

    chosen = torch.randperm(len(table), generator=generator)[:count].tolist()
    size = stage.decode_size or stage.size
    squares = [source.read_resized(path, size) for path in table["path"].iloc[chosen]]
    batch, grey = np.stack(squares).transpose(0, 3, 1, 2), (0.5,) * 3
    augment = Augment(stage.augment, grey, grey, size=stage.size)
    if augment.has_each:
        batch = augment.each(batch, torch.randint(2**31, (len(batch),), generator=generator))
    trained = augment(torch.from_numpy(batch), generator)
    mixed = corner_cutmix(trained, trained.roll(1, dims=0), generator=generator)
    return {
        "as on disk": squares,
        "as trained on\n(zoom, rotation,\nerasing)": shown(trained),
        "Corner-Cutmix:\neach image on a\ncorner of its\nneighbour": shown(mixed),
    }

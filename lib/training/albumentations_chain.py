"""The augmentation chain of GLR20's code, image by image on the CPU, with albumentations.

Colour first, its operations in random order, then flip or quarter turn, rotation, zoom and a random
crop or pad; new borders take the mean colour. `lib.training.augmentation` does most of this much
faster on whole
batches, in one order. This is the only module that imports albumentations, and it does so when
first used (the import takes seconds)."""

import os
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch

MEAN_COLOUR = (123, 117, 104)  # RGB, the border of GLR20's code
PAPER_SIZE = 448  # pixels; blur kernels are scaled from there


class ImageChain:
    """uint8 images (B, 3, S, S) → the same, each through its own draw of the chain."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.chain = build_chain(size)

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augment a batch on the CPU; the same generator state gives the same images.

        Raises:
            ValueError: the images are not uint8 squares of the chain's size.
        """
        if images.dtype != torch.uint8 or images.shape[1:] != (3, self.size, self.size):
            raise ValueError(
                f"expected uint8 images (B, 3, {self.size}, {self.size}), found {images.dtype} "
                f"{tuple(images.shape)}; resize them first"
            )
        seed = torch.randint(2**31, (), generator=generator, device=generator.device)
        self.chain.set_random_seed(int(seed))
        pixels = images.permute(0, 2, 3, 1).cpu().numpy()
        changed = [self.chain(image=np.ascontiguousarray(image))["image"] for image in pixels]
        return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).to(images.device)


def build_chain(size: int) -> Callable[..., dict[str, Any]]:
    """The albumentations pipeline for squares of `size` pixels in the ranges of GLR20's code."""
    A = _albumentations()
    turns = [A.Lambda(image=partial(_quarter_turn, quarters=q), p=1.0) for q in (1, 3)]
    return A.Compose(
        [
            A.RandomOrder(_colour_operations(size), n=6),
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


def _colour_operations(size: int) -> list[Any]:
    """Six operations with probability 0.5 each."""
    A = _albumentations()
    kernel = max(3, 11 * size // PAPER_SIZE // 2 * 2 + 1)
    blurs = [
        A.GaussianBlur(sigma_limit=(0.0, 3.0 * size / PAPER_SIZE), p=1.0),
        A.Blur(blur_limit=(3, kernel), p=1.0),
        A.MedianBlur(blur_limit=(3, kernel), p=1.0),
    ]
    return [
        A.RandomBrightnessContrast(brightness_limit=0.0, contrast_limit=0.5, p=0.5),
        A.RandomBrightnessContrast(brightness_limit=32 / 255, contrast_limit=0.0, p=0.5),
        # OpenCV counts 180 steps of hue in 8 bits: 9 steps are the 18 degrees of GLR20.
        A.HueSaturationValue(hue_shift_limit=9, sat_shift_limit=0, val_shift_limit=0, p=0.5),
        A.ColorJitter(brightness=(1, 1), contrast=(1, 1), saturation=(0.5, 1.5), hue=(0, 0), p=0.5),
        A.ChannelShuffle(p=0.5),
        A.OneOf(blurs, p=0.5),
    ]


def _quarter_turn(image: np.ndarray, quarters: int, **_: Any) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image, quarters))


def _albumentations() -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else it asks the network on import
    import albumentations

    return albumentations

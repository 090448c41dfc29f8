"""Augmented images as a person can look at them."""

import numpy as np
import pandas as pd
import torch

from lib.config import StageConfig
from lib.data import ImageSource
from lib.training.augmentation import Augment, corner_cutmix


def augmentation_examples(
    source: ImageSource,
    table: pd.DataFrame,
    stage: StageConfig,
    *,
    count: int = 8,
    generator: torch.Generator,
) -> dict[str, list[np.ndarray]]:
    """One batch as it lies on disk, as it is trained on, and mixed by Corner-Cutmix.

    Args:
        source: reads the images.
        table: a training list.
        stage: its augmentation and image size.
        count: images, drawn at random.
        generator: source of all draws.

    Returns:
        What was done → images (size, size, 3) uint8.
    """
    chosen = torch.randperm(len(table), generator=generator)[:count].tolist()
    squares = [source.read_resized(path, stage.size) for path in table["path"].iloc[chosen]]
    batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2)
    grey = (0.5,) * 3
    trained = Augment(stage.augment, grey, grey)(batch, generator)
    mixed = corner_cutmix(trained, trained.roll(1, dims=0), generator=generator)
    return {
        "as on disk": squares,
        "as trained on\n(zoom, rotation,\nerasing)": _to_arrays(trained),
        "Corner-Cutmix:\neach image on a\ncorner of its\nneighbour": _to_arrays(mixed),
    }


def _to_arrays(images: torch.Tensor) -> list[np.ndarray]:
    """Images normalised to [-1, 1] back as (H, W, 3) uint8."""
    values = ((images + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)
    return list(values.permute(0, 2, 3, 1).numpy())

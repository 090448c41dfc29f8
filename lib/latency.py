"""How long one image takes at test time, as [20] Table 2 has it: the mean of 200 images."""

import time
from pathlib import Path

import torch

from lib import models
from lib.config import InferenceConfig
from lib.describe import describe, largest_size

WARM_UP = 10  # images before the clock starts


def milliseconds_per_image(
    checkpoint: str | Path,
    inference: InferenceConfig,
    *,
    images: int = 200,
    device: str | torch.device = "cpu",
) -> float:
    """Measure the mean time to describe one image, images one by one, decoding left out.

    Args:
        checkpoint: written by `lib.train`.
        inference: sizes and views.
        images: how many are timed.
        device: where the network runs.
    """
    model = models.load(checkpoint, device=device).model
    model = model.to(memory_format=torch.channels_last)
    side = largest_size(inference)
    pixels = torch.full((1, 3, side, side), 127, dtype=torch.uint8, device=device)
    with torch.inference_mode():
        for _ in range(WARM_UP):
            describe(model, pixels, inference).cpu()
        began = time.perf_counter()
        for _ in range(images):
            describe(model, pixels, inference).cpu()
    return 1000 * (time.perf_counter() - began) / images

"""How long one image takes at test time, as [20] Table 2 has it: the mean of 200 images.

Networks that are compared take turns, so that a machine which is slow for a while is so for all.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from lib import models
from lib.config import InferenceConfig
from lib.describe import describe, largest_size

WARM_UP = 10  # images before the clock starts
TURN = 10  # images of one network before the next


def milliseconds_per_image(
    networks: Mapping[str, tuple[str | Path, InferenceConfig]],
    *,
    images: int = 200,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Measure the mean time to describe one image, images one by one, decoding left out.

    Args:
        networks: name → a checkpoint written by `lib.train`, and sizes and views.
        images: how many are timed of each.
        device: where the networks run.
    """
    timed = {name: _Timed(*network, device) for name, network in networks.items()}
    for network in timed.values():
        network.describe(WARM_UP)
    seconds = dict.fromkeys(timed, 0.0)
    for begin in range(0, images, TURN):
        for name, network in timed.items():
            began = time.perf_counter()
            network.describe(min(TURN, images - begin))
            seconds[name] += time.perf_counter() - began
    return {name: 1000 * total / images for name, total in seconds.items()}


class _Timed:
    """A network and an image of the size that it looks at."""

    def __init__(
        self, checkpoint: str | Path, inference: InferenceConfig, device: str | torch.device
    ) -> None:
        model = models.load(checkpoint, device=device).model
        self.model = model.to(memory_format=torch.channels_last)
        self.inference = inference
        side = largest_size(inference)
        self.pixels = torch.full((1, 3, side, side), 127, dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def describe(self, images: int) -> None:
        """Describe so many images, waiting for each."""
        for _ in range(images):
            describe(self.model, self.pixels, self.inference).cpu()

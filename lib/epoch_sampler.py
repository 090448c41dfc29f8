"""What all samplers share: an epoch drawn from seed and epoch alone, and each process's part of it.

Under several processes all ranks draw the same epoch and each takes its own share, of equal length.
Which images an epoch shows is the business of `lib.samplers`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from lib.runs import rng


@dataclass(frozen=True)
class Draw:
    """What every sampler is told: where its randomness comes from and whose share it yields.

    Attributes:
        seed: of the run; `set_epoch` adds the epoch.
        size: images per epoch over all processes; 0 leaves it to the sampler.
        rank: of this process.
        world_size: number of processes; the last images that do not go round are left out.
    """

    seed: int = 0
    size: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(
                f"expected a rank below the {self.world_size} processes, found {self.rank}; "
                "count from 0"
            )


class EpochSampler(Sampler[int]):
    """Base of the samplers: row numbers of one rank, the same again for the same seed and epoch."""

    unit = 1  # consecutive images that stay together on one rank

    def __init__(self, natural_size: int, draw: Draw) -> None:
        self.draw = draw
        self.epoch = 0
        self.size = draw.size or natural_size
        if len(self) == 0:
            raise ValueError(
                f"expected at least {self.unit * draw.world_size} images per epoch, found "
                f"{self.size}; use fewer processes or smaller groups, or raise the size"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws."""
        self.epoch = epoch

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers of the whole epoch, (size,), for all ranks."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Images per epoch of this rank."""
        return self.size // (self.unit * self.draw.world_size) * self.unit

    def __iter__(self) -> Iterator[int]:
        """This rank's row numbers."""
        rows = self.draw_epoch(rng(self.draw.seed, type(self).__name__, self.epoch))
        groups = rows[: len(self) * self.draw.world_size].reshape(-1, self.unit)
        return iter(groups[self.draw.rank :: self.draw.world_size].ravel().tolist())

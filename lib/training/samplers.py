"""Samplers by name: which training images an epoch shows, in which order.

An epoch depends on seed and epoch alone: all processes draw the same one, and each takes a part of
equal length. GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.); GLR21 = 2nd place,
Google Landmark Retrieval 2021 (Zhang et al.).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.config import StageConfig

# GLR21 §2.2: "a fairer ratio" than the web's, chosen by the authors.
CONTINENT_SHARES: Mapping[str, float] = {
    "Asia": 0.50,
    "Europe": 0.20,
    "Africa": 0.15,
    "North America": 0.10,
    "South America": 0.02,
    "Antarctica": 0.01,
    "Oceania": 0.01,
    "OTHER": 0.01,
}


def images_per_epoch(stage: StageConfig, listed: int) -> int:
    """How many images an epoch of a stage draws from a list of so many."""
    return stage.epoch_images or max(listed, stage.least_images)


class EpochSampler:
    """Draws the rows of all processes; samplers differ in `prepare` and `draw_epoch`."""

    unit = 1  # consecutive images that stay together in one process

    def __init__(
        self, stage: StageConfig, table: pd.DataFrame, *, seed: int = 0, world_size: int = 1
    ) -> None:
        """Take a training list, whose row numbers are drawn."""
        self.stage, self.seed, self.world_size = stage, seed, world_size
        self.size = images_per_epoch(stage, self.prepare(table))

    def prepare(self, table: pd.DataFrame) -> int:
        """Group the rows of the list; images of an epoch where the stage does not set them."""
        self.rows = np.arange(len(table))
        return len(table)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers of the whole epoch, (size,), for all processes."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Images per epoch of a process; what does not divide among processes is left out."""
        return self.size // (self.unit * self.world_size) * self.unit

    def rows_of(self, epoch: int, rank: int = 0) -> list[int]:
        """Row numbers of a process."""
        rows = self.draw_epoch(rng(self.seed, type(self).__name__, epoch))
        groups = rows[: len(self) * self.world_size].reshape(-1, self.unit)
        return groups[rank :: self.world_size].ravel().tolist()


class ShuffledSampler(EpochSampler):
    """Every image once, in random order; whole shuffles until the epoch is full."""

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        return _cycle(self.rows, self.size, generator)


class AtLeastSampler(EpochSampler):
    """Every image; rare classes are repeated evenly up to `at_least` images (GLR20, code)."""

    def prepare(self, table: pd.DataFrame) -> int:
        self.pools = [*table.groupby("label").indices.values()]
        return sum(max(len(pool), self.stage.at_least) for pool in self.pools)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        least = self.stage.at_least
        rows = [_cycle(pool, max(len(pool), least), generator) for pool in self.pools]
        return _cycle(np.concatenate(rows), self.size, generator)


class ContinentSampler(EpochSampler):
    """Continents at given shares and, within each, clean images at `clean_share` (GLR21 §2.2).

    Drawn with replacement. An empty pool's share goes to the other pool of its continent, an empty
    continent's to the others in proportion to their shares.
    """

    def prepare(self, table: pd.DataFrame) -> int:
        continents, is_clean = table["continent"].to_numpy(), table["is_clean"].to_numpy(bool)
        if unknown := sorted(set(continents) - set(CONTINENT_SHARES)):
            raise ValueError(
                f"expected continents among {', '.join(CONTINENT_SHARES)}, found "
                f"{', '.join(unknown)}; give each a share"
            )
        self.pools = {
            name: [np.flatnonzero((continents == name) & part) for part in (is_clean, ~is_clean)]
            for name in CONTINENT_SHARES
            if name in continents
        }
        return len(table)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        counts = apportion(self.size, [CONTINENT_SHARES[name] for name in self.pools])
        rows = []
        for (clean, noisy), count in zip(self.pools.values(), counts, strict=True):
            share = self.stage.clean_share if len(clean) and len(noisy) else float(len(clean) > 0)
            clean_count = int(share * count + 1e-9)  # 0.66 of 50 is 33, as the slides count
            for pool, part in ((clean, clean_count), (noisy, count - clean_count)):
                rows += [generator.choice(pool, part)] if part else []
        return generator.permutation(np.concatenate(rows))


class ClassUniformSampler(EpochSampler):
    """Batches of P different classes with K images each, all classes equally often (GLR21 Table 3).

    K is `images_per_class`, P·K the batch of a process; GLR21 has K = 1. Classes with fewer than K
    images repeat them evenly, and so do classes where there are fewer than P.
    """

    def prepare(self, table: pd.DataFrame) -> int:
        self.unit = self.stage.batch_size // self.world_size
        if self.unit % self.stage.images_per_class:
            raise ValueError(
                f"expected a batch that {self.stage.images_per_class} images per class divide for "
                f"class_uniform, found {self.unit} images per process; change batch_size"
            )
        self.pools = [*table.groupby("label").indices.values()]
        return len(table)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        k = self.stage.images_per_class
        p, batches = self.unit // k, self.size // self.unit
        # A pass of several batches shows no class twice; fewer classes fill a batch evenly.
        per_pass = max(1, len(self.pools) // p)
        classes = np.arange(len(self.pools))
        passes = [_cycle(classes, per_pass * p, generator) for _ in range(-(-batches // per_pass))]
        classes = np.concatenate(passes)[: batches * p]
        return np.concatenate([_cycle(self.pools[c], k, generator) for c in classes])


SAMPLERS: dict[str, type[EpochSampler]] = {
    "shuffle": ShuffledSampler,
    "continent": ContinentSampler,
    "at_least": AtLeastSampler,
    "class_uniform": ClassUniformSampler,
}


def apportion(total: int, shares: list[float]) -> np.ndarray:
    """Whole numbers in proportion to `shares` with sum `total` (largest remainders).

    >>> apportion(10, [0.5, 0.25, 0.25]).tolist()
    [5, 3, 2]
    """
    exact = np.asarray(shares, dtype=np.float64) / sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def _cycle(rows: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """`size` of `rows` by repeated shuffles, so that counts differ by one at most."""
    shuffles = [generator.permutation(rows) for _ in range(-(-size // len(rows)))]
    return np.concatenate(shuffles)[:size]

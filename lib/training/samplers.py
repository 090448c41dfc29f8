"""Which training images an epoch shows, in which order, drawn from seed and epoch alone.

Shuffled for most stages; at least n images per class (GLR20, code); continents at chosen shares
with
clean and noisy images apart (GLR21 §2.2); P classes × K images, which GLR21 found harmful. What an
epoch is drawn from, and how processes share it, is in `lib.training.samplers`.

What all samplers share: an epoch drawn from seed and epoch alone, and each process's part of it.

Under several processes all ranks draw the same epoch and each takes its own share, of equal length.
Which images an epoch shows is the business of `lib.training.samplers`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch.utils.data import Sampler

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


class ShuffledSampler(EpochSampler):
    """Every image once, in random order; with another `size`, whole shuffles until it is full."""

    def __init__(self, count: int, draw: Draw) -> None:
        self.count = count
        super().__init__(count, draw)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers, none a second time before all have come."""
        return _cycle(np.arange(self.count), self.size, generator)


class AtLeastSampler(EpochSampler):
    """Every image, and rare classes repeated until they show `at_least` images (GLR20, code).

    A class repeats its images evenly: none comes a third time before all have come twice. With
    another `size`, a shuffled part of this list or several shuffles of it.
    """

    def __init__(self, labels: np.ndarray, draw: Draw, *, at_least: int = 5) -> None:
        self.pools = _group(labels)
        self.at_least = at_least
        super().__init__(sum(max(len(pool), at_least) for pool in self.pools), draw)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers of all classes, shuffled together."""
        rows = [_cycle(pool, max(len(pool), self.at_least), generator) for pool in self.pools]
        return _cycle(np.concatenate(rows), self.size, generator)


class ContinentSampler(EpochSampler):
    """Continents at given shares and, within each, clean and noisy images at given shares (GLR21).

    Drawn with replacement, uniformly over a pool's images. Whoever has no images gives its part
    away: a continent's empty clean or noisy pool to the other one, an empty continent to the others
    in proportion to their shares.
    """

    def __init__(
        self,
        continents: np.ndarray,
        is_clean: np.ndarray,
        draw: Draw,
        *,
        shares: Mapping[str, float] = CONTINENT_SHARES,
        clean_share: float = 0.66,
    ) -> None:
        continents, is_clean = np.asarray(continents), np.asarray(is_clean, dtype=bool)
        unknown = sorted(set(continents.tolist()) - set(shares))
        if unknown:
            raise ValueError(
                f"expected continents among {', '.join(shares)}, found {', '.join(unknown)}; "
                "give each a share"
            )
        self.clean_share = clean_share
        super().__init__(len(continents), draw)
        places = {name: continents == name for name in shares if (continents == name).any()}
        counts = apportion(self.size, [shares[name] for name in places])
        self.pools: list[tuple[np.ndarray, int]] = []
        for here, count in zip(places.values(), counts, strict=True):
            clean, noisy = np.flatnonzero(here & is_clean), np.flatnonzero(here & ~is_clean)
            # The tolerance keeps 0.66 of 50 at 33, as the slides count.
            clean_count = int(clean_share * count + 1e-9)
            if len(clean) == 0 or len(noisy) == 0:
                clean_count = count if len(clean) else 0
            self.pools += [(clean, clean_count), (noisy, count - clean_count)]

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers of all pools, shuffled together."""
        rows = [generator.choice(pool, count) for pool, count in self.pools if count]
        return generator.permutation(np.concatenate(rows))


class ClassUniformSampler(EpochSampler):
    """Batches of P different classes with K images each, all classes equally often (GLR21 Table 3).

    A class with fewer than K images repeats them evenly, and so do the classes of a batch where
    there are fewer than P. Use it with a batch size of P·K. GLR21's configuration has K = 1.
    """

    def __init__(
        self, labels: np.ndarray, draw: Draw, *, classes_per_batch: int, images_per_class: int
    ) -> None:
        self.pools = _group(labels)
        self.classes_per_batch = classes_per_batch
        self.images_per_class = images_per_class
        self.unit = classes_per_batch * images_per_class
        if classes_per_batch < 1:
            raise ValueError(
                f"expected batches of at least one class with {images_per_class} images, found "
                f"{classes_per_batch} classes; change the batch size"
            )
        super().__init__(len(labels), draw)

    def draw_epoch(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers, batch after batch."""
        batches = self.size // self.unit
        # A pass of several batches shows no class twice; fewer classes fill a batch evenly.
        per_pass = max(1, len(self.pools) // self.classes_per_batch)
        classes = np.arange(len(self.pools))
        passes = [
            _cycle(classes, per_pass * self.classes_per_batch, generator)
            for _ in range(-(-batches // per_pass))
        ]
        classes = np.concatenate(passes)[: batches * self.classes_per_batch]
        rows = [_cycle(self.pools[c], self.images_per_class, generator) for c in classes]
        return np.concatenate(rows)


def build_sampler(
    stage: StageConfig, table: pd.DataFrame, *, seed: int, rank: int = 0, world_size: int = 1
) -> EpochSampler:
    """The sampler that `stage.sampler` names, over the rows of a training list.

    Args:
        stage: gives sampler, its settings, and `epoch_images` (0: the sampler's own length).
        table: columns label, is_clean, continent.
        seed: of the run.
        rank: of this process.
        world_size: number of processes, which share each batch of `stage.batch_size`.

    Raises:
        ValueError: an unknown sampler, or too few images or classes for it.
    """
    draw = Draw(seed, stage.epoch_images, rank, world_size)
    labels = table["label"].to_numpy()
    if stage.sampler == "shuffle":
        return ShuffledSampler(len(table), draw)
    if stage.sampler == "at_least":
        return AtLeastSampler(labels, draw, at_least=stage.at_least)
    if stage.sampler == "continent":
        return ContinentSampler(
            table["continent"].to_numpy(),
            table["is_clean"].to_numpy(),
            draw,
            clean_share=stage.clean_share,
        )
    if stage.sampler == "class_uniform":
        images = stage.images_per_class
        classes, rest = divmod(stage.batch_size // world_size, images)
        if rest:
            raise ValueError(
                f"expected a batch that {images} images per class divide for class_uniform, found "
                f"{stage.batch_size // world_size} images per process; change batch_size"
            )
        return ClassUniformSampler(labels, draw, classes_per_batch=classes, images_per_class=images)
    raise ValueError(
        "expected sampler 'shuffle', 'at_least', 'continent' or 'class_uniform', found "
        f"{stage.sampler!r}; correct the stage"
    )


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


def _group(labels: np.ndarray) -> list[np.ndarray]:
    """Row numbers of each class, classes in ascending order."""
    order = np.argsort(labels, kind="stable")
    starts = np.unique(np.asarray(labels)[order], return_index=True)[1]
    return np.split(order, starts[1:])


def _cycle(rows: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """`size` of `rows` by repeated shuffles, so that counts differ by one at most."""
    shuffles = [generator.permutation(rows) for _ in range(-(-size // len(rows)))]
    return np.concatenate(shuffles)[:size]

"""Tables that show by how much each trick helps: their rows trained and scored, seed by seed.

A row is a chain of stages, or an ensemble of other rows. A killed table goes on where it stopped
(`lib.bench`). What the tables hold is in `lib.paper_tables` and `lib.further_tables`, how rows are
compared in `lib.ablation_statistics`.
"""

import time
from collections.abc import Iterable, Sequence

import pandas as pd

from lib.ablation_rows import AblationRow, AblationTable, unique_rows
from lib.bench import Bench
from lib.runs import fingerprint


def run(
    tables: Iterable[AblationTable], bench: Bench, *, seeds: Sequence[int] = (0,)
) -> dict[str, pd.DataFrame]:
    """Train and score every row of the tables with every seed; finished ones are read.

    After each row a line tells how far it is and about how long the rest takes.

    Returns:
        Row name → scores of all its queries (`lib.scoring.score`) with the column `seed`.

    Raises:
        ValueError: if two different rows have one name.
    """
    rows = unique_rows(tables)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in rows}
    jobs = [(seed, row) for seed in seeds for row in rows.values()]
    clock = _Clock(jobs, bench)
    for seed, row in jobs:
        found[row.name].append(bench.score(row, rows, seed).assign(seed=seed))
        print(clock.line(seed, row), flush=True)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


class _Clock:
    """Tells how long the rest takes, from the pixels that are still to be trained on."""

    def __init__(self, jobs: Sequence[tuple[int, AblationRow]], bench: Bench) -> None:
        sizes = {name: len(bench.training_list(name, 0)) for name in ("clean", "c2x", "full")}
        self.sizes = sizes | {"cluster": sizes["full"], "all": sizes["full"]}
        self.bench = bench
        self.seen: set[str] = set()
        self.work = [self._new_work(seed, row) for seed, row in jobs]
        self.done, self.began = 0, time.monotonic()

    def _new_work(self, seed: int, row: AblationRow) -> float:
        """Pixels of the row's stages that no row before it has trained on."""
        total = 0.0
        stages = self.bench.stages(row, seed)
        for place, stage in enumerate(stages, start=1):
            chain = fingerprint(seed, row.model, stages[:place], row.cleaning)
            if chain not in self.seen:
                self.seen.add(chain)
                images = stage.epochs * (stage.epoch_images or self.sizes[stage.train_list])
                total += images * stage.size**2 * (2 if stage.cutmix else 1)
        return total

    def line(self, seed: int, row: AblationRow) -> str:
        """`row 3 of 12, seed 0, ResNet152 ArcFace clean: 250 s left`."""
        self.done += 1
        before, after = sum(self.work[: self.done]), sum(self.work[self.done :])
        left = (time.monotonic() - self.began) / max(before, 1.0) * after
        where = f"row {self.done} of {len(self.work)}, seed {seed}, {row.name}"
        return f"{where}: about {left:.0f} s left"

"""Tables that show by how much each trick helps: their rows trained and scored, seed by seed.

A row is a chain of stages, or an ensemble of other rows. Seeds share nothing, so on a machine
without GPUs they run side by side, a process and a core each, which small networks use far better
than several threads. A killed table goes on where it stopped (`lib.bench`). What the tables hold is
in `lib.paper_tables` and `lib.further_tables`, how rows are compared in
`lib.ablation_statistics`.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context

import pandas as pd
import torch
from accelerate.utils import patch_environment
from joblib import cpu_count

from lib.ablation_rows import AblationRow, AblationTable, unique_rows
from lib.bench import Bench
from lib.runs import end_with, fingerprint

FINISHED = 5.0  # seconds; a row that takes less was trained before and only read


def run(
    tables: Iterable[AblationTable],
    bench: Bench,
    *,
    seeds: Sequence[int] = (0,),
    processes: int = 0,
) -> dict[str, pd.DataFrame]:
    """Train and score every row of the tables with every seed; finished ones are read.

    After each row a line tells how far its seed is and about how long the rest takes.

    Args:
        tables: their rows, those that several tables share once.
        bench: where they are trained.
        seeds: of everything random in a row.
        processes: seeds at a time; 0 for about one per core, or one alone where there are GPUs,
            which a single training then has to itself.

    Returns:
        Row name → scores of all its queries (`lib.scoring.score`) with the column `seed`.

    Raises:
        ValueError: if two different rows have one name.
    """
    rows = unique_rows(tables)
    at_once = processes or (1 if torch.cuda.is_available() else _at_once(len(seeds)))
    if at_once == 1:
        parts = [_run_seed(rows, bench, seed) for seed in seeds]
    else:
        parts = _side_by_side(rows, bench, seeds, at_once)
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in rows}


def _at_once(seeds: int, cores: int | None = None) -> int:
    """How many seeds run at a time: rounds of equal size, so that no core waits for the last seed.

    >>> [_at_once(seeds, cores=2) for seeds in range(1, 6)]
    [1, 2, 3, 2, 3]
    """
    rounds = max(1, seeds // (cores or cpu_count()))
    return -(-seeds // rounds)


def _side_by_side(
    rows: Mapping[str, AblationRow], bench: Bench, seeds: Sequence[int], processes: int
) -> list[dict[str, pd.DataFrame]]:
    """What `_run_seed` finds for each seed, in processes of one thread that end with the call.

    The first error ends the others too. (joblib would keep its processes for later calls, and a
    notebook's kernel that ends with them leaks their semaphores.)
    """
    threads = {"omp_num_threads": 1, "openblas_num_threads": 1, "mkl_num_threads": 1}
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with patch_environment(**threads), pool:
        work = [pool.submit(_run_apart, os.getpid(), rows, bench, seed) for seed in seeds]
        done, _ = wait(work, return_when=FIRST_EXCEPTION)
        errors = [error for error in (one.exception() for one in done) if error]
        if errors:
            for process in active_children():
                process.terminate()
            raise errors[0]
        return [one.result() for one in work]


def _run_apart(
    parent: int, rows: Mapping[str, AblationRow], bench: Bench, seed: int
) -> dict[str, pd.DataFrame]:
    end_with(parent)
    return _run_seed(rows, bench, seed)


def _run_seed(rows: Mapping[str, AblationRow], bench: Bench, seed: int) -> dict[str, pd.DataFrame]:
    """The scores of every row with one seed."""
    found, clock = {}, _Clock(rows, bench, seed)
    for name, row in rows.items():
        found[name] = bench.score(row, rows, seed).assign(seed=seed)
        print(clock.line(name), flush=True)
    return found


class _Clock:
    """Tells how long the rest takes, from the pixels that are still to be trained on."""

    def __init__(self, rows: Mapping[str, AblationRow], bench: Bench, seed: int) -> None:
        sizes = {name: len(bench.training_list(name, seed)) for name in ("clean", "c2x", "full")}
        self.sizes = sizes | {"cluster": sizes["full"], "all": sizes["full"]}
        self.bench, self.seed = bench, seed
        self.seen: set[str] = set()
        self.waiting = {name: self._new_work(row) for name, row in rows.items()}
        self.count = len(rows)
        self.seconds = self.work = 0.0  # of what was trained by now
        self.last = time.monotonic()

    def _new_work(self, row: AblationRow) -> float:
        """Pixels of the row's stages that no row before it has trained on."""
        total = 0.0
        stages = self.bench.stages(row, self.seed)
        for place, stage in enumerate(stages, start=1):
            lists = {earlier.train_list for earlier in stages[:place]}
            cleaning = row.cleaning if "cluster" in lists else ""  # the rest does not hang on it
            chain = fingerprint(row.model, stages[:place], cleaning)
            if chain not in self.seen:
                self.seen.add(chain)
                images = stage.epochs * (stage.epoch_images or self.sizes[stage.train_list])
                total += images * stage.size**2 * (2 if stage.cutmix else 1)
        return total

    def line(self, name: str) -> str:
        """`seed 0, row 3 of 12, ResNet152 ArcFace clean: about 250 s left`."""
        now = time.monotonic()
        took, self.last = now - self.last, now
        work = self.waiting.pop(name)
        if took > FINISHED:
            self.seconds, self.work = self.seconds + took, self.work + work
        where = f"seed {self.seed}, row {self.count - len(self.waiting)} of {self.count}, {name}"
        left = self.seconds / max(self.work, 1.0) * sum(self.waiting.values())
        return f"{where}: about {left:.0f} s left" if self.work else f"{where}: done before"

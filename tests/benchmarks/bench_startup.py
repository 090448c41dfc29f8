"""How long a stage takes to start on a table as long as GLDv2's: 4,132,914 rows, 203,094 classes.

    python -m tests.benchmarks.bench_startup [--rows 4132914] [--processes 1 2]

Trains one step of a small network with a head of all classes (`class_share` 0.01) on made-up ids,
of which only those that a stage looks for have a file. Seconds are of the whole call: fingerprint,
processes, table, sampler, head, the step and the checkpoint; and of the call that finds it done.
`of a core` is processor time, which other work on the machine hardly changes.
"""

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lib import artifacts, data, training
from lib.config import ModelConfig, StageConfig
from lib.data.tar_images import evenly_spread
from lib.environment import cores

CLASSES = 203_094
SAMPLE = 2000  # images that a stage looks for


def make_table(rows: int) -> pd.DataFrame:
    """A training list of random ids and heavy-tailed classes, as `lib.data.training_list` does."""
    generator = artifacts.rng(0, "table")
    ids = [f"{i:016x}" for i in generator.integers(0, 2**63, rows).tolist()]
    sizes = generator.lognormal(sigma=1.6, size=min(CLASSES, rows))
    labels = generator.choice(len(sizes), rows, p=sizes / sizes.sum())
    labels[: len(sizes)] = np.arange(len(sizes))
    places = np.array(["Asia", "Europe", "Africa", "North America", "OTHER"], dtype=object)
    return pd.DataFrame(
        {
            "id": ids,
            "landmark_id": labels,
            "label": labels,
            "is_clean": generator.random(rows) < 0.4,
            "country": "NA",
            "continent": places[labels % len(places)],
            "path": data.image_paths("train", ids),
        }
    )


def write_images(table: pd.DataFrame, root: Path) -> None:
    """Link those images of the table that a stage looks for to one file."""
    one = root / "one.jpg"
    Image.new("RGB", (64, 64), "grey").save(one)
    for path in table["path"].iloc[evenly_spread(len(table), SAMPLE)]:
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.link(one, place)


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, float]:
    """Seconds of a call, and processor seconds of this process and those that it starts."""
    began, before = time.perf_counter(), os.times()
    with contextlib.redirect_stdout(None):
        work(*arguments, **options)
    took, spent = time.perf_counter() - began, os.times()
    return took, sum(spent[:4]) - sum(before[:4])


def main() -> None:
    """Time one stage for each number of processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=4_132_914)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    load, table = os.getloadavg()[0], make_table(args.rows)
    options = {"channels": (8, 16, 16, 32)}
    model = ModelConfig(backbone="resnet10t", backbone_options=options)
    stage = StageConfig(size=32, batch_size=16, epoch_images=16, epochs=1, class_share=0.01)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(table, root)
        rows.append(("fingerprint", *timed(training.stage_key, stage, model, table)))
        for count in args.processes:
            given = stage, model, table, root, root / f"stage_{count}"
            for what in ("train one step", "find it done"):
                took = timed(training.train, *given, processes=count)
                rows.append((f"{what}, {count} processes", *took))
    print(f"{args.rows:,} rows, {table['label'].nunique():,} classes")
    print(f"load of the machine before: {load:.1f} on {cores()} cores")
    print(pd.DataFrame(rows, columns=["", "seconds", "of a core"]).round(1).to_string(index=False))


if __name__ == "__main__":
    main()

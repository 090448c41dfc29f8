"""How soon the first answer of a large gallery comes: `python -m tests.benchmarks.bench_query`.

Writes a made-up gallery of GLDv2's size, and measures in new processes, file cached: the search by
an embedding with its start-up, as `Gallery` does it, and beside it numpy that reads the same file
and multiplies. The network of a photograph comes on top: torch and timm, and one forward pass.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from lib import artifacts
from lib.retrieval.embedding_table import IDS, ROWS
from tests.benchmarks.bench_startup import timed
from tests.made_up import unit_rows

SEARCH = """
import sys, numpy as np
from lib.retrieval.query import Gallery
gallery = Gallery([sys.argv[1]])
row = np.load(sys.argv[1] + "/query.npy")
scores, positions = gallery.search(row, 10)
found = gallery.at(positions[0])
print(found["landmark"].tolist())
"""
PLAIN = """
import sys, numpy as np, pandas as pd
rows = np.load(sys.argv[1] + "/embeddings.npy", mmap_mode="r")
row = np.load(sys.argv[1] + "/query.npy").astype(np.float32)
scores = np.concatenate([row @ rows[i : i + 8192].astype(np.float32).T
                         for i in range(0, len(rows), 8192)], axis=1)
best = np.argsort(-scores[0])[:10]
print(pd.read_csv(sys.argv[1] + "/ids.csv").iloc[best]["landmark_id"].tolist())
"""
NETWORK = "import torch, timm, lib.models"


def main() -> None:
    """Write the gallery, and print seconds by the clock and of the cores."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=761_757)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_gallery(Path(folder), args.images)
        print(f"{args.images:,} images of 512 numbers; best of {args.repeats} new processes")
        works = {"search with names": SEARCH, "numpy and pandas": PLAIN, "torch, timm": NETWORK}
        for what, code in works.items():
            command = [sys.executable, "-c", code, folder]
            options = {"check": True, "stdout": subprocess.DEVNULL}
            took = [timed(subprocess.run, command, **options) for _ in range(args.repeats)]
            seconds, of_cores = min(took)
            print(f"{what:18} {seconds:5.2f} s, {of_cores:5.2f} core-seconds", flush=True)


def write_gallery(folder: Path, images: int) -> None:
    """Made-up embeddings in the form that `embed` leaves them, and a query."""
    generator = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(
        folder / ROWS, mode="w+", dtype=np.float16, shape=(images, 512)
    )
    for start in range(0, images, 65_536):
        block = rows[start : start + 65_536]
        block[:] = unit_rows(generator, *block.shape)
    np.save(folder / "query.npy", rows[:1])
    ids = [f"{number:016x}" for number in range(images)]
    places = {"landmark_id": np.arange(images) // 20, "path": [f"index/{one}.jpg" for one in ids]}
    artifacts.write_csv(pd.DataFrame({"id": ids, **places}), folder / IDS)
    artifacts.mark_complete(folder, "made up", files=(ROWS, IDS), root=str(folder))


if __name__ == "__main__":
    main()

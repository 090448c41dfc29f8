"""The committed reference: chosen figures and tables of finished runs, and the README's numbers.

`./run_all.sh reference` copies them from `outputs/` into `outputs/reference/` and writes the
README's blocks (`lib.readme_blocks`) anew, so that no number there is typed by hand.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from lib.paths import ROOT, outputs_root
from lib.readme_blocks import REFERENCE, RUNS, fill
from lib.runs import atomic_path, read_records, write_csv

PUBLIC = "mini"  # the run with figures: photographs of others are not ours to publish
FIGURES = (
    "01_continents",
    "01_noise",
    "03_split",
    "03_dropped",
    "03_flow",
    "05_forest_quick",
    "05_forest",
    "06_steps",
    "06_strips",
    "06_rerankers",
    "06_fairness",
    "06_explained",
)
TABLES = (
    "03_descriptors",
    "05_*",
    "06_steps",
    "06_continents",
    "06_rerankers",
    "06_spread",
)  # patterns of file names
WIDEST = 1100  # pixels


def copy_run(run: str, *, figures: bool) -> bool:
    """Copy recorded numbers, tables and (if wanted) figures of one run; False if there is none."""
    folder = outputs_root() / run
    if not (folder / "recorded" / "06_submission_reranking.json").is_file():
        return False
    write_csv(read_records(folder), REFERENCE / f"{run}_recorded.csv")
    shutil.copy(folder / "timings.csv", REFERENCE / f"{run}_timings.csv")
    for pattern in TABLES:
        for path in sorted((folder / "tables").glob(f"{pattern}.csv")):
            write_csv(pd.read_csv(path).round(4), REFERENCE / f"{run}_{path.name}")
    for name in FIGURES if figures else ():
        path = folder / "figures" / f"{name}.png"
        if path.is_file():  # the tables of `./run_all.sh ablation` may not be there yet
            _shrink(path, REFERENCE / f"{run}_{name}.png")
    return True


def _shrink(source: Path, target: Path) -> None:
    """A PNG of at most `WIDEST` pixels and 256 colours, which keeps the repository small."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    with atomic_path(target) as temporary:
        image.quantize(256).save(temporary, optimize=True)


def main() -> int:
    """Copy what there is and fill the README; 1 if there is no run to copy."""
    copied = {run: copy_run(run, figures=run == PUBLIC) for run in RUNS.values()}
    for run, is_there in copied.items():
        print(f"{run}: {'copied' if is_there else 'no finished run, left as it was'}")
    readme = ROOT / "README.md"
    with atomic_path(readme) as temporary:
        temporary.write_text(fill(readme.read_text()))
    return 0 if any(copied.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The committed reference: chosen figures and tables of finished runs, and the README's numbers.

`./run_all.sh reference` copies them from `outputs/` into `outputs/reference/` and writes the
README's blocks (`lib.readme_blocks`) anew, so that no number there is typed by hand.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from lib.charts import forest
from lib.paths import ROOT, outputs_root
from lib.readme_blocks import ABLATIONS, REFERENCE, RUNS, ablation_tables, fill
from lib.runs import atomic_path, read_records, write_csv

PUBLIC = "mini"  # the run with figures: photographs of others are not ours to publish
FIGURES = (
    "01_continents",
    "01_noise",
    "03_split",
    "03_dropped",
    "03_flow",
    "05_forest_quick",
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
ABLATION = "05_ablation_tables"
WIDEST = 1100  # pixels


def copy_run(run: str, *, figures: bool, reference: Path = REFERENCE) -> bool:
    """Copy numbers, tables and (if wanted) figures of one run; False if there is nothing.

    Of a run whose chain is not finished only what `./run_all.sh ablation` made, which needs no
    other notebook.
    """
    folder = _run_folder(run)
    is_whole = (folder / "recorded" / "06_submission_reranking.json").is_file()
    if is_whole:
        records = read_records(folder)
        is_kept = records["notebook"] != ABLATION  # it may have made any tables last
        write_csv(records[is_kept], reference / f"{run}_recorded.csv")
        shutil.copy(folder / "timings.csv", reference / f"{run}_timings.csv")
    tables = [path for pattern in TABLES for path in (folder / "tables").glob(f"{pattern}.csv")]
    pictures = [folder / "figures" / f"{name}.png" for name in FIGURES if figures]
    chosen = [
        path
        for path in (*sorted(tables), *pictures)
        if path.is_file() and (is_whole or _is_of_ablation(path))
    ]
    for path in chosen:
        copy = _round if path.suffix == ".csv" else _shrink
        try:
            copy(path, reference / f"{run}_{path.name}")
        except (ValueError, OSError) as error:
            raise ValueError(
                f"expected what a notebook wrote in {path}, found a damaged file ({error}); run the"
                " notebook again"
            ) from error
    return bool(chosen)


def draw_forest(run: str, *, reference: Path = REFERENCE) -> bool:
    """Draw the differences of all committed ablation tables of a run; False if there are none.

    Notebook 05 draws those of one call, and whoever waits for hours may make several.
    """
    tables = ablation_tables(run, reference)
    if tables:
        titled = {ABLATIONS[name]: table for name, table in tables.items()}
        figure = forest(titled, title="Row against row: by how much, and how surely")
        with atomic_path(reference / f"{run}_05_forest.png") as temporary:
            figure.savefig(temporary, dpi=100, bbox_inches="tight")
            _shrink(temporary, temporary)
    return bool(tables)


def _run_folder(run: str) -> Path:
    """Where a run is on this machine: of several data folders of one name, the last one used."""
    digits = "[0-9a-f]" * 6
    found = [outputs_root() / run, *outputs_root().glob(f"{run}-{digits}")]
    there = [folder for folder in found if folder.is_dir()]
    return max(there, key=lambda folder: folder.stat().st_mtime, default=found[0])


def _is_of_ablation(path: Path) -> bool:
    return path.name.startswith("05_") and not path.stem.endswith("_quick")


def _round(source: Path, target: Path) -> None:
    """A table with four places."""
    write_csv(pd.read_csv(source).round(4), target)


def _shrink(source: Path, target: Path) -> None:
    """A PNG of at most `WIDEST` pixels and 256 colours, which keeps the repository small."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    with atomic_path(target) as temporary:
        image.quantize(256).save(temporary, optimize=True)


def main() -> int:
    """Copy what there is and fill the README; 1 if there is no run to copy."""
    try:
        copied = {run: copy_run(run, figures=run == PUBLIC) for run in RUNS.values()}
        draw_forest(PUBLIC)
        readme = ROOT / "README.md"
        with atomic_path(readme) as temporary:
            temporary.write_text(fill(readme.read_text()))
    except (ValueError, KeyError, OSError) as error:
        print(f"reference: {error}", file=sys.stderr)
        return 1
    for run, is_there in copied.items():
        print(f"{run}: {'copied' if is_there else 'no finished run, left as it was'}")
    return 0 if any(copied.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The committed reference: chosen figures and tables of finished runs, and the README's numbers.

`./run_all.sh reference` copies them from `outputs/` into `outputs/reference/` and writes the
README's blocks between their markers anew, so that no number there is typed by hand.
"""

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
from PIL import Image

from lib.paths import ROOT, outputs_root
from lib.runs import atomic_path, read_records, write_csv

REFERENCE = ROOT / "outputs" / "reference"
FIGURES = (  # of the miniature world only: photographs of others are not ours to publish
    "01_continents",
    "01_noise",
    "03_split",
    "03_dropped",
    "03_flow",
    "05_table_1",
    "06_steps",
    "06_strips",
)
TABLES = ("05_table_1", "06_steps", "06_continents")
WIDEST = 1100  # pixels


def copy_run(run: str, *, figures: bool) -> bool:
    """Copy recorded numbers, tables and (if wanted) figures of one run; False if there is none."""
    folder = outputs_root() / run
    if not (folder / "recorded" / "06_submission_reranking.json").is_file():
        return False
    write_csv(read_records(folder), REFERENCE / f"{run}_recorded.csv")
    shutil.copy(folder / "timings.csv", REFERENCE / f"{run}_timings.csv")
    for name in TABLES:
        path = folder / "tables" / f"{name}.csv"
        if path.is_file():  # a run with --only may lack one
            write_csv(pd.read_csv(path).round(4), REFERENCE / f"{run}_{name}.csv")
    for name in FIGURES if figures else ():
        _shrink(folder / "figures" / f"{name}.png", REFERENCE / f"{run}_{name}.png")
    return True


def _shrink(source: Path, target: Path) -> None:
    """A PNG of at most `WIDEST` pixels and 256 colours, which keeps the repository small."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDEST, 10 * WIDEST))
    with atomic_path(target) as temporary:
        image.quantize(256).save(temporary, optimize=True)


def steps_block(reference: Path = REFERENCE) -> str:
    """mAP@100 step by step with intervals, one column pair per run, as a Markdown table."""
    runs = {"miniature world": "mini", "photographs": "photos-photos"}
    tables = {
        title: pd.read_csv(reference / f"{run}_06_steps.csv")
        for title, run in runs.items()
        if (reference / f"{run}_06_steps.csv").is_file()
    }
    if not tables:
        return "No run yet."
    lines = [
        "| step | " + " | ".join(f"{title} | gain" for title in tables) + " |",
        "|---" * (1 + 2 * len(tables)) + "|",
    ]
    for place, step in enumerate(next(iter(tables.values()))["step"]):
        cells = [_cells(table.iloc[place]) for table in tables.values()]
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(row: pd.Series) -> str:
    score = f"{row['private']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    if pd.isna(row["gain"]):
        return f"{score} | "
    return f"{score} | {row['gain']:+.3f} ({row['gain_low']:+.3f} to {row['gain_high']:+.3f})"


def ablation_block(reference: Path = REFERENCE) -> str:
    """[20] Table 1, the paper's private score beside ours, as a Markdown table."""
    path = reference / "mini_05_table_1.csv"
    if not path.is_file():
        return "No run yet."
    lines = ["| row | paper | here | difference | verdict |", "|---|---|---|---|---|"]
    for row in pd.read_csv(path).fillna({"against": "", "verdict": ""}).to_dict("records"):
        difference = ""
        if row["against"]:
            low, high = row["difference_low"], row["difference_high"]
            difference = f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        here = f"{row['private']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        cells = [row["name"], f"{row['paper_private']:.3f}", here, difference, row["verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def timings_block(reference: Path = REFERENCE) -> str:
    """Seconds per notebook of each run, as a Markdown table."""
    found = {
        path.name.removesuffix("_timings.csv"): pd.read_csv(path)
        for path in sorted(reference.glob("*_timings.csv"))
    }
    lines = [f"| notebook | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    names = sorted({name for table in found.values() for name in table["notebook"]})
    for name in names:
        seconds = [table.loc[table["notebook"] == name, "seconds"] for table in found.values()]
        cells = [f"{int(part.iloc[0])} s" if len(part) else "" for part in seconds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    totals = [f"**{table['seconds'].sum() / 60:.1f} min**" for table in found.values()]
    peaks = [f"{table['peak_mib'].max() / 1024:.1f} GiB" for table in found.values()]
    lines += [f"| all | {' | '.join(totals)} |", f"| peak memory | {' | '.join(peaks)} |"]
    return "\n".join(lines)


def cleaning_block(reference: Path = REFERENCE) -> str:
    """Cleaning against the truth, per run, as a Markdown table."""
    lines = {}
    for path in sorted(reference.glob("*_recorded.csv")):
        records = pd.read_csv(path)
        own = records[records["notebook"] == "03_dbscan_cleaning"].set_index("name")["value"]
        lines[path.name.removesuffix("_recorded.csv")] = own
    table = pd.DataFrame(lines)
    rows = [f"| {name} | {' | '.join(f'{v:g}' for v in row)} |" for name, row in table.iterrows()]
    head = f"| | {' | '.join(table.columns)} |"
    return "\n".join([head, "|---" * (1 + table.shape[1]) + "|", *rows])


BLOCKS = {
    "steps": steps_block,
    "table 1": ablation_block,
    "timings": timings_block,
    "cleaning": cleaning_block,
}


def fill(text: str, reference: Path = REFERENCE) -> str:
    """The README with every block between `<!-- name -->` and `<!-- end -->` made anew."""
    for name, make in BLOCKS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        block = make(reference)
        text = pattern.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    return text


def main() -> int:
    """Copy what there is and fill the README; 1 if there is no run to copy."""
    copied = {
        "mini": copy_run("mini", figures=True),
        "photos-photos": copy_run("photos-photos", figures=False),
    }
    for run, is_there in copied.items():
        print(f"{run}: {'copied' if is_there else 'no finished run, left as it was'}")
    readme = ROOT / "README.md"
    with atomic_path(readme) as temporary:
        temporary.write_text(fill(readme.read_text()))
    return 0 if any(copied.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

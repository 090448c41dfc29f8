"""The committed reference: chosen figures and tables of finished runs, and the README's numbers.

`./run_all.sh reference` copies them from `outputs/` into `outputs/reference/` and writes the
README's blocks between their markers anew, so that no number there is typed by hand.
"""

import re
import shutil
import sys
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from lib.ablation_statistics import agreement
from lib.paths import ROOT, outputs_root
from lib.runs import atomic_path, read_records, write_csv

REFERENCE = ROOT / "outputs" / "reference"
FIGURES = (  # of the miniature world only: photographs of others are not ours to publish
    "01_continents",
    "01_noise",
    "03_split",
    "03_dropped",
    "03_flow",
    "05_forest",
    "06_steps",
    "06_strips",
    "06_rerankers",
    "06_fairness",
    "06_explained",
)
TABLES = (
    "05_*",
    "06_steps",
    "06_continents",
    "06_rerankers",
    "06_spread",
)  # patterns of file names
WIDEST = 1100  # pixels
RUNS = {"miniature world": "mini", "photographs": "photos-photos"}  # heading → run folder
ABLATIONS = {  # tables of notebook 05 in the README's order, and their headings there
    "glr20_table_1": "[20] Table 1",
    "glr20_table_2": "[20] Table 2",
    "glr21_tricks": "[21] bag of tricks",
    "glr21_samplers": "[21] samplers",
    "glr21_apart": "[21] sampler and data taken apart",
    "networks": "beyond: network and loss",
    "mixing": "beyond: Corner-Cutmix in both forms",
    "cleaning": "beyond: cleaning, part by part, at equal length",
}


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


def steps_block(reference: Path = REFERENCE) -> str:
    """mAP@100 step by step with intervals, one column pair per run, as a Markdown table."""
    tables = {
        title: pd.read_csv(reference / f"{run}_06_steps.csv")
        for title, run in RUNS.items()
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


def ablation_block(run: str, reference: Path = REFERENCE) -> str:
    """All tables of a run of `./run_all.sh ablation` below each other, as one Markdown table."""
    tables = {name: reference / f"{run}_05_{name}.csv" for name in ABLATIONS}
    tables = {name: pd.read_csv(path) for name, path in tables.items() if path.is_file()}
    if not tables:
        return "No run yet."
    lines = [
        "| row | paper | here | against | paper | here | verdict |",
        "|---" * 7 + "|",
    ]
    for name, table in tables.items():
        lines.append(f"| **{ABLATIONS[name]}** | | | | | | |")
        lines += [_ablation_line(row) for row in table.fillna({"against": ""}).to_dict("records")]
    counts = agreement(list(tables.values()))
    lines.append("")
    lines.append(
        f"Of {counts['directions']} directions that the papers tell, {counts['agree']} come out "
        f"the same here with an interval that excludes zero, {counts['contradict']} the other way "
        f"round, {counts['unclear']} cannot be told from chance."
    )
    return "\n".join(lines)


def _ablation_line(row: dict) -> str:
    """Name, the paper's score and ours, the reference, the paper's difference and ours, verdict."""
    verdict = "" if pd.isna(row["verdict"]) else row["verdict"]
    cells = [row["name"], _number(row["paper_private"]), "", row["against"]]
    if not pd.isna(row["private"]):
        cells[2] = f"{row['private']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    cells.append(_number(row["paper"], "+"))
    cells.append("")
    if not pd.isna(row["difference"]):
        low, high = row["difference_low"], row["difference_high"]
        cells[-1] = f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"| {' | '.join([*cells, verdict])} |"


def _number(value: float, sign: str = "") -> str:
    return "" if pd.isna(value) else f"{value:{sign}.3f}"


def rerankers_block(reference: Path = REFERENCE) -> str:
    """Every reranker with its gain over plain search and its spread of continents, per run."""
    tables = {}
    for title, run in RUNS.items():
        paths = [reference / f"{run}_06_{name}.csv" for name in ("rerankers", "spread")]
        if all(path.is_file() for path in paths):
            table, spread = (pd.read_csv(path).set_index("reranker") for path in paths)
            tables[title] = table.join(spread["spread"])
    if not tables:
        return "No run yet."
    lines = [
        "| reranker | source | "
        + " | ".join(f"{title} | gain over plain search | spread" for title in tables)
        + " |",
        "|---" * (2 + 3 * len(tables)) + "|",
    ]
    for name, row in next(iter(tables.values())).iterrows():
        cells = [name, "" if pd.isna(row["source"]) else row["source"]]
        for table in tables.values():
            found = table.loc[name] if name in table.index else None
            cells += ["", "", ""] if found is None else [_cells(found), _number(found["spread"])]
        lines.append(f"| {' | '.join(cells)} |")
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


def bench_block(name: str, reference: Path = REFERENCE) -> str:
    """What a benchmark printed, as it was kept in `bench_NAME.txt`."""
    path = reference / f"bench_{name}.txt"
    return f"```\n{path.read_text().strip()}\n```" if path.is_file() else "No run yet."


BLOCKS = {
    "steps": steps_block,
    "ablation mini": partial(ablation_block, "mini"),
    "ablation photos": partial(ablation_block, "photos-photos"),
    "rerankers": rerankers_block,
    "timings": timings_block,
    "cleaning": cleaning_block,
    "bench clean": partial(bench_block, "clean"),
    "bench rerank": partial(bench_block, "rerank"),
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

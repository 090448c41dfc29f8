"""The README's tables, made from the committed reference (`lib.reports`) and nothing else.

The committed reference: chosen figures and tables of finished runs, and the README's numbers.

`./run_all.sh reference` copies them from `outputs/` into `outputs/reference/` and writes the
README's blocks (`lib.reports`) anew, so that no number there is typed by hand."""

import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from PIL import Image

from lib import plots
from lib.ablation import agreement
from lib.artifacts import ROOT, atomic_path, outputs_root, read_records, write_csv

REFERENCE = ROOT / "outputs" / "reference"
# Heading → run folder, without the digits that stand for the data folder's path.
RUNS = {"miniature world": "mini", "photographs": "photos-photos"}
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"  # of notes below the README's tables
ABLATIONS = {  # tables of notebook 05 in the README's order, and their headings there
    "glr20_table_1": "GLR20 Table 1",
    "glr20_table_2": "GLR20 Table 2",
    "glr21_tricks": "GLR21 bag of tricks",
    "glr21_samplers": "GLR21 samplers",
    "glr21_apart": "GLR21 sampler and data taken apart",
    "networks": "beyond: network and loss",
    "mixing": "beyond: Corner-Cutmix in both forms",
    "cleaning": "beyond: cleaning, part by part, at equal length",
}


def _read(reference: Path, name: str) -> dict[str, pd.DataFrame]:
    """One table of every run that has it, by the run's heading."""
    paths = {title: reference / f"{run}_{name}.csv" for title, run in RUNS.items()}
    return {title: pd.read_csv(path) for title, path in paths.items() if path.is_file()}


def steps_block(reference: Path = REFERENCE) -> str:
    """mAP@100 step by step with intervals, one column pair per run, as a Markdown table."""
    tables = _read(reference, "06_steps")
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


def ablation_tables(
    run: str, reference: Path = REFERENCE, *, suffix: str = ""
) -> dict[str, pd.DataFrame]:
    """The committed tables of a run of notebook 05, by name, in the README's order.

    With the suffix "_quick" those of `./run_all.sh`, else those of `./run_all.sh ablation`.
    """
    paths = {name: reference / f"{run}_05_{name}{suffix}.csv" for name in ABLATIONS}
    return {
        name: pd.read_csv(path, dtype={"against": str}).fillna({"against": ""})
        for name, path in paths.items()
        if path.is_file()
    }


def ablation_block(run: str, reference: Path = REFERENCE, *, suffix: str = "") -> str:
    """All tables of a run of notebook 05 below each other, as one Markdown table."""
    tables = ablation_tables(run, reference, suffix=suffix)
    if not tables:
        return "No run yet."
    lines = [
        "| row | paper | here | against | paper | here | verdict |",
        "|---" * 7 + "|",
    ]
    notes = _notes(tables.values())
    for name, table in tables.items():
        lines.append(f"| **{ABLATIONS[name]}** | | | | | | |")
        lines += [_ablation_line(row, notes) for row in table.to_dict("records")]
    if notes:
        lines += ["", "; ".join(f"{mark} {note}" for note, mark in notes.items()) + "."]
    counts = agreement(list(tables.values()))
    if counts["directions"]:
        lines += [
            "",
            f"Of {counts['directions']} directions that the papers tell, {counts['agree']} come "
            f"out the same here with an interval that excludes zero, {counts['contradict']} the "
            f"other way round, {counts['unclear']} cannot be told from chance.",
        ]
    if "paper_milliseconds" in tables.get("glr20_table_2", ()):
        lines += _test_times(tables["glr20_table_2"])
    if "cleaning" in tables:
        lines += _won_back(tables["cleaning"])
    missing = [title for name, title in ABLATIONS.items() if name not in tables]
    if missing and not suffix:
        lines += ["", f"Not run: {'; '.join(missing)}."]
    return "\n".join(lines)


def _notes(tables: Iterable[pd.DataFrame]) -> dict[str, str]:
    """What rows tell of themselves → the mark that points to it."""
    columns = [table["note"].dropna() for table in tables if "note" in table]
    found = dict.fromkeys(note for column in columns for note in column)
    return dict(zip(found, MARKS, strict=False))


def _test_times(table: pd.DataFrame) -> list[str]:
    """How long an image takes at test time, the paper's and ours, in words."""
    rows = table.dropna(subset=["paper_milliseconds", "milliseconds"]).to_dict("records")
    times = [
        f"{row['name'].removesuffix(' cluster')} {row['paper_milliseconds']:.1f} and "
        f"{row['milliseconds']:.1f} ms"
        for row in rows
    ]
    where = "the paper's on a GPU and here on the CPU"
    return ["", f"Test time of an image, {where}: {', '.join(times)}."]


def _won_back(table: pd.DataFrame) -> list[str]:
    """How much of the distance from raw to true labels cleaned lists win back, in words."""
    network = table["name"].iloc[0].removesuffix("raw labels")
    scores = table.set_index(table["name"].str.removeprefix(network))
    private = scores["private"]
    found = []
    for way in ("", ", no splitting"):
        start, cleaned, end = private.reindex(["raw labels", f"cleaned{way}", f"true labels{way}"])
        if not end > start:  # neither is there a distance where a row is missing
            continue
        found.append(
            f"Trained equally long{way and ' and without splitting'}, the cleaned list wins back "
            f"{(cleaned - start) / (end - start):.0%} of the distance from raw to true labels, "
            f"{start:.3f} to {end:.3f}."
        )
        if not way:
            best = scores.loc[scores.index.str.startswith("cleaned"), "public"].idxmax()
            share = (private[best] - start) / (end - start)
            found.append(f"The best on Public queries, {best!r}, wins back {share:.0%}.")
    return ["", " ".join(found)] if found else []


def _ablation_line(row: dict, notes: Mapping[str, str]) -> str:
    """Name, the paper's score and ours, the reference, the paper's difference and ours, verdict."""
    verdict = "" if pd.isna(row["verdict"]) else row["verdict"]
    name = row["name"] + notes.get(row.get("note"), "")
    cells = [name, _number(row["paper_private"]), "", row["against"]]
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
    spreads = _read(reference, "06_spread")
    tables = {
        title: table.merge(spreads[title][["reranker", "spread"]], how="left").set_index("reranker")
        for title, table in _read(reference, "06_rerankers").items()
        if title in spreads
    }
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
    found = _read(reference, "timings")
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
    records = _read(reference, "recorded").items()
    table = pd.DataFrame(
        {
            title: own[own["notebook"] == "03_dbscan_cleaning"].set_index("name")["value"]
            for title, own in records
        }
    )
    rows = [f"| {name} | {' | '.join(f'{v:g}' for v in row)} |" for name, row in table.iterrows()]
    head = f"| | {' | '.join(table.columns)} |"
    return "\n".join([head, "|---" * (1 + table.shape[1]) + "|", *rows])


def descriptors_block(reference: Path = REFERENCE) -> str:
    """Noise found by cleaning with each descriptor, per run, as a Markdown table."""
    tables = _read(reference, "03_descriptors")
    if not tables:
        return "No run yet."
    columns = {"noise_precision": "precision", "noise_recall": "recall", "ari": "ARI"}
    head = "".join(f" {title}: {' | '.join(columns.values())} |" for title in tables)
    lines = [f"| descriptor | cleaning |{head}", "|---" * (2 + 3 * len(tables)) + "|"]
    first = next(iter(tables.values()))
    for place, row in first.iterrows():
        cells = [row["descriptor"], row["cleaning"]]
        for table in tables.values():
            cells += [f"{value:.2f}" for value in table.loc[place, list(columns)]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bench_block(name: str, reference: Path = REFERENCE) -> str:
    """What a benchmark printed, as it was kept in `bench_NAME.txt`."""
    path = reference / f"bench_{name}.txt"
    return f"```\n{path.read_text().strip()}\n```" if path.is_file() else "No run yet."


BLOCKS = {
    "steps": steps_block,
    "ablation quick": partial(ablation_block, "mini", suffix="_quick"),
    "ablation mini": partial(ablation_block, "mini"),
    "ablation photos": partial(ablation_block, "photos-photos"),
    "rerankers": rerankers_block,
    "timings": timings_block,
    "cleaning": cleaning_block,
    "descriptors": descriptors_block,
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
        figure = plots.charts.forest(titled, title="Row against row: by how much, and how surely")
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

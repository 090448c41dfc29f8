"""The committed reference in `outputs/reference`: `./run_all.sh reference` makes it from runs.

Tables, chosen figures and executed notebooks are copied there from `outputs/`, and the tables in
`PAGES` between `<!-- NAME -->` and `<!-- end -->` written anew from them. GLR20 = 3rd place, Google
Landmark Retrieval 2020 (Mei et al.), GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et
al.).
"""

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import nbformat
import pandas as pd
from PIL import Image

from lib import plots
from lib.ablation import TITLES, agreement
from lib.artifacts import ROOT, atomic_path, outputs_root, read_records, write_csv
from lib.reports.run_page import notebook_page, number, with_interval

REFERENCE = ROOT / "outputs" / "reference"
# Heading → run folder, without the digits that stand for the data folder's path.
RUNS = {"miniature world": "mini", "photographs": "photos-photos"}
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"  # of notes below a table


def _read(reference: Path, name: str) -> dict[str, pd.DataFrame]:
    """One table of every run that has it, by the run's heading."""
    paths = {title: reference / f"{run}_{name}.csv" for title, run in RUNS.items()}
    return {title: pd.read_csv(path) for title, path in paths.items() if path.is_file()}


def _markdown(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def _side_by_side(
    tables: Mapping[str, pd.DataFrame],
    keys: Sequence[str],
    columns: Sequence[str],
    cells: Callable[[pd.Series], list[str]],
) -> str:
    """One table of every run beside each other; {} in `columns` stands for the run's heading.

    Raises FileNotFoundError, as every block does, where there is no run.
    """
    if not tables:
        raise FileNotFoundError("no run has this table")
    found = {title: table.set_index(keys[0]) for title, table in tables.items()}
    rows = []
    for name, first in next(iter(found.values())).iterrows():
        row = [name, *("" if pd.isna(first[key]) else first[key] for key in keys[1:])]
        for table in found.values():
            row += cells(table.loc[name]) if name in table.index else [""] * len(columns)
        rows.append(row)
    return _markdown([*keys, *(one.format(run) for run in found for one in columns)], rows)


def _score_and_gain(row: pd.Series) -> list[str]:
    return [with_interval(row, "private", ""), with_interval(row, "gain", "gain_", "+")]


def _seen_and_unseen(row: Mapping, prefix: str = "private_") -> str:
    parts = (row.get(f"{prefix}{name}", float("nan")) for name in ("seen", "unseen"))
    return ", ".join(filter(None, map(number, parts)))


def steps_block(reference: Path) -> str:
    """mAP@100 step by step with intervals, and what each step gains."""
    return _side_by_side(
        _read(reference, "06_steps"),
        ["step"],
        ["{}", "gain", "seen, unseen"],
        lambda row: [*_score_and_gain(row), _seen_and_unseen(row)],
    )


def rerankers_block(reference: Path) -> str:
    """Every reranker with its gain over plain search and its spread of continents."""
    spreads = _read(reference, "06_spread")
    tables = {
        title: table.merge(spreads[title][["reranker", "spread"]], how="left")
        for title, table in _read(reference, "06_rerankers").items()
    }
    return _side_by_side(
        tables,
        ["reranker", "source"],
        ["{}", "gain over plain search", "seen, unseen", "spread"],
        lambda row: [*_score_and_gain(row), _seen_and_unseen(row), number(row["spread"])],
    )


def timings_block(reference: Path) -> str:
    """Seconds per notebook and peak memory."""
    found = _read(reference, "timings")
    table = _side_by_side(found, ["notebook"], ["{}"], lambda row: [f"{row['seconds']:.0f} s"])
    totals = (f"**{own['seconds'].sum() / 60:.1f} min**" for own in found.values())
    peaks = (f"{own['peak_mib'].max() / 1024:.1f} GiB" for own in found.values())
    return f"{table}\n| all | {' | '.join(totals)} |\n| peak memory | {' | '.join(peaks)} |"


def cleaning_block(reference: Path) -> str:
    """What notebook 03 recorded."""
    tables = {
        title: table[table["notebook"] == "03_dbscan_cleaning"]
        for title, table in _read(reference, "recorded").items()
    }
    return _side_by_side(tables, ["name"], ["{}"], lambda row: [_shown(row["value"])])


def _shown(value: float | str) -> str:
    """A recorded value; a column that holds words too was read as text."""
    try:
        return f"{float(value):g}"
    except ValueError:
        return str(value)


def descriptors_block(reference: Path) -> str:
    """Label noise found by cleaning, by the embeddings that it starts from."""
    tables = _read(reference, "03_descriptors")
    for table in tables.values():
        table["embeddings, cleaning"] = table["descriptor"] + ", " + table["cleaning"]
    return _side_by_side(
        tables,
        ["embeddings, cleaning"],
        ["{}: precision", "recall", "ARI"],
        lambda row: [f"{row[name]:.2f}" for name in ("noise_precision", "noise_recall", "ari")],
    )


def noise_block(reference: Path) -> str:
    """Planted noise of the photographs found by cleaning and by other methods."""
    table = pd.read_csv(reference / "photos_noise.csv").round(3).fillna("").astype(str)
    return _markdown(list(table), table.to_numpy().tolist())


def rivals_block(reference: Path) -> str:
    """Our descriptor of the photographs beside what others' recipes train on the same lists."""
    rows = []
    for _, row in pd.read_csv(reference / "photos_rivals.csv").iterrows():
        score, gain = _score_and_gain(row)
        public, seen = number(row["public"]), _seen_and_unseen(row)
        rows.append([row["method"], row["list"], public, score, seen, gain])
    head = ["descriptor", "list", "Public", "Private", "seen, unseen", "ours is better by"]
    return _markdown(head, rows)


def bench_block(name: str, reference: Path) -> str:
    """What a benchmark printed."""
    text = (reference / f"bench_{name}.txt").read_text()
    return f"```\n{text.strip()}\n```"


def ablation_tables(run: str, reference: Path, suffix: str = "") -> dict[str, pd.DataFrame]:
    """The committed tables of `./run_all.sh ablation`; with the suffix "_quick" of notebook 05."""
    paths = {name: reference / f"{run}_05_{name}{suffix}.csv" for name in TITLES}
    return {
        name: pd.read_csv(path, dtype={"against": str}).fillna({"against": ""})
        for name, path in paths.items()
        if path.is_file()
    }


def ablation_block(run: str, reference: Path, *, suffix: str = "") -> str:
    """All `ablation_tables` of a run below each other, and what they sum up to."""
    tables = ablation_tables(run, reference, suffix)
    if not tables:
        raise FileNotFoundError(f"no ablation table of {run}")
    columns = [table["note"].dropna() for table in tables.values() if "note" in table]
    notes = dict.fromkeys(note for column in columns for note in column)
    marks = dict(zip(notes, MARKS, strict=False))
    rows = []
    for name, table in tables.items():
        rows.append([f"**{TITLES[name]}**", *[""] * 7])
        rows += [_ablation_cells(row, marks) for row in table.to_dict("records")]
    head = ["row", "paper", "here", "seen, unseen", "against", "paper", "here", "verdict"]
    parts = [_markdown(head, rows)]
    if marks:
        parts.append("; ".join(f"{mark} {note}" for note, mark in marks.items()) + ".")
    counts = agreement(list(tables.values()))
    if counts["directions"]:
        parts.append(
            f"Directions that the papers tell: {counts['directions']}; {counts['agree']} the same "
            f"here with an interval that excludes zero, {counts['contradict']} the other way "
            f"round, {counts['unclear']} not to be told from chance."
        )
    if "paper_milliseconds" in tables.get("glr20_table_2", ()):
        parts.append(_test_times(tables["glr20_table_2"]))
    if "cleaning" in tables:
        parts.append(_won_back(tables["cleaning"]))
    missing = [title for name, title in TITLES.items() if name not in tables]
    if missing and not suffix:
        parts.append(f"Not run: {'; '.join(missing)}.")
    return "\n\n".join(filter(None, parts))


def _ablation_cells(row: dict, marks: Mapping[str, str]) -> list[str]:
    return [
        row["name"] + marks.get(row.get("note"), ""),
        number(row["paper_private"]),
        with_interval(row, "private", ""),
        _seen_and_unseen(row, ""),
        row["against"],
        number(row["paper"], "+"),
        with_interval(row, "difference", "difference_", "+"),
        "" if pd.isna(row["verdict"]) else row["verdict"],
    ]


def _test_times(table: pd.DataFrame) -> str:
    timed = table.dropna(subset=["paper_milliseconds", "milliseconds"])
    times = [
        f"{name.removesuffix(' cluster')} {paper:.1f} and {here:.1f} ms"
        for name, paper, here in timed[["name", "paper_milliseconds", "milliseconds"]].to_numpy()
    ]
    where = "the paper's on a GPU and here on the CPU"
    return f"Test time of an image, {where}: {', '.join(times)}."


def _won_back(table: pd.DataFrame) -> str:
    """The share of the distance from raw to true labels that cleaned lists win back."""
    network = table["name"].iloc[0].removesuffix("raw labels")
    scores = table.set_index(table["name"].str.removeprefix(network))
    private = scores["private"]
    found = []
    for way in ("", ", no splitting"):
        start, cleaned, end = private.reindex(["raw labels", f"cleaned{way}", f"true labels{way}"])
        if not end > start:  # also where a row is missing
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
    return " ".join(found)


BENCHMARKS = ("clean", "radii", "rerank", "query", "step", "heads", "startup", "cost")
BLOCKS = {
    "steps": steps_block,
    "ablation quick": partial(ablation_block, "mini", suffix="_quick"),
    "ablation mini": partial(ablation_block, "mini"),
    "ablation photos": partial(ablation_block, "photos-photos"),
    "rerankers": rerankers_block,
    "timings": timings_block,
    "cleaning": cleaning_block,
    "descriptors": descriptors_block,
    "noise": noise_block,
    "rivals": rivals_block,
    **{f"bench {name}": partial(bench_block, name) for name in BENCHMARKS},
}


def fill(text: str, reference: Path = REFERENCE) -> str:
    """A page with every block between `<!-- NAME -->` and `<!-- end -->` made anew."""

    def made_anew(found: re.Match) -> str:
        try:
            block = BLOCKS[found[2]](reference)
        except FileNotFoundError:
            block = "No run yet."
        return f"{found[1]}{block}\n{found[3]}"

    pattern = rf"(<!-- ({'|'.join(BLOCKS)}) -->\n).*?(<!-- end -->)"
    return re.sub(pattern, made_anew, text, flags=re.DOTALL)


PAGES = (ROOT / "README.md", REFERENCE / "RESULTS.md")
PUBLIC = "mini"  # the run with figures: photographs of others are not ours to publish
FIGURES = (
    *("01_continents", "01_noise", "03_split", "03_dropped", "03_flow", "05_forest_quick"),
    *("06_steps", "06_strips", "06_rerankers", "06_fairness", "06_explained", "06_matches"),
)
TABLES = ("03_descriptors", "05_*", "06_steps", "06_continents", "06_rerankers", "06_spread")
ABLATION = "05_ablation_tables"
WIDEST = 1100  # pixels of a figure
LARGEST = 1_500_000  # bytes of a notebook as HTML


def copy_run(run: str, *, figures: bool, reference: Path = REFERENCE) -> bool:
    """Copy numbers, tables and (with `figures`) pictures and notebooks of a run; False without one.

    Of a chain that is not finished, only what `./run_all.sh ablation` made is copied.
    """
    root = outputs_root()  # of several data folders of one name, the last one used
    folders = [*root.glob(run), *root.glob(f"{run}-{'[0-9a-f]' * 6}")]
    folder = max(folders, key=lambda one: one.stat().st_mtime, default=root / run)
    is_whole = (folder / "recorded" / "06_submission_reranking.json").is_file()
    if is_whole:
        records = read_records(folder)
        is_kept = records["notebook"] != ABLATION  # it may have made any tables last
        write_csv(records[is_kept], reference / f"{run}_recorded.csv")
        shutil.copy(folder / "timings.csv", reference / f"{run}_timings.csv")
    patterns = [f"tables/{name}.csv" for name in TABLES]
    if figures:
        patterns += [*(f"figures/{name}.png" for name in FIGURES), "notebooks/*.ipynb"]
    chosen = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not is_whole:
        chosen = [path for path in chosen if re.fullmatch(r"05_.*(?<!_quick)\.csv", path.name)]
    copies = {".csv": _round, ".png": _shrink, ".ipynb": _convert}
    for path in chosen:
        try:
            copies[path.suffix](path, reference / f"{run}_{path.name}")
        except (ValueError, OSError) as error:
            raise ValueError(
                f"expected what a notebook wrote in {path}, found a damaged file ({error}); run the"
                " notebook again"
            ) from error
    return bool(chosen)


def _round(source: Path, target: Path) -> None:
    write_csv(pd.read_csv(source).round(4), target)


def _shrink(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        temporary.write_bytes(_smaller(source.read_bytes(), WIDEST, 256))


def _smaller(png: bytes, widest: int, colours: int) -> bytes:
    """A PNG of at most so many pixels and colours, which keeps the repository small."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((widest, 10 * widest))
    found = io.BytesIO()
    image.quantize(colours).save(found, format="PNG", optimize=True)
    return found.getvalue()


def _convert(source: Path, target: Path) -> None:
    """An executed notebook as HTML with smaller figures, unless it is larger than `LARGEST`."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                small = _smaller(base64.b64decode(png), 900, 128)
                output.data["image/png"] = base64.b64encode(small).decode()
    page = notebook_page(notebook, source.stem)
    if len(page.encode()) > LARGEST:
        print(f"{source.name}: left out, {len(page.encode()) / 1e6:.1f} MB as HTML")
        return
    with atomic_path(target.with_suffix(".html")) as temporary:
        temporary.write_text(page)


def draw_forest(run: str, *, reference: Path = REFERENCE) -> None:
    """Draw the differences of all committed ablation tables of a run, if there are any."""
    tables = ablation_tables(run, reference)
    if tables:
        titled = {TITLES[name]: table for name, table in tables.items()}
        figure = plots.charts.forest(titled, title="Row against row: by how much, and how surely")
        with atomic_path(reference / f"{run}_05_forest.png") as temporary:
            figure.savefig(temporary, dpi=100, bbox_inches="tight")
            _shrink(temporary, temporary)


def write_reference() -> int:
    """Copy what there is and fill the pages; 1 if there is no run to copy."""
    copied = {run: copy_run(run, figures=run == PUBLIC) for run in RUNS.values()}
    draw_forest(PUBLIC)
    for page in PAGES:
        with atomic_path(page) as temporary:
            temporary.write_text(fill(page.read_text()))
    for run, is_there in copied.items():
        print(f"{run}: {'copied' if is_there else 'no finished run, left as it was'}")
    return 0 if any(copied.values()) else 1

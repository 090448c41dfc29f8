"""What a run ends with: the page `report.html`, notebooks as HTML, and the terminal's last lines.

`python -m lib.reports page RUN` makes the page of a run that was killed or made in Jupyter.
"""

import ast
import base64
import contextlib
import functools
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
from nbconvert import HTMLExporter
from PIL import Image
from pygments.formatters import HtmlFormatter

from lib.artifacts import (
    ROOT,
    atomic_path,
    outputs_root,
    read_csv_or_none,
    read_records,
    seen_by_caller,
)
from lib.reports.manifest import MANIFEST, effective_settings, read_manifest

PAGE = "report.html"
WIDEST = 1200  # pixels of a figure
LONGEST = 40  # rows of a table that the page shows
TOLD = ("name", "private", "against", "difference", "verdict")  # of the tables of notebook 05
STEPS = ("step", "public", "private", "low", "high", "gain", "gain_low", "gain_high")
NUMBERED = "[0-9][0-9]_*"


def number(value: float, sign: str = "") -> str:
    """Three decimals, with `sign` "+" for a gain; nothing for NaN."""
    return "" if pd.isna(value) else f"{value:{sign}.3f}"


def with_interval(row: Mapping, name: str, bounds: str, sign: str = "") -> str:
    """`0.250 (0.200 to 0.300)`: a value and its interval in the columns `bounds` + low, high."""
    if pd.isna(row[name]):
        return ""
    low, high = row[f"{bounds}low"], row[f"{bounds}high"]
    return f"{row[name]:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def read_steps(folder: Path, since: float = 0.0) -> tuple[str, pd.DataFrame | None]:
    """The last notebook with a table of steps that is newer than `since`, and the table."""
    for path in sorted((folder / "tables").glob("[0-9][0-9]_steps.csv"), reverse=True):
        table = read_csv_or_none(path, STEPS, keep_default_na=True)
        if path.stat().st_mtime >= since and table is not None:
            return path.name[:2], table
    return "", None


def _steps_title(folder: Path, number: str) -> str:
    k = read_manifest(folder).get("settings", {}).get("top_k", 100)
    queries = read_csv_or_none(folder / "tables" / f"{number}_queries.csv", ["id", "usage"])
    count = "" if queries is None else f"{(queries['usage'] == 'Private').sum():,} "
    return f"mAP@{k} over {count}Private queries, 95 % intervals"


def aligned(rows: Iterable[Sequence[str]]) -> str:
    """Rows as text in columns, two spaces apart.

    >>> print(aligned([("a", "bc", "d"), ("efg", "h", "")]))
    a    bc  d
    efg  h
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def summarise(folder: str | Path, *, since: float = 0.0) -> str:
    """The last lines of a run: the score of each step, where the submission is, what to open.

    Only files newer than `since` count, in seconds since the epoch.
    """
    folder = Path(folder)

    def is_new(path: Path) -> bool:
        return path.is_file() and path.stat().st_mtime >= since

    notebook, steps = read_steps(folder, since)
    lines = []
    if steps is not None:
        lines += [_steps_title(folder, notebook), aligned(_step_rows(steps)), ""]
    else:
        for path in filter(is_new, sorted((folder / "tables").glob("05_*.csv"))):
            head, rows, _ = _readable(pd.read_csv(path))
            chosen = [place for place, name in enumerate(head) if name in TOLD]
            cells = [[row[place] for place in chosen] for row in (head, *rows)]
            lines += [path.stem, aligned(cells), ""]
    files = {"submission": folder / "submission.csv", "report": folder / PAGE}
    found = [(name, seen_by_caller(path)) for name, path in files.items() if is_new(path)]
    return "\n".join([*lines, aligned(found) if found else f"results in {seen_by_caller(folder)}"])


def _step_rows(steps: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    yield "step", "score", "gain over the step above"
    for row in steps.to_dict("records"):
        score, gain = with_interval(row, "private", ""), with_interval(row, "gain", "gain_", "+")
        yield row["step"], score, gain


def write_page(folder: str | Path) -> Path:
    """Write `report.html` of what a run folder holds, and its executed notebooks as HTML.

    Raises ValueError if the folder holds no run.
    """
    folder = Path(folder)
    manifest, executed = read_manifest(folder), _executed(folder)
    places = _places(folder, manifest, executed.values())
    sections = [_section(folder, path, one, manifest, places) for path, one in executed.items()]
    if not sections and not manifest:
        raise ValueError(f"expected a run folder with executed notebooks, found none in {folder}")
    notebook, steps = read_steps(folder)
    place = os.path.relpath(folder, ROOT)  # where ./run_all.sh is
    entries = manifest.get("notebooks", {})
    settings = effective_settings(manifest)
    stems = {path.stem for path in (ROOT / "notebooks").glob(f"{NUMBERED}.ipynb")}
    if not settings.get("ablation", True):
        stems = {stem for stem in stems if not stem.startswith("05_")}  # left out of the profile
    found = {
        "name": folder.name,
        "manifest": manifest,
        "manifest_file": MANIFEST,
        "again": f"./run_all.sh --again {place}/{MANIFEST} --name {folder.name}-again",
        "minutes": sum(entry.get("minutes", 0) for entry in entries.values()),
        "ended": max((entry.get("ended", "") for entry in entries.values()), default=""),
        "steps_title": _steps_title(folder, notebook),
        "steps_from": notebook,
        "steps": [] if steps is None else list(_step_rows(steps)),
        "steps_figure": _figure(folder, folder / "figures" / f"{notebook}_steps.png"),
        "stopped": {
            name: _without(places, entry["state"])
            for name, entry in entries.items()
            if entry["state"] not in ("done", "not run")
        },
        "waiting": [name for name, entry in entries.items() if entry["state"] == "not run"],
        "missing": sorted(stems - {section["stem"] for section in sections} - set(entries)),
        "sections": sections,
        "files": [path.name for path in sorted(folder.glob("submission*.csv"))],
        "warnings": [_without(places, one) for one in _warnings(executed)],
        "parameters": {name: entry["parameters"] for name, entry in entries.items()},
        "settings": settings,
        "changed": {key for entry in entries.values() for key in entry["changed"]},
        "timings": _timings(folder, entries),
        "data": list(dict.fromkeys(one["data"] for one in entries.values() if one.get("data"))),
    }
    with atomic_path(folder / PAGE) as temporary:
        temporary.write_text(_render("run.html", found))
    return folder / PAGE


def _render(name: str, found: Mapping[str, Any]) -> str:
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, keep_trailing_newline=True, **options)
    return templates.get_template(name).render(found)


def _executed(folder: Path) -> dict[Path, nbformat.NotebookNode | None]:
    """The executed notebooks of a run; None for a file that a kill left damaged."""
    found = {}
    for path in sorted((folder / "notebooks").glob(f"{NUMBERED}.ipynb")):
        found[path] = None
        with contextlib.suppress(OSError, ValueError):
            found[path] = nbformat.read(path, as_version=4)
    return found


def _places(
    folder: Path,
    manifest: Mapping[str, Any],
    executed: Iterable[nbformat.NotebookNode | None],
) -> dict[str, str]:
    """Absolute paths in the texts of a run → what stands in their place."""
    found = {}
    for notebook in filter(None, executed):
        parameters = notebook.metadata.get("papermill", {}).get("parameters", {})
        if data_dir := parameters.get("DATA_DIR"):
            found[data_dir] = manifest.get("data_dir") or Path(data_dir).name
    found |= {str(path): f"outputs/{folder.name}" for path in (folder.absolute(), folder.resolve())}
    return found | {f"{outputs_root().absolute()}/": "outputs/", f"{ROOT}/": ""}


def _without(places: Mapping[str, str], text: str) -> str:
    for path, other in places.items():
        text = text.replace(path, other)
    return text


@functools.cache
def _exporter() -> HTMLExporter:
    """Compiles its templates once, and does not parse code that pygments has escaped."""
    return HTMLExporter(template_name="basic", filters={"clean_html": lambda text: text})


def notebook_page(notebook: nbformat.NotebookNode, title: str) -> str:
    """An executed notebook as one HTML page without scripts.

    nbconvert's own page has 280 kB of styles, and needs a network.
    """
    body, _ = _exporter().from_notebook_node(notebook)
    style = HtmlFormatter().get_style_defs(".highlight")
    page = _render("notebook.html", {"title": title, "style": style, "body": body})
    return page.replace(f"{ROOT}/", "")  # where the repository lay is of no use to others


def _section(
    folder: Path,
    path: Path,
    notebook: nbformat.NotebookNode | None,
    manifest: Mapping[str, Any],
    places: Mapping[str, str],
) -> dict[str, Any]:
    """What one notebook left, as the template shows it."""
    records = read_records(folder)
    own = records.loc[records["notebook"] == path.stem, ["name", "value"]].to_numpy()
    found = {"stem": path.stem, "title": path.stem, "groups": {}}
    found["recorded"] = [(_words(name), _recorded(value)) for name, value in own]
    if notebook is None:
        return found | {"state": f"{path.name} cannot be read; run the notebook again."}
    page = path.with_suffix(".html")
    if not page.is_file() or page.stat().st_mtime < path.stat().st_mtime:
        with atomic_path(page) as temporary:
            temporary.write_text(_without(places, notebook_page(notebook, path.stem)))
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    if title := re.search(r"^# (.+)$", texts, re.MULTILINE):
        found["title"] = title[1]
    state = manifest.get("notebooks", {}).get(path.stem, {}).get("state", "done")
    found |= {"state": _without(places, state), "page": f"notebooks/{page.name}"}
    return found | {"groups": _groups(folder, path.stem[:3], notebook)}


def _groups(folder: Path, prefix: str, notebook: nbformat.NotebookNode) -> dict[str, list[dict]]:
    """Figures and tables of a notebook by the heading that their cell stands under."""
    left = {
        (kind, path.stem.removeprefix(prefix)): (make, path)
        for kind, ending, make in (("tables", "csv", _table), ("figures", "png", _figure))
        for path in sorted((folder / kind).glob(f"{prefix}*.{ending}"))
        if path.name != f"{prefix}queries.csv"  # hundreds of rows, for `compare`
    }
    found, heading = {}, ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            titles = re.findall(r"^##+ (.+)$", cell.source, re.MULTILINE)
            heading = titles[-1] if titles else heading
            continue
        for key in _made_by(cell.source):
            if key in left:
                make, path = left.pop(key)
                found.setdefault(heading, []).append(make(folder, path))
    if left:  # under names that a cell computes
        found["More" if found else ""] = [make(folder, path) for make, path in left.values()]
    return found


def _made_by(source: str) -> list[tuple[str, str]]:
    """Which tables and figures a cell makes, by the calls in it."""
    kinds = {"run.table": "tables", "run.steps": "tables", "run.show": "figures"}
    found = []
    with contextlib.suppress(SyntaxError):  # of a magic
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in kinds:
                names = [one.value for one in node.args[1:2] if isinstance(one, ast.Constant)]
                names = ["steps"] if called == "run.steps" else names
                found += [(kinds[called], name) for name in names]
    return found


def _figure(folder: Path, path: Path) -> dict[str, str]:
    """A figure as WebP, an eighth of the size of PNG for photographs; without `image` if cut."""
    item = {"file": path.relative_to(folder).as_posix()}
    with contextlib.suppress(OSError):  # missing or cut
        image = Image.open(path).convert("RGB")
        image.thumbnail((WIDEST, 10 * WIDEST))
        found = io.BytesIO()
        image.save(found, format="WEBP", quality=85, method=2)
        item["image"] = f"data:image/webp;base64,{base64.b64encode(found.getvalue()).decode()}"
    return item


def _table(folder: Path, path: Path) -> dict[str, Any]:
    """The first rows of a table; without `head` if cut."""
    item = {"file": path.relative_to(folder).as_posix()}
    with contextlib.suppress(OSError, ValueError):
        item["head"], item["rows"], item["left_out"] = _readable(pd.read_csv(path))
    return item


def _readable(table: pd.DataFrame) -> tuple[list[str], list[list[str]], int]:
    """Head and the first rows of a table as text, intervals beside their value; rows left out."""
    columns = {}
    for name in table:
        bounds = "" if name == "private" else f"{name}_"
        if {f"{bounds}low", f"{bounds}high"} <= set(table):
            sign = "" if name in ("public", "private") else "+"
            rows = table.head(LONGEST).to_dict("records")
            columns[name] = [with_interval(row, name, bounds, sign) for row in rows]
        elif not re.search(r"(^|_)(low|high)$", name):
            columns[name] = _cells(table[name])
    head = [_words(name) for name in columns]
    cells = zip(*columns.values(), strict=True)
    return head, [list(row) for row in cells], max(0, len(table) - LONGEST)


def _cells(column: pd.Series) -> list[str]:
    """The first values of a column as text: whole numbers, three decimals, or as they are."""
    form = ""
    if column.dtype.kind in "iuf":
        form = ",.0f" if (column.dropna() % 1 == 0).all() else ".3f"
    return ["" if pd.isna(value) else f"{value:{form}}" for value in column.head(LONGEST)]


def _recorded(value: float | str) -> str:
    """A recorded value: a count, a number of four digits, or a word; a dash for what is unknown."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "–"
    return f"{value:,.0f}" if value % 1 == 0 else f"{value:.4g}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _warnings(executed: Mapping[Path, nbformat.NotebookNode | None]) -> list[str]:
    """Lines in the outputs of executed notebooks that warn, after the notebook's number."""
    found = {}
    for path, notebook in executed.items():
        for cell in notebook.cells if notebook else ():
            texts = (output.get("text", "") for output in cell.get("outputs", []))
            for line in "".join(texts).splitlines():
                if told := re.search(r"^warning: (.+)|\b([A-Z]\w*Warning: .+)", line):
                    found[f"{path.name[:2]}: {told[1] or told[2]}"] = None
    return list(found)


def _timings(folder: Path, entries: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Notebook, minutes, peak memory and when it ended."""
    peaks = read_csv_or_none(folder / "timings.csv", ["notebook", "seconds", "peak_mib"])
    found = {} if peaks is None else peaks.set_index("notebook")["peak_mib"].to_dict()
    return [
        (
            name,
            f"{entry['minutes']:.1f}" if "minutes" in entry else "",
            f"{found[name] / 1024:.1f} GiB" if name in found else "",
            entry.get("ended", ""),
        )
        for name, entry in entries.items()
    ]

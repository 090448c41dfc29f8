"""Two runs side by side: the settings that differ, and by how much each step's score does.

Over the same queries differences are paired, query by query.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lib.artifacts import read_csv_or_none, rng, seen_by_caller
from lib.parameters import SETTINGS
from lib.reports.manifest import MANIFEST, effective_settings, read_manifest
from lib.reports.run_page import aligned, with_interval
from lib.retrieval import bootstrap_interval, paired_gain, unpaired_gain

ABOUT_QUERIES = ("id", "usage", "country", "is_seen")  # all other columns are steps
NUMBERS = ("06", "04", "02")  # of the notebooks that score queries, the last first


def compare(first: str | Path, second: str | Path, *, seed: int = 0) -> str:
    """Two run folders as text: what differs in them, and the second's scores against the first's.

    Raises ValueError without a notebook whose queries both runs have scored.
    """
    folders = [Path(path) for path in (first, second)]
    folders = [path.parent if path.name == MANIFEST else path for path in folders]
    names = [path.resolve().name for path in folders]
    names = names if len(set(names)) == 2 else [seen_by_caller(path) for path in folders]
    manifests = [read_manifest(folder) for folder in folders]
    scored = _scored(folders)
    parts = []
    if all(manifests):
        rows = list(_differing(*manifests))
        parts.append(aligned([("differs", *names), *rows]) if rows else "No setting differs.")
    else:
        without = [name for name, found in zip(names, manifests, strict=True) if not found]
        parts.append(f"Settings are not known: no {MANIFEST} in {' and '.join(without)}.")
    return "\n\n".join([*parts, *_scores(names, scored, seed)])


def _differing(*manifests: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    before, after = map(_description, manifests)
    for name in before | after:
        values = before.get(name), after.get(name)
        if values[0] != values[1]:
            yield name, *("–" if value in (None, "") else str(value) for value in values)


def _description(manifest: dict[str, Any]) -> dict[str, Any]:
    """All that may explain a difference, by the name that it is shown under."""
    parameters, data = {}, None
    for entry in manifest["notebooks"].values():
        parameters |= entry["parameters"]
        data = entry.get("data") or data
    of_settings = {*SETTINGS, "SET", "SEED"}  # are among the settings
    return {
        "data folder": manifest["data_dir"] or "miniature world",
        "tables of the data": data,
        **effective_settings(manifest),
        **{f"-p {name}": parameters[name] for name in parameters if name not in of_settings},
        "commit": manifest.get("commit"),
        "device": manifest.get("device"),
        **{f"version of {name}": one for name, one in manifest.get("versions", {}).items()},
    }


def _scored(folders: list[Path]) -> list[pd.DataFrame]:
    """The Private queries of both runs as the last notebook scored them that both have run."""
    for number in NUMBERS:
        paths = [folder / "tables" / f"{number}_queries.csv" for folder in folders]
        found = [read_csv_or_none(path, ABOUT_QUERIES[:2]) for path in paths]
        if all(table is not None for table in found):
            return [table[table["usage"] == "Private"].set_index("id") for table in found]
    raise ValueError(
        "expected two runs with the scores of queries, tables/06_queries.csv or 04 or 02 in both, "
        f"found none in {' and '.join(map(seen_by_caller, folders))}; run these notebooks"
    )


def _scores(names: list[str], scored: list[pd.DataFrame], seed: int) -> Iterator[str]:
    before, after = scored
    common = before.index.intersection(after.index)
    if len(common) == len(before) == len(after):
        gain = paired_gain
        yield (
            f"mAP over the same {len(common):,} Private queries, with 95 % intervals; the "
            "difference is paired, query by query."
        )
    else:
        gain = unpaired_gain
        yield (
            f"The runs have different Private queries: {len(before):,} and {len(after):,}, "
            f"{len(common):,} of them in common. So the differences are not paired: they hold what "
            "the queries differ in, too."
        )
    rows = [["step", *names, "difference"]]
    for step in dict.fromkeys([*before, *after]):
        if step in ABOUT_QUERIES:
            continue
        cells = ["", "", ""]
        for place, table in enumerate(scored):
            if step in table:
                interval = bootstrap_interval(table[step], generator=rng(seed, "interval"))
                cells[place] = with_interval(interval._asdict(), "mean", "")
        if all(cells[:2]):
            interval = gain(after[step], before[step], generator=rng(seed, "difference"))
            cells[2] = with_interval(interval._asdict(), "mean", "", "+")
        rows.append([step, *cells])
    yield aligned(rows)

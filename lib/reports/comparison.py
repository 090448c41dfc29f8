"""Two runs side by side: the settings that differ, and by how much each step's score does.

Over the same queries differences are paired, query by query.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.artifacts import read_csv_or_none, rng, seen_by_caller
from lib.parameters import SETTINGS
from lib.reports.manifest import MANIFEST, effective_settings, read_manifest
from lib.reports.run_page import aligned
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


def _differing(*manifests: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    described = [_description(manifest) for manifest in manifests]
    for name in dict.fromkeys(name for one in described for name in one):
        values = [one.get(name) for one in described]
        if values[0] != values[1]:
            yield name, *("–" if value in (None, "") else str(value) for value in values)


def _description(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All that may explain a difference, by the name that it is shown under."""
    entries = manifest["notebooks"].values()
    of_settings = {*SETTINGS, "SET", "SEED"}  # are among the settings
    parameters = {
        f"-p {name}": value
        for entry in entries
        for name, value in entry["parameters"].items()
        if name not in of_settings
    }
    data = [entry["data"] for entry in entries if entry.get("data")]
    versions = {f"version of {name}": one for name, one in manifest.get("versions", {}).items()}
    return {
        "data folder": manifest["data_dir"] or "miniature world",
        "tables of the data": data[-1] if data else None,
        **effective_settings(dict(manifest)),
        **parameters,
        "commit": manifest.get("commit"),
        "device": manifest.get("device"),
        **versions,
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
    is_paired = len(common) == len(before) == len(after)
    if is_paired:
        yield (
            f"mAP over the same {len(common):,} Private queries, with 95 % intervals; the "
            "difference is paired, query by query."
        )
    else:
        yield (
            f"The runs have different Private queries: {len(before):,} and {len(after):,}, "
            f"{len(common):,} of them in common. So the differences are not paired: they hold what "
            "the queries differ in, too."
        )
    steps = [name for name in {**before, **after} if name not in ABOUT_QUERIES]
    rows = [("step", *names, "difference")]
    for step in steps:
        has = [step in table for table in scored]
        cells = [
            _shown(bootstrap_interval(table[step], generator=rng(seed, "interval")))
            if there
            else ""
            for table, there in zip(scored, has, strict=True)
        ]
        if all(has):
            gain = paired_gain if is_paired else unpaired_gain
            generator = rng(seed, "difference")
            cells.append(_shown(gain(after[step], before[step], generator=generator), "+"))
        rows.append((step, *cells, *[""] * (3 - len(cells))))
    yield aligned(rows)


def _shown(interval: tuple[float, float, float], sign: str = "") -> str:
    mean, low, high = interval
    return f"{mean:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})" if np.isfinite(mean) else ""

"""The competition's submission file: one row per query, its best gallery ids joined by spaces.

Kaggle rejects a whole file for one bad row without naming it, so everything is checked before a
byte is written, and an error names the row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import write_csv
from lib.data import read_submission
from lib.retrieval.metrics import OFFICIAL, counted
from lib.retrieval.ranking import Ranking, check_ids

Ids = Sequence[str] | np.ndarray | pd.Series


def write_submission(
    predictions: Ranking | Mapping[str, Sequence[str]],
    path: str | Path,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    sample: Ids | None = None,
    k: int | None = None,
) -> Path:
    """Write ranked ids as `id,images`, every query exactly once, and return `path`.

    Nothing is written if a query is missing, unknown or repeated, or a row has an unknown or
    repeated id or another number of ids.

    Args:
        predictions: a `Ranking` with ids, or query id to ranked gallery ids, best first.
        query_ids: all queries, in the order of the file unless `sample` gives another.
        sample: the ids of `sample_submission.csv`, whose order is kept.
        k: ids per row, or the whole of a smaller gallery; by default as many as a `Ranking` holds,
            at most the official 100.
    """
    k = min(counted(predictions), OFFICIAL) if k is None else k
    if isinstance(predictions, Ranking):
        predictions = predictions.top(k).predictions()
    queries = check_ids(query_ids, "query").tolist()
    if sample is not None:
        ordered = check_ids(sample, "sample").tolist()
        difference = set(ordered) ^ set(queries)
        if difference:
            raise ValueError(
                f"expected the queries of the sample submission, found {len(difference)} in one of"
                f" the two only, such as {min(difference)!r}; take queries and sample from one"
                " dataset"
            )
        queries = ordered
    _check(predictions, queries, gallery_ids, k)
    rows = [" ".join(predictions[query]) for query in queries]
    return write_csv(pd.DataFrame({"id": queries, "images": rows}, dtype=str), path)


def check_submission(
    path: str | Path, query_ids: Ids, gallery_ids: Ids, *, k: int = OFFICIAL
) -> dict[str, list[str]]:
    """Read a submission file as query id to ranked gallery ids, checked as Kaggle would."""
    predictions = read_submission(path)
    try:
        _check(predictions, check_ids(query_ids, "query").tolist(), gallery_ids, k)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return predictions


def _check(
    predictions: Mapping[str, Sequence[str]], queries: list[str], gallery_ids: Ids, k: int
) -> None:
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}; the competition asks for 100")
    gallery, known = set(check_ids(gallery_ids, "gallery").tolist()), set(queries)
    wanted = min(k, len(gallery))
    for number, (query, ranked) in enumerate(predictions.items(), start=1):
        if query not in known:
            raise ValueError(
                f"row {number}: expected one of the {len(known)} queries, found {query!r};"
                " leave it out"
            )
        if fault := _fault_of(ranked, gallery, wanted):
            raise ValueError(f"row {number}, query {query!r}: expected {fault}")
    missing = [query for query in queries if query not in predictions]
    if missing:
        raise ValueError(
            f"expected a row for each of the {len(queries)} queries, found none for"
            f" {len(missing)}, the first {missing[0]!r}; rank every query"
        )


def _fault_of(ranked: Sequence[str], gallery: set[str], wanted: int) -> str:
    if isinstance(ranked, str):
        return "a list of ids, found one string; split it at its spaces"
    if len(ranked) != wanted:
        return f"{wanted} ids, found {len(ranked)}; search with k={wanted} or keep that many"
    unknown = next((found for found in ranked if found not in gallery), None)
    if unknown is not None:
        return f"ids of the gallery, found {unknown!r}; rank the gallery of this dataset"
    if len(set(ranked)) < len(ranked):
        twice = next(found for place, found in enumerate(ranked) if found in ranked[:place])
        return f"distinct ids, found {twice!r} twice; keep its better rank"
    return ""

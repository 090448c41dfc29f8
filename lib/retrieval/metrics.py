"""The official metrics of Google Landmark Retrieval: mAP@100, precisions and first hits.

Defined as in the DELF scoring code and on Kaggle's metric page: average precision is divided by
min(|relevant|, k), and a repeated id keeps its rank and earns nothing.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.retrieval.ranking import Ranking

OFFICIAL = 100  # predictions that the competition counts
PRECISIONS = (1, 5, 10, 50, 100)  # the ranks that the official scorer prints
Predictions = Ranking | Mapping[str, Sequence[str]]
Solution = Mapping[str, Collection[str]]


def mean_average_precision(
    predictions: Predictions, solution: Solution, k: int | None = None
) -> float:
    """Score ranked ids against the relevant ones: mAP@k, from 0 to 1.

    The mean over all queries of the solution of
    1 / min(|relevant|, k) · Σ over ranks i ≤ k that hit of (hits up to i) / i.

    Args:
        predictions: query id to ranked gallery ids, best first, or a `Ranking` with ids; a query
            without predictions counts 0.
        solution: query id to the set of relevant gallery ids.
        k: how many predictions count; as many as a `Ranking` holds, else the official 100.

    >>> mean_average_precision({"q": ["a", "x", "x", "b"]}, {"q": {"a", "b"}})  # (1/1 + 2/4) / 2
    0.75
    """
    hits = _hits(_as_mapping(predictions), solution, counted(predictions, k))
    return float(_average_precisions(hits, solution).mean())


def per_query(
    predictions: Predictions,
    solutions: Mapping[str, Solution],
    *,
    ignored: Collection[str] = (),
    k: int | None = None,
) -> pd.DataFrame:
    """Tabulate the official metrics of every query.

    `solutions` is what `read_solution` gives; queries that are `ignored` may be predicted and do
    not count. A row per query in the order of the solutions: usage, query, relevant (how many there
    are), AP@k, P@1, P@5, … up to k (missing predictions count as wrong), first hit (from 1; k + 1
    without one).
    """
    k = counted(predictions, k)
    ranked = _as_mapping(predictions)
    refuse_unknown(ranked, set(ignored).union(*solutions.values()))
    tables = []
    for usage, solution in solutions.items():
        if not solution:
            continue
        some = {query: ranked[query] for query in solution if query in ranked}
        hits = _hits(some, solution, k)
        table = {
            "usage": usage,
            "query": list(solution),
            "relevant": [len(set(relevant)) for relevant in solution.values()],
            f"AP@{k}": _average_precisions(hits, solution),
            **{f"P@{n}": hits[:, :n].sum(axis=1) / n for n in PRECISIONS if n <= k},
            "first hit": np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, k + 1),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def evaluate(
    predictions: Predictions,
    solutions: Mapping[str, Solution],
    *,
    ignored: Collection[str] = (),
    groups: Mapping[str, str] | None = None,
    k: int | None = None,
) -> pd.DataFrame:
    """Tabulate the official metrics per usage, and per group where `groups` names one of queries.

    A row has queries, mAP@k, P@1, P@5, …, mean and median first hit. A query that has no group
    belongs to the group "".
    """
    k = counted(predictions, k)
    table = per_query(predictions, solutions, ignored=ignored, k=k)
    if table.empty:
        return pd.DataFrame(index=pd.Index([], name="usage"))
    by = "usage"
    if groups is not None:
        table["group"] = [groups.get(query, "") for query in table["query"]]
        by = ["usage", "group"]
    columns = {
        "queries": ("query", "size"),
        f"mAP@{k}": (f"AP@{k}", "mean"),
        **{f"P@{n}": (f"P@{n}", "mean") for n in PRECISIONS if n <= k},
        "mean first hit": ("first hit", "mean"),
        "median first hit": ("first hit", "median"),
    }
    return table.groupby(by, sort=groups is not None).agg(**columns)


def counted(predictions: Predictions, k: int | None = None) -> int:
    """How many predictions count: `k`, else as many as a `Ranking` holds, else the official 100."""
    if k is None:
        return predictions.k if isinstance(predictions, Ranking) else OFFICIAL
    return k


def refuse_unknown(predicted: Collection[str], known: Collection[str]) -> None:
    unknown = [query for query in predicted if query not in known]
    if unknown:
        raise ValueError(
            f"expected predictions for queries of the solution, found {len(unknown)} others, the"
            f" first {unknown[0]!r}; leave them out or give the solution that has them"
        )


def _as_mapping(predictions: Predictions) -> Mapping[str, Sequence[str]]:
    return predictions.predictions() if isinstance(predictions, Ranking) else predictions


def _average_precisions(hits: np.ndarray, solution: Solution) -> np.ndarray:
    k = hits.shape[1]
    precisions = hits.cumsum(axis=1) / np.arange(1, k + 1)
    best = np.array([min(len(set(relevant)), k) for relevant in solution.values()])
    return (precisions * hits).sum(axis=1) / best


def _hits(predictions: Mapping[str, Sequence[str]], solution: Solution, k: int) -> np.ndarray:
    """(Q, k) booleans: where a relevant id stands for the first time, queries as in `solution`."""
    if not solution:
        raise ValueError("expected at least one query in the solution, found none; check the file")
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}; count one prediction or more")
    refuse_unknown(predictions, solution)
    hits = np.zeros((len(solution), k), dtype=bool)
    for row, (query, relevant) in enumerate(solution.items()):
        ranked = predictions.get(query, ())
        if isinstance(relevant, str) or isinstance(ranked, str):
            raise ValueError(
                f"expected collections of ids for query {query!r}, found one string; split it"
                " at its spaces"
            )
        if not len(relevant):
            raise ValueError(
                f"expected relevant ids for query {query!r}, found none; leave the query out"
            )
        first = ranked[:k]
        hits[row, : len(first)] = [found in relevant for found in first]
        if len(set(first)) < len(first):  # a repeat earns nothing
            hits[row, : len(first)] &= ~pd.Series(list(first)).duplicated().to_numpy()
    return hits

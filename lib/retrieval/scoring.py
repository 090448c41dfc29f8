"""Scores of a ranking per query, and how much better one ranking is than another.

Settings are chosen on Public queries and reported on Private ones. Every mean and every paired gain
has a percentile bootstrap interval over queries (Efron 1979).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.data import Evaluation
from lib.retrieval.metrics import counted, per_query
from lib.retrieval.ranking import Ranking

RESAMPLES = 10_000
TAILS = (1 - 0.95) / 2, (1 + 0.95) / 2  # of the resampled means, between which 95 % lie
RESAMPLED_AT_ONCE = 1 << 22  # values: 32 MB


def score_queries(
    ranking: Ranking, evaluation: Evaluation, *, k: int | None = None
) -> pd.DataFrame:
    """Average precision and first hit of every query, counting all that is ranked or the first `k`.

    One row per query in the order of `evaluation.queries`: id, usage, country, continent,
    average_precision, first_hit (1-based, k + 1 when none), and is_seen where it is known.
    """
    columns = ["id", "usage", "country", "continent", "is_seen"]
    queries = evaluation.queries.filter(columns).reset_index(drop=True)
    k = counted(ranking, k)
    found = per_query(ranking, evaluation.solution, k=k).set_index("query").loc[queries["id"]]
    return queries.assign(
        average_precision=found[f"AP@{k}"].to_numpy(), first_hit=found["first hit"].to_numpy()
    )


def map_of_usage(scores: pd.DataFrame, usage: str = "Private") -> float:
    """mAP over the queries of one usage, from the table of `score_queries`."""
    return float(scores.loc[scores["usage"] == usage, "average_precision"].mean())


def map_by_seen(
    scores: pd.DataFrame, usage: str = "Private", *, prefix: str = ""
) -> dict[str, float]:
    """mAP of queries whose landmark training shows (`seen`) and of others (`unseen`).

    Nothing where the table of `score_queries` does not know, NaN for a group without a query.
    """
    if "is_seen" not in scores:
        return {}
    chosen = scores[scores["usage"] == usage]
    means = chosen.groupby("is_seen")["average_precision"].mean()
    names = {"seen": True, "unseen": False}
    return {prefix + name: float(means.get(key, np.nan)) for name, key in names.items()}


def map_by_continent(steps: Mapping[str, pd.DataFrame], *, fewest: int = 3) -> pd.DataFrame:
    """mAP over all queries of each continent, for each table of `score_queries`.

    One row per continent with at least `fewest` queries, the largest first: continent, queries, and
    a column per step.
    """
    columns = {
        step: scores.groupby("continent")["average_precision"].mean()
        for step, scores in steps.items()
    }
    queries = next(iter(steps.values()))["continent"].value_counts()
    table = pd.DataFrame({"queries": queries, **columns}).rename_axis("continent")
    table = table[table["queries"] >= fewest].sort_values("queries", ascending=False)
    return table.reset_index()


def most_changed(change: pd.Series) -> tuple[list[str], str]:
    """The three queries that gained most and the one that lost most, and what they are in words.

    `change` is that of the average precision, by query id. Where none changed, the first four.

    >>> most_changed(pd.Series({"a": 0.5, "b": 0.0, "c": 0.25}))
    (['a', 'c'], 'the 2 queries that gained most (+0.50 to +0.25), no query lost')
    """
    order = change.sort_values(ascending=False, kind="stable")
    gained, lost = order[order > 0].head(3), order[order < 0].tail(1)
    parts = ["no query gained", "no query lost"]
    if len(gained):
        best = f"{gained.iloc[0]:+.2f}"
        parts[0] = f"the query that gained most ({best})"
        if len(gained) > 1:
            ends = f"{best} to {gained.iloc[-1]:+.2f}"
            parts[0] = f"the {len(gained)} queries that gained most ({ends})"
    if len(lost):
        parts[1] = f"the one that lost most ({lost.iloc[0]:+.2f})"
    shown = [*gained.index, *lost.index] or order.index[:4].tolist()
    return shown, ", ".join(parts)


def compare_steps(steps: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Tabulate the steps of a pipeline, each a table of `score_queries`, and the gain of each.

    One row per step: step, public, private (mAP), low, high (95 % interval of private), gain,
    gain_low, gain_high (paired difference on Private from the step above; NaN first), and where the
    tables have `is_seen` private_seen and private_unseen (landmarks in training, and others).
    """
    rows, before = [], None
    columns = ["step", "public", "private", "low", "high", "gain", "gain_low", "gain_high"]
    for step, scores in steps.items():
        private = scores[scores["usage"] == "Private"].set_index("id")["average_precision"]
        if private.empty:
            found = ", ".join(scores["usage"].unique()) or "none"
            raise ValueError(
                f"expected Private queries in step {step!r}, found {found}; give data of more"
                " landmarks or a solution file"
            )
        interval = bootstrap_interval(private, generator=rng(seed, "interval"))
        gain = paired_gain(private, before, generator=rng(seed, "difference"))
        values = step, map_of_usage(scores, "Public"), *interval, *gain
        row = dict(zip(columns, values, strict=True))
        rows.append(row | map_by_seen(scores, prefix="private_"))
        before = private
    return pd.DataFrame(rows)


class Interval(NamedTuple):
    """A mean and its bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float] | np.ndarray | pd.Series, *, generator: np.random.Generator
) -> Interval:
    """Estimate the 95 % percentile interval of the mean of (Q,) `values`, one per query.

    The queries are drawn again with replacement. One value, or equal ones, give no width.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(
            f"expected a flat list of finite values, found shape {numbers.shape} with"
            f" {np.count_nonzero(~np.isfinite(numbers))} not finite; pass one score per query"
        )
    low, high = np.quantile(_resampled_means(numbers, generator), TAILS)
    return Interval(float(numbers.mean()), float(low), float(high))


def _resampled_means(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from scipy import stats  # half a second to import

    if len(numbers) == 1:  # which scipy refuses
        return numbers
    return stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, RESAMPLED_AT_ONCE // len(numbers)),
        method="percentile",
        rng=generator,
    ).bootstrap_distribution


def paired_gain(
    after: pd.Series, before: pd.Series | None, *, generator: np.random.Generator
) -> Interval:
    """Estimate the 95 % interval of the mean of `after - before` over the same queries.

    Values are matched by their index, the query ids; where `before` is None all is NaN.
    """
    if before is None:
        return Interval(np.nan, np.nan, np.nan)
    if len(after) != len(before) or set(after.index) != set(before.index):
        missing = set(after.index) ^ set(before.index)
        raise ValueError(
            f"expected the same queries twice, found {len(missing)} in one only; score both"
            " against one solution"
        )
    return bootstrap_interval(after - before.loc[after.index], generator=generator)


def unpaired_gain(
    after: pd.Series, before: pd.Series, *, generator: np.random.Generator
) -> Interval:
    """Estimate the 95 % interval of the difference of means over different queries.

    Both sets of queries are drawn again, independently. It is wider than that of `paired_gain`.
    """
    draws = (_resampled_means(one.to_numpy(np.float64), generator) for one in (after, before))
    low, high = np.quantile(np.subtract(*draws), [0.025, 0.975])
    return Interval(float(after.mean() - before.mean()), float(low), float(high))

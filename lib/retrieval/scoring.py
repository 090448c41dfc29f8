"""How good a checkpoint is: embed queries and gallery, search, average precision per query.

Settings are chosen on Public queries and reported on Private ones, each mean with a bootstrap
interval over queries, each step with its paired difference from the one before."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.config import InferenceConfig
from lib.data import Evaluation
from lib.retrieval import metrics
from lib.retrieval.bootstrap import bootstrap_interval, paired_difference
from lib.retrieval.embedding import Embeddings, embed, read_embeddings
from lib.retrieval.exact_search import search
from lib.retrieval.ranking import Ranking

USAGES = ("Public", "Private")


def rank(
    checkpoint: str | Path,
    evaluation: Evaluation,
    root: str | Path,
    folder: str | Path,
    inference: InferenceConfig,
    *,
    k: int = 100,
) -> Ranking:
    """The `k` nearest gallery images of every query, by a checkpoint's embeddings.

    Embeddings are kept under `folder` (`query` and `gallery`) and made only when they are missing.
    """
    queries, gallery = embed_evaluation(checkpoint, evaluation, root, folder, inference)
    return search(queries.rows, gallery.rows, k, query_ids=queries.ids, gallery_ids=gallery.ids)


def embed_evaluation(
    checkpoint: str | Path,
    evaluation: Evaluation,
    root: str | Path,
    folder: str | Path,
    inference: InferenceConfig,
) -> tuple[Embeddings, Embeddings]:
    """Queries and gallery, embedded under `folder` as `query` and `gallery` if not there yet."""
    queries, gallery = (
        read_embeddings(embed(checkpoint, table, root, Path(folder) / name, inference))
        for name, table in (("query", evaluation.queries), ("gallery", evaluation.gallery))
    )
    return queries, gallery


def score(ranking: Ranking, evaluation: Evaluation, *, k: int | None = None) -> pd.DataFrame:
    """Average precision and first hit of every query with an answer.

    All that the ranking holds counts, or its first `k`.

    Returns:
        One row per query in the order of `evaluation.queries`: id, usage, country, continent,
        average_precision, first_hit (1-based, k + 1 when none).
    """
    queries = evaluation.queries[["id", "usage", "country", "continent"]].reset_index(drop=True)
    k = metrics.counted(ranking, k)
    found = metrics.per_query(ranking, evaluation.solution, k=k).set_index("query")
    found = found.loc[queries["id"]]
    return queries.assign(
        average_precision=found[f"AP@{k}"].to_numpy(), first_hit=found["first hit"].to_numpy()
    )


def mean_of(scores: pd.DataFrame, usage: str = "Private") -> float:
    """mAP of the queries of one usage."""
    return float(scores.loc[scores["usage"] == usage, "average_precision"].mean())


def compare(steps: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Steps of a pipeline, each a table of `score`, one below the other.

    Returns:
        One row per step: step, public, private (mAP), low, high (95 % interval of private),
        gain, gain_low, gain_high (paired difference on Private from the step above; NaN first).

    Raises:
        ValueError: if a step has no Private query, or other queries than the one before.
    """
    rows, before = [], None
    for step, scores in steps.items():
        precision = {
            usage: part.set_index("id")["average_precision"]
            for usage, part in scores.groupby("usage")
        }
        if "Private" not in precision:
            raise ValueError(
                f"expected Private queries in step {step!r}, found {', '.join(precision) or 'none'}"
                "; give data of more landmarks or a solution file"
            )
        private = precision["Private"]
        interval = bootstrap_interval(private, generator=rng(seed, "interval"))
        gain = difference(private, before, seed=seed)
        public = precision["Public"].mean() if "Public" in precision else np.nan
        rows.append((step, public, interval.mean, interval.low, interval.high, *gain))
        before = private
    columns = ["step", "public", "private", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


def difference(
    after: pd.Series, before: pd.Series | None, *, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and 95 % interval of a paired difference; NaN where there is nothing to compare with."""
    if before is None:
        return (np.nan, np.nan, np.nan)
    found = paired_difference(after, before, generator=rng(seed, "difference"))
    return (found.mean, found.low, found.high)


def by_continent(steps: Mapping[str, pd.DataFrame], *, fewest: int = 3) -> pd.DataFrame:
    """mAP over all queries of each continent, for each step.

    Returns:
        One row per continent with at least `fewest` queries: continent, queries, and a column per
        step; the largest continent first.
    """
    columns = {
        step: scores.groupby("continent")["average_precision"].mean()
        for step, scores in steps.items()
    }
    queries = next(iter(steps.values()))["continent"].value_counts()
    table = pd.DataFrame({"queries": queries, **columns}).rename_axis("continent")
    table = table[table["queries"] >= fewest].sort_values("queries", ascending=False)
    return table.reset_index()

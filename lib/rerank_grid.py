"""Choosing α and β of landmark-country reranking: a grid of scores, the best taken on Public."""

from collections.abc import Sequence

import pandas as pd

from lib import scoring
from lib.embed import Embeddings
from lib.gldv2 import Evaluation
from lib.rerank import apply_votes
from lib.votes import Tags, Votes


def grid(
    queries: Embeddings,
    gallery: Embeddings,
    votes: Votes,
    tags: Tags,
    evaluation: Evaluation,
    *,
    alphas: Sequence[float],
    betas: Sequence[float],
    k: int = 100,
) -> dict[str, pd.DataFrame]:
    """mAP@k for every α (rows) and β (columns), one table per usage.

    Args:
        queries: of the evaluation, in any order.
        gallery: of the evaluation.
        votes: of the queries.
        tags: of the gallery.
        evaluation: the right answers.
        alphas: weights of the landmark score.
        betas: weights of the country score.
        k: images ranked per query.
    """
    found: dict[str, dict[tuple[float, float], float]] = {}
    for alpha in alphas:
        for beta in betas:
            ranking = apply_votes(
                queries.rows,
                gallery.rows,
                votes,
                tags,
                k=k,
                alpha=alpha,
                beta=beta,
                query_ids=queries.ids,
                gallery_ids=gallery.ids,
            )
            scores = scoring.score(ranking, evaluation)
            for usage, mean in scores.groupby("usage")["average_precision"].mean().items():
                found.setdefault(usage, {})[alpha, beta] = mean
    return {usage: _table(cells) for usage, cells in found.items()}


def _table(cells: dict[tuple[float, float], float]) -> pd.DataFrame:
    return pd.Series(cells).unstack().rename_axis(index="alpha", columns="beta")


def choose(table: pd.DataFrame) -> tuple[float, float]:
    """The α and β of the best cell; the smallest ones where several are best.

    >>> choose(pd.DataFrame([[0.1, 0.3], [0.3, 0.2]], index=[0.0, 1.0], columns=[0.0, 0.1]))
    (0.0, 0.1)
    """
    alpha, beta = table.stack().sort_index().idxmax()
    return float(alpha), float(beta)

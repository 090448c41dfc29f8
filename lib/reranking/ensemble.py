"""Several models as one: descriptors side by side GLR20, or similarities added up GLR21.

The inner product of descriptors laid side by side is the sum of the models' similarities, so both
are the same exact search over `ConcatenatedTable`, which are put together block by block and never
held whole. Landmark-country reranking meets an ensemble in two places: after the merge it is
`landmark_country_rerank` of joined rows, before it every model votes for itself
(`merge_reranked`, the published setting of GLR21)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.reranking.landmark_country import check_votes, tag_bonuses
from lib.reranking.votes import Tags, Votes
from lib.retrieval import (
    BLOCK,
    EmbeddingTable,
    Ranking,
    SumOfTerms,
    check_count,
    check_table,
    nearest,
)


class ConcatenatedTable:
    """The rows of several tables side by side, each table multiplied by a factor."""

    def __init__(self, tables: Sequence[EmbeddingTable], factors: Sequence[float]) -> None:
        """Remember the tables; `concatenate` and `summed` check them and choose the factors."""
        self.tables, self.factors = tuple(tables), tuple(factors)
        self.shape = (len(tables[0]), sum(table.shape[1] for table in tables))
        self.ndim, self.dtype = 2, np.dtype(np.float32)

    def __len__(self) -> int:
        """The number of images."""
        return self.shape[0]

    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray:
        """Float32 rows by slice or position."""
        parts = zip(self.tables, self.factors, strict=True)
        rows = [np.asarray(table[item], np.float32) * np.float32(f) for table, f in parts]
        return np.concatenate(rows, axis=-1)


def concatenate(
    tables: Sequence[EmbeddingTable], weights: Sequence[float] | None = None
) -> ConcatenatedTable:
    """Lay the descriptors of several models side by side, as GLR20 §2.2 "Model Ensemble".

    Unit rows give unit rows: the cosine of two images is the weighted mean of the models'.

    Args:
        tables: one (N, D_m) table per model, of the same images in the same order.
        weights: of the models' similarities; equal unless given.

    Raises:
        ValueError: if there is no table, numbers of rows differ, or a weight is not positive.

    >>> joined = concatenate([np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0]])])
    >>> [[round(float(cosine), 3) for cosine in row] for row in joined[:2] @ joined[:2].T]
    [[1.0, 0.3], [0.3, 1.0]]
    """
    weights = _weights(tables, weights)
    return ConcatenatedTable(tables, np.sqrt(weights / weights.sum()))


def summed(
    tables: Sequence[EmbeddingTable], weights: Sequence[float] | None = None
) -> ConcatenatedTable:
    """Rows whose inner product is the weighted sum of the models' similarities, as in GLR21.

    The ranking is that of `concatenate`; scores are larger by the sum of the weights. Arguments
    and errors are those of `concatenate`.
    """
    return ConcatenatedTable(tables, np.sqrt(_weights(tables, weights)))


def _weights(tables: Sequence[EmbeddingTable], weights: Sequence[float] | None) -> np.ndarray:
    if not len(tables):
        raise ValueError("expected at least one model's embeddings, found none; pass a list")
    for number, table in enumerate(tables, start=1):
        check_table(table, f"embeddings of model {number}")
        if len(table) != len(tables[0]):
            raise ValueError(
                f"expected {len(tables[0])} rows from every model, found {len(table)} from model"
                f" {number}; embed the same images with all models"
            )
    found = np.ones(len(tables)) if weights is None else np.asarray(weights, dtype=np.float64)
    if found.shape != (len(tables),) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"expected a positive weight for each of the {len(tables)} models, found {weights};"
            " leave a model of weight 0 out"
        )
    return found


@dataclass(frozen=True, eq=False)
class ModelView:
    """What one model sees: its embeddings, and the votes and tags that it came to by itself."""

    queries: EmbeddingTable  # (Q, D)
    gallery: EmbeddingTable  # (N, D)
    votes: Votes  # of Q queries
    tags: Tags  # of N images


def merge_reranked(
    views: Sequence[ModelView],
    weights: Sequence[float] | None = None,
    *,
    k: int = 100,
    alpha: float = 1.0,
    beta: float = 0.1,
    query_ids: Sequence[str] | np.ndarray | None = None,
    gallery_ids: Sequence[str] | np.ndarray | None = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank by the weighted sum over models of their landmark-country similarities.

    The `before_merge` of GLR21's submission: sim_final = Σ_m w_m · (sim_m + α·L_m + β·C_m). Exact
    over the whole gallery, one pass, no query × gallery table.

    Args:
        views: one per model; models may have been trained and may vote differently.
        weights: of the models; equal (1) unless given.
        k: images per query; all of the gallery when it is smaller.
        alpha: weight of the landmark score.
        beta: weight of the country score.
        query_ids: (Q,) ids for the ranking.
        gallery_ids: (N,) ids for the ranking.
        block: gallery rows in memory at a time.

    Raises:
        ValueError: as `concatenate` and `lib.reranking.landmark_country.apply_votes`.
    """
    queries = summed([view.queries for view in views], weights)
    gallery = summed([view.gallery for view in views], weights)
    bonuses = []
    for view, factor in zip(views, queries.factors, strict=True):
        check_votes(view.votes, view.tags, len(queries), len(gallery), alpha, beta)
        weight = float(factor) ** 2
        bonuses += tag_bonuses(view.votes, view.tags, weight * alpha, weight * beta)
    check_count(query_ids, len(queries), "query")
    check_count(gallery_ids, len(gallery), "gallery")
    scores, positions = nearest(queries, gallery, k, block=block, term=SumOfTerms(bonuses))
    return Ranking(scores, positions, query_ids, gallery_ids)

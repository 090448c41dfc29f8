"""Several models as one: embeddings side by side, or similarities added up.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.) concatenates embeddings; GLR21 = 2nd
place, Google Landmark Retrieval 2021 (Zhang et al.) lets every model vote and adds similarities.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lib.reranking.data import RetrievalData, Similarity, cached
from lib.reranking.landmark_country import vote_scores
from lib.retrieval import EmbeddingTable, Ranking, check_table


class ConcatenatedTable:
    """The rows of several tables side by side, multiplied by a factor, read block by block."""

    def __init__(self, tables: Sequence[EmbeddingTable], factor: float = 1.0) -> None:
        """Check the tables: one (N, D_m) table per model, of the same images in the same order."""
        if not len(tables):
            raise ValueError("expected at least one model's embeddings, found none; pass a list")
        for number, table in enumerate(tables, start=1):
            check_table(table, f"embeddings of model {number}")
            if len(table) != len(tables[0]):
                raise ValueError(
                    f"expected {len(tables[0])} rows from every model, found {len(table)} from"
                    f" model {number}; embed the same images with all models"
                )
        self.tables, self.factor = tuple(tables), np.float32(factor)
        self.shape = (len(tables[0]), sum(table.shape[1] for table in tables))
        self.ndim, self.dtype = 2, np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray:
        """Float32 rows by slice or position."""
        rows = [np.asarray(table[item], np.float32) * self.factor for table in self.tables]
        return np.concatenate(rows, axis=-1)


def concatenate(tables: Sequence[EmbeddingTable]) -> ConcatenatedTable:
    """Lay the embeddings of several models side by side, as GLR20 §2.2 "Model Ensemble".

    Unit rows give unit rows: the cosine of two images is the mean of the models' cosines.

    >>> joined = concatenate([np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0]])])
    >>> [[round(float(cosine), 3) for cosine in row] for row in joined[:2] @ joined[:2].T]
    [[1.0, 0.3], [0.3, 1.0]]
    """
    return ConcatenatedTable(tables, np.sqrt(1 / max(len(tables), 1)))


@cached
def join_models(data: RetrievalData) -> RetrievalData:
    """Both models' embeddings side by side, as those of one model."""
    models, tables = _models(data), ("queries", "gallery", "references")
    joined = {name: concatenate([getattr(one, name) for one in models]) for name in tables}
    return replace(data, **joined, index=None)  # an index is of the references of one model


def landmark_country_of_each(
    data: RetrievalData, *, alpha: float = 1.0, beta: float = 0.1
) -> Ranking:
    """Rank by Σ_m (sim_m + α · L_m + β · C_m), as `before_merge` of GLR21's submission."""
    models = _models(data)
    queries, gallery = [one.queries for one in models], [one.gallery for one in models]
    final = Similarity(ConcatenatedTable(queries), ConcatenatedTable(gallery))
    for one in models:
        L, C = vote_scores(one)
        final = final + alpha * L + beta * C
    return data.rank(final)


def _models(data: RetrievalData) -> tuple[RetrievalData, RetrievalData]:
    if data.second is None:
        raise ValueError("expected a second model for an ensemble, found none; give `second`")
    return data, data.second

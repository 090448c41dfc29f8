"""Neighbours mixed into an embedding: query expansion and database-side augmentation.

α-query expansion (Radenović et al., TPAMI 2018) adds the best results to the query, and with decay
(Gordo et al., ECCV 2020) the less the lower their rank. Database-side augmentation (Arandjelović
and Zisserman, CVPR 2012) replaces every gallery embedding by a weighted mean of its neighbours,
with the weights of the 2nd place of Google Landmark Recognition 2020.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from lib.reranking.data import RetrievalData, cached
from lib.retrieval import BLOCK, EmbeddingTable, Ranking, nearest

MIXED_AT_ONCE = 1_024  # images


@cached
def expand_queries(
    data: RetrievalData, *, neighbours: int = 10, alpha: float = 3.0, decay: bool = False
) -> RetrievalData:
    """Add each query's best results to it: q + Σ max(sim_i, 0) ** alpha · g_i, of unit norm.

    With an alpha of 0 all `neighbours` weigh alike. With `decay` the result of rank i of n weighs
    (n - i) / n times as much (AQEwD of Gordo et al.). A sum of zero length stays the query.
    """
    if neighbours < 0 or not np.isfinite(alpha) or alpha < 0:
        raise ValueError(
            f"expected neighbours and alpha from 0, found {neighbours} and {alpha}; 10 and 3 are"
            " usual"
        )
    near = data.plain.positions[:, :neighbours]
    sim = data.plain.scores[:, :neighbours].astype(np.float64)
    weights = np.maximum(sim, 0) ** alpha
    if decay:
        n = max(neighbours, 1)
        weights *= (n - np.arange(1, near.shape[1] + 1)) / n
    return replace(data, queries=mean_with_query(data, near, weights))


def mean_with_query(data: RetrievalData, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(Q, D) queries plus (Q, K) gallery rows by weight, of unit norm; of length 0 the query."""
    q = np.asarray(data.queries[:], dtype=np.float64)
    return _unit(q + _weighted_sum(data.gallery, near, weights), q)


def query_expansion(data: RetrievalData, **settings: Any) -> Ranking:
    """Search again with expanded queries; settings are those of `expand_queries`."""
    return expand_queries(data, **settings).plain


@cached
def augment_gallery(
    data: RetrievalData, *, neighbours: int = 10, last: float = -1.5
) -> RetrievalData:
    """Replace every gallery row by the weighted mean of its `neighbours` nearest, of unit norm.

    The nearest is the image itself (or its copy) with weight 1; weights fall evenly in logarithm to
    10 ** `last`. The search costs N² · D, hours for the competition's gallery.
    """
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, found {neighbours}; 10 are usual")
    gallery = data.gallery
    augmented = np.empty(gallery.shape, np.float32)
    near = nearest(gallery, gallery, neighbours, names=("gallery images", "gallery images"))[1]
    weights = np.broadcast_to(np.logspace(0, last, neighbours)[: near.shape[1]], near.shape)
    for start in range(0, len(gallery), BLOCK):
        part = slice(start, start + BLOCK)
        own = np.asarray(gallery[part], dtype=np.float32)
        augmented[part] = _unit(_weighted_sum(gallery, near[part], weights[part]), own)
    return replace(data, gallery=augmented)


def _weighted_sum(rows: EmbeddingTable, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(Q, D) float64 sums of (Q, K) rows."""
    found = np.zeros((len(near), rows.shape[1]))
    for start in range(0, len(near), MIXED_AT_ONCE):
        part = slice(start, start + MIXED_AT_ONCE)
        chosen = np.asarray(rows[near[part]], dtype=np.float32)
        found[part] = np.einsum("qk,qkd->qd", weights[part], chosen)
    return found


def _unit(rows: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Rows of unit norm; those that cancelled out are taken from `otherwise`."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
    return np.where(lengths > 1e-12, unit, otherwise).astype(np.float32)

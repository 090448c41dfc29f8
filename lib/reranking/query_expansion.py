"""Neighbours mixed into a descriptor: query expansion and database-side augmentation.

α-query expansion (Radenović et al., TPAMI 2018, [12] of GLR20) adds the best results to the query,
each weighed by its similarity to the power α, and searches again. Database-side augmentation
(Arandjelović and Zisserman, CVPR 2012, [1] of GLR20) replaces every gallery descriptor by a
weighted mean of its neighbours, itself the first; the weights here are those of the 2nd place of
Recognition 2020. GLR20 could use neither (2020 took models, not rankings)."""

import numpy as np

from lib.retrieval import (
    BLOCK,
    ApproximateIndex,
    EmbeddingTable,
    Ranking,
    check_rows,
    nearest,
)

MIXED_AT_ONCE = 1_024  # images


def expand_queries(
    ranking: Ranking,
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    *,
    neighbours: int = 10,
    alpha: float = 3.0,
) -> np.ndarray:
    """Add each query's best results to it: q + Σ max(sim_i, 0) ** alpha · g_i, of unit norm.

    Args:
        ranking: of plain search in these rows.
        queries: (Q, D) unit rows.
        gallery: (N, D) unit rows.
        neighbours: results added, as far as they are ranked; 0 for none.
        alpha: 0 weighs all alike, larger trusts the most similar.

    Returns:
        (Q, D) float32 unit rows. A sum of zero length stays the query.
    """
    check_rows(ranking, queries=queries, gallery=gallery)
    if neighbours < 0 or not np.isfinite(alpha) or alpha < 0:
        raise ValueError(
            f"expected neighbours and alpha from 0, found {neighbours} and {alpha}; 10 and 3 are"
            " usual"
        )
    near = ranking.positions[:, :neighbours]
    weights = np.maximum(ranking.scores[:, :neighbours].astype(np.float64), 0) ** alpha
    mixed = np.asarray(queries[:], dtype=np.float64)
    mixed = mixed + _mean_of(gallery, near, weights)
    return _unit(mixed, np.asarray(queries[:], dtype=np.float32))


def expanded_search(
    ranking: Ranking,
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    *,
    neighbours: int = 10,
    alpha: float = 3.0,
    block: int = BLOCK,
) -> Ranking:
    """Search again with expanded queries; arguments are those of `expand_queries`."""
    expanded = expand_queries(ranking, queries, gallery, neighbours=neighbours, alpha=alpha)
    return ranking.replace(*nearest(expanded, gallery, max(ranking.k, 1), block=block))


def augment_gallery(
    gallery: EmbeddingTable,
    *,
    neighbours: int = 10,
    last: float = -1.5,
    index: ApproximateIndex | None = None,
    out: np.ndarray | None = None,
    block: int = BLOCK,
) -> np.ndarray:
    """Replace every row by the weighted mean of its `neighbours` nearest rows, of unit norm.

    The nearest is the image itself (or its copy) with weight 1; weights fall evenly in logarithm
    to 10 ** `last`. The search costs N² · D, hours for the competition's gallery; give an index.

    Args:
        gallery: (N, D) unit rows, may be a memory map; works for queries among themselves, too.
        neighbours: rows averaged, itself included; 1 changes nothing.
        last: logarithm of the last weight.
        index: of the gallery; approximate, and prints its recall.
        out: (N, D) array or memory map to write to, float16 or float32; a new float32 one if None.
        block: rows in memory at a time.

    Returns:
        `out`.

    Raises:
        ValueError: if `neighbours` is less than 1, or `out` has another shape.
    """
    out = np.empty(gallery.shape, np.float32) if out is None else out
    if neighbours < 1 or out.shape != tuple(gallery.shape):
        raise ValueError(
            f"expected at least 1 neighbour and room for {tuple(gallery.shape)}, found"
            f" {neighbours} and {out.shape}; 10 neighbours are usual"
        )
    if not len(gallery):
        return out
    names = ("gallery images", "gallery images")
    near = nearest(gallery, gallery, neighbours, index=index, names=names, block=block)[1]
    weights = np.broadcast_to(np.logspace(0, last, neighbours)[: near.shape[1]], near.shape)
    for start in range(0, len(gallery), block):
        part = slice(start, start + block)
        own = np.asarray(gallery[part], dtype=np.float32)
        out[part] = _unit(_mean_of(gallery, near[part], weights[part]), own)
    return out


def augmented_search(
    ranking: Ranking,
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    *,
    neighbours: int = 10,
    last: float = -1.5,
    block: int = BLOCK,
) -> Ranking:
    """Search the augmented gallery; arguments are those of `augment_gallery`."""
    check_rows(ranking, queries=queries, gallery=gallery)
    augmented = augment_gallery(gallery, neighbours=neighbours, last=last, block=block)
    return ranking.replace(*nearest(queries, augmented, max(ranking.k, 1), block=block))


def _mean_of(rows: EmbeddingTable, near: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(Q, D) float64 weighted sums of (Q, K) rows."""
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

"""Embeddings and rankings refined by neighbours: of the query, and of gallery images each other's.

α-query expansion (Radenović et al., TPAMI 2018) adds the best results to the query, and with decay
(Gordo et al., ECCV 2020) the less the lower their rank. Database-side augmentation (Arandjelović
and Zisserman, CVPR 2012) replaces every gallery embedding by a weighted mean of its neighbours,
with the weights of the 2nd place of Google Landmark Recognition 2020. SuperGlobal (Shao et al.,
"Global Features are All You Need for Image Retrieval and Reranking", ICCV 2023) does both among the
best results. Diffusion (Iscen et al., "Efficient Diffusion on Region Manifolds", CVPR 2017) spreads
similarity over the neighbour graph of the gallery.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from lib.reranking.data import RetrievalData, cached
from lib.retrieval import EmbeddingTable, Ranking, nearest

MIXED_AT_ONCE = 1_024  # images
GAMMA = 3.0  # γ of Iscen et al.
ITERATIONS, TOLERANCE = 20, 1e-6  # of conjugate gradient, their section 3.3


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
    return replace(data, queries=weighted_mean(data.queries, data.gallery, near, weights))


def query_expansion(data: RetrievalData, **settings: Any) -> Ranking:
    """Search again with expanded queries; settings are those of `expand_queries`."""
    return expand_queries(data, **settings).plain


@cached
def augment_gallery(
    data: RetrievalData, *, neighbours: int = 10, last: float = -1.5
) -> RetrievalData:
    """Replace every gallery row by the weighted mean of its `neighbours` nearest, of unit norm.

    The nearest is the image itself (or its copy) with weight 1; weights fall evenly in logarithm to
    10 ** `last`.
    """
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, found {neighbours}; 10 are usual")
    near = data.gallery_neighbours(neighbours)[1]
    weights = np.broadcast_to(np.logspace(0, last, neighbours)[: near.shape[1]], near.shape)
    return replace(data, gallery=weighted_mean(data.gallery, data.gallery, near, weights, own=0))


def weighted_mean(
    rows: EmbeddingTable,
    gallery: EmbeddingTable,
    near: np.ndarray,
    weights: np.ndarray,
    *,
    own: int = 1,
) -> np.ndarray:
    """`own` times (Q, D) rows plus (Q, K) gallery rows by weight, of unit norm.

    Rows that cancel out stay as they are.
    """
    mean = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), MIXED_AT_ONCE):
        part = slice(start, start + MIXED_AT_ONCE)
        row = np.asarray(rows[part], dtype=np.float64)
        chosen = np.asarray(gallery[near[part]], dtype=np.float32)
        total = own * row + np.einsum("qk,qkd->qd", weights[part], chosen)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        mean[part] = np.where(length > 1e-12, total / np.maximum(length, 1e-12), row)
    return mean


def superglobal_rerank(
    data: RetrievalData, *, candidates: int = 400, neighbours: int = 10, beta: float = 0.15
) -> Ranking:
    """Rank the `candidates` nearest images (at least k) by (S1 + S2) / 2 (SuperGlobal, §3.3).

    Every candidate g becomes g_r, the weighted mean of itself (weight 1) and its nearest candidates
    (weight beta · sim), `neighbours` images with itself. S1 = q · g_r. The refined query q_r is the
    largest value per dimension over the `neighbours` g_r of largest S1, and S2 = q_r · g_r.
    """
    if min(candidates, neighbours) < 1 or not np.isfinite(beta):
        raise ValueError(
            f"expected counts of at least 1 and a finite beta, found {candidates}, {neighbours} and"
            f" {beta}; 400, 10 and 0.15 are published"
        )
    near = nearest(data.queries, data.gallery, max(candidates, data.k))[1]

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        q = np.asarray(data.queries[row : row + 1], dtype=np.float32)[0]
        g_r = _refine(np.asarray(data.gallery[near[row]], dtype=np.float32), neighbours, beta)
        S1 = g_r @ q
        q_r = g_r[np.argsort(-S1, kind="stable")[:neighbours]].max(axis=0)
        S2 = g_r @ q_r
        return (S1 + S2) / 2, near[row]

    return data.rank_each(score)


def _refine(g: np.ndarray, neighbours: int, beta: float) -> np.ndarray:
    """(M, D) candidates to (M, D) weighted means of their nearest candidates."""
    sim = g @ g.T
    np.fill_diagonal(sim, np.inf)  # every image comes first among its own, before copies
    near = np.argsort(-sim, axis=1, kind="stable")[:, :neighbours]
    weights = beta * np.take_along_axis(sim, near, axis=1)
    weights[:, 0] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    starts = np.arange(0, weights.size + 1, weights.shape[1])
    mean = sparse.csr_array((weights.ravel(), near.ravel(), starts), shape=sim.shape)
    return mean @ g


def diffusion_rerank(
    data: RetrievalData,
    *,
    neighbours: int = 50,
    started: int = 10,
    alpha: float = 0.99,
    candidates: int = 10_000,
) -> Ranking:
    """Rank by f of (I - αS) f = y, solved among the `candidates` nearest images (at least k).

    S is the affinity matrix A of `affinities` with rows and columns divided by the roots of its
    sums. y starts with sim ** γ at the `started` images nearest to the query (§3.1), which is
    itself no node of the graph. Images that are not reached keep their order, behind the others.
    """
    if started < 1 or candidates < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"expected counts of at least 1 and an alpha between 0 and 1, found {started},"
            f" {candidates} and {alpha}; 10, 10,000 and 0.99 are usual"
        )
    A = affinities(data, neighbours=neighbours)
    sims, near = nearest(data.queries, data.gallery, max(candidates, data.k))

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        own = A[near[row]][:, near[row]]  # truncated as in §3.4
        degree = np.asarray(own.sum(axis=1)).ravel()
        D = sparse.diags_array(np.where(degree > 0, np.maximum(degree, 1e-12) ** -0.5, 0))
        S = D @ own @ D
        y = np.zeros(len(degree))
        y[:started] = np.maximum(sims[row, :started], 0).astype(np.float64) ** GAMMA
        f = cg(sparse.eye_array(len(y)) - alpha * S, y, rtol=TOLERANCE, maxiter=ITERATIONS)[0]
        return np.maximum(f, 0).astype(np.float32), near[row]

    return data.rank_each(score)


@cached
def affinities(data: RetrievalData, *, neighbours: int = 50) -> sparse.csr_array:
    """(N, N): sim ** γ of images that are among each other's `neighbours` nearest, §3.1."""
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, found {neighbours}; 50 are usual")
    sims, near = data.gallery_neighbours(neighbours + 1)
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    # An image is not its own neighbour; one whose copies fill the list has one neighbour more.
    is_other = rows != near.ravel()
    values = np.maximum(sims.ravel()[is_other], 0).astype(np.float64) ** GAMMA
    shape = (len(near), len(near))
    one_way = sparse.csr_array((values, (rows[is_other], near.ravel()[is_other])), shape)
    return one_way.minimum(one_way.T).tocsr()  # 0 where only one lists the other

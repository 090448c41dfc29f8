"""SuperGlobal reranking: global descriptors refined by their neighbours among the best results.

Shao et al., "Global Features are All You Need for Image Retrieval and Reranking" (ICCV 2023),
section 3.3; the constants are those of the published code.
"""

import numpy as np
from scipy import sparse

from lib import retrieval
from lib.reranking.data import RetrievalData
from lib.retrieval import Ranking


def superglobal_rerank(
    data: RetrievalData, *, candidates: int = 400, neighbours: int = 10, beta: float = 0.15
) -> Ranking:
    """Rank the `candidates` nearest images (at least k) by (S1 + S2) / 2.

    Every candidate g becomes g_r, the weighted mean of itself (weight 1) and its nearest candidates
    (weight beta · sim), `neighbours` images with itself. S1 = q · g_r. The refined query q_r is the
    largest value per dimension over the `neighbours` g_r of largest S1, and S2 = q_r · g_r.
    """
    if min(candidates, neighbours) < 1 or not np.isfinite(beta):
        raise ValueError(
            f"expected counts of at least 1 and a finite beta, found {candidates}, {neighbours} and"
            f" {beta}; 400, 10 and 0.15 are published"
        )
    near = retrieval.nearest(data.queries, data.gallery, max(candidates, data.k))[1]
    shape = len(near), min(data.k, near.shape[1])
    scores, positions = np.empty(shape, np.float32), np.empty(shape, np.int64)
    for row, listed in enumerate(near):
        q = np.asarray(data.queries[row : row + 1], dtype=np.float32)[0]
        g_r = _refine(np.asarray(data.gallery[listed], dtype=np.float32), neighbours, beta)
        S1 = g_r @ q
        q_r = g_r[np.argsort(-S1, kind="stable")[:neighbours]].max(axis=0)
        S2 = g_r @ q_r
        final = (S1 + S2) / 2
        best = np.argsort(-final, kind="stable")[: data.k]
        scores[row], positions[row] = final[best], listed[best]
    return Ranking(scores, positions, data.query_ids, data.gallery_ids)


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

"""Diffusion on the neighbour graph of the gallery, from the images nearest to the query.

Iscen et al., "Efficient Diffusion on Region Manifolds" (CVPR 2017), for one descriptor per image.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg

from lib import retrieval
from lib.reranking.data import RetrievalData, cached
from lib.retrieval import Ranking

ITERATIONS, TOLERANCE = 20, 1e-6  # of conjugate gradient, section 3.3


def diffusion_rerank(
    data: RetrievalData,
    *,
    neighbours: int = 50,
    started: int = 10,
    alpha: float = 0.99,
    gamma: float = 3.0,
    candidates: int = 10_000,
) -> Ranking:
    """Rank by f of (I - αS) f = y, solved among the `candidates` nearest images (at least k).

    S is the affinity matrix A of `affinities` with rows and columns divided by the roots of its
    sums. y starts with sim ** gamma at the `started` images nearest to the query (§3.1), which is
    itself no node of the graph. Images that are not reached keep their order, behind the others.
    """
    if started < 1 or candidates < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"expected counts of at least 1 and an alpha between 0 and 1, found {started},"
            f" {candidates} and {alpha}; 10, 10,000 and 0.99 are usual"
        )
    A = affinities(data, neighbours=neighbours, gamma=gamma)
    sims, near = retrieval.nearest(data.queries, data.gallery, max(candidates, data.k))
    shape = len(near), min(data.k, near.shape[1])
    scores, positions = np.empty(shape, np.float32), np.empty(shape, np.int64)
    for row, listed in enumerate(near):
        own = A[listed][:, listed]  # truncated as in §3.4
        degree = np.asarray(own.sum(axis=1)).ravel()
        D = sparse.diags_array(np.where(degree > 0, np.maximum(degree, 1e-12) ** -0.5, 0))
        S = D @ own @ D
        y = np.zeros(len(listed))
        y[:started] = np.maximum(sims[row, :started], 0).astype(np.float64) ** gamma
        f = cg(sparse.eye_array(len(y)) - alpha * S, y, rtol=TOLERANCE, maxiter=ITERATIONS)[0]
        f = np.maximum(f, 0).astype(np.float32)
        best = np.argsort(-f, kind="stable")[: data.k]
        scores[row], positions[row] = f[best], listed[best]
    return Ranking(scores, positions, data.query_ids, data.gallery_ids)


@cached
def affinities(
    data: RetrievalData, *, neighbours: int = 50, gamma: float = 3.0
) -> sparse.csr_array:
    """(N, N): sim ** gamma of images that are among each other's `neighbours` nearest, §3.1.

    The search costs N² · D, hours for the competition's gallery.
    """
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, found {neighbours}; 50 are usual")
    names = ("gallery images", "gallery images")
    sims, near = retrieval.nearest(data.gallery, data.gallery, neighbours + 1, names=names)
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    # An image is not its own neighbour; one whose copies fill the list has one neighbour more.
    is_other = rows != near.ravel()
    values = np.maximum(sims.ravel()[is_other], 0).astype(np.float64) ** gamma
    shape = (len(near), len(near))
    one_way = sparse.csr_array((values, (rows[is_other], near.ravel()[is_other])), shape)
    return one_way.minimum(one_way.T).tocsr()  # 0 where only one lists the other

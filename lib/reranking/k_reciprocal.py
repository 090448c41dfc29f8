"""k-reciprocal neighbours: similar to the query, and the query similar to them.

Zhong et al. (CVPR 2017) in the small form of GLR21 = 2nd place, Google Landmark Retrieval 2021
(Zhang et al.), which looks only at the query, its nearest images and the nearest images of those.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lib.reranking.data import RetrievalData, cached, rank_rows
from lib.retrieval import ApproximateIndex, EmbeddingSubset, EmbeddingTable, Ranking, nearest


@dataclass(frozen=True)
class ReciprocalSettings:
    """Counts and weights of k-reciprocal encoding; the defaults are those of GLR21's votes."""

    candidates: int = 30  # nearest references of the query (or k), and again of each of those
    k1: int = 10  # length of the neighbour lists that must contain each other
    k2: int = 3  # neighbours whose encodings are averaged (local query expansion)
    plain: float = 0.5  # share λ of the plain distance, 0 to 1; the rest is Jaccard

    def __post_init__(self) -> None:
        if min(self.candidates, self.k1, self.k2) < 1 or not 0 <= self.plain <= 1:
            raise ValueError(
                f"expected counts of at least 1 and a plain share from 0 to 1, found {self};"
                " the defaults are the published ones"
            )


FEW = 8_192  # candidates of all queries, whose cosines are computed once: 256 MiB
ZHONG = ReciprocalSettings(60, 20, 6, 0.3)  # k1, k2 and λ of the paper, among the nearest 60


@cached
def k_reciprocal_rerank(data: RetrievalData, *, settings: ReciprocalSettings = ZHONG) -> Ranking:
    """Rank the gallery by k-reciprocal similarity to the query (Zhong et al.).

    Each query is encoded with its candidates alone, so other queries have no say.
    """
    found = reciprocal_neighbours(data.queries, data.gallery, data.k, settings)
    return Ranking(*found, data.query_ids, data.gallery_ids)


def reciprocal_neighbours(
    queries: EmbeddingTable,
    references: EmbeddingTable,
    k: int,
    settings: ReciprocalSettings | None = None,
    *,
    index: ApproximateIndex | None = None,
    added: "tuple[sparse.csr_array, sparse.csr_array] | None" = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` references of largest k-reciprocal similarity for every query.

    Other references than candidates have a Jaccard distance of 1 and cannot come before the query's
    nearest, so looking at candidates only is exact without an index of the references. Returns (Q,
    k) float32 similarities, best first, and (Q, k) positions, ascending among equals.

    `added` (Q, R) and (R, R) is added to the similarities of candidates, which it does not choose.
    """
    settings, names = settings or ReciprocalSettings(), ("queries", "references")
    near = nearest(queries, references, max(k, settings.candidates), index=index, names=names)[1]
    expanded, place = np.unique(near, return_inverse=True)
    members = EmbeddingSubset(references, expanded)
    names = ("neighbours of queries", "references")
    beyond = nearest(members, references, settings.candidates, index=index, names=names)[1]
    place = place.reshape(near.shape)
    every = np.union1d(near, beyond)  # candidates of any query
    few = references[every].astype(np.float64) if len(every) <= FEW else None
    between = None if few is None else (few @ few.T).astype(np.float32)

    def cosines(row: int, candidates: np.ndarray) -> np.ndarray:
        """(1 + C, 1 + C) of a query and its candidates."""
        # In float64, and rounded so that equal images tie and keep their order.
        query = queries[row : row + 1].astype(np.float64)
        if few is None:
            vectors = np.vstack([query, references[candidates]]).astype(np.float64)
            return (vectors @ vectors.T).astype(np.float32)
        known = np.searchsorted(every, candidates)
        own = np.hstack([query @ query.T, query @ few[known].T]).astype(np.float32)
        return np.block([[own], [own[:, 1:].T, between[np.ix_(known, known)]]])

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        candidates = np.union1d(near[row], beyond[place[row]])
        sim = cosines(row, candidates)
        if added is not None:
            own = added[0][[row]][:, candidates]
            more = [[None, own], [own.T, added[1][candidates][:, candidates]]]
            sim += sparse.block_array(more).toarray().astype(np.float32)
        return reciprocal_similarities(sim, settings), candidates

    return rank_rows(score, len(queries), min(k, len(references)))


def reciprocal_similarities(sim: np.ndarray, settings: ReciprocalSettings) -> np.ndarray:
    """(C,) k-reciprocal similarities of the first of (1 + C) images to each of the others.

    `sim` (1 + C, 1 + C) are float32 cosines, with what is to be added to them.
    """
    distances = np.maximum((1 - sim) / 2, 0)
    order = _nearest_first(distances, max(settings.k1 + 1, settings.k2))

    mutual = _mutual(order, settings.k1)
    half = _mutual(order, round(settings.k1 / 2))
    # A neighbour's own shorter list is added when two thirds of it are in ours already.
    shared = (mutual @ half.T).multiply(mutual).tocoo()
    size = np.asarray(half.sum(axis=1)).ravel()[shared.col]
    is_added = sparse.csr_matrix(
        (3 * shared.data > 2 * size, (shared.row, shared.col)), mutual.shape, dtype=np.float32
    )
    expanded = (mutual + is_added @ half).tocoo()

    weights = np.zeros(distances.shape)
    weights[expanded.row, expanded.col] = np.exp(-distances[expanded.row, expanded.col])
    weights /= weights.sum(axis=1, keepdims=True)
    own = weights[order[0, : settings.k2]].mean(axis=0)
    reached = np.flatnonzero(own)  # elsewhere the overlap is 0
    theirs = weights[:, reached][order[1:, : settings.k2]].mean(axis=1)

    overlap = np.minimum(own[reached], theirs).sum(axis=1)
    jaccard = 1 - overlap / (2 - overlap)
    lam, distance = settings.plain, distances[0, 1:]  # (1 - cos) / 2
    return 1 - (lam * distance + (1 - lam) * jaccard)


def _nearest_first(distances: np.ndarray, count: int) -> np.ndarray:
    """(C, count) columns of smallest distance per row, ties by position, each row itself first."""
    # Non-negative floats are ordered as their bits are; the column decides among equals.
    keys = (distances.view(np.uint32).astype(np.uint64) + 1) << np.uint64(32)
    np.fill_diagonal(keys, 0)  # every image is its own nearest, copies come after it
    keys |= np.arange(len(keys), dtype=np.uint64)
    count = min(count, len(keys))
    smallest = np.sort(np.partition(keys, count - 1, axis=1)[:, :count], axis=1)
    return (smallest & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _mutual(order: np.ndarray, k: int) -> sparse.csr_matrix:
    """(C, C): 1 where each is itself or among the k nearest of the other."""
    listed = order[:, : k + 1]
    rows = np.repeat(np.arange(len(listed)), listed.shape[1])
    ones = np.ones(listed.size, dtype=np.float32)
    matrix = sparse.csr_matrix((ones, (rows, listed.ravel())), shape=(len(listed),) * 2)
    return matrix.multiply(matrix.T).tocsr()

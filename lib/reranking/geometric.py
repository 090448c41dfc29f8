"""Geometric verification of the best results: images whose local features agree move up.

Results are scored by similarity and inliers (Philbin et al., CVPR 2007), expand the query (Chum et
al., "Total Recall", ICCV 2007), or become nearer neighbours in k-reciprocal reranking, where the
gallery images are verified among each other, too. `lib.reranking.local_features` counts inliers.
"""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter

import numpy as np
from scipy import sparse

from lib.reranking.data import RetrievalData, cached
from lib.reranking.k_reciprocal import ZHONG, ReciprocalSettings, reciprocal_neighbours
from lib.reranking.local_features import PairVerifier
from lib.reranking.neighbours import weighted_mean
from lib.retrieval import Ranking, best_of

CHANCE, CAP = 4, 16  # inliers of unrelated photographs, and those beyond which more say no more
CANDIDATES = 50  # results of a query that are verified
NEIGHBOURS = 20  # gallery images verified with each other one


def agreement(inliers: np.ndarray) -> np.ndarray:
    """Inliers as evidence from 0 to 1.

    >>> agreement(np.array([3, 4, 12, 20, 90])).tolist()
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    return np.clip(inliers - CHANCE, 0, CAP) / CAP


def geometric_rerank(
    data: RetrievalData, *, weight: float = 0.4, base: Callable[..., Ranking] = attrgetter("plain")
) -> Ranking:
    """Add weight · agreement to the scores of the first results of `base(data)`."""
    ranking = base(data)
    inliers = verifier_of(data).inliers(ranking.positions[:, :CANDIDATES])
    final = ranking.scores.astype(np.float64)
    final[:, :CANDIDATES] += weight * agreement(inliers)
    return ranking.replace(*best_of(final.astype(np.float32), ranking.positions, ranking.k))


@cached
def expand_verified(data: RetrievalData, *, fewest: int = 10) -> RetrievalData:
    """Average each query with those of its first results, if any, that have `fewest` inliers."""
    if fewest < 1:
        raise ValueError(f"expected at least 1 inlier, found {fewest}; 10 are usual")
    near = data.plain.positions[:, :CANDIDATES]
    weights = (verifier_of(data).inliers(near) >= fewest).astype(np.float64)
    return replace(data, queries=weighted_mean(data.queries, data.gallery, near, weights))


@cached
def geometric_k_reciprocal(
    data: RetrievalData, *, weight: float = 0.4, settings: ReciprocalSettings = ZHONG
) -> Ranking:
    """Rank by k-reciprocal similarity where every cosine has weight · agreement added."""
    Q, N = (weight * one for one in agreements(data))
    found = reciprocal_neighbours(data.queries, data.gallery, data.k, settings, added=(Q, N))
    return Ranking(*found, data.query_ids, data.gallery_ids)


@cached
def agreements(data: RetrievalData) -> tuple[sparse.csr_array, sparse.csr_array]:
    """(Q, N) of first results and symmetric (N, N) of neighbours: their agreement, else 0."""
    verifier, count = verifier_of(data), len(data.gallery)
    near = data.plain.positions[:, :CANDIDATES]
    own = data.gallery_neighbours(NEIGHBOURS + 1)[1]
    # A pair is verified once, in the order of its positions.
    rows = np.repeat(np.arange(count), own.shape[1])
    pairs = np.unique(np.sort(np.stack([rows, own.ravel()]), axis=0), axis=1)
    first, second = pairs[:, pairs[0] != pairs[1]]
    values = agreement(verifier.within_gallery().of_pairs(first, second))
    one_way = sparse.csr_array((values, (first, second)), shape=(count, count))
    places = np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()
    values = agreement(verifier.inliers(near)).ravel()
    Q = sparse.csr_array((values, places), shape=(len(near), count))
    return Q, (one_way + one_way.T).tocsr()


def verifier_of(data: RetrievalData) -> PairVerifier:
    """The local features of the data; ValueError where it has none."""
    if data.local is None:
        raise ValueError(
            "expected local features for geometric verification, found none; give `local`"
        )
    return data.local

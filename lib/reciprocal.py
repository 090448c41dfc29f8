"""k-reciprocal neighbours: similar to the query, and the query similar to them.

The re-ranking of Zhong et al. (CVPR 2017), in the small form that [21] uses to choose the
reference images that vote for a query: it looks only at the query, its nearest references and
the nearest references of those.
"""

from dataclasses import dataclass

import numpy as np

from lib.approximate import ApproximateIndex, find_nearest
from lib.rows import BLOCK, ChosenRows, Table


@dataclass(frozen=True)
class Reciprocal:
    """The settings of [21]'s submission.

    Attributes:
        candidates: nearest references taken of the query (or as many as are asked for, when that
            is more), and again of each of those.
        k1: length of the neighbour lists that must contain each other.
        k2: neighbours whose encodings are averaged (local query expansion).
        plain: share of the plain distance in the final one, 0 to 1; the rest is Jaccard.
    """

    candidates: int = 30
    k1: int = 10
    k2: int = 3
    plain: float = 0.5

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if min(self.candidates, self.k1, self.k2) < 1 or not 0 <= self.plain <= 1:
            raise ValueError(
                f"expected counts of at least 1 and a plain share from 0 to 1, found {self};"
                " the defaults are the published ones"
            )


def reciprocal_neighbours(
    queries: np.ndarray,
    references: Table,
    k: int,
    settings: Reciprocal | None = None,
    *,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` references of largest k-reciprocal similarity for every query.

    The similarity is 1 - (plain · (1 - cos) / 2 + (1 - plain) · Jaccard), from 0 to 1 for unit
    vectors. References that are no candidates have a Jaccard distance of 1 and cannot come before
    the query's nearest, so looking at candidates only is exact.

    Args:
        queries: (Q, D) unit rows.
        references: (R, D) unit rows, may be a memory map.
        k: references per query, all of them when there are fewer.
        settings: the published ones unless given.
        index: of the references; finds neighbours approximately and prints its recall.
        block: reference rows in memory at a time.

    Returns:
        (Q, k) float32 similarities, best first, and (Q, k) positions, ascending among equals.
    """
    settings = settings or Reciprocal()
    names = ("queries", "references")
    options = {"names": names, "block": block}
    wanted = max(k, settings.candidates)
    near = find_nearest(queries, references, wanted, index, **options)[1]
    expanded, place = np.unique(near, return_inverse=True)
    members = ChosenRows(references, expanded)
    options["names"] = ("neighbours of queries", "references")
    beyond = find_nearest(members, references, settings.candidates, index, **options)[1]
    place = place.reshape(near.shape)

    k = min(k, len(references))
    similarities = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for row in range(len(queries)):
        candidates = np.union1d(near[row], beyond[place[row]])
        vectors = np.vstack([queries[row : row + 1], references[candidates]]).astype(np.float64)
        found = reciprocal_similarities(vectors, settings)
        best = np.argsort(-found, kind="stable")[:k]
        similarities[row], positions[row] = found[best], candidates[best]
    return similarities, positions


def reciprocal_similarities(vectors: np.ndarray, settings: Reciprocal) -> np.ndarray:
    """The k-reciprocal similarity of the first vector to each of the others.

    Args:
        vectors: (1 + C, D) unit rows: the query, then its candidates.
        settings: neighbour counts and the share of the plain distance.

    Returns:
        (C,) float32.
    """
    # Rounded to float32 so that equal images tie and keep their order.
    distances = (1 - (vectors @ vectors.T).astype(np.float32)) / 2
    to_others = distances.copy()
    np.fill_diagonal(to_others, -1)  # every image is its own nearest, copies come after it
    order = np.argsort(to_others, axis=1, kind="stable")

    mutual = _mutual(order, settings.k1)
    half = _mutual(order, round(settings.k1 / 2))
    # A neighbour brings its own narrower circle when two thirds of that circle are ours already.
    shared = mutual @ half.T
    brings = mutual * (3 * shared > 2 * half.sum(axis=1))
    expanded = (mutual + brings @ half) > 0

    weights = expanded * np.exp(-distances)
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights[order[:, : settings.k2]].mean(axis=1)

    overlap = np.minimum(weights[:1], weights[1:]).sum(axis=1)
    jaccard = 1 - overlap / (2 - overlap)
    return 1 - (settings.plain * distances[0, 1:] + (1 - settings.plain) * jaccard)


def _mutual(order: np.ndarray, k: int) -> np.ndarray:
    """(C, C) float32: 1 where each is itself or among the k nearest of the other."""
    listed = np.zeros(order.shape, dtype=np.float32)
    np.put_along_axis(listed, order[:, : k + 1], 1, axis=1)
    return listed * listed.T

"""How far the k-th nearest image of the same landmark is, the classical view of a DBSCAN radius.

Ester et al. (1996) sort these distances and look for the knee of the curve; `lib.choose_eps` reads
more out of them. All are exact, block by block.
"""

from functools import partial

import numpy as np

from lib.dbscan import BLOCK, Rows
from lib.groups import check_embeddings, over_groups


def k_distances(
    embeddings: np.ndarray, landmark_ids: np.ndarray, k: int, *, jobs: int = -1
) -> np.ndarray:
    """Measure how far the k-th nearest other image of the same landmark is.

    An image is a core image of DBSCAN if this is at most eps, for k = min_samples - 1. Sorted, it
    is the curve in whose `knee` Ester et al. (1996) look for eps.

    Returns:
        (N,) float32 cosine distances, infinite in landmarks of at most k images.

    Raises:
        ValueError: as `cluster_landmarks`, or if k is below 1.

    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]], dtype=np.float32)
    >>> k_distances(rows, np.array([7, 7, 7, 9]), 1).astype(float).round(2).tolist()
    [0.2, 0.2, 0.4, inf]
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}")
    distances = np.empty(len(landmark_ids), dtype=np.float32)
    for at, found in over_groups(partial(_k_task, k=k), embeddings, landmark_ids, jobs=jobs):
        distances[at] = found
    return distances


def _k_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    if len(sizes) == 1:
        return kth_nearest(rows, rows, k, is_same=True)
    parts = np.split(rows, np.cumsum(sizes)[:-1])
    return np.concatenate([kth_nearest(part, part, k, is_same=True) for part in parts])


def kth_nearest(queries: Rows, rows: Rows, k: int, *, is_same: bool = False) -> np.ndarray:
    """(Q,) distance from each query to the k-th nearest row, itself left out if `is_same`."""
    found = []
    for low in range(0, len(queries), BLOCK):
        block = queries[low : low + BLOCK]
        nearest = np.full((len(block), k), np.inf, dtype=np.float32)
        for start in range(0, len(rows), 8 * BLOCK):
            distance = np.subtract(1, block @ rows[start : start + 8 * BLOCK].T)
            if is_same:
                hide_itself(distance, low - start, np.inf)
            nearest = smallest(np.hstack([nearest, distance]), k)
        found.append(nearest[:, k - 1])
    return np.concatenate(found)


def hide_itself(block: np.ndarray, offset: int, value: float) -> None:
    """Overwrite the pairs of a row with itself in a block whose rows begin at `offset`.

    >>> block = np.zeros((2, 3))
    >>> hide_itself(block, 1, 9)
    >>> block.tolist()
    [[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]
    """
    own = np.arange(offset, offset + len(block))
    here = np.flatnonzero((own >= 0) & (own < block.shape[1]))
    block[here, own[here]] = value


def smallest(values: np.ndarray, k: int) -> np.ndarray:
    """The k smallest values of each row, the largest of them last.

    >>> smallest(np.array([[3, 1, 2]]), 2).tolist()
    [[1, 2]]
    """
    return np.partition(values, k - 1, axis=1)[:, :k]


def knee(distances: np.ndarray) -> float:
    """Find where the sorted curve turns up: its point farthest below its chord.

    Args:
        distances: (N,) at least one of them finite; infinite ones are left out.

    Raises:
        ValueError: if there is no finite distance.

    >>> knee(np.array([0.1, 0.11, 0.12, 0.13, 0.9, 0.14]))
    0.14
    """
    curve = np.sort(distances[np.isfinite(distances)])
    if not len(curve):
        raise ValueError("expected finite distances, found none: give a smaller k")
    across = np.linspace(0, 1, len(curve))
    return float(curve[np.argmax(across * (curve[-1] - curve[0]) - curve)])

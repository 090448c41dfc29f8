"""DBSCAN of every landmark, with the labels of scikit-learn's `DBSCAN(metric="cosine")`.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), clusters each landmark by itself
(§2.1). Small landmarks of one size share a batched product, larger ones compute half of their
symmetric product, huge ones run block by block without n² memory. Several radii share a product.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from numbers import Integral, Real

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lib.cleaning.per_landmark import WHOLE, Rows, check_embeddings, map_landmarks

SMALL = 128  # rows; up to this size many landmarks are labelled at once
BLOCK = 1024  # rows of one product


def check_settings(eps: float, min_samples: int) -> None:
    if not isinstance(eps, Real) or isinstance(eps, bool) or not 0 < eps <= 2:
        raise ValueError(f"expected eps, a cosine distance, in (0, 2], found {eps!r}: try 0.5")
    if not isinstance(min_samples, Integral) or isinstance(min_samples, bool) or min_samples < 1:
        raise ValueError(f"expected min_samples as an integer from 1, found {min_samples!r}: try 3")


def cluster_landmarks(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    eps: float,
    min_samples: int,
    jobs: int = -1,
) -> np.ndarray:
    """Cluster every landmark by itself, as scikit-learn's `DBSCAN(metric="cosine")` does.

    Returns (N,) int64 labels from 0 in every landmark; -1 is noise. Two rows are neighbours if
    `1 - a·b <= eps` in float32; scikit-learn sums in another order, so a pair within about 1e-6 of
    eps may fall on the other side. Rows of other than unit length are normalised with a warning. A
    task takes about 300 MiB beyond the input (D = 512).

    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]], dtype=np.float32)
    >>> cluster_landmarks(rows, np.array([7, 7, 7, 9]), eps=0.3, min_samples=2).tolist()
    [0, 0, -1, -1]
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(eps, min_samples)
    labels = np.full(len(landmark_ids), -1, dtype=np.int64)
    work = partial(dbscan_labels, eps_values=(eps,), min_samples=min_samples)
    for at, found in map_landmarks(work, embeddings, landmark_ids, jobs=jobs):
        labels[at] = found[0]
    return labels


def dbscan_labels(
    rows: Rows, sizes: Sequence[int], eps_values: Sequence[float], min_samples: int
) -> np.ndarray:
    """Label several landmarks, each by itself, at each of K radii in any order.

    `rows` are (R, D) float32 unit rows, one landmark after the other, and `sizes` how many each
    has; one of more than `WHOLE` rows comes alone. A radius from 2 on makes all rows neighbours.

    Returns:
        (K, R) int64 labels from 0 in every landmark, in the order of the clusters' first core
        rows; a border row joins the lowest-numbered cluster; -1 is noise.
    """
    radii = [np.float32(eps if eps < 2 else np.inf) for eps in eps_values]
    if len(sizes) == 1 and sizes[0] > WHOLE:
        return _label_blocks(rows, radii, min_samples)
    parts, start = [], 0
    for size, run in itertools.groupby(np.asarray(sizes).tolist()):
        count = len(list(run))
        batch = rows[start : start + count * size].reshape(count, size, -1)
        start += count * size
        if size > SMALL:
            parts.extend(_label_whole(own, radii, min_samples) for own in batch)
            continue
        distance = np.subtract(1, np.matmul(batch, batch.transpose(0, 2, 1)))
        distance[:, np.arange(size), np.arange(size)] = 0
        labels = [_label_batch(distance <= eps, min_samples) for eps in radii]
        parts.append(np.stack(labels).reshape(len(radii), -1))
    return np.hstack(parts)


def _label_batch(near: np.ndarray, min_samples: int) -> np.ndarray:
    """(B, n, n) neighbour flags of B landmarks to (B, n) labels."""
    size = near.shape[1]
    core = near.sum(axis=2) >= min_samples
    near_core = near & core[:, None, :]
    reach = (near_core & core[:, :, None]).astype(np.float32)
    reached = np.count_nonzero(reach)
    while True:  # squaring doubles the length of the paths
        reach = (np.matmul(reach, reach) > 0).astype(np.float32)
        before, reached = reached, np.count_nonzero(reach)
        if reached == before:
            break
    first = core & (reach.argmax(axis=2) == np.arange(size))  # first core row of its cluster
    number = np.cumsum(first, axis=1) - 1
    number = np.where(core, np.take_along_axis(number, reach.argmax(axis=2), axis=1), size)
    lowest = np.where(near_core, number[:, None, :], size).min(axis=2)
    return np.where(lowest < size, lowest, -1)


def _label_whole(rows: np.ndarray, radii: list[np.float32], min_samples: int) -> np.ndarray:
    """(n, D) rows of one landmark to (K, n) labels, through n² bytes."""
    size, ascending = len(rows), np.sort(radii)
    rank = np.empty((size, size), dtype=np.uint8)  # number of radii below the pair's distance
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        distance = np.subtract(1, rows[start:stop] @ rows[start:].T)
        part = sum((distance > eps).view(np.uint8) for eps in ascending)
        rank[start:stop, start:] = part
        rank[start:, start:stop] = part.T
    np.fill_diagonal(rank, 0)
    near = (rank <= np.searchsorted(ascending, eps) for eps in radii)
    return np.stack([_walk(one, min_samples) for one in near])


def _walk(near: np.ndarray, min_samples: int) -> np.ndarray:
    """(n, n) neighbour flags to (n,) labels, cluster after cluster from its first core row."""
    core = np.count_nonzero(near, axis=1) >= min_samples
    labels = np.full(len(near), -1, dtype=np.int64)
    number = 0
    for seed in np.flatnonzero(core):
        if labels[seed] >= 0:
            continue
        labels[seed] = number
        frontier = np.array([seed])
        while frontier.size:
            reached = near[frontier].any(axis=0) & (labels < 0)
            labels[reached] = number
            frontier = np.flatnonzero(reached & core)
        number += 1
    return labels


def _label_blocks(rows: Rows, radii: list[np.float32], min_samples: int) -> np.ndarray:
    """Any number of rows of one landmark to (K, n) labels; every product is computed twice."""
    size = len(rows)
    counts = np.zeros((len(radii), size), dtype=np.int64)
    for k, left, _, near in _near_blocks(rows, radii):
        counts[k, left] += np.count_nonzero(near, axis=1)
    core = counts >= min_samples

    component = np.tile(np.arange(size), (len(radii), 1))
    border: list[list[np.ndarray]] = [[] for _ in radii]  # pairs of another row and a core row
    for k, left, right, near in _near_blocks(rows, radii):
        if left.start <= right.start:
            apart = component[k, left, None] != component[k, right]
            i, j = np.nonzero(near & core[k, left, None] & core[k, right] & apart)
            if len(i):
                links = np.ones(len(i)), (component[k, left][i], component[k, right][j])
                links = coo_array(links, shape=(size, size))
                component[k] = connected_components(links, directed=False)[1][component[k]]
        outside, inside = np.flatnonzero(~core[k, left]), np.flatnonzero(core[k, right])
        i, j = np.nonzero(near[np.ix_(outside, inside)])
        border[k].append(np.stack([left.start + outside[i], right.start + inside[j]]))

    labels = np.full((len(radii), size), size)  # larger than any cluster's number
    for own, is_core, joined, pairs in zip(labels, core, component, border, strict=True):
        own[is_core] = pd.factorize(joined[is_core])[0]
        outside, inside = np.concatenate(pairs, axis=1)
        np.minimum.at(own, outside, own[inside])
    return np.where(labels < size, labels, -1)


def _near_blocks(
    rows: Rows, radii: list[np.float32]
) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
    """Radius index, two slices and their (≤ 2048, ≤ 2048) neighbour flags, for all pairs."""
    parts = [slice(start, start + 2 * BLOCK) for start in range(0, len(rows), 2 * BLOCK)]
    for first, left in enumerate(parts):
        own = rows[left]
        for right in parts[first:]:
            distance = own @ rows[right].T
            np.subtract(1, distance, out=distance)
            if left == right:
                np.fill_diagonal(distance, 0)
            for k, eps in enumerate(radii):
                near = distance <= eps
                yield k, left, right, near
                if left != right:
                    yield k, right, left, near.T

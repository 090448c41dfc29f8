"""DBSCAN on unit rows, label for label what scikit-learn's `DBSCAN(metric="cosine")` returns.

GLR20 §2.1 clusters every landmark by itself, and landmarks are many and mostly tiny. So the
products
of many equally large landmarks are made at once, larger ones are made half (they are symmetric),
and huge ones block by block without ever holding n² numbers. Any number of radii shares one
product. What runs where, and on which rows, is `lib.cleaning.per_landmark`' business."""

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Protocol

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SMALL = 128  # rows; up to here many landmarks are labelled at once
WHOLE = 8192  # rows; up to here a landmark's n² neighbour flags (one byte each) are held at once
BLOCK = 1024  # rows of one product


class Rows(Protocol):
    """Unit rows that give themselves out in parts: an array, or rows read when asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray: ...


def radius(eps: float) -> np.float32:
    """The float32 number that distances are compared with; infinite from 2 on (all are near).

    >>> radius(0.5), radius(2)
    (np.float32(0.5), np.float32(inf))
    """
    return np.float32(eps if eps < 2 else np.inf)


def check_settings(eps: float, min_samples: int) -> None:
    """Refuse settings that mean nothing.

    Raises:
        ValueError: unless eps is in (0, 2] and min_samples is an integer of at least 1.
    """
    if not isinstance(eps, Real) or isinstance(eps, bool) or not 0 < eps <= 2:
        raise ValueError(
            f"expected a cosine distance in (0, 2] as eps, found {eps!r}: 0.3 to 0.6 are usual"
        )
    if not isinstance(min_samples, Integral) or isinstance(min_samples, bool) or min_samples < 1:
        raise ValueError(
            f"expected an integer of at least 1 as min_samples, found {min_samples!r}: "
            "2 to 5 are usual"
        )


def dbscan_labels(
    rows: Rows, sizes: Sequence[int], eps_values: Sequence[float], min_samples: int
) -> np.ndarray:
    """Label landmarks, each by itself, at each of several radii.

    A row's neighbours are those at a cosine distance of at most eps, itself always included; a row
    with `min_samples` of them is a core row. Clusters are numbered by their first core row; a row
    that only borders on clusters joins the lowest-numbered; -1 is noise.

    Args:
        rows: (R, D) float32 unit rows, one landmark after the other.
        sizes: (L,) rows of each landmark; one of more than `WHOLE` rows comes alone.
        eps_values: (K,) radii, in any order.
        min_samples: neighbours that make a core row.

    Returns:
        (K, R) int64 labels, starting from 0 in every landmark.

    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], dtype=np.float32)
    >>> dbscan_labels(rows, [4], [0.3, 0.5], 2).tolist()
    [[0, 0, -1, -1], [0, 0, 0, -1]]
    """
    radii = [radius(eps) for eps in eps_values]
    if len(sizes) == 1 and sizes[0] > WHOLE:
        return _label_blocks(rows, radii, min_samples)
    parts = []
    for part, count, size in equal_runs(np.asarray(sizes)):
        batch = rows[part].reshape(count, size, -1)
        if size > SMALL:
            parts.extend(_label_whole(own, radii, min_samples) for own in batch)
        else:
            parts.append(_label_small(batch, radii, min_samples))
    return np.hstack(parts)


def equal_runs(sizes: np.ndarray) -> Iterator[tuple[slice, int, int]]:
    """Runs of equally large landmarks: their rows, how many landmarks, and how large.

    >>> list(equal_runs(np.array([3, 2, 2])))
    [(slice(0, 3, None), 1, 3), (slice(3, 7, None), 2, 2)]
    """
    start = 0
    for run in np.split(sizes, np.flatnonzero(np.diff(sizes)) + 1):
        stop = start + int(run.sum())
        yield slice(start, stop), len(run), int(run[0])
        start = stop


def _label_small(batch: np.ndarray, radii: list[np.float32], min_samples: int) -> np.ndarray:
    """(B, n, D) rows of equally large landmarks to (K, B · n) labels."""
    size = batch.shape[1]
    distance = np.subtract(1, np.matmul(batch, batch.transpose(0, 2, 1)))
    distance[:, np.arange(size), np.arange(size)] = 0
    labels = [_label_batch(distance <= limit, min_samples) for limit in radii]
    return np.stack(labels).reshape(len(radii), -1)


def _label_batch(near: np.ndarray, min_samples: int) -> np.ndarray:
    """(B, n, n) neighbour flags to (B, n) labels, all landmarks in step."""
    size = near.shape[1]
    core = near.sum(axis=2) >= min_samples
    near_core = near & core[:, None, :]
    reach = (near_core & core[:, :, None]).astype(np.float32)
    reached = np.count_nonzero(reach)
    while True:  # squaring doubles the length of the paths that are counted
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
    rank = np.empty((size, size), dtype=np.uint8)  # how many radii are too small for this pair
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        distance = np.subtract(1, rows[start:stop] @ rows[start:].T)
        part = sum((distance > limit).view(np.uint8) for limit in ascending)
        rank[start:stop, start:] = part
        rank[start:, start:stop] = part.T
    np.fill_diagonal(rank, 0)
    return np.stack(
        [_walk(rank <= np.searchsorted(ascending, limit), min_samples) for limit in radii]
    )


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
    """Any number of rows of one landmark to (K, n) labels; every product is made twice."""
    size = len(rows)
    counts = np.zeros((len(radii), size), dtype=np.int64)
    for k, left, right, near in _near_blocks(rows, radii):
        counts[k, left] += np.count_nonzero(near, axis=1)
        if left != right:
            counts[k, right] += np.count_nonzero(near, axis=0)
    core = counts >= min_samples

    component = np.tile(np.arange(size), (len(radii), 1))
    beside: list[list[np.ndarray]] = [[] for _ in radii]  # pairs of a row outside and a core row
    for k, left, right, near in _near_blocks(rows, radii):
        component[k] = _join(component[k], core[k], left, right, near)
        beside[k].append(_outside_pairs(core[k], left, right, near))
        if left != right:
            beside[k].append(_outside_pairs(core[k], right, left, near.T))

    labels = np.full((len(radii), size), size)  # larger than any cluster's number
    for own, is_core, joined, pairs in zip(labels, core, component, beside, strict=True):
        own[is_core] = _by_first_appearance(joined[is_core])
        outside, inside = np.concatenate(pairs, axis=1)
        np.minimum.at(own, outside, own[inside])
    return np.where(labels < size, labels, -1)


def _join(
    component: np.ndarray, core: np.ndarray, left: slice, right: slice, near: np.ndarray
) -> np.ndarray:
    """Join the components of core rows that are near each other in one block."""
    apart = component[left, None] != component[right]
    i, j = np.nonzero(near & core[left, None] & core[right] & apart)
    if not i.size:  # usual, once the large components have met
        return component
    links = np.ones(i.size), (component[left][i], component[right][j])
    links = coo_array(links, shape=(len(component), len(component)))
    return connected_components(links, directed=False)[1][component]


def _outside_pairs(core: np.ndarray, left: slice, right: slice, near: np.ndarray) -> np.ndarray:
    """(2, P) rows of the left that are no core rows, and core rows of the right near them.

    They are few: whoever has `min_samples` neighbours is a core row.
    """
    outside, inside = np.flatnonzero(~core[left]), np.flatnonzero(core[right])
    i, j = np.nonzero(near[np.ix_(outside, inside)])
    return np.stack([left.start + outside[i], right.start + inside[j]])


def _parts(size: int) -> list[slice]:
    return [slice(start, start + 2 * BLOCK) for start in range(0, size, 2 * BLOCK)]


def _near_blocks(
    rows: Rows, radii: list[np.float32]
) -> Iterator[tuple[int, slice, slice, np.ndarray]]:
    """Radius index, two slices and their (≤ 2048, ≤ 2048) neighbour flags, upper half only."""
    parts = _parts(len(rows))
    for first, left in enumerate(parts):
        own = rows[left]
        for right in parts[first:]:
            distance = own @ rows[right].T
            np.subtract(1, distance, out=distance)
            if left == right:
                np.fill_diagonal(distance, 0)
            for k, limit in enumerate(radii):
                yield k, left, right, distance <= limit


def _by_first_appearance(values: np.ndarray) -> np.ndarray:
    """Number values from 0 in the order in which they first appear.

    >>> _by_first_appearance(np.array([7, 3, 7, 5])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]

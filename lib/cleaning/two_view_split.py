"""One cluster that shows two things becomes two: an option beyond GLR20.

DBSCAN follows chains, and in a landmark of a hundred photographs a few odd ones are enough to chain
its front to its interior. So every cluster of the first pass is cut in two across the direction in
which it is longest (a principal component, then 2-means on the sphere), and the cut stays if the
parts stand on their own. By the scale of Kaufman and Rousseeuw (1990) a mean silhouette above 0.5
is a reasonable structure, one to 0.25 none, and one between them must be looked at. Here a cut
needs 0.4, which served eight descriptors of the miniature world best, and more than 0.25 in each
part. With unit rows the silhouette needs no distances between pairs, only sums of rows. A view that
changes along one line without a gap looks like two things to it."""

from collections.abc import Iterator

import numpy as np

from lib.cleaning.dbscan import WHOLE, Rows

ENOUGH, NONE = 0.4, 0.25  # mean silhouettes, of all rows and of each part
ROUNDS = 20  # of 2-means, which settles within a few, and of the search for the direction


def split_faces(rows: Rows, sizes: np.ndarray, cluster: np.ndarray, smallest: int) -> np.ndarray:
    """Cut clusters in two, and the parts again, as long as both parts stand on their own.

    Args:
        rows: (R, D) unit rows, one landmark after the other.
        sizes: (L,) rows of each landmark.
        cluster: (R,) clusters from 0 in each landmark, -1 for noise.
        smallest: rows that each part must have. Clusters of more than `WHOLE` rows stay whole.

    Returns:
        (R,) clusters; the part with the first row keeps the number, the other gets a new one.

    >>> rows = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 1]]
    >>> split_faces(rows, np.array([6]), np.array([0, 0, 0, 0, 0, -1]), 2).tolist()
    [0, 0, 0, 1, 1, -1]
    """
    cluster = cluster.copy()
    for first, members in _clusters(sizes, cluster, 2 * smallest):
        unused = cluster[first].max() + 1
        todo = [members]
        while todo:
            own = todo.pop()
            is_other = two_faces(rows[own], smallest) if len(own) >= 2 * smallest else None
            if is_other is None:
                continue
            cluster[own[is_other]] = unused
            unused += 1
            todo += [own[~is_other], own[is_other]]
    return cluster


def _clusters(
    sizes: np.ndarray, cluster: np.ndarray, smallest: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """The landmark's slice and the rows of every cluster of `smallest` to `WHOLE` rows."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    held = np.flatnonzero(cluster >= 0)
    key = owner[held] * len(cluster) + cluster[held]
    held = held[np.argsort(key, kind="stable")]
    counts = np.unique(key, return_counts=True)[1]
    ends = np.cumsum(sizes)
    for stop, count in zip(np.cumsum(counts), counts, strict=True):
        if smallest <= count <= WHOLE:
            members = held[stop - count : stop]
            mark = owner[members[0]]
            yield slice(ends[mark] - sizes[mark], ends[mark]), members


def two_faces(rows: np.ndarray, smallest: int) -> np.ndarray | None:
    """(n,) bool, true for the part without the first row; None if the rows show one thing.

    Args:
        rows: (n, D) float32 unit rows.
        smallest: rows that each part must have, at least 1.
    """
    found = _across(rows)
    for _ in range(ROUNDS):
        is_other = found
        count = int(np.count_nonzero(is_other))
        if not smallest <= count <= len(rows) - smallest:
            return None
        poles = np.stack([rows[~is_other].sum(axis=0), rows[is_other].sum(axis=0)])
        poles /= np.maximum(np.linalg.norm(poles, axis=1, keepdims=True), 1e-12)
        found = np.argmax(rows @ poles.T, axis=1).astype(bool)
        if (found == is_other).all():
            break
    silhouette = two_part_silhouette(rows, is_other)
    parts = silhouette[is_other], silhouette[~is_other]
    if silhouette.mean() < ENOUGH or min(part.mean() for part in parts) <= NONE:
        return None
    return is_other != is_other[0]


def _across(rows: np.ndarray) -> np.ndarray:
    """(n,) bool, the side of the mean that a row is on along the first principal component."""
    centred = rows - rows.mean(axis=0)
    direction = centred[np.argmax((centred**2).sum(axis=1))]
    for _ in range(ROUNDS):  # power iteration; the cut only has to begin near the right place
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    return centred @ direction > 0


def two_part_silhouette(rows: np.ndarray, is_other: np.ndarray) -> np.ndarray:
    """(n,) silhouettes of rows in two parts, by cosine distance (Rousseeuw 1987).

    The mean distance of a row to a set of unit rows is one minus its product with their mean, so
    this equals scikit-learn's `silhouette_samples(metric="cosine")` without n² distances. A row
    that is alone in its part has 0.

    >>> rows = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    >>> two_part_silhouette(rows, np.array([False, False, True, True])).round(2).tolist()
    [1.0, 1.0, 0.8, 0.5]
    """
    part = is_other.astype(np.int64)
    sizes = np.bincount(part, minlength=2)
    sums = np.stack([rows[part == 0].sum(axis=0), rows[part == 1].sum(axis=0)])
    far = sizes - rows @ sums.T  # summed distances to both parts; a row's own distance is 0
    at = np.arange(len(rows))
    inside = far[at, part] / np.maximum(sizes[part] - 1, 1)
    outside = far[at, 1 - part] / np.maximum(sizes[1 - part], 1)
    both = np.maximum(np.maximum(inside, outside), 1e-12)
    return np.where(sizes[part] > 1, (outside - inside) / both, 0)

"""How far images are from each other, within landmarks and across: a look at a descriptor.

Pairs are drawn at random, so this is quick at any size. `lib.cleaning.eps` has exact distances.

How far the k-th nearest image of the same landmark is, the classical view of a DBSCAN radius.

Ester et al. (1996) sort these distances and look for the knee of the curve; `lib.cleaning.eps`
reads more out of them. All are exact, block by block.

What the first pass of cleaning would make of many radii at once.

Twenty settings share one product per landmark, so they cost little more than one. Nothing here
knows the truth: shares and counts, the silhouette, and how much neighbouring settings agree, a long
stretch of agreement being a good sign. Choosing is left to a person or to `lib.cleaning.eps`.

Choosing the radius of `lib.cleaning.two_pass` without knowing the truth.

GLR20 keeps its thresholds to itself, and the right ones depend on the descriptor. Here images moved
to another landmark stand in for wrong labels: a good radius gives many images enough neighbours in
their own landmark, and few where they were moved to (`suggest`). A sweep tells what radii around it
would do (`lib.cleaning.eps`); the k-distance curve (`lib.cleaning.eps`) is the classical
picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances, silhouette_score

from lib.cleaning.dbscan import BLOCK, Rows, check_settings, dbscan_labels
from lib.cleaning.per_landmark import check_embeddings, over_groups


def sample_distances(
    rows: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    generator: np.random.Generator,
    pairs: int = 20_000,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of random pairs of images: of one landmark, and of different ones.

    Args:
        rows: (N, D) unit rows, in memory or a memory map.
        landmark_ids: (N,) of the rows.
        generator: draws the pairs.
        pairs: how many of each kind, at most.
    """
    first = generator.integers(len(rows), size=pairs)
    order = np.argsort(landmark_ids, kind="stable")
    place = np.argsort(order)
    start = np.searchsorted(landmark_ids[order], landmark_ids)
    size = np.searchsorted(landmark_ids[order], landmark_ids, side="right") - start
    step = 1 + np.floor(generator.random(pairs) * (size[first] - 1)).astype(int)
    inside = start[first] + (place[first] - start[first] + step) % size[first]
    partner, other = order[inside], generator.integers(len(rows), size=pairs)
    same = size[first] > 1
    apart = landmark_ids[first] != landmark_ids[other]
    return (
        _distances(rows, first[same], partner[same]),
        _distances(rows, first[apart], other[apart]),
    )


def _distances(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    pairs = np.asarray(rows[left], np.float32), np.asarray(rows[right], np.float32)
    return 1 - np.einsum("ij,ij->i", *pairs)


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


SILHOUETTE_IMAGES = 2_000


def sweep(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    eps_values: Sequence[float],
    *,
    min_samples: int,
    jobs: int = -1,
) -> pd.DataFrame:
    """Tell what the first pass makes of each radius; all radii share one product.

    Args:
        embeddings: (N, D) unit rows as for `lib.cleaning.two_pass.cluster_landmarks`.
        landmark_ids: (N,) integers.
        eps_values: (K,) radii in ascending order.
        min_samples: as for `cluster_landmarks`.
        jobs: joblib's `n_jobs`.

    Returns:
        One row per radius: `eps`; `kept`, the share of images in clusters; `classes`; `lost`, the
        share of landmarks left without a cluster; `silhouette` of the kept ones among about 2,000
        images of evenly spread landmarks (cosine; NaN with fewer than two classes); `agreement`,
        the adjusted Rand index with the row before, every dropped image a class of its own.

    Raises:
        ValueError: as `cluster_landmarks`, or if the radii do not ascend.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    eps_values = [float(eps) for eps in eps_values]
    for eps in eps_values:
        check_settings(eps, min_samples)
    if not eps_values or (np.diff(eps_values) <= 0).any():
        raise ValueError(f"expected radii in ascending order, found {eps_values}")
    options = {"eps_values": eps_values, "min_samples": min_samples}
    tasks = over_groups(partial(_count_task, **options), embeddings, landmark_ids, jobs=jobs)
    counts = sum((found for _, found in tasks), np.zeros((len(eps_values), 5)))
    kept, classes, held, pairs, shared = counts.T
    images, landmarks = len(landmark_ids), len(np.unique(landmark_ids))
    return pd.DataFrame(
        {
            "eps": eps_values,
            "kept": kept / max(images, 1),
            "classes": classes.astype(np.int64),
            "lost": 1 - held / max(landmarks, 1),
            "silhouette": _silhouettes(embeddings, landmark_ids, options, jobs),
            "agreement": _adjusted_rand(pairs, shared, images),
        }
    )


def _count_task(
    rows: Rows, sizes: np.ndarray, eps_values: Sequence[float], min_samples: int
) -> np.ndarray:
    """(K, 5) images kept, clusters, landmarks with one, pairs together, and as one radius below."""
    labels = dbscan_labels(rows, sizes, eps_values, min_samples)
    first = np.cumsum(sizes) - sizes
    cluster = np.where(labels >= 0, labels + np.repeat(first, sizes), -1)  # unique in this task
    counts = np.zeros((len(labels), 5))
    for row, current, before in zip(counts, cluster, [None, *cluster], strict=False):
        held = current >= 0
        size = np.bincount(current[held], minlength=len(current))
        row[:4] = held.sum(), np.count_nonzero(size), np.count_nonzero(size[first]), _pairs(size)
        if before is not None:
            cell = before[held] * len(current) + current[held]
            row[4] = _pairs(np.unique(cell[before[held] >= 0], return_counts=True)[1])
    return counts


def _pairs(sizes: np.ndarray) -> float:
    return float((sizes * (sizes - 1) // 2).sum())


def _adjusted_rand(pairs: np.ndarray, shared: np.ndarray, images: int) -> np.ndarray:
    """(K,) index of every row with the one before, from the pairs of images put together."""
    agreement = np.full(len(pairs), np.nan)
    left, right, both = pairs[:-1], pairs[1:], shared[1:]
    chance = left * right / max(images * (images - 1) / 2, 1)
    span = (left + right) / 2 - chance
    agreement[1:] = np.divide(both - chance, span, out=np.ones_like(span), where=span > 0)
    return agreement


def _silhouettes(
    embeddings: np.ndarray, landmark_ids: np.ndarray, options: dict[str, Any], jobs: int
) -> list[float]:
    inverse = np.unique(landmark_ids, return_inverse=True)[1]
    stride = -(-len(inverse) // SILHOUETTE_IMAGES)
    positions = np.flatnonzero(inverse % max(stride, 1) == 0)
    owner = inverse[positions]
    labels = np.empty((len(options["eps_values"]), len(positions)), dtype=np.int64)
    work = partial(dbscan_labels, **options)
    for at, found in over_groups(work, embeddings, owner, positions=positions, jobs=jobs):
        labels[:, at] = np.where(found >= 0, found + owner[at] * len(inverse), -1)
    thin = np.linspace(0, len(positions) - 1, min(len(positions), SILHOUETTE_IMAGES)).astype(int)
    rows = np.asarray(embeddings[positions[thin]], dtype=np.float32)
    distance = pairwise_distances(rows, metric="cosine") if len(rows) else np.empty((0, 0))
    return [_silhouette(distance, of_radius[thin]) for of_radius in labels]


def _silhouette(distance: np.ndarray, labels: np.ndarray) -> float:
    kept = np.flatnonzero(labels >= 0)
    if not 2 <= len(np.unique(labels[kept])) < len(kept):
        return float("nan")
    near = distance[np.ix_(kept, kept)]
    return float(silhouette_score(near, labels[kept], metric="precomputed"))


SAMPLE_IMAGES = 50_000  # enough for a suggestion
SAMPLE_LARGEST = 4_096  # images of one landmark that enter the sample
MOVES, ROUNDS = 20_000, 10  # images moved; small datasets take rounds, up to ten
STEPS = np.arange(11, 31) / 20  # the sweep around a suggestion: 0.55 to 1.5 times eps


@dataclass(frozen=True)
class Suggestion:
    """A radius for the first pass, why, and what radii around it would do."""

    eps: float
    reason: str
    sweep: pd.DataFrame


def suggest(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    min_samples: int = 3,
    without: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> Suggestion:
    """Suggest the radius of the first pass from the distances alone.

    With s(eps) the share of images that have `min_samples - 1` others of their landmark within
    eps, and m(eps) the share of images moved to a random other landmark that would have as many
    there, the suggestion maximises s - m (Youden's index).

    Up to 50,000 images of whole landmarks are looked at, of the largest landmarks 4,096 each.

    Args:
        embeddings: (N, D) unit rows as for `lib.cleaning.two_pass.cluster_landmarks`.
        landmark_ids: (N,) integers.
        min_samples: of the first pass.
        without: (N,) bool; images to leave out, such as suspects.
        generator: draws landmarks and moves images; a fixed one by default.
        jobs: joblib's `n_jobs`.

    Raises:
        ValueError: as `cluster_landmarks`; if fewer than two landmarks have `min_samples` images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(1, min_samples)
    generator = np.random.default_rng(0) if generator is None else generator
    k = max(min_samples - 1, 1)
    considered = np.arange(len(landmark_ids)) if without is None else np.flatnonzero(~without)
    positions, ids = sample_landmarks(landmark_ids[considered], k + 1, generator)
    positions = considered[positions]
    rounds = min(-(-MOVES // len(positions)), ROUNDS)
    measured = [
        measure_moves(embeddings, positions, ids, k, generator, jobs) for _ in range(rounds)
    ]
    own, strange = measured[0].own, np.concatenate([one.strange for one in measured])
    eps, near, taken = best_threshold(own, strange)
    eps = round(max(eps, 0.001), 3)
    reason = (
        f"within {eps:.3f}, {near:.0%} of the images have {k} others of their landmark, and "
        f"{taken:.0%} would have in another landmark: no radius tells them apart better"
    )
    steps = np.unique(np.minimum(eps * STEPS, 2).round(4))
    rows = np.asarray(embeddings[positions])
    tried = sweep(rows, ids, steps, min_samples=min_samples, jobs=jobs)
    return Suggestion(eps, reason, tried)


def sample_landmarks(
    landmark_ids: np.ndarray, smallest: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and landmark ids of landmarks of at least `smallest` images, one after the other.

    Raises:
        ValueError: if there are fewer than two such landmarks.
    """
    _, inverse, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    order = generator.permutation(np.flatnonzero(counts >= smallest))
    if len(order) < 2:
        raise ValueError(
            f"expected at least two landmarks of {smallest} images or more, found {len(order)}: "
            "give a smaller min_samples, or eps"
        )
    sizes = np.minimum(counts[order], SAMPLE_LARGEST)
    chosen = order[: max(2, np.searchsorted(np.cumsum(sizes), SAMPLE_IMAGES))]
    place = np.full(len(counts), -1)
    place[chosen] = np.arange(len(chosen))
    positions = np.flatnonzero(place[inverse] >= 0)
    positions = positions[np.argsort(place[inverse[positions]], kind="stable")]
    sizes = counts[chosen]
    rank = np.arange(len(positions)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    positions = positions[rank < SAMPLE_LARGEST]
    return positions, landmark_ids[positions]


@dataclass(frozen=True)
class Moves:
    """Distances to the k-th nearest image of a landmark.

    Attributes:
        own: (P,) from each image, in its own landmark.
        strange: (P,) from an image of another landmark that was moved to it.
        moved: (P,) which image that was, as an index into the P.
    """

    own: np.ndarray
    strange: np.ndarray
    moved: np.ndarray


def measure_moves(
    embeddings: np.ndarray,
    positions: np.ndarray,
    ids: np.ndarray,
    k: int,
    generator: np.random.Generator,
    jobs: int,
) -> Moves:
    """Move a random image of another landmark beside every image, and measure both.

    Args:
        embeddings: (N, D) unit rows.
        positions: (P,) rows to look at, those of a landmark together.
        ids: (P,) their landmarks, two or more.
        k: neighbours, fewer than any of the landmarks has images.
        generator: draws the images that are moved.
        jobs: joblib's `n_jobs`.
    """
    _, first, inverse, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    others = len(ids) - counts[inverse]
    moved = (first[inverse] + counts[inverse] + generator.integers(others)) % len(ids)
    both, twice = np.concatenate([positions, positions[moved]]), np.concatenate([ids, ids])
    distances = np.empty(2 * len(ids), dtype=np.float32)
    for at, found in over_groups(
        partial(_move_task, k=k), embeddings, twice, positions=both, jobs=jobs
    ):
        distances[at] = found
    return Moves(distances[: len(ids)], distances[len(ids) :], moved)


def _move_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    """Each landmark's rows are followed by as many that were moved to it."""
    found = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        home, moved = rows[end - size : end - size // 2], rows[end - size // 2 : end]
        found.append(kth_nearest(home, home, k, is_same=True))
        found.append(kth_nearest(moved, home[1:], k))  # as many others as those at home have
    return np.concatenate(found)


def best_threshold(
    own: np.ndarray, strange: np.ndarray, cost: float = 1.0
) -> tuple[float, float, float]:
    """The threshold with the largest s - cost · m: s of `own` and m of `strange` are within it.

    >>> best_threshold(np.array([0.25, 0.5, 0.75, 2.0]), np.array([1.0, 1.5, 1.5, 3.0]))
    (0.75, 0.75, 0.0)
    """
    thresholds = np.sort(own)
    s = np.arange(1, len(own) + 1) / len(own)
    m = np.searchsorted(np.sort(strange), thresholds, side="right") / len(strange)
    best = int(np.argmax(s - cost * m))
    return float(thresholds[best]), float(s[best]), float(m[best])

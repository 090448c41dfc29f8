"""How far apart images are, and the DBSCAN radius that this suggests.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), does not publish its radii, and the
right ones depend on the network. `suggest_eps` moves images to other landmarks in place of wrong
labels: a good radius gives many images enough neighbours in their own landmark, and few in another
one. `sweep` shows the first pass at several radii, `k_distances` and `knee` are the method of Ester
et al. (1996), and `sample_distances` draws random pairs. None of them reads the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances, silhouette_score

from lib.cleaning.dbscan import BLOCK, check_settings, dbscan_labels
from lib.cleaning.per_landmark import Rows, check_embeddings, map_landmarks

SAMPLE_IMAGES = 50_000  # enough for a suggestion
SAMPLE_LARGEST = 4_096  # images of one landmark in the sample
MOVES, ROUNDS = 20_000, 10  # images moved; small datasets repeat, at most ten times
FACTORS = np.arange(11, 31) / 20  # radii of the sweep over the suggestion: 0.55 to 1.5
SILHOUETTE_IMAGES = 2_000


@dataclass(frozen=True)
class Suggestion:
    """A radius for the first pass, the reason for it, and the `sweep` of radii around it."""

    eps: float
    reason: str
    sweep: pd.DataFrame


def suggest_eps(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    min_samples: int = 3,
    without: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> Suggestion:
    """Suggest the radius of the first pass from the distances alone.

    s(eps) is the share of images with `min_samples - 1` others of their landmark within eps, and
    m(eps) the share of images moved to a random other landmark with as many there. The suggestion
    maximises s - m (Youden's index) on up to 50,000 images of whole landmarks.

    Args:
        embeddings: (N, D) unit rows as for `cluster_landmarks`.
        landmark_ids: (N,) integers.
        min_samples: of the first pass.
        without: (N,) bool; images to leave out.
        generator: draws landmarks and moves images; a fixed one by default.
        jobs: joblib's `n_jobs`.

    Raises:
        ValueError: as `cluster_landmarks`; if fewer than two landmarks have `min_samples` images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(1, min_samples)
    generator = np.random.default_rng(0) if generator is None else generator
    k = max(min_samples - 1, 1)
    candidates = np.arange(len(landmark_ids)) if without is None else np.flatnonzero(~without)
    sample, ids = sample_landmarks(landmark_ids[candidates], k + 1, generator)
    positions = candidates[sample]
    rounds = min(-(-MOVES // len(positions)), ROUNDS)
    measured = [
        measure_moves(embeddings, positions, ids, k, generator, jobs) for _ in range(rounds)
    ]
    own, foreign = measured[0][0], np.concatenate([foreign for _, foreign, _ in measured])
    eps, s, m = best_threshold(own, foreign)
    eps = round(max(eps, 0.001), 3)
    reason = (
        f"within {eps:.3f}, {s:.0%} of the images have {k} others of their landmark, and "
        f"{m:.0%} would have in another landmark: no radius tells them apart better"
    )
    radii = np.unique(np.minimum(eps * FACTORS, 2).round(4))
    rows = np.asarray(embeddings[positions])
    return Suggestion(eps, reason, sweep(rows, ids, radii, min_samples=min_samples, jobs=jobs))


def sample_landmarks(
    landmark_ids: np.ndarray, min_images: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and ids of random landmarks of at least `min_images`, one after the other."""
    _, inverse, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    order = generator.permutation(np.flatnonzero(counts >= min_images))
    if len(order) < 2:
        raise ValueError(
            f"expected at least two landmarks of {min_images} images or more, found {len(order)}: "
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


def measure_moves(
    embeddings: np.ndarray,
    positions: np.ndarray,
    ids: np.ndarray,
    k: int,
    generator: np.random.Generator,
    jobs: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move a random image of another landmark to every image's landmark, and measure both.

    Args:
        embeddings: (N, D) unit rows.
        positions: (P,) rows to look at, those of a landmark together.
        ids: (P,) their landmarks, two or more.
        k: neighbours, fewer than any of the landmarks has images.
        generator: draws the images that are moved.
        jobs: joblib's `n_jobs`.

    Returns:
        (P,) distances to the k-th nearest other image of the own landmark; (P,) the same of the
        moved images in the landmarks they were moved to; (P,) indices into the P of the moved.
    """
    _, first, inverse, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    others = len(ids) - counts[inverse]
    moved = (first[inverse] + counts[inverse] + generator.integers(others)) % len(ids)
    both, twice = np.concatenate([positions, positions[moved]]), np.concatenate([ids, ids])
    distances = np.empty(2 * len(ids), dtype=np.float32)
    work = partial(_move_task, k=k)
    for at, found in map_landmarks(work, embeddings, twice, positions=both, jobs=jobs):
        distances[at] = found
    return distances[: len(ids)], distances[len(ids) :], moved


def _move_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    """Each landmark's own rows are followed by as many that were moved to it."""
    found = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        own, moved = rows[end - size : end - size // 2], rows[end - size // 2 : end]
        found.append(kth_nearest(own, own, k, is_same=True))
        found.append(kth_nearest(moved, own[1:], k))  # as many others as the own ones have
    return np.concatenate(found)


def best_threshold(
    own: np.ndarray, foreign: np.ndarray, cost: float = 1.0
) -> tuple[float, float, float]:
    """The threshold with the largest s - cost · m: s of `own` and m of `foreign` are within it.

    >>> best_threshold(np.array([0.25, 0.5, 0.75, 2.0]), np.array([1.0, 1.5, 1.5, 3.0]))
    (0.75, 0.75, 0.0)
    """
    thresholds = np.sort(own)
    s = np.arange(1, len(own) + 1) / len(own)
    m = np.searchsorted(np.sort(foreign), thresholds, side="right") / len(foreign)
    best = int(np.argmax(s - cost * m))
    return float(thresholds[best]), float(s[best]), float(m[best])


def sweep(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    eps_values: Sequence[float],
    *,
    min_samples: int,
    jobs: int = -1,
) -> pd.DataFrame:
    """Describe the first pass at several radii, which share one product.

    Args:
        embeddings: (N, D) unit rows as for `cluster_landmarks`.
        landmark_ids: (N,) integers.
        eps_values: (K,) ascending radii.
        min_samples: as for `cluster_landmarks`.
        jobs: joblib's `n_jobs`.

    Returns:
        One row per radius: `eps`; `kept`, the share of images in clusters; `classes`; `lost`, the
        share of landmarks without a cluster; `silhouette` of the kept among about 2,000 images of
        evenly spread landmarks (cosine; NaN with fewer than two classes); `agreement`, the adjusted
        Rand index with the row before, each dropped image a class of its own.

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
    tasks = map_landmarks(partial(_count_task, **options), embeddings, landmark_ids, jobs=jobs)
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
    """(K, 5) kept images, clusters, landmarks with one, joined pairs, pairs joined before, too."""
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
    """(K,) adjusted Rand index of every row with the one before, from counts of joined pairs."""
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
    stride = max(-(-len(inverse) // SILHOUETTE_IMAGES), 1)
    positions = np.flatnonzero(inverse % stride == 0)
    owner = inverse[positions]
    labels = np.empty((len(options["eps_values"]), len(positions)), dtype=np.int64)
    work = partial(dbscan_labels, **options)
    for at, found in map_landmarks(work, embeddings, owner, positions=positions, jobs=jobs):
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


def k_distances(
    embeddings: np.ndarray, landmark_ids: np.ndarray, k: int, *, jobs: int = -1
) -> np.ndarray:
    """Measure the distance from each image to the k-th nearest other image of its landmark.

    An image is a core image of DBSCAN if this is at most eps, for k = min_samples - 1.

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
    for at, found in map_landmarks(partial(_k_task, k=k), embeddings, landmark_ids, jobs=jobs):
        distances[at] = found
    return distances


def _k_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    parts = [rows] if len(sizes) == 1 else np.split(rows, np.cumsum(sizes)[:-1])
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
                mask_self(distance, low - start, np.inf)
            nearest = np.partition(np.hstack([nearest, distance]), k - 1, axis=1)[:, :k]
        found.append(nearest[:, k - 1])
    return np.concatenate(found)


def mask_self(block: np.ndarray, offset: int, value: float) -> None:
    """Overwrite the pairs of a row with itself in a block whose rows begin at column `offset`.

    >>> block = np.zeros((2, 3))
    >>> mask_self(block, 1, 9)
    >>> block.tolist()
    [[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]
    """
    own = np.arange(offset, offset + len(block))
    here = np.flatnonzero((own >= 0) & (own < block.shape[1]))
    block[here, own[here]] = value


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

    def distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        both = np.asarray(rows[left], np.float32), np.asarray(rows[right], np.float32)
        return 1 - np.einsum("ij,ij->i", *both)

    return distances(first[same], partner[same]), distances(first[apart], other[apart])

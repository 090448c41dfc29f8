"""How far apart images are, and the DBSCAN radius that this suggests, without the truth.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), does not publish its radii, and the
right ones depend on the network. `suggest_eps` measures a radius on images moved to other
landmarks; `k_distances` and `knee` are the method of Ester et al. (1996).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, pairwise_distances, silhouette_score

from lib.cleaning.dbscan import BLOCK, check_settings, dbscan_labels
from lib.cleaning.per_landmark import Rows, check_embeddings, map_landmarks, split_landmarks

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
    maximises s - m (Youden's index) on up to 50,000 images of whole landmarks. Images where (N,)
    `without` is true are left out; `generator` draws landmarks and moves images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(1, min_samples)
    generator = np.random.default_rng(0) if generator is None else generator
    k = max(min_samples - 1, 1)
    candidates = np.arange(len(landmark_ids)) if without is None else np.flatnonzero(~without)
    sample, ids = sample_landmarks(landmark_ids[candidates], k + 1, generator)
    positions = candidates[sample]
    rounds = min(-(-MOVES // len(positions)), ROUNDS)
    options = embeddings, positions, ids, k, generator, jobs
    measured = [measure_moves(*options) for _ in range(rounds)]
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
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    positions = np.concatenate([members[landmark][:SAMPLE_LARGEST] for landmark in chosen])
    return positions, landmark_ids[positions]


def draw_foreign(
    owner: np.ndarray, images: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """(M,) random images, each of another landmark (`owner`, from 0) than that of `images`."""
    counts = np.bincount(owner)
    end, own = np.cumsum(counts)[owner[images]], counts[owner[images]]
    order = np.argsort(owner, kind="stable")
    return order[(end + generator.integers(len(owner) - own)) % len(owner)]


def measure_moves(
    embeddings: np.ndarray,
    positions: np.ndarray,
    ids: np.ndarray,
    k: int,
    generator: np.random.Generator,
    jobs: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move a random image of another landmark to the landmark `ids` of each of the `positions`.

    Returns (P,) distances to the k-th nearest other image of the landmark, (P,) the same of the
    moved images where they were moved to, and (P,) which these are.
    """
    moved = draw_foreign(pd.factorize(ids)[0], np.arange(len(ids)), generator)
    both, twice = np.concatenate([positions, positions[moved]]), np.concatenate([ids, ids])
    distances = np.empty(2 * len(ids), dtype=np.float32)
    work = partial(_move_task, k=k)
    for at, found in map_landmarks(work, embeddings, twice, positions=both, jobs=jobs):
        distances[at] = found
    return distances[: len(ids)], distances[len(ids) :], moved


def _move_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    """Each landmark's own rows are followed by as many that were moved to it."""
    found = []
    for part in split_landmarks(rows, sizes):
        own, moved = np.split(part, 2)
        found.append(kth_nearest(own, own, k, is_same=True))
        found.append(kth_nearest(moved, own[1:], k))  # as many others as the own ones have
    return np.concatenate(found)


def best_threshold(own: np.ndarray, foreign: np.ndarray) -> tuple[float, float, float]:
    """The threshold with the largest s - m: the shares s of `own` and m of `foreign` within it."""
    thresholds = np.sort(own)
    s = np.arange(1, len(own) + 1) / len(own)
    m = np.searchsorted(np.sort(foreign), thresholds, side="right") / len(foreign)
    best = int(np.argmax(s - m))
    return float(thresholds[best]), float(s[best]), float(m[best])


def sweep(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    eps_values: Sequence[float],
    *,
    min_samples: int,
    jobs: int = -1,
) -> pd.DataFrame:
    """Describe the first pass at several ascending radii, which share one product.

    One row per radius: `eps`; `kept`, the share of images in clusters; `classes`; `lost`, the share
    of landmarks without a cluster; `silhouette` of the kept among about 2,000 images of evenly
    spread landmarks (cosine; NaN with fewer than two classes); `agreement`, the adjusted Rand index
    with the row before, each dropped image a class of its own.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    if not len(eps_values) or (np.diff(eps_values) <= 0).any():
        raise ValueError(f"expected radii in ascending order, found {list(eps_values)}")
    for eps in eps_values:
        check_settings(eps, min_samples)
    landmarks, owner = np.unique(landmark_ids, return_inverse=True)
    labels = np.empty((len(eps_values), len(owner)), dtype=np.int64)
    work = partial(dbscan_labels, eps_values=eps_values, min_samples=min_samples)
    for at, found in map_landmarks(work, embeddings, landmark_ids, jobs=jobs):
        labels[:, at] = np.where(found >= 0, found + owner[at] * len(owner), -1)

    stride = max(-(-len(owner) // SILHOUETTE_IMAGES), 1)
    sample = np.flatnonzero(owner % stride == 0)
    spread = np.linspace(0, len(sample) - 1, min(len(sample), SILHOUETTE_IMAGES))
    sample = sample[spread.astype(int)]
    rows = np.asarray(embeddings[sample], dtype=np.float32)
    distance = pairwise_distances(rows, metric="cosine") if len(rows) else np.empty((0, 0))

    alone = np.where(labels >= 0, labels, -1 - np.arange(len(owner)))
    lines = []
    for k, eps in enumerate(eps_values):
        held, seen = labels[k] >= 0, labels[k][sample]
        kept = np.flatnonzero(seen >= 0)
        line = {
            "eps": float(eps),
            "kept": held.sum() / max(len(owner), 1),
            "classes": len(np.unique(labels[k][held])),
            "lost": 1 - len(np.unique(owner[held])) / max(len(landmarks), 1),
            "silhouette": np.nan,
            "agreement": adjusted_rand_score(alone[k - 1], alone[k]) if k else np.nan,
        }
        if 2 <= len(np.unique(seen[kept])) < len(kept):
            near = distance[np.ix_(kept, kept)]
            line["silhouette"] = silhouette_score(near, seen[kept], metric="precomputed")
        lines.append(line)
    return pd.DataFrame(lines)


def k_distances(
    embeddings: np.ndarray, landmark_ids: np.ndarray, k: int, *, jobs: int = -1
) -> np.ndarray:
    """(N,) cosine distances from each image to the k-th nearest other image of its landmark.

    Infinite in landmarks of at most k images. An image is a core image of DBSCAN if this is at most
    eps, for k = min_samples - 1.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}")
    distances = np.empty(len(landmark_ids), dtype=np.float32)
    for at, found in map_landmarks(partial(_k_task, k=k), embeddings, landmark_ids, jobs=jobs):
        distances[at] = found
    return distances


def _k_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    parts = split_landmarks(rows, sizes)
    return np.concatenate([kth_nearest(part, part, k, is_same=True) for part in parts])


def kth_nearest(queries: Rows, rows: Rows, k: int, *, is_same: bool = False) -> np.ndarray:
    """(Q,) distance from each query to the k-th nearest row, itself left out if `is_same`."""
    found = []
    for low in range(0, len(queries), BLOCK):
        block = queries[low : low + BLOCK]
        nearest = np.full((len(block), k), np.inf, dtype=np.float32)
        for start in range(0, len(rows), 8 * BLOCK):
            distance = np.subtract(1, block @ rows[start : start + 8 * BLOCK].T)
            if is_same and 0 <= low - start < distance.shape[1]:
                np.fill_diagonal(distance[:, low - start :], np.inf)
            nearest = np.partition(np.hstack([nearest, distance]), k - 1, axis=1)[:, :k]
        found.append(nearest[:, k - 1])
    return np.concatenate(found)


def knee(distances: np.ndarray) -> float:
    """Find where the sorted curve of finite distances turns up: farthest below its chord.

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
    """Measure at most `pairs` random cosine distances within landmarks, and as many between."""
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

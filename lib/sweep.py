"""What the first pass of cleaning would make of many radii at once.

Twenty settings share one product per landmark, so they cost little more than one. Nothing here
knows the truth: shares and counts, the silhouette, and how much neighbouring settings agree, a long
stretch of agreement being a good sign. Choosing is left to a person or to `lib.choose_eps`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import pairwise_distances, silhouette_score

from lib.dbscan import Rows, check_settings, dbscan
from lib.groups import check_embeddings, over_groups

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
        embeddings: (N, D) unit rows as for `lib.clean.cluster_landmarks`.
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
    labels = dbscan(rows, sizes, eps_values, min_samples)
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
    work = partial(dbscan, **options)
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

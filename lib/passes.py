"""Both passes of [20] over the landmarks of one task, whose rows are read once.

DBSCAN finds each landmark's clusters; its noise is clustered by itself with a more relaxed radius;
and while the rows are at hand, every image's distance to the centre of its class is taken. How rows
come here is `lib.groups`' business, what becomes of the clusters is `lib.cleaning_result`'s.
"""

import numpy as np
from scipy.sparse import csr_array

from lib.config import CleanConfig
from lib.dbscan import Rows, dbscan
from lib.faces import split_faces
from lib.groups import TASK_ROWS, chosen

Passes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(R,) int64 clusters, (R,) bool whether of the second pass, (R,) float32 distances."""


def both_passes(rows: Rows, sizes: np.ndarray, config: CleanConfig) -> Passes:
    """Cluster landmarks, then the noise of each, and measure distances to the classes' centres.

    Args:
        rows: (R, D) unit rows, one landmark after the other.
        sizes: (L,) rows of each landmark.
        config: settings with the radii that are used.

    Returns:
        Clusters from 0 in each landmark and pass (-1 for noise), whether they are the second
        pass's, and cosine distances (NaN where there is no class).
    """
    cluster = dbscan(rows, sizes, (config.eps,), config.min_samples)[0]
    if config.faces:
        cluster = split_faces(rows, sizes, cluster, config.min_samples)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    if config.rescue:
        noise = np.flatnonzero(cluster < 0)
        cluster[noise] = _rescue(rows, sizes, noise, config)
        is_rescued[noise] = cluster[noise] >= 0
    return cluster, is_rescued, _distances(rows, sizes, cluster, is_rescued, config)


def _rescue(rows: Rows, sizes: np.ndarray, noise: np.ndarray, config: CleanConfig) -> np.ndarray:
    """(n,) clusters of the rows at `noise`, each landmark's by themselves."""
    found = np.empty(len(noise), dtype=np.int64)
    if not len(noise):
        return found
    owner = np.repeat(np.arange(len(sizes)), sizes)[noise]
    counts = np.bincount(owner)
    order = np.lexsort((owner, -counts[owner]))  # equally many together, for `dbscan`
    sizes = np.sort(counts[counts > 0])[::-1]
    settings = (config.relaxed_eps,), config.relaxed_min_samples
    found[order] = dbscan(chosen(rows, noise[order]), sizes, *settings)[0]
    return found


def _distances(
    rows: Rows,
    sizes: np.ndarray,
    cluster: np.ndarray,
    is_rescued: np.ndarray,
    config: CleanConfig,
) -> np.ndarray:
    """(R,) distance to the mean of the class: of a large enough cluster, or of all of them."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    held = np.flatnonzero(cluster >= 0)
    key = (2 * owner[held] + is_rescued[held]) * len(cluster) + cluster[held]
    _, which, count = np.unique(key, return_inverse=True, return_counts=True)
    large = count[which] >= config.smallest
    group = np.full(len(cluster), -1)
    group[held[large]] = which[large] if config.split else owner[held[large]]
    parts = [slice(start, start + TASK_ROWS) for start in range(0, len(rows), TASK_ROWS)]
    centres = sum(_sums(rows[part], group[part], group.max() + 1) for part in parts)
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    distance = np.full(len(cluster), np.nan, dtype=np.float32)
    for part in parts if len(centres) else ():
        near = np.einsum("ij,ij->i", rows[part], centres[group[part]])
        distance[part] = np.where(group[part] >= 0, 1 - near, np.nan)
    return distance


def _sums(rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(G, D) sums of the rows of each group; as a sparse product, far faster than `reduceat`."""
    held = np.flatnonzero(group >= 0)
    ones = np.ones(len(held), dtype=np.float32)
    return csr_array((ones, (group[held], held)), shape=(groups, len(rows))) @ rows

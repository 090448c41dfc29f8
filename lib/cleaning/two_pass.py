"""Both passes of GLR20 over the landmarks of one task, whose rows are read once.

DBSCAN finds each landmark's clusters; its noise is clustered by itself with a more relaxed radius;
and while the rows are at hand, every image's distance to the centre of its class is taken. How rows
come here is `lib.cleaning.per_landmark`' business, what becomes of the clusters is
`lib.cleaning.result`'s.

Cleaning by clustering: every landmark's images are clustered, and each cluster is a class.

GLR20 §2.1: DBSCAN per landmark on the first model's embeddings splits indoor from outdoor views and
finds noise; the noise is clustered once more with a relaxed radius, which wins back long-tail
classes; what is noise even then is dropped (`lib.cleaning.two_pass`). Which radius to take is
`lib.cleaning.eps`' question, the clustering itself is `lib.cleaning.dbscan`'s. The command
`python -m lib.cleaning.stage` does all this to files."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from lib.cleaning.dbscan import Rows, check_settings, dbscan_labels
from lib.cleaning.eps import Suggestion, suggest
from lib.cleaning.label_noise import estimate_label_noise
from lib.cleaning.per_landmark import TASK_ROWS, check_embeddings, chosen, over_groups
from lib.cleaning.result import CleaningResult, assign_status, count_by_landmark
from lib.cleaning.two_view_split import split_faces
from lib.config import CleanConfig

Passes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(R,) int64 clusters, (R,) bool whether of the second pass, (R,) float32 distances."""


def two_pass_dbscan(rows: Rows, sizes: np.ndarray, config: CleanConfig) -> Passes:
    """Cluster landmarks, then the noise of each, and measure distances to the classes' centres.

    Args:
        rows: (R, D) unit rows, one landmark after the other.
        sizes: (L,) rows of each landmark.
        config: settings with the radii that are used.

    Returns:
        Clusters from 0 in each landmark and pass (-1 for noise), whether they are the second
        pass's, and cosine distances (NaN where there is no class).
    """
    cluster = dbscan_labels(rows, sizes, (config.eps,), config.min_samples)[0]
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
    order = np.lexsort((owner, -counts[owner]))  # equally many together, for `dbscan_labels`
    sizes = np.sort(counts[counts > 0])[::-1]
    settings = (config.relaxed_eps,), config.relaxed_min_samples
    found[order] = dbscan_labels(chosen(rows, noise[order]), sizes, *settings)[0]
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


def cluster_landmarks(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    eps: float,
    min_samples: int,
    jobs: int = -1,
) -> np.ndarray:
    """Cluster every landmark by itself, as scikit-learn's `DBSCAN(metric="cosine")` would.

    Labels are those of `DBSCAN(eps=eps, min_samples=min_samples, metric="cosine")` fitted on the
    landmark's rows in their given order, numbering and border rows included. Two rows are
    neighbours if `1 - a·b <= eps` in float32, both normalised in float32. scikit-learn does just
    this for float32 rows, but may sum the products in another order, and it takes float64 for
    float16 rows: a pair whose distance is within about 1e-6 of eps may fall on the other side.
    Exact ties, as of duplicates or of rows with few simple components, come out equal.

    The time grows with the sum of squared landmark sizes. Memory does not: beyond the input it
    stays below about 300 MiB per task that runs at a time (D = 512), for landmarks of any size.

    Args:
        embeddings: (N, D) unit rows, float16 or float32, in memory or a memory map, in any order.
            Rows of another length are normalised with a warning.
        landmark_ids: (N,) integers.
        eps: largest cosine distance of neighbours, in (0, 2].
        min_samples: neighbours, the row itself included, that make a core row.
        jobs: joblib's `n_jobs`; `joblib.parallel_config(backend=...)` chooses where tasks run.

    Returns:
        (N,) int64 labels from 0 in every landmark; -1 is noise. Empty for empty input.

    Raises:
        ValueError: if shapes, types, eps or min_samples do not fit, or if a row is zero or holds
            NaN or infinity.

    >>> rows = np.array([[1, 0], [0.8, 0.6], [0, 1], [0, 1]], dtype=np.float32)
    >>> cluster_landmarks(rows, np.array([7, 7, 7, 9]), eps=0.3, min_samples=2).tolist()
    [0, 0, -1, -1]
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(eps, min_samples)
    labels = np.full(len(landmark_ids), -1, dtype=np.int64)
    work = partial(dbscan_labels, eps_values=(eps,), min_samples=min_samples)
    for at, found in over_groups(work, embeddings, landmark_ids, jobs=jobs):
        labels[at] = found[0]
    return labels


def clean(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    config: CleanConfig,
    *,
    ids: Sequence[str] | None = None,
    suspects: np.ndarray | None = None,
    jobs: int = -1,
) -> CleaningResult:
    """Split, rescue and drop images as GLR20 §2.1 does, and number the classes that remain.

    The first pass clusters each landmark, the second each landmark's noise with the relaxed
    settings; clusters of fewer than `config.smallest` images are dropped. Labels ascend with the
    landmark id and, within a landmark, with the cluster. Without `config.split` the clusters of a
    landmark share one class. Every landmark's rows are read once.

    Args:
        embeddings: (N, D) unit rows as for `cluster_landmarks`.
        landmark_ids: (N,) integers.
        config: the settings. An `eps` of 0 is replaced by `lib.cleaning.eps.suggest`'s, a
            `relaxed_eps` of 0 by eps times `relaxation`.
        ids: (N,) unique names of the images, for the tables.
        suspects: (N,) bool; images to drop before both passes. With `config.suspects`, which the
            paper does not know, they are what `lib.cleaning.label_noise.estimate_label_noise`
            finds, unless given.
        jobs: joblib's `n_jobs`.

    Returns:
        Tables that account for every image exactly once. If cleaning leaves nothing, all images are
        dropped and there are no classes; empty input gives empty tables.

    Raises:
        ValueError: as `cluster_landmarks`; if `ids` do not fit, if `relaxed_eps < eps`, or if there
            is too little to suggest a radius from.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    names = _check_ids(ids, len(embeddings))
    reasons = []
    if config.suspects and suspects is None:
        rivalry = estimate_label_noise(embeddings, landmark_ids, odds=config.odds, jobs=jobs)
        suspects, reasons = rivalry.suspects, [rivalry.reason]
    suspects = _check_suspects(suspects, len(embeddings))
    config, advice = _with_radii(embeddings, landmark_ids, config, suspects, jobs)
    trusted = np.flatnonzero(~suspects)
    cluster = np.full(len(landmark_ids), -1, dtype=np.int64)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    distance = np.full(len(cluster), np.nan, dtype=np.float32)
    options = {"positions": trusted, "what": "cleaning", "jobs": jobs}
    work = partial(two_pass_dbscan, config=config)
    for at, found in over_groups(work, embeddings, landmark_ids[trusted], **options):
        at = trusted[at]
        cluster[at], is_rescued[at], distance[at] = found
    images = assign_status(landmark_ids, cluster, is_rescued, suspects, config)
    images["distance"] = distance
    images.insert(0, "position", np.arange(len(images)))
    if names is not None:
        images.insert(0, "id", names)
    reason = "; ".join([*reasons, advice.reason])
    return CleaningResult(images, count_by_landmark(images), config, reason, advice.sweep)


def _with_radii(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    config: CleanConfig,
    suspects: np.ndarray,
    jobs: int,
) -> tuple[CleanConfig, Suggestion]:
    """The settings with both radii, and where the first comes from."""
    if config.eps or not len(landmark_ids):
        advice = Suggestion(config.eps or 1.0, "eps was given", pd.DataFrame({"eps": []}))
    else:
        options = {"min_samples": config.min_samples, "without": suspects, "jobs": jobs}
        advice = suggest(embeddings, landmark_ids, **options)
    relaxed_eps = config.relaxed_eps or round(min(config.relaxation * advice.eps, 2.0), 4)
    check_settings(advice.eps, config.min_samples)
    check_settings(relaxed_eps, config.relaxed_min_samples)
    if config.rescue and relaxed_eps < advice.eps:
        raise ValueError(
            f"expected relaxed_eps to be at least eps = {advice.eps}, found {relaxed_eps}: "
            "the second pass relaxes the first"
        )
    return dataclasses.replace(config, eps=advice.eps, relaxed_eps=relaxed_eps), advice


def _check_ids(ids: Sequence[str] | None, count: int) -> np.ndarray | None:
    if ids is None:
        return None
    names = np.asarray(ids)
    if names.shape != (count,):
        raise ValueError(
            f"expected one id for each of the {count} images, found shape {names.shape}: "
            "give them in the order of the embeddings"
        )
    if len(pd.unique(names)) < count:
        raise ValueError("expected unique ids, found repeated ones: give every image its own id")
    return names


def _check_suspects(suspects: np.ndarray | None, count: int) -> np.ndarray:
    if suspects is None:
        return np.zeros(count, dtype=bool)
    suspects = np.asarray(suspects)
    if suspects.shape != (count,) or suspects.dtype != bool:
        raise ValueError(
            f"expected suspects as {count} booleans, found {suspects.dtype} of shape "
            f"{suspects.shape}: give one for each image"
        )
    return suspects

"""Cleaning by clustering: every landmark's images are clustered, and each cluster is a class.

[20] §2.1: DBSCAN per landmark on the first model's embeddings splits indoor from outdoor views and
finds noise; the noise is clustered once more with a relaxed radius, which wins back long-tail
classes; what is noise even then is dropped. Which radius to take is `lib.choose_eps`' question,
the clustering itself is `lib.dbscan`'s.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from lib.choose_eps import suggest
from lib.cleaning_result import CleaningResult, count_by_landmark, number_classes
from lib.config import CleanConfig
from lib.dbscan import Rows, check_settings, dbscan
from lib.groups import TASK_ROWS, check_embeddings, over_groups
from lib.rivals import find_suspects


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
    return _cluster(embeddings, landmark_ids, None, eps, min_samples, jobs)


def clean(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    config: CleanConfig,
    *,
    ids: Sequence[str] | None = None,
    suspects: np.ndarray | None = None,
    jobs: int = -1,
) -> CleaningResult:
    """Split, rescue and drop images as [20] §2.1 does, and number the classes that remain.

    The first pass clusters each landmark, the second each landmark's noise with the relaxed
    settings; clusters of fewer than `config.smallest` images are dropped. Labels ascend with the
    landmark id and, within a landmark, with the cluster. Without `config.split` the clusters of a
    landmark share one class.

    Args:
        embeddings: (N, D) unit rows as for `cluster_landmarks`.
        landmark_ids: (N,) integers.
        config: the settings. An `eps` of 0 is replaced by `lib.choose_eps.suggest`'s times
            `tighten`, a `relaxed_eps` of 0 by eps times `relaxation`.
        ids: (N,) unique names of the images, for the tables.
        suspects: (N,) bool; images to drop before both passes. With `config.suspects`, which the
            paper does not know, they are what `lib.rivals.find_suspects` finds, unless given.
        jobs: joblib's `n_jobs`.

    Returns:
        Tables that account for every image exactly once. If cleaning leaves nothing, all images are
        dropped and there are no classes; empty input gives empty tables.

    Raises:
        ValueError: as `cluster_landmarks`; if `ids` do not fit, or if `relaxed_eps < eps`.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    names = _check_ids(ids, len(embeddings))
    config = _with_radii(embeddings, landmark_ids, config, jobs)
    if config.rescue and config.relaxed_eps < config.eps:
        raise ValueError(
            f"expected relaxed_eps to be at least eps = {config.eps}, found {config.relaxed_eps}: "
            "the second pass relaxes the first"
        )
    cluster = np.full(len(landmark_ids), -1, dtype=np.int64)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    if config.suspects and suspects is None and len(landmark_ids):
        suspects = find_suspects(embeddings, landmark_ids, jobs=jobs)
    trusted = np.flatnonzero(~_check_suspects(suspects, len(cluster)))
    settings = config.eps, config.min_samples
    cluster[trusted] = _cluster(embeddings, landmark_ids[trusted], trusted, *settings, jobs)
    if config.rescue:
        noise = trusted[cluster[trusted] < 0]
        settings = config.relaxed_eps, config.relaxed_min_samples
        cluster[noise] = _cluster(embeddings, landmark_ids[noise], noise, *settings, jobs)
        is_rescued[noise] = cluster[noise] >= 0
    images = number_classes(landmark_ids, cluster, is_rescued, config)
    images["distance"] = _centre_distances(embeddings, images["label"].to_numpy(), jobs)
    images.insert(0, "position", np.arange(len(images)))
    if names is not None:
        images.insert(0, "id", names)
    return CleaningResult(images, count_by_landmark(images), config)


def _with_radii(
    embeddings: np.ndarray, landmark_ids: np.ndarray, config: CleanConfig, jobs: int
) -> CleanConfig:
    eps = config.eps
    if not eps and len(landmark_ids):
        advice = suggest(embeddings, landmark_ids, min_samples=config.min_samples, jobs=jobs)
        eps = round(config.tighten * advice.eps, 4)
    relaxed_eps = config.relaxed_eps or round(min(config.relaxation * eps, 2.0), 4)
    return dataclasses.replace(config, eps=eps, relaxed_eps=relaxed_eps)


def _cluster(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    positions: np.ndarray | None,
    eps: float,
    min_samples: int,
    jobs: int,
) -> np.ndarray:
    """(M,) labels of the rows at `positions`, whose landmarks are `landmark_ids`."""
    check_settings(eps, min_samples)
    labels = np.full(len(landmark_ids), -1, dtype=np.int64)
    work = partial(dbscan, eps_values=(eps,), min_samples=min_samples)
    for at, found in over_groups(work, embeddings, landmark_ids, positions=positions, jobs=jobs):
        labels[at] = found[0]
    return labels


def _centre_distances(embeddings: np.ndarray, labels: np.ndarray, jobs: int) -> np.ndarray:
    """(N,) cosine distance of every image to the mean of its class; NaN where there is none."""
    held = np.flatnonzero(labels >= 0)
    distances = np.full(len(labels), np.nan, dtype=np.float32)
    for at, found in over_groups(
        _distance_task, embeddings, labels[held], positions=held, jobs=jobs
    ):
        distances[held[at]] = found
    return distances


def _distance_task(rows: Rows, sizes: np.ndarray) -> np.ndarray:
    if len(sizes) > 1:
        centres = np.add.reduceat(rows, np.cumsum(sizes) - sizes, axis=0)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        return 1 - np.einsum("ij,ij->i", rows, np.repeat(centres, sizes, axis=0))
    parts = [slice(start, start + TASK_ROWS) for start in range(0, len(rows), TASK_ROWS)]
    centre = sum(rows[part].sum(axis=0) for part in parts)
    return np.hstack([1 - rows[part] @ (centre / np.linalg.norm(centre)) for part in parts])


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

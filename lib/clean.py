"""Cleaning by clustering: every landmark's images are clustered, and each cluster is a class.

[20] §2.1: DBSCAN per landmark on the first model's embeddings splits indoor from outdoor views and
finds noise; the noise is clustered once more with a relaxed radius, which wins back long-tail
classes; what is noise even then is dropped (`lib.passes`). Which radius to take is
`lib.choose_eps`' question, the clustering itself is `lib.dbscan`'s. The command
`python -m lib.clean_files` does all this to files.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from lib.choose_eps import Suggestion, suggest
from lib.cleaning_result import CleaningResult, count_by_landmark, tell_images
from lib.config import CleanConfig
from lib.dbscan import check_settings, dbscan
from lib.groups import check_embeddings, over_groups
from lib.passes import both_passes
from lib.rivals import find_rivals


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
    work = partial(dbscan, eps_values=(eps,), min_samples=min_samples)
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
    """Split, rescue and drop images as [20] §2.1 does, and number the classes that remain.

    The first pass clusters each landmark, the second each landmark's noise with the relaxed
    settings; clusters of fewer than `config.smallest` images are dropped. Labels ascend with the
    landmark id and, within a landmark, with the cluster. Without `config.split` the clusters of a
    landmark share one class. Every landmark's rows are read once.

    Args:
        embeddings: (N, D) unit rows as for `cluster_landmarks`.
        landmark_ids: (N,) integers.
        config: the settings. An `eps` of 0 is replaced by `lib.choose_eps.suggest`'s, a
            `relaxed_eps` of 0 by eps times `relaxation`.
        ids: (N,) unique names of the images, for the tables.
        suspects: (N,) bool; images to drop before both passes. With `config.suspects`, which the
            paper does not know, they are what `lib.rivals.find_rivals` finds, unless given.
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
        rivalry = find_rivals(embeddings, landmark_ids, odds=config.odds, jobs=jobs)
        suspects, reasons = rivalry.suspects, [rivalry.reason]
    suspects = _check_suspects(suspects, len(embeddings))
    config, advice = _with_radii(embeddings, landmark_ids, config, suspects, jobs)
    trusted = np.flatnonzero(~suspects)
    cluster = np.full(len(landmark_ids), -1, dtype=np.int64)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    distance = np.full(len(cluster), np.nan, dtype=np.float32)
    options = {"positions": trusted, "what": "cleaning", "jobs": jobs}
    work = partial(both_passes, config=config)
    for at, found in over_groups(work, embeddings, landmark_ids[trusted], **options):
        at = trusted[at]
        cluster[at], is_rescued[at], distance[at] = found
    images = tell_images(landmark_ids, cluster, is_rescued, suspects, config)
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

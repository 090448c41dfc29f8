"""Cleaning: DBSCAN on every landmark and a relaxed second pass over its noise.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), §2.1: each cluster becomes a class;
the noise is clustered once more with a larger radius, which wins back rare views; what is noise
even then is dropped. Two options go beyond the paper: suspected mislabels are dropped first, and
clusters of two views are split.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from lib.cleaning import per_landmark
from lib.cleaning.dbscan import dbscan_labels
from lib.cleaning.eps import Suggestion, suggest_eps
from lib.cleaning.label_noise import estimate_label_noise
from lib.config import CleanConfig
from lib.retrieval import check_count, check_ids

STATUSES = ("kept", "split", "rescued", "dropped")
DROPPED_AS = ("", "suspected mislabel", "noise", "small")
VIEW_ROUNDS = 20  # of 2-means, which settles within a few, and of the power iteration
# Mean silhouettes that a split needs, of all rows and of each part. Kaufman and Rousseeuw (1990)
# call one above 0.5 a reasonable structure and one up to 0.25 none; 0.4 served eight descriptors of
# the miniature world best.
ENOUGH, NONE = 0.4, 0.25


@dataclasses.dataclass(frozen=True)
class CleaningResult:
    """What cleaning made of every image and of every landmark.

    `images` has one row per image in the order given: `id` (if ids were given), `position`,
    `landmark_id`, `cluster` (from 0 within the landmark, those of the first pass before the rescued
    ones; -1 if dropped), `label` (contiguous over all classes; -1 if dropped), `status`,
    `dropped_as`, and `distance` (cosine, to the mean of its class; NaN if dropped).

    Statuses: *kept* (in the landmark's largest cluster of the first pass), *split* (in another),
    *rescued* (in a cluster of the second pass), *dropped*. Dropped as: *suspected mislabel* (before
    both passes), *noise* (in no cluster of either), *small* (in a cluster that is too small).
    """

    images: pd.DataFrame
    landmarks: pd.DataFrame  # by ascending `landmark_id`: `images`, `clusters`, each status
    config: CleanConfig  # with the radii that were used
    reason: str  # why these radii, and these suspected mislabels
    sweep: pd.DataFrame  # of `lib.cleaning.eps.sweep`; empty if eps was given

    def train_cluster(self) -> pd.DataFrame:
        """The cleaned list as `cluster_table`; positions stand for ids that were not given."""
        ids = self.images["id" if "id" in self.images else "position"].astype(str)
        return cluster_table(self.images.assign(id=ids))

    def summary(self) -> dict[str, int]:
        """Images in all and of each status, classes, landmarks, and landmarks lost entirely."""
        return {
            "images": len(self.images),
            **{status: int(self.landmarks[status].sum()) for status in STATUSES},
            "classes": int(self.images["label"].max() + 1) if len(self.images) else 0,
            "landmarks": len(self.landmarks),
            "landmarks_lost": int((self.landmarks["clusters"] == 0).sum()),
        }


def clean(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    config: CleanConfig,
    *,
    ids: Sequence[str] | None = None,
    suspected_mislabels: np.ndarray | None = None,
    jobs: int = -1,
) -> CleaningResult:
    """Split, rescue and drop images as GLR20 §2.1 does, and number the classes that remain.

    Labels ascend with the landmark id and, within a landmark, with the cluster; without
    `config.split` a landmark is one class.

    Args:
        ids: (N,) unique names of the images, for the tables.
        suspected_mislabels: (N,) bool; images to drop before both passes. By default those of
            `estimate_label_noise` with `config.drop_suspected_mislabels`, otherwise none.
    """
    embeddings, landmark_ids = per_landmark.check_embeddings(embeddings, landmark_ids)
    if ids is not None:
        check_count(ids, len(embeddings), "image")
        check_ids(ids, "image")
    reasons = []
    if suspected_mislabels is None and config.drop_suspected_mislabels:
        options = {"odds": config.mislabel_odds, "whitening": config.mislabel_whitening}
        label_noise = estimate_label_noise(embeddings, landmark_ids, **options, jobs=jobs)
        suspected_mislabels, reasons = label_noise.suspected_mislabels, [label_noise.reason]
    count = len(embeddings)
    suspected = np.zeros(count, bool) if suspected_mislabels is None else suspected_mislabels
    if np.shape(suspected) != (count,) or suspected.dtype != bool:
        raise ValueError(
            f"expected suspected_mislabels as {count} booleans, found {np.asarray(suspected).dtype}"
            f" of shape {np.shape(suspected)}: give one for each image"
        )
    config, advice = _with_radii(embeddings, landmark_ids, config, suspected, jobs)
    trusted = np.flatnonzero(~suspected)
    cluster = np.full(len(landmark_ids), -1, dtype=np.int64)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    distance = np.full(len(cluster), np.nan, dtype=np.float32)
    options = {"positions": trusted, "what": "cleaning", "jobs": jobs}
    work = partial(two_pass_dbscan, config=config)
    for at, found in per_landmark.map_landmarks(work, embeddings, landmark_ids[trusted], **options):
        cluster[trusted[at]], is_rescued[trusted[at]], distance[trusted[at]] = found
    images = assign_status(landmark_ids, cluster, is_rescued, suspected, config)
    images["distance"] = distance
    images.insert(0, "position", np.arange(len(images)))
    if ids is not None:
        images.insert(0, "id", np.asarray(ids))
    reason = "; ".join([*reasons, advice.reason])
    return CleaningResult(images, count_by_landmark(images), config, reason, advice.sweep)


def _with_radii(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    config: CleanConfig,
    suspected: np.ndarray,
    jobs: int,
) -> tuple[CleanConfig, Suggestion]:
    """The settings with both radii, and where the first comes from."""
    if config.eps or not len(landmark_ids):
        advice = Suggestion(config.eps or 1.0, "eps was given", pd.DataFrame({"eps": []}))
    else:
        options = {"min_samples": config.min_samples, "without": suspected, "jobs": jobs}
        advice = suggest_eps(embeddings, landmark_ids, **options)
    relaxed_eps = config.relaxed_eps or round(min(config.relaxation * advice.eps, 2.0), 4)
    if config.rescue and relaxed_eps < advice.eps:
        raise ValueError(
            f"expected relaxed_eps to be at least eps = {advice.eps}, found {relaxed_eps}: "
            "the second pass relaxes the first"
        )
    return dataclasses.replace(config, eps=advice.eps, relaxed_eps=relaxed_eps), advice


def two_pass_dbscan(
    rows: per_landmark.Rows, sizes: np.ndarray, config: CleanConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cluster landmarks, then the noise of each, and measure distances to the classes' means.

    Returns (R,) clusters from 0 in each landmark and pass (-1 for noise), (R,) whether of the
    second pass, and (R,) float32 cosine distances (NaN without a class).
    """
    cluster = dbscan_labels(rows, sizes, (config.eps,), config.min_samples)[0]
    if config.split_two_views:
        cluster = split_two_views(rows, sizes, cluster, config.min_samples)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.flatnonzero(cluster < 0)
    is_rescued = np.zeros(len(cluster), dtype=bool)
    if config.rescue and len(noise):
        counts = np.bincount(owner[noise])
        noise = noise[np.lexsort((owner[noise], -counts[owner[noise]]))]  # largest landmarks first
        settings = (config.relaxed_eps,), config.relaxed_min_samples
        counts = np.sort(counts[counts > 0])[::-1]
        cluster[noise] = dbscan_labels(per_landmark.select_rows(rows, noise), counts, *settings)[0]
        is_rescued[noise] = cluster[noise] >= 0
    number, landmark, *_ = number_clusters(owner, cluster, is_rescued, config)
    label = number if config.split else np.append(landmark, -1)[number]
    return cluster, is_rescued, _distances(rows, label)


def number_clusters(
    landmark: np.ndarray, cluster: np.ndarray, is_rescued: np.ndarray, config: CleanConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Number the clusters that are large enough, by landmark, then by pass.

    Returns (N,) the number of each image's cluster (-1 for none), and of these clusters (C,)
    landmarks, whether of the second pass, and sizes.
    """
    held = np.flatnonzero(cluster >= 0)
    total = max(len(cluster), 1)
    key = (2 * landmark[held] + is_rescued[held]) * total + cluster[held]
    key, which, size = np.unique(key, return_inverse=True, return_counts=True)
    large = size >= config.min_cluster_size
    number = np.full(len(cluster), -1)
    number[held] = np.where(large, np.cumsum(large) - 1, -1)[which]
    return number, *np.divmod(key[large] // total, 2), size[large]


def _distances(rows: per_landmark.Rows, group: np.ndarray) -> np.ndarray:
    """(R,) distance of each row to the mean of its group from 0; NaN for -1."""
    step = per_landmark.TASK_ROWS
    parts = [slice(start, start + step) for start in range(0, len(rows), step)]
    means = sum(_sums(rows[part], group[part], group.max() + 1) for part in parts)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    distance = np.full(len(rows), np.nan, dtype=np.float32)
    for part in parts if len(means) else ():
        near = np.einsum("ij,ij->i", rows[part], means[group[part]])
        distance[part] = np.where(group[part] >= 0, 1 - near, np.nan)
    return distance


def _sums(rows: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(G, D) sums of the rows of each group; as a sparse product, far faster than `reduceat`."""
    held = np.flatnonzero(group >= 0)
    ones = np.ones(len(held), dtype=np.float32)
    return csr_array((ones, (group[held], held)), shape=(groups, len(rows))) @ rows


def split_two_views(
    rows: per_landmark.Rows, sizes: np.ndarray, cluster: np.ndarray, min_samples: int
) -> np.ndarray:
    """Split clusters in two, and the parts again, as long as both parts stand on their own.

    DBSCAN follows chains: in a large landmark a few odd images are enough to join its front to its
    interior. Clusters of more than `WHOLE` rows stay whole; each part has at least `min_samples`
    rows, and the part with the first row keeps the number.
    """
    cluster = cluster.copy()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    unused = np.zeros(len(sizes), dtype=np.int64)  # next number of a cluster in each landmark
    np.maximum.at(unused, owner, cluster + 1)
    held = np.flatnonzero(cluster >= 0)
    key = owner[held] * len(cluster) + cluster[held]
    ends = np.cumsum(np.unique(key, return_counts=True)[1])
    members = np.split(held[np.argsort(key, kind="stable")], ends[:-1])
    todo = [own for own in reversed(members) if 2 * min_samples <= len(own) <= per_landmark.WHOLE]
    while todo:
        own = todo.pop()
        is_other = second_view(rows[own], min_samples)
        if is_other is None:
            continue
        cluster[own[is_other]] = unused[owner[own[0]]]
        unused[owner[own[0]]] += 1
        parts = own[~is_other], own[is_other]
        todo += [part for part in parts if len(part) >= 2 * min_samples]
    return cluster


def second_view(rows: np.ndarray, min_samples: int) -> np.ndarray | None:
    """(n,) bool, true for the view without the first row; None if the rows show one view.

    The rows are cut across their first principal component, then by 2-means on the sphere.
    """
    centred = rows - rows.mean(axis=0)
    direction = centred[np.argmax((centred**2).sum(axis=1))]
    for _ in range(VIEW_ROUNDS):  # power iteration
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    found = centred @ direction > 0
    for _ in range(VIEW_ROUNDS):
        is_other = found
        count = int(np.count_nonzero(is_other))
        if not min_samples <= count <= len(rows) - min_samples:
            return None
        means = np.stack([rows[~is_other].sum(axis=0), rows[is_other].sum(axis=0)])
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        found = np.argmax(rows @ means.T, axis=1).astype(bool)
        if (found == is_other).all():
            break
    silhouette = two_part_silhouette(rows, is_other)
    parts = silhouette[is_other].mean(), silhouette[~is_other].mean()
    if silhouette.mean() < ENOUGH or min(parts) <= NONE:
        return None
    return is_other != is_other[0]


def two_part_silhouette(rows: np.ndarray, is_other: np.ndarray) -> np.ndarray:
    """(n,) silhouettes of unit rows in two parts, by cosine distance (Rousseeuw 1987).

    Equals scikit-learn's `silhouette_samples(metric="cosine")` without n² distances, as a row's
    mean distance to a set is one minus its product with their mean.
    """
    part = is_other.astype(np.int64)
    sizes = np.bincount(part, minlength=2)
    sums = np.stack([rows[~is_other].sum(axis=0), rows[is_other].sum(axis=0)])
    distance = sizes - rows @ sums.T  # summed over each part; a row's own distance is 0
    at = np.arange(len(rows))
    a = distance[at, part] / np.maximum(sizes[part] - 1, 1)
    b = distance[at, 1 - part] / np.maximum(sizes[1 - part], 1)
    silhouette = (b - a) / np.maximum(np.maximum(a, b), 1e-12)
    return np.where(sizes[part] > 1, silhouette, 0)


def assign_status(
    landmark_ids: np.ndarray,
    cluster: np.ndarray,
    is_rescued: np.ndarray,
    suspected: np.ndarray,
    config: CleanConfig,
) -> pd.DataFrame:
    """Number the clusters that are large enough, and assign a status to every image."""
    landmark = np.unique(landmark_ids, return_inverse=True)[1]
    number, owner, rescued, size = number_clusters(landmark, cluster, is_rescued, config)
    first_of_owner = np.searchsorted(owner, owner)
    best = np.lexsort((-size, rescued, owner))[first_of_owner]
    code = np.where(rescued, 2, np.where(best == np.arange(len(owner)), 0, 1))
    code = np.append(code, 3)[number]
    within = np.arange(len(owner)) - first_of_owner
    label = np.arange(len(owner)) if config.split else np.unique(owner, return_inverse=True)[1]
    fate = np.where(suspected, 1, np.where(cluster < 0, 2, np.where(number < 0, 3, 0)))
    return pd.DataFrame(
        {
            "landmark_id": landmark_ids,
            "cluster": np.append(within, -1)[number],
            "label": np.append(label, -1)[number],
            "status": pd.Categorical.from_codes(code, categories=STATUSES),
            "dropped_as": pd.Categorical.from_codes(fate, categories=DROPPED_AS),
        }
    )


def count_by_landmark(images: pd.DataFrame) -> pd.DataFrame:
    """Count the images of each status in each landmark, as `CleaningResult.landmarks` has it."""
    ids, landmark = np.unique(images["landmark_id"].to_numpy(), return_inverse=True)
    cell = landmark * len(STATUSES) + images["status"].cat.codes.to_numpy()
    counts = np.bincount(cell, minlength=len(ids) * len(STATUSES)).reshape(-1, len(STATUSES))
    clusters = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(clusters, landmark, images["cluster"].to_numpy() + 1)
    facts = {"landmark_id": ids, "images": counts.sum(axis=1), "clusters": clusters}
    return pd.DataFrame(facts).join(pd.DataFrame(counts, columns=STATUSES))


def count_flow(images: pd.DataFrame) -> pd.DataFrame:
    """Count `CleaningResult.images` on every way through both passes that has some.

    Columns: `first` (after the first pass: kept, split, noise, small or suspected mislabel), `last`
    (their status) and `images`.
    """
    last, fate = images["status"].astype(str), images["dropped_as"].astype(str)
    first = fate.where(last == "dropped", last.replace("rescued", "noise"))
    ways = pd.DataFrame({"first": first, "last": last}).value_counts().rename("images")
    firsts = ["kept", "split", "noise", "small", "suspected mislabel"]
    order = pd.MultiIndex.from_product([firsts, STATUSES], names=["first", "last"])
    return ways.reindex(order).dropna().astype(int).reset_index()


def cluster_table(images: pd.DataFrame) -> pd.DataFrame:
    """`train_cluster.csv` of images with id, landmark_id and label: one row per class."""
    label = images["label"].to_numpy()
    held = np.argsort(label, kind="stable")[np.count_nonzero(label < 0) :]
    starts = np.flatnonzero(np.diff(label[held], prepend=-1))
    ids = np.split(images["id"].to_numpy()[held], starts[1:])
    return pd.DataFrame(
        {
            "cluster_id": label[held[starts]],
            "landmark_id": images["landmark_id"].to_numpy()[held[starts]],
            "images": [" ".join(own) for own in ids[: len(starts)]],
        }
    )

"""What cleaning leaves behind: which image went where, and what became of every landmark.

GLR20 §2.1 makes every cluster a class. Here the clusters of both passes are numbered, images are
told apart as kept, split, rescued or dropped, and all of it is counted so that it adds up. How
clusters are found is `lib.cleaning.two_pass`'s business."""

import dataclasses

import numpy as np
import pandas as pd

from lib.config import CleanConfig

STATUSES = ("kept", "split", "rescued", "dropped")
FATES = ("", "suspect", "noise", "small")


@dataclasses.dataclass(frozen=True)
class CleaningResult:
    """What cleaning made of every image and of every landmark.

    Attributes:
        images: one row per image in the order given: `id` (if ids were given), `position`,
            `landmark_id`, `cluster` (from 0 within the landmark, those of the first pass before the
            rescued ones; -1 if dropped), `label` (contiguous over all classes; -1 if dropped),
            `status`, `dropped_as`, and `distance` (cosine, to the centre of its class; NaN if
            dropped). Statuses: *kept* (in the landmark's largest cluster of the first pass, the
            first of equals), *split* (in another cluster of the first pass), *rescued* (in a
            cluster of the second pass), *dropped*. Dropped as: *suspect* (before both passes),
            *noise* (in no cluster of either), *small* (in a cluster that is too small).
        landmarks: one row per landmark by ascending id: `landmark_id`, `images`, `clusters`,
            `kept`, `split`, `rescued`, `dropped`. A landmark that fell apart entirely stays in
            the table with no clusters.
        config: the settings, with the radii that were used.
        reason: why these radii, and these suspects.
        sweep: one row per radius that was tried (`lib.cleaning.eps`); empty if eps was given.
    """

    images: pd.DataFrame
    landmarks: pd.DataFrame
    config: CleanConfig
    reason: str
    sweep: pd.DataFrame

    def train_cluster(self) -> pd.DataFrame:
        """The cleaned list as `train_cluster.csv` has it: cluster_id, landmark_id, images.

        `cluster_id` is the label, `images` the ids (positions, if no ids were given) separated by
        spaces, as in GLDv2's own `train_clean.csv`.
        """
        label = self.images["label"].to_numpy()
        held = np.flatnonzero(label >= 0)
        held = held[np.argsort(label[held], kind="stable")]
        name = "id" if "id" in self.images else "position"
        names = list(map(str, self.images[name].to_numpy()[held]))
        starts = np.flatnonzero(np.diff(label[held], prepend=-1))
        ends = [*starts[1:].tolist(), len(held)]
        return pd.DataFrame(
            {
                "cluster_id": label[held[starts]],
                "landmark_id": self.images["landmark_id"].to_numpy()[held[starts]],
                "images": [
                    " ".join(names[start:end])
                    for start, end in zip(starts.tolist(), ends, strict=bool(len(starts)))
                ],
            }
        )

    def summary(self) -> dict[str, int]:
        """Images in all and of each status, classes, landmarks, and landmarks lost entirely."""
        statuses = {status: int(self.landmarks[status].sum()) for status in STATUSES}
        return {
            "images": len(self.images),
            **statuses,
            "classes": int(self.images["label"].max(skipna=True) + 1) if len(self.images) else 0,
            "landmarks": len(self.landmarks),
            "landmarks_lost": int((self.landmarks["clusters"] == 0).sum()),
        }


def assign_status(
    landmark_ids: np.ndarray,
    cluster: np.ndarray,
    is_rescued: np.ndarray,
    suspects: np.ndarray,
    config: CleanConfig,
) -> pd.DataFrame:
    """Number the clusters that are large enough, and tell what became of every image.

    Args:
        landmark_ids: (N,) integers.
        cluster: (N,) clusters of either pass, from 0 in each landmark and pass; -1 for noise.
        is_rescued: (N,) whether the cluster is the second pass's.
        suspects: (N,) images dropped before both passes.
        config: for `smallest` and `split`.

    Returns:
        N rows of `landmark_id`, `cluster`, `label`, `status` and `dropped_as`, as in
        `CleaningResult.images`.
    """
    number, owner, size, rescued = _number_clusters(
        landmark_ids, cluster, is_rescued, config.smallest
    )
    first_of_owner = np.searchsorted(owner, owner)
    best = np.lexsort((-size, rescued, owner))[first_of_owner]
    code = np.where(rescued, 2, np.where(best == np.arange(len(owner)), 0, 1))
    within = np.arange(len(owner)) - first_of_owner
    label = np.arange(len(owner)) if config.split else np.unique(owner, return_inverse=True)[1]
    fate = np.where(suspects, 1, np.where(cluster < 0, 2, np.where(number < 0, 3, 0)))

    def of_images(of_class: np.ndarray, dropped: int) -> np.ndarray:
        return np.append(of_class, dropped)[number]

    return pd.DataFrame(
        {
            "landmark_id": landmark_ids,
            "cluster": of_images(within, -1),
            "label": of_images(label, -1),
            "status": pd.Categorical.from_codes(of_images(code, 3), categories=STATUSES),
            "dropped_as": pd.Categorical.from_codes(fate, categories=FATES),
        }
    )


def _number_clusters(
    landmark_ids: np.ndarray, cluster: np.ndarray, is_rescued: np.ndarray, smallest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N,) number of each image's cluster or -1, and of the C clusters owner, size and pass."""
    total = max(len(cluster), 1)
    landmark = np.unique(landmark_ids, return_inverse=True)[1]
    held = np.flatnonzero(cluster >= 0)
    key = (2 * landmark[held] + is_rescued[held]) * total + cluster[held]
    key, which, size = np.unique(key, return_inverse=True, return_counts=True)
    large = size >= smallest
    number = np.full(len(cluster), -1)
    number[held] = np.where(large, np.cumsum(large) - 1, -1)[which]
    owner, rescued = np.divmod(key[large] // total, 2)
    return number, owner, size[large], rescued


def count_by_landmark(images: pd.DataFrame) -> pd.DataFrame:
    """Count the images of each status in each landmark, as `CleaningResult.landmarks` has it."""
    ids, landmark = np.unique(images["landmark_id"].to_numpy(), return_inverse=True)
    cell = landmark * len(STATUSES) + images["status"].cat.codes.to_numpy()
    counts = np.bincount(cell, minlength=len(ids) * len(STATUSES)).reshape(-1, len(STATUSES))
    clusters = np.zeros(len(ids), dtype=np.int64)
    np.maximum.at(clusters, landmark, images["cluster"].to_numpy() + 1)
    table = pd.DataFrame(counts, columns=STATUSES)
    table.insert(0, "landmark_id", ids)
    table.insert(1, "images", counts.sum(axis=1))
    table.insert(2, "clusters", clusters)
    return table


def count_flow(images: pd.DataFrame) -> pd.DataFrame:
    """Count the images on every way through both passes: what each pass said of them.

    Args:
        images: `CleaningResult.images`.

    Returns:
        Rows of `first` (what the first pass made of them: kept, split, noise, small or suspect),
        `last` (their status) and `images`, in the order of a picture; empty ways are left out.

    >>> images = pd.DataFrame(
    ...     {"status": ["kept", "rescued", "dropped"], "dropped_as": ["", "", "noise"]}
    ... )
    >>> count_flow(images).to_numpy().tolist()
    [['kept', 'kept', 1], ['noise', 'rescued', 1], ['noise', 'dropped', 1]]
    """
    last, fate = images["status"].astype(str), images["dropped_as"].astype(str)
    first = fate.where(last == "dropped", last.replace("rescued", "noise"))
    ways = pd.DataFrame({"first": first, "last": last}).value_counts().rename("images")
    order = pd.MultiIndex.from_product(
        [["kept", "split", "noise", "small", "suspect"], STATUSES], names=["first", "last"]
    )
    return ways.reindex(order).dropna().astype(int).reset_index()

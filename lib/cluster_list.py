"""The cleaning stage: embeddings of the raw training images in, the cluster list of [20] out.

Writes `train_cluster.csv`, which the second stage trains on, and beside it what became of every
image (`images.csv`), of every landmark (`landmarks.csv`), and how eps was found (`sweep.csv`).
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.choose_eps import suggest
from lib.clean import clean
from lib.config import CleanConfig
from lib.embed import read_embeddings
from lib.runs import fingerprint, is_done, mark_done, read_json, read_key, start_over, write_csv

VERSION = 1
CLUSTERS = "train_cluster.csv"


@dataclass(frozen=True)
class ClusterList:
    """A finished cleaning, read back.

    Attributes:
        path: of `train_cluster.csv`.
        images: one row per raw image: id, landmark_id, cluster, label, status, distance, path.
        landmarks: one row per landmark: images, clusters, and its images by status.
        sweep: one row per eps that was tried; empty if eps was given.
        eps: radius of the first pass.
        relaxed_eps: radius of the second pass.
        reason: why these radii.
    """

    path: Path
    images: pd.DataFrame
    landmarks: pd.DataFrame
    sweep: pd.DataFrame
    eps: float
    relaxed_eps: float
    reason: str


def make_cluster_list(
    embeddings: str | Path, table: pd.DataFrame, config: CleanConfig, folder: str | Path
) -> ClusterList:
    """Clean `table` by its embeddings and write the cluster list into `folder`.

    Does nothing but read when the folder already holds the result of the same embeddings, labels
    and settings. A radius of 0 in `config` is replaced by the suggestion made from the distances.

    Args:
        embeddings: folder written by `lib.embed` for the images of `table`, in its order.
        table: raw training images with id, landmark_id and path.
        config: the settings of both passes.
        folder: receives the tables.

    Raises:
        ValueError: if embeddings and table do not list the same images, or nothing is left.
    """
    folder = Path(folder)
    key = fingerprint(VERSION, read_key(embeddings), table[["id", "landmark_id"]], config)
    if not is_done(folder, key):
        _make(embeddings, table, config, start_over(folder), key)
    return read_cluster_list(folder, table)


def read_cluster_list(folder: str | Path, table: pd.DataFrame) -> ClusterList:
    """What `make_cluster_list` left in `folder`, with the paths of `table` (id, path).

    Raises:
        ValueError: if the folder holds no finished cleaning.
    """
    folder = Path(folder)
    if read_key(folder) is None:
        raise ValueError(f"expected a finished cleaning in {folder}, found none; run notebook 03")
    manifest = read_json(folder / "manifest.json")
    images = pd.read_csv(folder / "images.csv", dtype={"id": str}, keep_default_na=False)
    images["distance"] = pd.to_numeric(images["distance"], errors="coerce")
    return ClusterList(
        folder / CLUSTERS,
        images.merge(table[["id", "path"]], on="id", how="left"),
        pd.read_csv(folder / "landmarks.csv"),
        pd.read_csv(folder / "sweep.csv"),
        manifest["eps"],
        manifest["relaxed_eps"],
        manifest["reason"],
    )


def _make(
    embeddings: str | Path, table: pd.DataFrame, config: CleanConfig, folder: Path, key: str
) -> None:
    found = read_embeddings(embeddings)
    if found.ids.tolist() != table["id"].tolist():
        raise ValueError(
            f"expected embeddings of the {len(table):,} images to be cleaned, found "
            f"{len(found):,} of others in {embeddings}; embed this list first"
        )
    landmark_ids = table["landmark_id"].to_numpy()
    tried, reason = pd.DataFrame({"eps": []}), "set by hand"
    if not config.eps or not config.relaxed_eps:
        advice = suggest(found.rows, landmark_ids, min_samples=config.min_samples)
        tried, reason = advice.sweep, advice.reason
        eps = config.eps or round(config.tighten * advice.eps, 4)
        relaxed = config.relaxed_eps or round(min(config.relaxation * eps, 2.0), 4)
        config = dataclasses.replace(config, eps=eps, relaxed_eps=relaxed)
    result = clean(found.rows, landmark_ids, config, ids=found.ids)
    clusters = result.train_cluster()
    if clusters.empty:
        raise ValueError(
            f"expected clusters at eps {config.eps:.2f}, found none: every image was dropped; "
            "give a larger EPS or fewer MIN_SAMPLES"
        )
    write_csv(tried, folder / "sweep.csv")
    write_csv(result.images, folder / "images.csv")
    write_csv(result.landmarks, folder / "landmarks.csv")
    write_csv(clusters, folder / CLUSTERS)
    facts = {"eps": config.eps, "relaxed_eps": config.relaxed_eps, "reason": reason}
    mark_done(folder, key, **facts, **result.summary())


def sample_distances(
    embeddings: str | Path,
    landmark_ids: np.ndarray,
    *,
    generator: np.random.Generator,
    pairs: int = 20_000,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of random pairs of images: of one landmark, and of different ones.

    Args:
        embeddings: folder written by `lib.embed`.
        landmark_ids: (N,) in the order of the rows.
        generator: draws the pairs.
        pairs: how many of each kind, at most.
    """
    rows = read_embeddings(embeddings).rows
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


def true_classes(images: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """What each cleaned image truly is, for `lib.cleaning_score`: a view of its landmark, or noise.

    Args:
        images: with id and landmark_id.
        truth: `truth.csv`: id, planted ("none" for a right label) and, where views are known, view.

    Returns:
        (N,) int64 in the order of `images`, -1 for planted noise.
    """
    known = truth.set_index("id").loc[images["id"]]
    views = np.full(len(images), "")
    if "view" in known:  # a close-up shows a part of the front
        views = known["view"].replace("detail", "front").to_numpy()
    codes = pd.MultiIndex.from_arrays([images["landmark_id"], views]).factorize()[0]
    return np.where(known["planted"].to_numpy() == "none", codes, -1)

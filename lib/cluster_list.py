"""The cleaning stage: embeddings of the raw training images in, the cluster list of [20] out.

Writes `train_cluster.csv`, which the second stage trains on, and beside it what became of every
image (`images.csv`), of every landmark (`landmarks.csv`), and how eps was found (`sweep.csv`).
Cleaning a second time, as [20] tried, is the same stage with the embeddings of the new model.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.clean import clean
from lib.cleaning_result import CleaningResult
from lib.config import CleanConfig
from lib.embed import read_embeddings
from lib.runs import (
    fingerprint,
    is_done,
    locked,
    mark_done,
    read_csv_or_none,
    read_key,
    read_manifest,
    start_over,
    write_csv,
)

VERSION = 2
CLUSTERS = "train_cluster.csv"


@dataclass(frozen=True)
class ClusterList:
    """A finished cleaning, read back.

    Attributes:
        path: of `train_cluster.csv`.
        images: `CleaningResult.images` of the raw images, with their paths.
        landmarks: one row per landmark: images, clusters, and its images by status.
        sweep: one row per eps that was tried; empty if eps was given.
        eps: radius of the first pass.
        relaxed_eps: radius of the second pass.
        reason: why these radii, and these suspects.
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
    with locked(folder):
        if not is_done(folder, key):
            found = read_embeddings(embeddings)
            if found.ids.tolist() != table["id"].tolist():
                raise ValueError(
                    f"expected embeddings of the {len(table):,} images to be cleaned, found "
                    f"{len(found):,} of others in {embeddings}; embed this list first"
                )
            result = clean(found.rows, table["landmark_id"].to_numpy(), config, ids=found.ids)
            write_cleaning(result, folder, key)
    return read_cluster_list(folder, table)


def read_cluster_list(folder: str | Path, table: pd.DataFrame) -> ClusterList:
    """What `make_cluster_list` left in `folder`, with the paths of `table` (id, path).

    Raises:
        ValueError: if the folder holds no finished cleaning.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None or not {"eps", "relaxed_eps", "reason"} <= manifest.keys():
        raise ValueError(f"expected a finished cleaning in {folder}, found none; run notebook 03")
    images = _read(folder / "images.csv", ["id", "distance"], keep_default_na=False)
    images["distance"] = pd.to_numeric(images["distance"], errors="coerce")
    return ClusterList(
        folder / CLUSTERS,
        images.merge(table[["id", "path"]], on="id", how="left"),
        _read(folder / "landmarks.csv", ["landmark_id"]),
        _read(folder / "sweep.csv", []),
        manifest["eps"],
        manifest["relaxed_eps"],
        manifest["reason"],
    )


def _read(path: Path, columns: list[str], *, keep_default_na: bool = True) -> pd.DataFrame:
    table = read_csv_or_none(path, columns, keep_default_na=keep_default_na)
    if table is None:
        raise ValueError(
            f"expected a table of a finished cleaning in {path}, found a damaged file; delete its "
            "folder and run notebook 03 again"
        )
    return table


def write_cleaning(result: CleaningResult, folder: str | Path, key: str) -> None:
    """Write the tables of a cleaning, and sign the folder with `key`.

    Raises:
        ValueError: if nothing is left.
    """
    clusters, config = result.train_cluster(), result.config
    if clusters.empty:
        raise ValueError(
            f"expected clusters at eps {config.eps:.2f}, found none: every image was dropped; "
            "give a larger EPS or fewer MIN_SAMPLES"
        )
    folder = start_over(folder)
    tables = {
        "sweep.csv": result.sweep,
        "images.csv": result.images,
        "landmarks.csv": result.landmarks,
        CLUSTERS: clusters,
    }
    for name, table in tables.items():
        write_csv(table, folder / name)
    facts = {"eps": config.eps, "relaxed_eps": config.relaxed_eps, "reason": result.reason}
    mark_done(folder, key, files=tables, **facts, **result.summary())

"""The cleaning stage: embeddings of the raw training images in, the cluster list out.

Writes `train_cluster.csv`, which the second training stage of GLR20 (3rd place, Google Landmark
Retrieval 2020, Mei et al.) reads, and beside it what became of every image (`images.csv`) and every
landmark (`landmarks.csv`), and the radii that were tried (`sweep.csv`).
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from lib import artifacts, retrieval
from lib.cleaning.two_pass import CleaningResult, clean, cluster_table
from lib.config import CleanConfig
from lib.data import first_of, read_labels
from lib.recipes import CLEAN

VERSION = 3
CLUSTERS = "train_cluster.csv"


@dataclass(frozen=True)
class ClusterList:
    """A finished cleaning, read back: the tables of `CleaningResult`, and both radii."""

    path: Path  # of train_cluster.csv
    images: pd.DataFrame  # with the paths of the raw images
    landmarks: pd.DataFrame
    sweep: pd.DataFrame
    eps: float
    relaxed_eps: float
    reason: str


def clean_files(
    embeddings: str | Path,
    labels: str | Path,
    folder: str | Path,
    config: CleanConfig = CLEAN,
    *,
    jobs: int = -1,
) -> ClusterList:
    """Clean the embeddings of any system by a CSV of labels; as `make_cluster_list`.

    The CSV has the columns id and landmark_id (or label, or landmark): any texts, in the order of a
    `.npy` file's rows, or in any order for an embedding folder.
    """
    embeddings, labels = Path(embeddings), Path(labels)
    table = read_labels(labels).assign(path="")
    if embeddings.is_dir():
        ids = retrieval.read_embeddings(embeddings).ids
        at = pd.Index(table["id"]).get_indexer(ids)
        if (at < 0).any():
            lacking = pd.Series(ids[at < 0])
            raise ValueError(
                f"expected a label for each of the {len(ids):,} embedded images, found none in "
                f"{labels} for {len(lacking):,} ({first_of(lacking)}); give the list they are from"
            )
        table = table.iloc[at].reset_index(drop=True)
    elif embeddings.suffix != ".npy" or not embeddings.is_file():
        raise ValueError(
            f"expected a folder of embeddings or a .npy file, found neither at {embeddings}; "
            "give what lib.retrieval.embed or numpy.save wrote"
        )
    return make_cluster_list(embeddings, table, config, folder, jobs=jobs)


def make_cluster_list(
    embeddings: str | Path,
    table: pd.DataFrame,
    config: CleanConfig,
    folder: str | Path,
    *,
    jobs: int = -1,
) -> ClusterList:
    """Clean `table` (id, landmark_id, path) and write all tables into `folder`.

    Only reads if the folder already holds the result of the same embeddings, labels and settings.
    `embeddings` is a folder of `lib.retrieval.embed` or a `.npy` file of (N, D) rows, in the order
    of `table`. Landmarks of other than whole numbers are numbered in the order of their names.
    """
    embeddings, folder = Path(embeddings), Path(folder)
    origin = [artifacts.read_fingerprint(embeddings)]
    if embeddings.is_file():
        stat = embeddings.stat()
        origin = [str(embeddings.resolve()), stat.st_size, stat.st_mtime_ns]
    key = artifacts.fingerprint(VERSION, origin, table[["id", "landmark_id"]], config)
    with artifacts.locked(folder):
        if not artifacts.is_done(folder, key):
            rows, landmark_ids = _read_rows(embeddings, table), table["landmark_id"].to_numpy()
            names = None
            if not np.issubdtype(landmark_ids.dtype, np.integer):
                landmark_ids, names = pd.factorize(landmark_ids, sort=True)
            try:
                result = clean(rows, landmark_ids, config, ids=table["id"].to_numpy(), jobs=jobs)
            except ValueError as error:
                raise ValueError(f"{embeddings}: {error}") from error
            _write(result, folder, key, names)
    return read_cluster_list(folder, table)


def _read_rows(embeddings: Path, table: pd.DataFrame) -> np.ndarray:
    if embeddings.is_file():
        rows = retrieval.open_rows(embeddings)
        if len(rows) != len(table):
            raise ValueError(
                f"expected as many rows in {embeddings} as labels, found {len(rows):,} and "
                f"{len(table):,}; give both in the same order"
            )
        return rows
    found = retrieval.read_embeddings(embeddings)
    if found.ids.tolist() != table["id"].tolist():
        raise ValueError(
            f"expected embeddings of the {len(table):,} images to be cleaned, found "
            f"{len(found):,} of others in {embeddings}; embed this list first"
        )
    return found.rows


def _write(result: CleaningResult, folder: Path, key: str, names: np.ndarray | None) -> None:
    """Write all tables; with `names` for the numbers that landmarks had in the meantime."""
    images, clusters = result.images, result.train_cluster()
    if clusters.empty:
        raise ValueError(
            f"expected clusters at eps {result.config.eps:.2f}, found none: every image was "
            "dropped; give a larger EPS or fewer MIN_SAMPLES"
        )
    has_space = images["id"].str.contains(r"\s")
    if has_space.any():
        warnings.warn(
            f"{int(has_space.sum()):,} ids have spaces, which divide the ids in {CLUSTERS}: there "
            "they are written as quoted in URLs, in images.csv as they are",
            stacklevel=4,
        )
        quoted = images["id"].where(~has_space, images["id"].map(quote))
        clusters = cluster_table(images.assign(id=quoted))
    artifacts.start_over(folder)
    tables = {"sweep.csv": result.sweep, "images.csv": images}
    tables |= {"landmarks.csv": result.landmarks, CLUSTERS: clusters}
    for name, table in tables.items():
        if names is not None and "landmark_id" in table:
            table = table.assign(landmark_id=names[table["landmark_id"]])
        artifacts.write_csv(table, folder / name)
    config = result.config
    facts = {"eps": config.eps, "relaxed_eps": config.relaxed_eps, "reason": result.reason}
    artifacts.mark_complete(folder, key, files=tables, **facts, **result.summary())


def read_cluster_list(folder: str | Path, table: pd.DataFrame) -> ClusterList:
    """Read what `make_cluster_list` left in `folder`, with the paths of `table` (id, path)."""
    folder = Path(folder)
    manifest = artifacts.read_manifest(folder)
    facts = ("eps", "relaxed_eps", "reason")
    if manifest is None or not set(facts) <= manifest.keys():
        raise ValueError(f"expected a finished cleaning in {folder}, found none; run notebook 03")
    images = _read(folder / "images.csv", ["id", "distance"], keep_default_na=False)
    images["distance"] = pd.to_numeric(images["distance"], errors="coerce")
    return ClusterList(
        folder / CLUSTERS,
        images.merge(table[["id", "path"]], on="id", how="left"),
        _read(folder / "landmarks.csv", ["landmark_id"], keep_default_na=False),
        _read(folder / "sweep.csv", []),
        *(manifest[name] for name in facts),
    )


def _read(path: Path, columns: list[str], *, keep_default_na: bool = True) -> pd.DataFrame:
    table = artifacts.read_csv_or_none(path, columns, keep_default_na=keep_default_na)
    if table is None:
        raise ValueError(
            f"expected a table of a finished cleaning in {path}, found a damaged file; delete its "
            "folder and run notebook 03 again"
        )
    return table

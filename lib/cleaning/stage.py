"""The cleaning stage: embeddings of the raw training images in, the cluster list of GLR20 out.

Writes `train_cluster.csv`, which the second stage trains on, and beside it what became of every
image (`images.csv`), of every landmark (`landmarks.csv`), and how eps was found (`sweep.csv`).
Cleaning a second time, as GLR20 tried, is the same stage with the embeddings of the new model.

Cleaning as a command: `python -m lib.cleaning EMBEDDINGS LABELS.csv --out FOLDER`.

EMBEDDINGS is a folder that `lib.retrieval.embedding` wrote, or any `.npy` file of rows in the order
of the
labels; LABELS.csv has the columns id and landmark_id, as GLDv2's `train.csv` does. FOLDER receives
`train_cluster.csv`, `images.csv`, `landmarks.csv` and `sweep.csv`, as `lib.cleaning.stage` says.
Every setting of `lib.config.CleanConfig` is an option; work done already is not done again."""

import argparse
import dataclasses
import sys
import typing
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import (
    MANIFEST,
    fingerprint,
    is_done,
    locked,
    mark_complete,
    read_csv_or_none,
    read_fingerprint,
    read_json,
    read_manifest,
    start_over,
    write_csv,
)
from lib.cleaning.result import CleaningResult
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig
from lib.data import first_of, read_table
from lib.retrieval import open_rows, read_embeddings

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
        embeddings: folder written by `lib.retrieval.embedding` for the images of `table`, in its
        order. table: raw training images with id, landmark_id and path.
        config: the settings of both passes.
        folder: receives the tables.

    Raises:
        ValueError: if embeddings and table do not list the same images, or nothing is left.
    """
    folder = Path(folder)
    key = fingerprint(VERSION, read_fingerprint(embeddings), table[["id", "landmark_id"]], config)
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
    mark_complete(folder, key, files=tables, **facts, **result.summary())


HELP = {
    "eps": "cosine distance of the first pass; 0: suggested from the distances",
    "min_samples": "neighbours of a core image, itself included",
    "relaxed_eps": "cosine distance of the second pass; 0: eps times --relaxation",
    "relaxation": "what relaxes the second pass",
    "relaxed_min_samples": "neighbours of a core image in the second pass",
    "smallest": "images; smaller clusters are dropped",
    "rescue": "no second pass",
    "split": "a landmark's clusters stay one class",
    "suspects": "first drop images that another landmark explains better",
    "odds": "wrong against right, from which an image is a suspect",
    "faces": "split clusters that show two things",
}


def main(arguments: Sequence[str]) -> int:
    """Clean what the command line names; 1 after a refusal."""
    given = parse(arguments)
    names = [field.name for field in dataclasses.fields(CleanConfig)]
    try:
        config = CleanConfig(**{name: getattr(given, name) for name in names})
        with warnings.catch_warnings(record=True) as noted:
            facts = clean_files(given.embeddings, given.labels, config, given.out, jobs=given.jobs)
    except (ValueError, OSError) as error:
        print(f"clean_files: {error}", file=sys.stderr)
        return 1
    for warning in noted:
        print(f"clean_files: warning: {warning.message}", file=sys.stderr)
    print(summary(facts))
    print(f"wrote {CLUSTERS}, images.csv, landmarks.csv and sweep.csv into {given.out}")
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, with an option for every setting."""
    about = __doc__.partition("\n\n")[2]
    parser = argparse.ArgumentParser("python -m lib.cleaning", description=about)
    parser.add_argument(
        "embeddings", help="folder of lib.retrieval.embedding, or a .npy file (N, D)"
    )
    parser.add_argument("labels", help="CSV with id and landmark_id")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for the tables")
    parser.add_argument("--jobs", type=int, default=-1, help="cores; all by default")
    kinds = typing.get_type_hints(CleanConfig)
    for field in dataclasses.fields(CleanConfig):
        word, text = field.name.replace("_", "-"), HELP[field.name]
        kind = kinds[field.name]
        if kind is bool:
            action = "store_false" if field.default else "store_true"
            name = f"--no-{word}" if field.default else f"--{word}"
            parser.add_argument(name, dest=field.name, action=action, help=text)
        else:
            text += f" (default {field.default:g})"
            parser.add_argument(f"--{word}", type=kind, default=field.default, help=text)
    given = parser.parse_args(arguments)
    if given.jobs == 0:
        parser.error("expected one job or more (-1: as many as cores), found 0")
    return given


def clean_files(
    embeddings: str | Path,
    labels: str | Path,
    config: CleanConfig,
    folder: str | Path,
    *,
    jobs: int = -1,
) -> dict[str, int | float | str]:
    """Clean a file of embeddings by a file of labels, and tell the result's facts.

    Does nothing but read when the folder already holds the result of the same files and settings.

    Args:
        embeddings: folder of `lib.retrieval.embedding`, or a `.npy` file of (N, D) rows in the
        labels' order. labels: CSV with id and landmark_id.
        config: the settings.
        folder: receives the tables.
        jobs: joblib's `n_jobs`.

    Raises:
        ValueError: if the files do not fit each other or `lib.cleaning.two_pass.clean`, or nothing
        is left.
    """
    rows, table, origin = read_input(Path(embeddings), Path(labels))
    key = fingerprint(VERSION, origin, table, config)
    with locked(folder):
        if not is_done(folder, key):
            landmark_ids, ids = table["landmark_id"].to_numpy(), table["id"].to_numpy()
            try:
                result = clean(rows, landmark_ids, config, ids=ids, jobs=jobs)
            except ValueError as error:
                raise ValueError(f"{embeddings}: {error}") from error
            write_cleaning(result, folder, key)
    return read_json(Path(folder) / MANIFEST)


def read_input(embeddings: Path, labels: Path) -> tuple[np.ndarray, pd.DataFrame, list]:
    """The rows (a memory map), id and landmark_id of each, and what tells this file from others.

    Raises:
        ValueError: if a file is missing or of the wrong form, or one lacks images of the other.
    """
    table = read_table(labels, {"id": str, "landmark_id": int}, key="id")
    if embeddings.is_dir():
        found = read_embeddings(embeddings)
        at = pd.Index(table["id"]).get_indexer(found.ids)
        if (at < 0).any():
            lacking = pd.Series(found.ids[at < 0])
            raise ValueError(
                f"expected a label for each of the {len(found):,} embedded images, found none in "
                f"{labels} for {len(lacking):,} ({first_of(lacking)}); give the list they are from"
            )
        return found.rows, table.iloc[at].reset_index(drop=True), [read_fingerprint(embeddings)]
    if embeddings.suffix != ".npy" or not embeddings.is_file():
        raise ValueError(
            f"expected a folder of embeddings or a .npy file, found neither at {embeddings}; "
            "give what lib.retrieval.embedding or numpy.save wrote"
        )
    rows = open_rows(embeddings)
    if len(rows) != len(table):
        raise ValueError(
            f"expected as many rows in {embeddings} as in {labels}, found {len(rows):,} and "
            f"{len(table):,}; give both in the same order"
        )
    stat = embeddings.stat()
    return rows, table, [str(embeddings.resolve()), stat.st_size, stat.st_mtime_ns]


def summary(facts: dict[str, int | float | str]) -> str:
    """What cleaning did, in four lines.

    >>> counts = {"images": 10, "landmarks": 2, "kept": 5, "split": 2, "rescued": 2, "dropped": 1}
    >>> radii = {"classes": 4, "landmarks_lost": 0, "eps": 0.3, "relaxed_eps": 0.4}
    >>> print(summary(counts | radii | {"reason": "eps was given"}))
    10 images in 2 landmarks became 9 images in 4 classes (0 landmarks lost)
    kept 5 (50.0%), split 2 (20.0%), rescued 2 (20.0%), dropped 1 (10.0%)
    eps 0.300, relaxed eps 0.400: eps was given
    """
    left = facts["images"] - facts["dropped"]
    statuses = [
        f"{name} {facts[name]:,} ({facts[name] / facts['images']:.1%})"
        for name in ("kept", "split", "rescued", "dropped")
    ]
    return (
        f"{facts['images']:,} images in {facts['landmarks']:,} landmarks became {left:,} images "
        f"in {facts['classes']:,} classes ({facts['landmarks_lost']:,} landmarks lost)\n"
        f"{', '.join(statuses)}\n"
        f"eps {facts['eps']:.3f}, relaxed eps {facts['relaxed_eps']:.3f}: {facts['reason']}"
    )

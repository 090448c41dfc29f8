"""Where things lie in a dataset folder: GLDv2 as downloaded, or Kaggle's parts of it.

Tables are taken from the root or from the subfolder they are downloaded from, ids of Kaggle's
`index` and `test` from their images, and images are at SPLIT/a/b/c/ID.jpg.
"""

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import pandas as pd

from lib.storage import SPLITS, ImageStore, evenly_spread
from lib.tables import first_of, read_header, read_table

_FOLDERS = ("", "metadata", "ground_truth", "train")  # where downloads put the tables
_TABLES = (
    "train.csv",
    "train_clean.csv",
    "train_label_to_category.csv",
    "index.csv",
    "index_image_to_landmark.csv",
    "index_label_to_category.csv",
    "test.csv",
    "retrieval_solution_v2.1.csv",
    "sample_submission.csv",
    "country_codes.json",
)
# Files beside them that nothing here needs, or that something else reads.
_NOT_NEEDED = (
    "train_attribution.csv",
    "train_label_to_hierarchical.csv",
    "index_label_to_hierarchical.csv",
    "recognition_solution_v2.1.csv",
    "train_cluster.csv",
    "truth.csv",
    "submission.csv",
)
_TABLE_SUFFIXES = (".csv", ".json", ".txt", ".tsv", ".gz", ".zip", ".xls", ".xlsx")
_LIKENESS = 0.75  # of two names, by difflib
_SAMPLE = 2000  # images per split whose files are looked for


def find_file(root: Path, name: str) -> Path:
    """Where a table lies: in the root, or in the subfolder it is downloaded from.

    A table that is nowhere gives its place in the root, which reading then reports.
    """
    places = [root / folder / name for folder in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def needed_file(root: Path, name: str) -> Path:
    """Where a table lies that a dataset must have.

    Raises:
        ValueError: It is nowhere.
    """
    path = find_file(root, name)
    if path.is_file():
        return path
    like = look_alikes(root, [name])
    raise ValueError(" ".join([f"{path} is missing: get it as data/README.md tells.", *like]))


def look_alikes(root: Path, names: Collection[str] = _TABLES) -> list[str]:
    """One sentence for each file that is called nearly as one of these tables, and is not read.

    Looked through are the root and two levels of folders below it.
    """
    known = {Path(name).stem: name for name in (*_TABLES, *_NOT_NEEDED)}
    read = {find_file(root, name) for name in _TABLES}
    notes = []
    for path in sorted(set(_files_near(root, 2)) - read):
        stem = re.sub(r"(\.(csv|json|txt|tsv|gz|zip|xlsx?)| ?\([0-9]+\))+$", "", path.name.lower())
        like = [known[name] for name in difflib.get_close_matches(stem, known, 1, _LIKENESS)]
        if not like and "solution" in stem:
            like = [name for name in _TABLES if "solution" in name]
        if like and like[0] in names:
            notes.append(
                f"{path.relative_to(root)} is not read: if it is {like[0]}, put it under that name "
                f"into {root}."
            )
    return notes


def _files_near(folder: Path, depth: int) -> Iterator[Path]:
    """Files that may be tables, in a folder and `depth` levels of its folders."""
    with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(_TABLE_SUFFIXES) and entry.is_file():
                yield folder / entry.name
            elif depth and folder.name not in SPLITS and entry.name[0] != "." and entry.is_dir():
                yield from _files_near(folder / entry.name, depth - 1)


def find_kind(root: Path) -> str:
    """Which dataset a folder has: `gldv2`, `kaggle2020` or `kaggle2021`.

    GLDv2 has `train_clean.csv`, or at least a `url` column in `train.csv`. Kaggle's `train.csv`
    has none; `index`, `test` or `sample_submission.csv` came in 2021.
    """
    header = read_header(find_file(root, "train.csv"))
    has_url = any("url" in name.lower() for name in header)
    if find_file(root, "train_clean.csv").is_file() or has_url:
        return "gldv2"
    of_2021 = ("index", "test", "sample_submission.csv")
    return "kaggle2021" if any((root / name).exists() for name in of_2021) else "kaggle2020"


def read_if_there(
    root: Path, name: str, columns: dict[str, type], *, key: str
) -> pd.DataFrame | None:
    """A table as `read_table` gives it, or None when the folder does not have it."""
    path = find_file(root, name)
    return read_table(path, columns, key=key) if path.is_file() else None


def ids_of_split(
    store: ImageStore, split: str, warn: Callable[[str], None] = warnings.warn
) -> pd.Series:
    """The ids of `index` or `test`: from its table, else from its images (Kaggle 2021).

    `warn` takes a sentence on files that are no image called by an id.
    """
    table = read_if_there(store.root, f"{split}.csv", {"id": str}, key="id")
    return pd.Series(store.ids(split, warn), dtype=str, name="id") if table is None else table["id"]


def image_paths(split: str, ids: Iterable[str]) -> list[str]:
    """The path of each image, relative to the dataset's root.

    >>> image_paths("train", ["0123456789abcdef"])
    ['train/0/1/2/0123456789abcdef.jpg']
    """
    return [f"{split}/{i[0]}/{i[1]}/{i[2]}/{i}.jpg" for i in ids]


def look_for_files(store: ImageStore, split: str, ids: pd.Series) -> str | None:
    """A sentence on images that have no file, or None when all are there.

    Of a large split an evenly spread sample is looked for, of a packed one nothing.
    """
    if ids.empty or store.is_packed(split):
        return None
    chosen = ids.iloc[evenly_spread(len(ids), _SAMPLE)]
    missing = store.missing(image_paths(split, chosen))
    if not missing:
        return None
    absent = pd.Series([Path(path).stem for path in missing])
    note = f"{len(absent):,} of {len(chosen):,} {split} images looked for have no file: "
    if len(absent) == len(chosen):
        return f"{note}{first_of(absent)} (the first should be {store.root / missing[0]})."
    return f"{note}{first_of(absent)}."

"""Where things lie in a dataset folder: GLDv2 as downloaded, or Kaggle's parts of it.

Tables are taken from the root or from the subfolder they are downloaded from, ids of Kaggle's
`index` and `test` from their images, and images are at SPLIT/a/b/c/ID.jpg.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.storage import ImageStore
from lib.tables import first_of, read_table

_FOLDERS = ("", "metadata", "ground_truth", "train")  # where downloads put the tables
_SAMPLE = 2000  # images per split whose files are looked for


def find_file(root: Path, name: str) -> Path:
    """Where a table lies: in the root, or in the subfolder it is downloaded from.

    A table that is nowhere gives its place in the root, which reading then reports.
    """
    places = [root / folder / name for folder in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def find_kind(root: Path) -> str:
    """Which dataset a folder has: `gldv2`, `kaggle2020` or `kaggle2021`.

    GLDv2 has `train_clean.csv`, or at least a `url` column in `train.csv`. Kaggle's `train.csv`
    has none; `index`, `test` or `sample_submission.csv` came in 2021.
    """
    train = find_file(root, "train.csv")
    with open(train, encoding="utf-8-sig", errors="replace") as file:
        header = file.readline().strip().split(",")
    if find_file(root, "train_clean.csv").is_file() or "url" in header:
        return "gldv2"
    of_2021 = ("index", "test", "sample_submission.csv")
    return "kaggle2021" if any((root / name).exists() for name in of_2021) else "kaggle2020"


def read_if_there(
    root: Path, name: str, columns: dict[str, type], *, key: str
) -> pd.DataFrame | None:
    """A table as `read_table` gives it, or None when the folder does not have it."""
    path = find_file(root, name)
    return read_table(path, columns, key=key) if path.is_file() else None


def ids_of_split(store: ImageStore, split: str) -> pd.Series:
    """The ids of `index` or `test`: from its table, else from its images (Kaggle 2021)."""
    table = read_if_there(store.root, f"{split}.csv", {"id": str}, key="id")
    return pd.Series(store.ids(split), dtype=str, name="id") if table is None else table["id"]


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
    chosen = ids.iloc[np.unique(np.linspace(0, len(ids) - 1, _SAMPLE).astype(int))]
    is_there = [(store.root / path).is_file() for path in image_paths(split, chosen)]
    absent = chosen[~np.array(is_there)]
    if absent.empty:
        return None
    return (
        f"{len(absent):,} of {len(chosen):,} {split} images looked for have no file: "
        f"{first_of(absent)}."
    )

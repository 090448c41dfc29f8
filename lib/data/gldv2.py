"""Read a dataset folder in GLDv2's layout, whole or as Kaggle cut it, and check that it agrees.

What makes training silently wrong (a repeated id, a clean list of other labels) is an error. What a
partial download or a subset brings with it (images or categories that are not there) is counted in
`Dataset.warnings`. Layouts: data/README.md.
"""

import difflib
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data import geography, tables
from lib.data.tables import first_of
from lib.data.tar_images import SPLITS, ImageStore, evenly_spread

SOLUTION = "retrieval_solution_v2.1.csv"
_FOLDERS = ("", "metadata", "ground_truth", "train")  # where downloads put the tables
_TABLES = (
    *("train.csv", "train_clean.csv", "train_label_to_category.csv"),
    *("index.csv", "index_image_to_landmark.csv", "index_label_to_category.csv"),
    *("test.csv", SOLUTION, "sample_submission.csv", "country_codes.json"),
)
_NOT_NEEDED = (  # files beside them
    *("train_label_to_hierarchical.csv", "index_label_to_hierarchical.csv", "train_cluster.csv"),
    *("train_attribution.csv", "recognition_solution_v2.1.csv", "truth.csv", "submission.csv"),
)
_TABLE_SUFFIXES = (".csv", ".json", ".txt", ".tsv", ".gz", ".zip", ".xls", ".xlsx")
_SIMILARITY = 0.75  # of two names, by difflib
_SAMPLE = 2000  # images per split whose files are looked for


@dataclass(frozen=True, eq=False)
class Dataset:
    """The tables of a dataset folder."""

    root: Path
    train: pd.DataFrame  # id, landmark_id: every row of train.csv
    clean: pd.DataFrame  # id, landmark_id: train_clean.csv with one row per image
    clean_landmarks: np.ndarray  # (C,) landmark ids in the row order of train_clean.csv
    landmarks: pd.DataFrame  # landmark_id, category, country, continent of training landmarks
    index: pd.DataFrame  # id, landmark_id (own numbering, -1 unknown), category, country, continent
    test: pd.Series  # ids
    solution: pd.DataFrame | None  # id, images, Usage as in the file
    sample: pd.Series | None  # ids in the order of sample_submission.csv
    warnings: tuple[str, ...]  # one sentence per kind of oddity, with its count


def read(root: str | Path) -> Dataset:
    """Read the tables of a dataset folder and check them against each other.

    Needed are `train.csv` and, in GLDv2, `train_clean.csv`; Kaggle's `train.csv` is itself clean.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: give the one that has train.csv.")
    notes: list[str] = []
    store = ImageStore(root)
    train = _read_table(root, "train.csv", {"id": str, "landmark_id": int}, is_needed=True)
    if train.empty:
        raise ValueError(f"{find_file(root, 'train.csv')} has no rows: download it again.")
    clean, clean_landmarks = _clean_list(root, train, notes)
    folder = find_file(root, "country_codes.json").parent
    entries = geography.read_country_files(folder, notes.append)
    landmarks = _landmarks(root, train, entries, notes)
    index = _index(root, store, entries, notes)
    test = ids_of_split(store, "test", notes.append)
    solution = _solution(root, index, test, notes)
    sample = _read_table(root, "sample_submission.csv", {"id": str})
    if sample is not None:
        _count(notes, sample["id"], test, "ids of sample_submission.csv are not in the test set")
    for split, ids in (("train", train["id"]), ("index", index["id"]), ("test", test)):
        _look_for_files(notes, store, split, ids)
    notes += _similar_names(root)
    asked = (test, solution, None if sample is None else sample["id"])
    return Dataset(root, train, clean, clean_landmarks, landmarks, index, *asked, tuple(notes))


def find_file(root: Path, name: str) -> Path:
    """Where a table lies: in a subfolder of downloads, or in the root, also where it is missing."""
    places = [root / folder / name for folder in _FOLDERS]
    return next((place for place in places if place.is_file()), places[0])


def ids_of_split(
    store: ImageStore, split: str, warn: Callable[[str], None] = warnings.warn
) -> pd.Series:
    """The ids of `index` or `test`: from its table, else from its images (Kaggle 2021)."""
    table = _read_table(store.root, f"{split}.csv", {"id": str})
    return pd.Series(store.ids(split, warn), dtype=str, name="id") if table is None else table["id"]


def image_paths(split: str, ids: Iterable[str]) -> list[str]:
    """The path of each image, relative to the dataset's root.

    >>> image_paths("train", ["0123456789abcdef"])
    ['train/0/1/2/0123456789abcdef.jpg']
    """
    return [f"{split}/{i[0]}/{i[1]}/{i[2]}/{i}.jpg" for i in ids]


def check_landmarks(listed: pd.DataFrame, train: pd.DataFrame, path: Path) -> None:
    """Refuse listed images that train.csv lacks or gives another `landmark_id` (ValueError)."""
    rows = pd.Index(train["id"]).get_indexer(listed["id"])
    absent = listed.loc[rows < 0, "id"]
    if len(absent):
        raise ValueError(
            f"{path} lists {len(absent):,} images that train.csv lacks ({first_of(absent)}): "
            "it was made from another dataset."
        )
    other = train["landmark_id"].to_numpy()[rows] != listed["landmark_id"].to_numpy()
    if other.any():
        raise ValueError(
            f"{path} gives {int(other.sum()):,} images another landmark than train.csv "
            f"({first_of(listed.loc[other, 'id'])}): take both files from the same release."
        )


def _read_table(
    root: Path, name: str, columns: dict[str, type], *, is_needed: bool = False
) -> pd.DataFrame | None:
    """The table, whose first column is the key, or None when the folder does not have it."""
    path = find_file(root, name)
    if path.is_file():
        return tables.read_table(path, columns, key=next(iter(columns)))
    if is_needed:
        note = f"{path} is missing: get it as data/README.md says."
        raise ValueError(" ".join([note, *_similar_names(root, [name])]))
    return None


def _similar_names(root: Path, names: Collection[str] = _TABLES) -> list[str]:
    """One sentence for each unread file near the root called nearly as one of these tables."""
    known = {Path(name).stem: name for name in (*_TABLES, *_NOT_NEEDED)}
    read = {find_file(root, name) for name in _TABLES}
    notes = []
    for path in sorted(set(_files_near(root)) - read):
        stem = re.sub(r"(\.(csv|json|txt|tsv|gz|zip|xlsx?)| ?\([0-9]+\))+$", "", path.name.lower())
        close = difflib.get_close_matches(stem, known, 1, _SIMILARITY)
        name = known[close[0]] if close else SOLUTION if "solution" in stem else None
        if name in names:
            notes.append(
                f"{path.relative_to(root)} is not read: if it is {name}, put it under that name "
                f"into {root}."
            )
    return notes


def _files_near(root: Path) -> Iterator[Path]:
    """Files that may be tables, in a folder and two levels of its folders, but not of images."""
    for place, folders, names in os.walk(root, followlinks=True):
        folder = Path(place)
        if folder.name in SPLITS or len(folder.relative_to(root).parts) == 2:
            folders.clear()
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (folder / name for name in names if name.lower().endswith(_TABLE_SUFFIXES))


def _look_for_files(notes: list[str], store: ImageStore, split: str, ids: pd.Series) -> None:
    """Note how many images of an unpacked split have no file, of an evenly spread sample."""
    if store.is_packed(split):
        return
    chosen = ids.iloc[evenly_spread(len(ids), _SAMPLE)]
    missing = store.missing(image_paths(split, chosen))
    if missing:
        is_all = len(missing) == len(chosen)
        notes.append(
            f"{len(missing):,} of {len(chosen):,} {split} images looked for have no file: "
            + first_of(Path(path).stem for path in missing)
            + f" (the first should be {store.root / missing[0]})" * is_all
            + "."
        )


def _clean_list(
    root: Path, train: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """One row per clean image, and the clean landmarks in the order of their file."""
    name, columns = "train_clean.csv", {"landmark_id": int, "images": str}
    path, header = find_file(root, name), tables.read_header(find_file(root, "train.csv"))
    # Kaggle's train.csv, which is itself clean, has no `url`, as GLDv2's has.
    is_needed = any("url" in column.lower() for column in header)
    table = _read_table(root, name, columns, is_needed=is_needed)
    if table is None:
        return train, train["landmark_id"].unique()
    clean = tables.explode_ids(table, ["landmark_id"], path)
    unknown = table.loc[~table["landmark_id"].isin(train["landmark_id"]), "landmark_id"]
    if len(unknown):
        raise ValueError(
            f"{path} has {len(unknown):,} landmarks that train.csv lacks ({first_of(unknown)}): "
            "take both files from the same release."
        )
    is_known = _count(notes, clean["id"], train["id"], f"{name} images are not in train.csv")
    clean = clean[is_known]
    if clean.empty:
        raise ValueError(
            f"{path} has no image that train.csv has: take both files from the same release."
        )
    check_landmarks(clean, train, path)
    return clean.reset_index(drop=True), table["landmark_id"].to_numpy()


def _landmarks(
    root: Path, train: pd.DataFrame, entries: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Category, country and continent of every landmark, in order of first appearance."""
    landmarks = pd.DataFrame({"landmark_id": train["landmark_id"].unique()})
    what = "landmarks have no category"
    landmarks["category"] = _categories(root, "train", landmarks["landmark_id"], notes, what)
    landmarks["country"] = geography.country_of_landmarks(entries, landmarks, notes.append)
    landmarks["continent"] = geography.continent_of(landmarks["country"])
    return landmarks


def _index(root: Path, store: ImageStore, entries: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The gallery images with what is known of them; index landmarks have their own numbering."""
    index = pd.DataFrame({"id": ids_of_split(store, "index", notes.append)})
    name = "index_image_to_landmark.csv"
    labels = _read_table(root, name, {"id": str, "landmark_id": int})
    index["landmark_id"], index["category"] = np.int64(-1), ""
    if labels is not None:
        _count(notes, labels["id"], index["id"], f"images of {name} are not in the index")
        known = labels.set_index("id")["landmark_id"]
        index["landmark_id"] = index["id"].map(known).fillna(-1).astype("int64")
        what = "index landmarks have no category"
        index["category"] = _categories(root, "index", index["landmark_id"], notes, what)
    index["country"] = geography.country_of_names(entries, index["category"]).to_numpy()
    index["continent"] = geography.continent_of(index["country"])
    return index


def _categories(
    root: Path, split: str, landmark_ids: pd.Series, notes: list[str], unknown: str
) -> pd.Series | str:
    """The decoded category name of each landmark id, "" where it has none."""
    name = f"{split}_label_to_category.csv"
    table = _read_table(root, name, {"landmark_id": int, "category": str})
    if table is None:
        return ""
    known = landmark_ids[landmark_ids >= 0].drop_duplicates()
    _count(notes, known, table["landmark_id"], unknown)
    names = table.set_index("landmark_id")["category"].map(tables.category_name)
    return landmark_ids.map(names).astype(object).fillna("")


def _solution(
    root: Path, index: pd.DataFrame, test: pd.Series, notes: list[str]
) -> pd.DataFrame | None:
    path = find_file(root, SOLUTION)
    if not path.is_file():
        return None
    table = tables.read_solution_table(path)
    tables.check_image_ids(path, table)
    _count(notes, table["id"], test, f"queries of {SOLUTION} are not in the test set")
    relevant = table.loc[table["Usage"] != "Ignored", "images"].str.split().explode().dropna()
    relevant = relevant.drop_duplicates()
    _count(notes, relevant, index["id"], f"images of {SOLUTION} are not in the index")
    return table


def _count(notes: list[str], values: pd.Series, known: pd.Series, what: str) -> pd.Series:
    """Which `values` are known; the others are noted as "N `what`"."""
    is_known = values.isin(known)
    if not is_known.all():
        notes.append(f"{int((~is_known).sum()):,} {what}: {first_of(values[~is_known])}.")
    return is_known

"""Where things lie in a dataset folder: GLDv2 as downloaded, or Kaggle's parts of it.

Tables are taken from the root or from the subfolder they are downloaded from, ids of Kaggle's
`index` and `test` from their images, and images are at SPLIT/a/b/c/ID.jpg.

Read a dataset folder in GLDv2's layout, whole or as Kaggle cut it, and check that it agrees.

What makes training wrong without a sound (a repeated id, a clean list of other labels) is an
error. What a partial download or a subset brings with it (images or categories that are not
there) is counted in `Dataset.warnings`. The layouts are described in data/README.md."""

import contextlib
import difflib
import os
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.geography import (
    continent_of,
    country_of_landmarks,
    country_of_names,
    read_country_files,
)
from lib.data.tables import (
    category_name,
    explode_ids,
    first_of,
    read_header,
    read_table,
    refuse_odd_ids,
)
from lib.data.tar_images import SPLITS, ImageStore, evenly_spread

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


SOLUTION = "retrieval_solution_v2.1.csv"
USAGES = ("Public", "Private", "Ignored")


@dataclass(frozen=True, eq=False)
class Dataset:
    """The tables of a dataset folder."""

    root: Path
    kind: str  # "gldv2", "kaggle2020" or "kaggle2021"
    train: pd.DataFrame  # id, landmark_id: every row of train.csv
    clean: pd.DataFrame  # id, landmark_id: train_clean.csv with one row per image
    clean_landmarks: np.ndarray  # (C,) landmark ids in the row order of train_clean.csv
    landmarks: pd.DataFrame  # landmark_id, category, country, continent of training landmarks
    index: pd.DataFrame  # id, landmark_id (own numbering, -1 unknown), category, country, continent
    test: pd.Series  # ids
    solution: pd.DataFrame | None  # id, images, Usage as in the file
    sample: pd.Series | None  # ids in the order of sample_submission.csv
    warnings: tuple[str, ...]  # one sentence per kind of oddity, with its count


def read(root: str | Path, *, cache: str | Path | None = None) -> Dataset:
    """Read the tables of a dataset folder and check them against each other.

    Needed are `train.csv` and, in GLDv2, `train_clean.csv`; Kaggle's `train.csv` is itself the
    clean set. Image files are looked for in a sample of the ids; `missing_images` checks all.

    Args:
        root: The dataset folder.
        cache: Where the index of packed splits is kept, if ids must be taken from it.

    Raises:
        ValueError: A needed file is missing or malformed, or files contradict each other.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder: give the one that has train.csv.")
    notes: list[str] = []
    store = ImageStore(root, cache=cache)
    train = read_table(needed_file(root, "train.csv"), {"id": str, "landmark_id": int}, key="id")
    if train.empty:
        raise ValueError(f"{find_file(root, 'train.csv')} has no rows: download it again.")
    kind = find_kind(root)
    clean, clean_landmarks = _clean_list(root, kind, train, notes)
    entries = read_country_files(find_file(root, "country_codes.json").parent, notes.append)
    landmarks = _landmarks(root, train, entries, notes)
    index = _index(root, store, entries, notes)
    test = ids_of_split(store, "test", notes.append)
    solution = _solution(root, index, test, notes)
    sample = read_if_there(root, "sample_submission.csv", {"id": str}, key="id")
    if sample is not None:
        _count(notes, sample["id"], test, "ids of sample_submission.csv are not in the test set")
    for split, ids in (("train", train["id"]), ("index", index["id"]), ("test", test)):
        note = look_for_files(store, split, ids)
        notes += [] if note is None else [note]
    notes += look_alikes(root)
    return Dataset(
        root=root,
        kind=kind,
        train=train,
        clean=clean,
        clean_landmarks=clean_landmarks,
        landmarks=landmarks,
        index=index,
        test=test,
        solution=solution,
        sample=None if sample is None else sample["id"],
        warnings=tuple(notes),
    )


def missing_images(dataset: Dataset, split: str, *, cache: str | Path | None = None) -> pd.Series:
    """The ids of a split that have no image, by listing its folders or archives once.

    Minutes for the whole of GLDv2, where asking for each file would take hours on a network disk.
    """
    ids = {"train": dataset.train["id"], "index": dataset.index["id"], "test": dataset.test}[split]
    return ids[~ids.isin(ImageStore(dataset.root, cache=cache).ids(split))]


def _clean_list(
    root: Path, kind: str, train: pd.DataFrame, notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """One row per clean image, and the clean landmarks in the order of their file."""
    if kind != "gldv2":
        return train, train["landmark_id"].unique()
    path = needed_file(root, "train_clean.csv")
    table = read_table(path, {"landmark_id": int, "images": str}, key="landmark_id")
    clean = explode_ids(table, "landmark_id", path)
    unknown = table.loc[~table["landmark_id"].isin(train["landmark_id"]), "landmark_id"]
    if len(unknown):
        raise ValueError(
            f"{path} has {len(unknown):,} landmarks that train.csv lacks ({first_of(unknown)}): "
            "take both files from the same release."
        )
    is_there = _count(notes, clean["id"], train["id"], f"{path.name} images are not in train.csv")
    clean = clean[is_there]
    if clean.empty:
        raise ValueError(
            f"{path} has no image that train.csv has: take both files from the same release."
        )
    check_landmarks(clean, train, path)
    return clean.reset_index(drop=True), table["landmark_id"].to_numpy()


def check_landmarks(listed: pd.DataFrame, train: pd.DataFrame, path: Path) -> np.ndarray:
    """The row of train.csv for each listed image, whose `landmark_id` must be the same there.

    Raises:
        ValueError: An image is not in train.csv or has another landmark.
    """
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
    return rows


def _landmarks(
    root: Path, train: pd.DataFrame, entries: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Category, country and continent of every landmark, in order of first appearance."""
    landmarks = pd.DataFrame({"landmark_id": train["landmark_id"].unique()})
    named = _categories(root, "train")
    if named is None:
        landmarks["category"] = ""
    else:
        known = landmarks["landmark_id"]
        _count(notes, known, named["landmark_id"], "landmarks have no category")
        names = named.set_index("landmark_id")["category"]
        landmarks["category"] = known.map(names).astype(object).fillna("")
    codes = country_of_landmarks(entries, landmarks, notes.append)
    landmarks["country"] = codes.to_numpy()
    landmarks["continent"] = continent_of(landmarks["country"])
    return landmarks


def _categories(root: Path, split: str) -> pd.DataFrame | None:
    name = f"{split}_label_to_category.csv"
    table = read_if_there(root, name, {"landmark_id": int, "category": str}, key="landmark_id")
    if table is not None:
        table["category"] = [category_name(url) for url in table["category"]]
    return table


def _index(root: Path, store: ImageStore, entries: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The gallery images with what is known of them; index landmarks have their own numbering."""
    index = pd.DataFrame({"id": ids_of_split(store, "index", notes.append)})
    name = "index_image_to_landmark.csv"
    labels = read_if_there(root, name, {"id": str, "landmark_id": int}, key="id")
    named = _categories(root, "index")
    index["landmark_id"], index["category"] = np.int64(-1), ""
    if labels is not None:
        _count(notes, labels["id"], index["id"], f"images of {name} are not in the index")
        known = labels.set_index("id")["landmark_id"]
        index["landmark_id"] = index["id"].map(known).fillna(-1).astype("int64")
    if labels is not None and named is not None:
        _count(
            notes,
            labels["landmark_id"].drop_duplicates(),
            named["landmark_id"],
            "index landmarks have no category",
        )
        names = named.set_index("landmark_id")["category"]
        index["category"] = index["landmark_id"].map(names).astype(object).fillna("")
    index["country"] = country_of_names(entries, index["category"]).to_numpy()
    index["continent"] = continent_of(index["country"])
    return index


def _solution(
    root: Path, index: pd.DataFrame, test: pd.Series, notes: list[str]
) -> pd.DataFrame | None:
    table = read_if_there(root, SOLUTION, {"id": str, "images": str, "Usage": str}, key="id")
    if table is None:
        return None
    unknown = table.loc[~table["Usage"].isin(USAGES), "Usage"]
    if len(unknown):
        raise ValueError(
            f"{find_file(root, SOLUTION)} has the Usage {unknown.iloc[0]!r}, but one of "
            f"{', '.join(USAGES)} was expected: download it again."
        )
    _count(notes, table["id"], test, f"queries of {SOLUTION} are not in the test set")
    truth = table.loc[table["Usage"] != "Ignored", "images"].str.split().explode().dropna()
    refuse_odd_ids(find_file(root, SOLUTION), truth)
    _count(
        notes, truth.drop_duplicates(), index["id"], f"images of {SOLUTION} are not in the index"
    )
    return table


def _count(notes: list[str], values: pd.Series, known: pd.Series, what: str) -> pd.Series:
    """Which `values` are known; the others are noted as "N `what`"."""
    there = values.isin(known)
    if not there.all():
        notes.append(f"{int((~there).sum()):,} {what}: {first_of(values[~there])}.")
    return there

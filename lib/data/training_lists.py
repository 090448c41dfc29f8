"""The training lists of both papers, with nested class ids (GLR21 section 2.1, GLR20 section 2.1).

Clean landmarks are classes 0.. in the row order of train_clean.csv, the others follow as they
appear in train.csv, so a head grows to a larger list by copying its first rows. GLR20 = 3rd
place, Google Landmark Retrieval 2020 (Mei et al.); GLR21 = 2nd place, Google Landmark Retrieval
2021 (Zhang et al.).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.config import LISTS
from lib.data.evaluation_set import Evaluation
from lib.data.gldv2 import Dataset, check_landmarks, image_paths
from lib.data.tables import explode_ids, read_table
from lib.data.tar_images import as_bytes

NAMES = (*LISTS, "full+index")


def training_list(
    dataset: Dataset,
    name: str,
    *,
    clusters: str | Path | None = None,
    without: Evaluation | None = None,
) -> pd.DataFrame:
    """The images of a training list, in the order of train.csv; also used as references.

    - `clean`: the images of train_clean.csv (in Kaggle's folders all of train.csv)
    - `c2x`: every image of a clean landmark
    - `full`: every image
    - `all`: `full`, the index images whose category is a training category, and the labelled test
      queries, each once per distinct class (GLR21); it leaks the evaluation, see `refuse_leak`
    - `full+index`: `all` without queries (GLR21's references); `full` where the index has no labels
    - `cluster`: what cleaning wrote, with its clusters as classes (GLR20)

    Landmarks that the evaluation `without` holds out are left out. Returned are the columns id,
    landmark_id, label, is_clean, country, continent, path; `clusters` is the file of `cluster`.
    """
    if name not in NAMES:
        raise ValueError(f"There is no training list {name!r}: choose one of {', '.join(NAMES)}.")
    if (name == "cluster") != (clusters is not None):
        raise ValueError("The list 'cluster', and no other, needs clusters=path of a cluster file.")
    images = _full(dataset, [] if without is None else without.held_out)
    if name == "clean":
        images = images[images["is_clean"]]
    elif name == "c2x":
        images = images[images["landmark_id"].isin(dataset.clean_landmarks)]
    elif name in ("all", "full+index"):
        has_categories = (dataset.index["category"] != "").any()
        if name == "all" and (dataset.solution is None or not has_categories):
            raise ValueError(
                "The list 'all' needs index.csv, index_image_to_landmark.csv, both "
                f"label_to_category.csv and the retrieval solution in {dataset.root}: download "
                "them as data/README.md says, or take 'full'."
            )
        if has_categories:
            index = _labelled_index(dataset, images)
            parts = [images, _tagged("index", index, images)]
            if name == "all":
                parts.append(_tagged("test", _labelled_queries(dataset, index), images))
            images = pd.concat(parts)
    elif clusters is not None:
        images = _clustered(dataset, images, Path(clusters))
    return images.reset_index(drop=True)


def is_leaked(images: pd.DataFrame, evaluation: Evaluation) -> bool:
    """Whether training images include queries, or gallery images that are relevant to one."""
    relevant = [ids for solution in evaluation.solution.values() for ids in solution.values()]
    return bool(images["id"].isin(set(evaluation.queries["id"]).union(*relevant)).any())


def refuse_leak(images: pd.DataFrame, evaluation: Evaluation, *, allow: bool = False) -> bool:
    """Refuse (ValueError) to validate on images trained on unless `allow`; returns `is_leaked`."""
    leaked = is_leaked(images, evaluation)
    if leaked and not allow:
        raise ValueError(
            "The training list contains queries or relevant images of the evaluation: train on "
            "another list, or pass allow=True and mark the numbers as leaked."
        )
    return leaked


def pack_list(table: pd.DataFrame) -> tuple[np.ndarray, dict[str, list[str]]]:
    """A training list without ids as one array (N,) of records, and the words of its text columns.

    Processes can map a file of it. Paths are bytes in it, and other texts places in `words`.
    """
    columns, words = {"path": as_bytes(table["path"].tolist())}, {}
    for name in table.columns.drop(["id", "path"], errors="ignore"):
        values = table[name]
        if not pd.api.types.is_any_real_numeric_dtype(values) and values.dtype != bool:
            values, words[name] = pd.factorize(values)
        columns[name] = np.asarray(values)
    kinds = [(name, values.dtype) for name, values in columns.items()]
    rows = np.empty(len(table), dtype=kinds)
    for name, values in columns.items():
        rows[name] = values
    return rows, {name: list(known) for name, known in words.items()}


def unpack_list(rows: np.ndarray, words: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The table that `pack_list` was given, without ids and paths; texts as categories."""
    columns = {name: rows[name] for name in rows.dtype.names if name != "path"}
    for name, known in words.items():
        columns[name] = pd.Categorical.from_codes(rows[name], known)
    return pd.DataFrame(columns)


def _full(dataset: Dataset, held_out: Sequence[int] | np.ndarray) -> pd.DataFrame:
    """Every row of train.csv that is not held out, with nested class ids."""
    train = dataset.train[~dataset.train["landmark_id"].isin(held_out)]
    raw = train["landmark_id"].to_numpy()
    order = pd.unique(np.concatenate([dataset.clean_landmarks, raw]))
    order = order[~np.isin(order, held_out)]
    tags = dataset.landmarks.set_index("landmark_id").loc[order]
    labels = pd.Index(order).get_indexer(raw)
    return pd.DataFrame(
        {
            "id": train["id"].to_numpy(),
            "landmark_id": raw,
            "label": labels.astype("int64"),
            "is_clean": train["id"].isin(dataset.clean["id"]).to_numpy(),
            "country": tags["country"].to_numpy()[labels],
            "continent": tags["continent"].to_numpy()[labels],
            "path": image_paths("train", train["id"]),
        }
    )


def _labelled_index(dataset: Dataset, train_images: pd.DataFrame) -> pd.DataFrame:
    """The index images whose category is that of a landmark of the training images."""
    named = dataset.landmarks[dataset.landmarks["category"] != ""].drop_duplicates("category")
    named = named[named["landmark_id"].isin(train_images["landmark_id"])]
    return dataset.index[["id", "category"]].merge(
        named[["category", "landmark_id"]], on="category"
    )


def _labelled_queries(dataset: Dataset, index: pd.DataFrame) -> pd.DataFrame:
    """The queries that count, once for each landmark of their relevant images."""
    queries = dataset.solution[dataset.solution["Usage"] != "Ignored"]
    relevant = queries.set_index("id")["images"].str.split().explode()
    found = relevant.map(index.set_index("id")["landmark_id"]).dropna().astype("int64")
    return found.rename("landmark_id").reset_index().drop_duplicates()


def _tagged(split: str, images: pd.DataFrame, train_images: pd.DataFrame) -> pd.DataFrame:
    """Images of a split, given by id and landmark_id, as rows of a training list."""
    tags = ["landmark_id", "label", "country", "continent"]
    classes = train_images.drop_duplicates("landmark_id")[tags]
    rows = images[["id", "landmark_id"]].assign(path=image_paths(split, images["id"]))
    return rows.merge(classes, on="landmark_id", how="left").assign(is_clean=True)


def _clustered(dataset: Dataset, images: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The images of a cluster file, with its clusters as classes."""
    columns = {"cluster_id": int, "landmark_id": int, "images": str}
    listed = explode_ids(read_table(path, columns, key="cluster_id"), list(columns)[:2], path)
    check_landmarks(listed, dataset.train, path)
    rows = pd.Index(listed["id"]).get_indexer(images["id"])
    images = images[rows >= 0]
    clusters = listed["cluster_id"].to_numpy()[rows[rows >= 0]]
    # Held-out landmarks may have left gaps; the order of the clusters stays.
    labels = np.unique(clusters, return_inverse=True)[1]
    return images.assign(label=labels.astype("int64"))

"""The training lists of both papers, with class ids that are nested (GLR21 section 2.1, GLR20 2.1).

Clean landmarks are classes 0.. in the row order of train_clean.csv, the other landmarks follow in
order of first appearance in train.csv. A classifier over the clean classes is therefore the first
rows of one over all classes, and a head grows by copying them."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.config import LISTS
from lib.data.evaluation_set import Evaluation
from lib.data.gldv2 import Dataset, check_landmarks, image_paths
from lib.data.tables import explode_ids, read_table

NAMES = (*LISTS, "full+index")


def training_list(
    dataset: Dataset,
    name: str,
    *,
    clusters: str | Path | None = None,
    without: Evaluation | None = None,
) -> pd.DataFrame:
    """The images to train on, or to ask for a query's landmark, in the order of train.csv.

    `clean` has the images of train_clean.csv; `c2x` every image of a clean landmark; `full` every
    image; `all` adds the index images whose category is a training category, and the labelled
    test queries, each once per distinct class (GLR21; it leaks the evaluation, see `refuse_leak`);
    `cluster` is what cleaning wrote (GLR20), with its clusters as classes. `full+index`, of which
    GLR21 takes references, adds to the full list those index images without any query; where they
    have no labels it is the full list. A Kaggle `train.csv` is the clean set, so there `clean`,
    `c2x` and `full` are the same.

    Args:
        dataset: From `read`.
        name: One of `NAMES`.
        clusters: The train_cluster.csv that `cluster` reads, with the columns cluster_id,
            landmark_id and images.
        without: Leave out the landmarks that this evaluation holds out.

    Returns:
        Columns id, landmark_id, label, is_clean, country, continent, path. `attrs` has the list's
        name and whether it is `leaked`.

    Raises:
        ValueError: The name is unknown, or a file that the list needs is missing or does not fit.
    """
    if name not in NAMES:
        raise ValueError(f"There is no training list {name!r}: choose one of {', '.join(NAMES)}.")
    if (name == "cluster") != (clusters is not None):
        raise ValueError("The list 'cluster', and no other, needs clusters=path of a cluster file.")
    images = _full(dataset, set() if without is None else set(without.held_out.tolist()))
    if name == "clean":
        images = images[images["is_clean"]]
    elif name == "c2x":
        images = images[images["landmark_id"].isin(dataset.clean_landmarks)]
    elif name == "all":
        images = pd.concat([images, _labelled_index(dataset, images)], ignore_index=True)
    elif name == "full+index":
        images = _with_index(dataset, images)
    elif clusters is not None:
        images = _clustered(dataset, images, Path(clusters))
    images = images.reset_index(drop=True)
    images.attrs = {"list": name, "leaked": name == "all"}
    return images


def class_count(images: pd.DataFrame) -> int:
    """How many rows a classifier for this training list has."""
    return int(images["label"].max()) + 1 if len(images) else 0


def is_leaked(images: pd.DataFrame, evaluation: Evaluation) -> bool:
    """Whether training images include queries, or gallery images that are an answer to one."""
    answers = [ids for truth in evaluation.solution.values() for ids in truth.values()]
    asked = set(evaluation.queries["id"]).union(*answers)
    return bool(images["id"].isin(asked).any())


def refuse_leak(images: pd.DataFrame, evaluation: Evaluation, *, allow: bool = False) -> bool:
    """Refuse to validate a model on images it was trained on; returns `is_leaked`.

    It compares the images themselves, because a mark on a table does not survive a file.

    Raises:
        ValueError: The list leaks and `allow` is false.
    """
    leaked = is_leaked(images, evaluation)
    if leaked and not allow:
        raise ValueError(
            "The training list contains images that the evaluation asks for: train on another "
            "list, or pass allow=True and mark the numbers as leaked."
        )
    return leaked


def _full(dataset: Dataset, held_out: set[int]) -> pd.DataFrame:
    """Every row of train.csv that is not held out, with nested class ids."""
    train = dataset.train
    if held_out:
        train = train[~train["landmark_id"].isin(held_out)]
    raw = train["landmark_id"].to_numpy()
    order = pd.unique(np.concatenate([dataset.clean_landmarks, raw]))
    order = order[~np.isin(order, list(held_out))] if held_out else order
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
    """The index images and queries whose landmark is a training landmark, by category name."""
    if dataset.solution is None or not (dataset.index["category"] != "").any():
        raise ValueError(
            f"The list 'all' needs index.csv, index_image_to_landmark.csv, both "
            f"label_to_category.csv and the retrieval solution in {dataset.root}: download them "
            "as data/README.md tells, or take 'full'."
        )
    index = _categorised_index(dataset, train_images)
    asked = dataset.solution[dataset.solution["Usage"] != "Ignored"]
    answers = asked.set_index("id")["images"].str.split().explode()
    found = answers.map(index.set_index("id")["landmark_id"]).dropna()
    queries = found.rename("landmark_id").reset_index().drop_duplicates()
    parts = ("index", index), ("test", queries)
    return pd.concat([_tagged(split, part, train_images) for split, part in parts])


def _with_index(dataset: Dataset, train_images: pd.DataFrame) -> pd.DataFrame:
    """The training images, and the index images whose landmark is a training landmark."""
    if not (dataset.index["category"] != "").any():
        return train_images
    index = _tagged("index", _categorised_index(dataset, train_images), train_images)
    return pd.concat([train_images, index], ignore_index=True)


def _categorised_index(dataset: Dataset, train_images: pd.DataFrame) -> pd.DataFrame:
    """The index images whose category is one of a landmark of the training images."""
    named = dataset.landmarks[dataset.landmarks["category"] != ""].drop_duplicates("category")
    named = named[named["landmark_id"].isin(train_images["landmark_id"])].set_index("category")
    index = dataset.index[["id", "category"]].copy()
    index["landmark_id"] = index["category"].map(named["landmark_id"])
    return index.dropna(subset="landmark_id")


def _tagged(split: str, images: pd.DataFrame, train_images: pd.DataFrame) -> pd.DataFrame:
    """Images of a split as rows of a training list: id and landmark_id tell all the rest."""
    classes = train_images.drop_duplicates("landmark_id").set_index("landmark_id")
    landmark_id = images["landmark_id"].astype("int64").to_numpy()
    tags = classes.loc[landmark_id, ["label", "country", "continent"]].reset_index()
    tags.insert(0, "id", images["id"].to_numpy())
    tags.insert(3, "is_clean", True)
    return tags.assign(path=image_paths(split, images["id"]))


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

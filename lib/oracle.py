"""The training list that perfect cleaning would make: the upper bound of an ablation.

Beside scoring this alone asks for `truth.csv`, and it trains no network that anything else
uses: a row of a table says what the truth would be worth.
"""

from pathlib import Path

import pandas as pd

from lib.cleaning_score import read_truth, true_classes
from lib.runs import write_csv

SMALLEST = 2  # images of a class


def write_true_clusters(
    raw: pd.DataFrame, root: str | Path, path: str | Path, *, split: bool = True
) -> Path:
    """Write `train_cluster.csv` as it would be if every wrong label and every view were known.

    Args:
        raw: training images with id and landmark_id.
        root: the data folder with `truth.csv`.
        path: of the file to write.
        split: whether the views of a landmark are classes of their own, as far as they are known.

    Returns:
        `path`.

    Raises:
        ValueError: if the data folder has no truth.
    """
    truth = read_truth(root)
    if truth is None:
        raise ValueError(
            f"expected truth.csv in {root} for the row of true labels, found none; leave that row "
            "out of the tables"
        )
    truth = truth if split else truth.drop(columns="view", errors="ignore")
    images = raw[["id", "landmark_id"]].assign(label=true_classes(raw, truth))
    images = images[images["label"] >= 0]
    images = images[images.groupby("label")["id"].transform("size") >= SMALLEST]
    groups = images.groupby("label", sort=True)
    table = groups.agg(landmark_id=("landmark_id", "first"), images=("id", " ".join))
    return write_csv(table.rename_axis("cluster_id").reset_index(), path)

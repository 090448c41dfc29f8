"""Score a cleaning against `truth.csv` of the miniature world, which cleaning never reads."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from lib.artifacts import read_csv_or_none, write_csv
from lib.cleaning.two_pass import clean, cluster_table
from lib.config import CleanConfig
from lib.data import first_of

SCORES = ("ari", "purity", "noise_precision", "noise_recall", "noise_f1", "kept")


def score_cleaning(images: pd.DataFrame, truth: np.ndarray) -> dict[str, float]:
    """Score the `label` of `images` against (N,) true classes in the same order, -1 for noise.

    Noise is a wrong label, or no landmark at all. `ari`: adjusted Rand index, each dropped image
    and each noise image a class of its own. `purity`: share of the images left that belong to the
    commonest true class of their class; noise never does. `noise_precision`, `noise_recall` and
    `noise_f1` of the dropped images. `kept`: share of images left. A share of nothing is NaN.
    """
    labels, truth = images["label"].to_numpy(), np.asarray(truth)
    if truth.shape != labels.shape:
        raise ValueError(
            f"expected one true class for each of the {len(labels)} images, found shape "
            f"{truth.shape}: give them in the order of the images"
        )
    dropped, noise = labels < 0, truth < 0
    found = int((dropped & noise).sum())
    true_left = pd.Series(truth[~dropped & ~noise]).groupby(labels[~dropped & ~noise])
    commonest = sum(int(own.value_counts().iloc[0]) for _, own in true_left)
    return {
        "ari": float(adjusted_rand_score(_alone(truth), _alone(labels))),
        "purity": _share(commonest, (~dropped).sum()),
        "noise_precision": _share(found, dropped.sum()),
        "noise_recall": _share(found, noise.sum()),
        "noise_f1": _share(2 * found, dropped.sum() + noise.sum()),
        "kept": _share((~dropped).sum(), len(labels)),
    }


def _alone(classes: np.ndarray) -> np.ndarray:
    """Give every image of class -1 a class of its own."""
    return np.where(classes < 0, -1 - np.arange(len(classes)), classes)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def score_radii(
    rows: np.ndarray,
    landmark_ids: np.ndarray,
    truth: np.ndarray,
    config: CleanConfig,
    eps_values: Sequence[float],
    *,
    suspected_mislabels: np.ndarray | None = None,
) -> pd.DataFrame:
    """Score cleanings at other radii, which the second follows: `eps`, and `score_cleaning`.

    Suspected mislabels do not depend on eps: giving them saves estimating them for every radius.
    """
    found = []
    for eps in map(float, eps_values):
        changed = dataclasses.replace(config, eps=eps, relaxed_eps=0.0)
        result = clean(rows, landmark_ids, changed, suspected_mislabels=suspected_mislabels)
        found.append({"eps": eps, **score_cleaning(result.images, truth)})
    return pd.DataFrame(found, columns=["eps", *SCORES])


def score_descriptors(
    descriptors: Mapping[str, np.ndarray],
    landmark_ids: np.ndarray,
    truth: np.ndarray,
    cleanings: Mapping[str, CleanConfig],
) -> pd.DataFrame:
    """Score every named cleaning by every named descriptor, at the radii suggested for each.

    A row per pair has `descriptor`, `cleaning`, `eps` and the scores of `score_cleaning`.
    """
    found = []
    for descriptor, rows in descriptors.items():
        for name, config in cleanings.items():
            result = clean(rows, landmark_ids, config)
            line = {"descriptor": descriptor, "cleaning": name, "eps": result.config.eps}
            found.append(line | score_cleaning(result.images, truth))
    return pd.DataFrame(found, columns=["descriptor", "cleaning", "eps", *SCORES])


def read_truth(root: str | Path) -> pd.DataFrame | None:
    """Read `truth.csv` of a data folder, what each image really shows; None where there is none."""
    path = Path(root) / "truth.csv"
    if not path.is_file():
        return None
    truth = read_csv_or_none(path, ["id"])
    if truth is None or truth["id"].duplicated().any():
        raise ValueError(
            f"expected a CSV with a column id in which no image repeats, found another in {path};"
            " mend it"
        )
    return truth


def is_planted(truth: pd.DataFrame) -> pd.Series:
    """Whether each image of `truth.csv` has a wrong label or shows no landmark."""
    if "planted" not in truth:
        raise ValueError(
            "expected the column planted in truth.csv (none where a label is right), found"
            f" {', '.join(truth.columns)}; add it or take the file away"
        )
    return truth["planted"] != "none"


def true_classes(images: pd.DataFrame, truth: pd.DataFrame) -> np.ndarray:
    """Number the landmark and view that `images` truly show: (N,) int64, -1 for planted noise."""
    absent = images.loc[~images["id"].isin(truth["id"]), "id"]
    if len(absent):
        raise ValueError(
            f"expected every image in truth.csv, found none of {len(absent):,} of them"
            f" ({first_of(absent)}); add them or take the file away"
        )
    known = truth.set_index("id", drop=False).loc[images["id"]]
    views = np.full(len(images), "")
    if "view" in known:  # a close-up shows a part of the front
        views = known["view"].replace("detail", "front").to_numpy()
    codes = pd.MultiIndex.from_arrays([images["landmark_id"], views]).factorize()[0]
    return np.where(is_planted(known), -1, codes)


def perfect_cluster_list(
    raw: pd.DataFrame, root: str | Path, path: str | Path, *, split: bool = True
) -> Path:
    """Write `train_cluster.csv` of `raw` as a cleaning without mistakes would; return `path`.

    With `split` the views that `truth.csv` in the data folder `root` tells are classes.
    """
    truth = read_truth(root)
    if truth is None:
        raise ValueError(
            f"expected truth.csv in {root} for the row of true labels, found none; leave that row "
            "out of the tables"
        )
    truth = truth if split else truth.drop(columns="view", errors="ignore")
    images = raw[["id", "landmark_id"]].assign(label=true_classes(raw, truth))
    images = images[images.groupby("label")["id"].transform("size") >= 2]
    return write_csv(cluster_table(images), path)

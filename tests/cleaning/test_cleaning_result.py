"""Tables of cleaning: every image is accounted for exactly once, whatever the input."""

import numpy as np
import pandas as pd
import pytest

from lib.cleaning.result import CleaningResult, assign_status, count_by_landmark, count_flow
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig

STATUSES = ["kept", "split", "rescued", "dropped"]


def random_result(generator: np.random.Generator) -> tuple[CleaningResult, np.ndarray, np.ndarray]:
    """Clusters of two random passes over random landmarks, some of which fall apart entirely."""
    count = int(generator.integers(1, 200))
    ids = generator.integers(0, 12, count) ** 3 - 40
    suspects = generator.random(count) < generator.choice([0, 0.3])
    cluster = generator.integers(-1, 5, count)
    cluster[suspects | (ids % 4 == 0)] = -1
    config = CleanConfig(
        eps=0.1, smallest=int(generator.integers(1, 6)), split=bool(generator.integers(2))
    )
    is_rescued = (cluster >= 0) & (generator.random(count) < 0.3) & bool(generator.integers(2))
    images = assign_status(ids, cluster, is_rescued, suspects, config)
    images["distance"] = np.where(images["label"] < 0, np.nan, 0.5)
    images.insert(0, "position", np.arange(count))
    landmarks = count_by_landmark(images)
    return CleaningResult(images, landmarks, config, "", pd.DataFrame()), cluster, is_rescued


@pytest.mark.parametrize("seed", range(40))
def test_tables_add_up_on_random_clusters(seed: int):
    result, cluster, is_rescued = random_result(np.random.default_rng(seed))
    images, landmarks, config = result.images, result.landmarks, result.config
    held = images[images["label"] >= 0]
    assert landmarks["landmark_id"].tolist() == sorted(set(images["landmark_id"]))
    assert (landmarks[STATUSES].sum(axis=1) == landmarks["images"]).all()
    counted = images.groupby(["landmark_id", "status"], observed=False).size().unstack()
    assert landmarks[STATUSES].to_numpy().tolist() == counted[STATUSES].to_numpy().tolist()
    assert ((images["label"] < 0) == (images["status"] == "dropped")).all()
    assert ((images["label"] < 0) == (images["dropped_as"] != "")).all()
    assert (images["dropped_as"] == "noise")[images["label"] < 0].equals(
        (cluster < 0)[images["label"] < 0]
        & (images["dropped_as"] != "suspect")[images["label"] < 0]
    )
    assert ((images["status"] == "rescued") == (is_rescued & (images["label"] >= 0))).all()
    sizes = held.groupby(["landmark_id", "cluster"]).size()
    assert sizes.min() >= config.smallest if len(held) else True
    assert landmarks["clusters"].sum() == len(sizes)
    assert sorted(held["label"].unique()) == list(range(result.summary()["classes"]))
    assert (held.groupby("label")["landmark_id"].nunique() == 1).all()
    if not config.split:
        assert (held.groupby("landmark_id")["label"].nunique() == 1).all()


@pytest.mark.parametrize("seed", range(40))
def test_train_cluster_lists_every_image_that_is_left_once(seed: int):
    result, *_ = random_result(np.random.default_rng(seed))
    table = result.train_cluster()
    expected = [
        [label, own["landmark_id"].iloc[0], " ".join(map(str, own["position"]))]
        for label, own in result.images[result.images["label"] >= 0].groupby("label")
    ]
    assert table.to_numpy().tolist() == expected
    summary = result.summary()
    left = sum(len(listed.split()) for listed in table["images"])
    assert left == summary["images"] - summary["dropped"]
    assert summary["kept"] + summary["split"] + summary["rescued"] == left
    lost = set(result.images["landmark_id"]) - set(table["landmark_id"])
    assert summary["landmarks_lost"] == len(lost)


def test_kept_is_the_largest_cluster_of_the_first_pass_and_the_first_of_equals():
    cluster = np.array([0, 0, 1, 1, 2, 2, 2, 2, 3])
    is_rescued = np.array([False] * 4 + [True] * 4 + [False])
    suspects = np.zeros(9, dtype=bool)
    config = CleanConfig(eps=0.1)
    images = assign_status(np.zeros(9, int), cluster, is_rescued, suspects, config)
    assert images["status"].tolist() == (
        ["kept"] * 2 + ["split"] * 2 + ["rescued"] * 4 + ["dropped"]
    )
    assert images["dropped_as"].tolist() == [""] * 8 + ["small"]


@pytest.mark.parametrize("seed", range(20))
def test_count_flow_counts_every_image_once(seed: int):
    result, *_ = random_result(np.random.default_rng(seed))
    ways = count_flow(result.images)
    assert ways["images"].sum() == len(result.images)
    assert (ways["images"] > 0).all()
    last = ways.groupby("last")["images"].sum().to_dict()
    assert last == result.images["status"].astype(str).value_counts().to_dict()
    dropped = ways[ways["last"] == "dropped"].set_index("first")["images"].to_dict()
    fates = result.images["dropped_as"].astype(str).value_counts().drop("", errors="ignore")
    assert dropped == fates.to_dict()


def test_count_flow_of_nothing_is_empty():
    nothing = clean(np.empty((0, 4), np.float32), np.empty(0, int), CleanConfig(eps=0.1)).images
    assert count_flow(nothing).empty


def test_counts_reconcile_with_the_input_of_a_whole_cleaning():
    generator = np.random.default_rng(0)
    for _ in range(20):
        count = int(generator.integers(1, 200))
        ids = generator.integers(0, 8, count) * 37 - 50
        rows = generator.standard_normal((8, 16))[generator.integers(0, 8, count)]
        rows += generator.uniform(0.2, 0.8) * generator.standard_normal((count, 16))
        names = [f"image{i}" for i in generator.permutation(count)]
        config = CleanConfig(
            eps=generator.uniform(0.05, 0.4),
            relaxation=generator.uniform(1, 2),
            smallest=int(generator.integers(1, 6)),
            rescue=bool(generator.integers(2)),
            split=bool(generator.integers(2)),
            suspects=bool(generator.integers(2)),
            faces=bool(generator.integers(2)),
        )
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        result = clean(rows, ids, config, ids=names)
        assert result.images["id"].tolist() == names
        assert result.images["landmark_id"].tolist() == ids.tolist()
        assert ((result.images["label"] < 0) == result.images["distance"].isna()).all()
        assert sum(result.summary()[status] for status in STATUSES) == count
        listed = " ".join(result.train_cluster()["images"]).split()
        assert sorted(listed) == sorted(result.images.loc[result.images["label"] >= 0, "id"])

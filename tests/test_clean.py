"""Cleaning: scikit-learn's labels in every landmark, and tables that add up."""

import dataclasses

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.cluster import DBSCAN

import lib.groups
from lib.clean import clean, cluster_landmarks
from lib.config import CleanConfig
from lib.rivals import find_suspects

CONFIG = CleanConfig(eps=0.2, min_samples=4, relaxed_eps=0.4, relaxed_min_samples=2)


def blobs(generator: np.random.Generator, count: int, landmarks: int) -> tuple:
    """Unit rows around a few centres, and landmark ids that have nothing to do with them."""
    centres = generator.standard_normal((1 + count // 15, 16))
    rows = centres[generator.integers(0, len(centres), count)]
    rows = rows + generator.uniform(0.2, 0.8) * generator.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), generator.integers(0, landmarks, count) * 37 - 50


def reference(rows, ids, eps: float, min_samples: int) -> np.ndarray:
    labels = np.full(len(ids), -1)
    for landmark in np.unique(ids):
        own = ids == landmark
        model = DBSCAN(eps=eps, min_samples=min_samples, metric="cosine")
        labels[own] = model.fit(rows[own]).labels_
    return labels


def directions(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cluster_landmarks_equals_a_loop_over_scikit_learn(dtype, monkeypatch):
    generator = np.random.default_rng(0)
    for _ in range(15):
        rows, ids = blobs(generator, int(generator.integers(1, 300)), 12)
        monkeypatch.setattr(lib.groups, "TASK_ROWS", int(generator.integers(1, 100)))
        eps, min_samples = generator.uniform(0.05, 0.8), int(generator.integers(1, 6))
        found = cluster_landmarks(rows.astype(dtype), ids, eps=eps, min_samples=min_samples)
        assert found.dtype == np.int64
        assert found.tolist() == reference(rows.astype(dtype), ids, eps, min_samples).tolist()


def test_cluster_landmarks_reads_a_memory_map(tmp_path):
    rows, ids = blobs(np.random.default_rng(1), 200, 8)
    np.save(tmp_path / "rows.npy", rows.astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = cluster_landmarks(mapped, ids, eps=0.3, min_samples=3)
    assert found.tolist() == reference(mapped, ids, 0.3, 3).tolist()


@pytest.mark.parametrize("eps", [0, -0.1, 2.01, np.nan])
def test_cluster_landmarks_refuses_an_impossible_eps(eps: float):
    with pytest.raises(ValueError, match="eps"):
        cluster_landmarks(directions(0, 1), np.zeros(2, int), eps=eps, min_samples=2)


def test_cluster_landmarks_refuses_min_samples_below_one():
    with pytest.raises(ValueError, match="min_samples"):
        cluster_landmarks(directions(0, 1), np.zeros(2, int), eps=0.1, min_samples=0)


def test_cluster_landmarks_of_one_image_each_are_noise_or_singletons():
    rows, ids = blobs(np.random.default_rng(2), 9, 1)[0], np.arange(9)
    assert cluster_landmarks(rows, ids, eps=2, min_samples=2).tolist() == [-1] * 9
    assert cluster_landmarks(rows, ids, eps=0.1, min_samples=1).tolist() == [0] * 9


def test_clean_follows_the_paper_by_hand():
    # given landmark 8: five images, four others across, a pair far from both, one astray;
    # landmark 3: two images; landmark 5: one
    rows = directions(0, 1, 2, 3, 4, 90, 91, 92, 93, 180, 200, 270, 10, 11, 50)
    ids = np.array([8] * 12 + [3, 3, 5])
    near, wide = 1 - np.cos(np.radians(6)), 1 - np.cos(np.radians(25))
    result = clean(
        rows,
        ids,
        CleanConfig(eps=near, min_samples=4, relaxed_eps=wide, relaxed_min_samples=2),
        ids=list("abcdefghijklmno"),
    )
    assert result.images["status"].tolist() == (
        ["kept"] * 5 + ["split"] * 4 + ["rescued"] * 2 + ["dropped"] + ["rescued"] * 2 + ["dropped"]
    )
    assert result.images["label"].tolist() == [1] * 5 + [2] * 4 + [3] * 2 + [-1, 0, 0, -1]
    assert result.images["cluster"].tolist() == [0] * 5 + [1] * 4 + [2] * 2 + [-1, 0, 0, -1]
    assert result.landmarks.to_dict("list") == {
        "landmark_id": [3, 5, 8],
        "images": [2, 1, 12],
        "clusters": [1, 0, 3],
        "kept": [0, 0, 5],
        "split": [0, 0, 4],
        "rescued": [2, 0, 2],
        "dropped": [0, 1, 1],
    }
    assert result.train_cluster().to_numpy().tolist() == [
        [0, 3, "m n"],
        [1, 8, "a b c d e"],
        [2, 8, "f g h i"],
        [3, 8, "j k"],
    ]
    assert result.summary()["landmarks_lost"] == 1
    assert result.images["distance"][2] == pytest.approx(0, abs=1e-6)  # the middle of five
    assert result.images["distance"][9] == pytest.approx(1 - np.cos(np.radians(10)), abs=1e-6)


def test_clean_calls_the_largest_cluster_kept_wherever_it_comes():
    rows = directions(0, 1, 2, 3, 90, 91, 92, 93, 94)
    result = clean(
        rows,
        np.zeros(9, int),
        CleanConfig(eps=0.01, min_samples=4, relaxed_eps=0.02, relaxed_min_samples=2),
    )
    assert result.images["status"].tolist() == ["split"] * 4 + ["kept"] * 5


def test_clean_tables_add_up_on_random_input():
    generator = np.random.default_rng(3)
    for _ in range(25):
        rows, ids = blobs(generator, int(generator.integers(1, 250)), 10)
        config = CleanConfig(
            eps=generator.uniform(0.05, 0.4),
            relaxed_eps=generator.uniform(0.4, 0.7),
            smallest=int(generator.integers(1, 6)),
            rescue=bool(generator.integers(2)),
            split=bool(generator.integers(2)),
        )
        result = clean(rows, ids, config)
        images, held = result.images, result.images[result.images["label"] >= 0]
        assert images["landmark_id"].tolist() == ids.tolist()
        assert result.landmarks["images"].sum() == len(images)
        counts = result.landmarks[["kept", "split", "rescued", "dropped"]]
        assert (counts.sum(axis=1) == result.landmarks["images"]).all()
        assert counts.sum().to_dict() == images["status"].value_counts().to_dict()
        assert ((images["label"] < 0) == (images["status"] == "dropped")).all()
        assert ((images["label"] < 0) == images["distance"].isna()).all()
        assert sorted(held["label"].unique()) == list(range(result.summary()["classes"]))
        assert (held.groupby("label")["landmark_id"].nunique() == 1).all()
        if len(held):
            assert held.groupby(["landmark_id", "cluster"]).size().min() >= config.smallest
        listed = " ".join(result.train_cluster()["images"]).split()
        assert sorted(map(int, listed)) == held["position"].tolist()


def test_clean_statuses_come_from_two_passes_of_scikit_learn():
    rows, ids = blobs(np.random.default_rng(4), 400, 9)
    images = clean(rows, ids, CONFIG).images
    first = reference(rows, ids, CONFIG.eps, CONFIG.min_samples)
    noise = first < 0
    second = reference(rows[noise], ids[noise], CONFIG.relaxed_eps, CONFIG.relaxed_min_samples)
    assert images["status"].isin(["kept", "split"]).tolist() == (~noise).tolist()
    assert (images["status"][noise] == "rescued").tolist() == (second >= 0).tolist()
    assert {"kept", "split", "rescued", "dropped"} == set(images["status"])


def test_clean_gives_each_image_its_class_whatever_the_order_of_landmarks():
    generator = np.random.default_rng(5)
    rows, ids = blobs(generator, 200, 9)
    shuffled = np.argsort(generator.permutation(1000)[ids], kind="stable")  # whole landmarks move
    images = clean(rows, ids, CONFIG).images
    moved = clean(rows[shuffled], ids[shuffled], CONFIG).images
    columns = ["landmark_id", "cluster", "label", "status"]
    assert images[columns].iloc[shuffled].reset_index(drop=True).equals(moved[columns])


def test_clean_without_rescue_drops_all_noise_and_without_split_keeps_landmarks_whole():
    rows, ids = blobs(np.random.default_rng(6), 400, 9)
    strict = clean(
        rows, ids, CleanConfig(eps=0.2, min_samples=4, relaxed_eps=0.4, rescue=False)
    ).images
    assert "rescued" not in set(strict["status"])
    noise = reference(rows, ids, 0.2, 4) < 0
    assert (strict["status"] == "dropped").tolist() == noise.tolist()
    whole = clean(
        rows, ids, CleanConfig(eps=0.2, min_samples=4, relaxed_eps=0.4, split=False)
    ).images
    held = whole[whole["label"] >= 0]
    assert (held.groupby("landmark_id")["label"].nunique() == 1).all()


def test_clean_finds_suspects_itself_when_told_to():
    rows, ids = blobs(np.random.default_rng(11), 300, 3)
    found = clean(rows, ids, dataclasses.replace(CONFIG, suspects=True)).images
    told = clean(rows, ids, CONFIG, suspects=find_suspects(rows, ids)).images
    assert found.equals(told)
    assert found["label"].tolist() != clean(rows, ids, CONFIG).images["label"].tolist()


def test_clean_drops_suspects_before_both_passes():
    rows, ids = blobs(np.random.default_rng(8), 300, 9)
    suspects = np.random.default_rng(9).random(300) < 0.2
    told = clean(rows, ids, CONFIG, suspects=suspects).images
    rest = clean(rows[~suspects], ids[~suspects], CONFIG).images
    assert set(told["status"][suspects]) == {"dropped"}
    columns = ["landmark_id", "cluster", "label", "status", "distance"]
    assert told.loc[~suspects, columns].reset_index(drop=True).equals(rest[columns])


@pytest.mark.parametrize("suspects", [np.zeros(2), np.zeros(3, bool)])
def test_clean_refuses_suspects_that_do_not_fit(suspects: np.ndarray):
    with pytest.raises(ValueError, match="2 booleans"):
        clean(directions(0, 90), np.zeros(2, int), CONFIG, suspects=suspects)


def test_clean_distance_is_to_the_mean_of_the_class(monkeypatch):
    monkeypatch.setattr(lib.groups, "WHOLE", 40)  # some classes are read in slices
    rows, ids = blobs(np.random.default_rng(7), 300, 3)
    images = clean(rows, ids, CleanConfig(eps=0.5, min_samples=3, relaxed_eps=0.6)).images
    for label, members in images[images["label"] >= 0].groupby("label"):
        centre = rows[members.index].mean(axis=0)
        expected = 1 - rows[members.index] @ (centre / np.linalg.norm(centre))
        np.testing.assert_allclose(members["distance"], expected, atol=1e-6, err_msg=str(label))


def test_clean_leaves_nothing_when_all_images_are_far_apart():
    result = clean(
        np.eye(6, dtype=np.float32),
        np.zeros(6, int),
        CleanConfig(eps=0.1, min_samples=4, relaxed_eps=0.2),
    )
    assert result.summary() == {
        "images": 6,
        "kept": 0,
        "split": 0,
        "rescued": 0,
        "dropped": 6,
        "classes": 0,
        "landmarks": 1,
        "landmarks_lost": 1,
    }
    assert result.train_cluster().empty


def test_clean_of_nothing_gives_empty_tables():
    result = clean(np.empty((0, 8), np.float32), np.empty(0, int), CONFIG)
    assert result.images.empty
    assert result.landmarks.empty
    assert set(result.summary().values()) == {0}
    assert list(result.train_cluster()) == ["cluster_id", "landmark_id", "images"]


@pytest.mark.parametrize(
    ("config", "ids", "what"),
    [
        (
            CleanConfig(eps=0.5, min_samples=4, relaxed_eps=0.4),
            None,
            "relaxed_eps to be at least eps",
        ),
        (CleanConfig(eps=0.5, min_samples=4, relaxed_eps=3.0), None, r"\(0, 2\]"),
        (CONFIG, ["a"], "one id for each of the 2 images"),
        (CONFIG, ["a", "a"], "unique ids"),
    ],
)
def test_clean_refuses_what_does_not_fit(config: CleanConfig, ids, what: str):
    with pytest.raises(ValueError, match=what):
        clean(directions(0, 90), np.zeros(2, int), config, ids=ids)


def test_cluster_landmarks_gives_the_same_on_a_dask_cluster(monkeypatch):
    distributed = pytest.importorskip("distributed")
    rows, ids = blobs(np.random.default_rng(10), 500, 40)
    expected = cluster_landmarks(rows, ids, eps=0.3, min_samples=3)
    monkeypatch.setattr(lib.groups, "TASK_ROWS", 50)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two,
        distributed.Client(two),
        parallel_config(backend="dask"),
    ):
        found = cluster_landmarks(rows.astype(np.float32), ids, eps=0.3, min_samples=3)
    assert found.tolist() == expected.tolist()

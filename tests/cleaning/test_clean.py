"""Cleaning: scikit-learn's labels in every landmark, and tables that add up."""

import dataclasses

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.cluster import DBSCAN

import lib.cleaning.per_landmark
from lib.cleaning.eps import k_distances, suggest, sweep
from lib.cleaning.label_noise import estimate_label_noise
from lib.cleaning.two_pass import clean, cluster_landmarks
from lib.config import CleanConfig

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
        monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", int(generator.integers(1, 100)))
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


CALLS = {
    "cluster_landmarks": lambda rows, ids: cluster_landmarks(rows, ids, eps=0.3, min_samples=3),
    "clean": lambda rows, ids: clean(rows, ids, CONFIG),
    "clean with all options": lambda rows, ids: clean(
        rows, ids, dataclasses.replace(CONFIG, eps=0.0, relaxed_eps=0.0, suspects=True, faces=True)
    ),
    "suggest": suggest,
    "sweep": lambda rows, ids: sweep(rows, ids, [0.2, 0.4], min_samples=3),
    "k_distances": lambda rows, ids: k_distances(rows, ids, 2),
    "estimate_label_noise": estimate_label_noise,
}


@pytest.mark.parametrize("name", CALLS)
def test_bad_rows_and_ids_are_refused_by_all_alike(name: str):
    generator = np.random.default_rng(12)
    for _ in range(8):
        rows, ids = blobs(generator, int(generator.integers(20, 80)), 3)
        bad = int(generator.integers(len(rows)))
        for value, what in ((np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "NaN"), (0, "zero")):
            spoilt = rows.copy()
            spoilt[bad, int(generator.integers(16)) if value else slice(None)] = value
            with pytest.raises(ValueError, match=f"row {bad} .*{what}"):
                CALLS[name](spoilt, ids)
        for wrong in (ids[:-1], np.append(ids, 1), ids[:, None], ids.astype(float), ids > 0):
            with pytest.raises(ValueError, match=r"expected .*, found"):
                CALLS[name](rows, wrong)
        for wrong in (rows[0], rows[None], (9 * rows).astype(int), rows.astype(complex)):
            with pytest.raises(ValueError, match=r"expected .*, found"):
                CALLS[name](wrong, ids)


@pytest.mark.parametrize("name", CALLS)
def test_rows_that_are_not_of_unit_length_are_normalised_with_a_warning(name: str):
    rows, ids = blobs(np.random.default_rng(13), 90, 3)
    longer = rows * np.random.default_rng(14).uniform(0.1, 9, (90, 1)).astype(np.float32)
    expected = CALLS[name](rows, ids)
    with pytest.warns(UserWarning, match="not of unit length and were normalised"):
        found = CALLS[name](longer, ids)
    if isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_clean_takes_rows_of_any_type_and_layout(dtype, order: str):
    rows, ids = blobs(np.random.default_rng(15), 200, 7)
    rows = rows.astype(np.float16)  # numbers that all types hold
    expected = clean(rows, ids, CONFIG).images
    found = clean(np.asarray(rows, dtype, order=order), list(ids), CONFIG).images
    assert found.drop(columns="distance").equals(expected.drop(columns="distance"))
    np.testing.assert_allclose(found["distance"], expected["distance"], atol=1e-6)


def test_clean_of_many_duplicates_and_single_images():
    # given landmarks of one image, of copies of one image, and of copies of two
    rows = np.eye(5, dtype=np.float32)[[0, 1, *[2] * 30, *[3] * 20, *[4] * 20]]
    ids = np.array([1, 2, *[3] * 30, *[4] * 40])
    result = clean(rows, ids, CleanConfig(eps=0.1, faces=True, suspects=True))
    assert result.landmarks["kept"].tolist() == [0, 0, 30, 20]
    assert result.landmarks["split"].tolist() == [0, 0, 0, 20]
    assert result.images["distance"].dropna().abs().max() < 1e-6
    alone = clean(rows, ids, CleanConfig(eps=0.1, min_samples=1, smallest=1))
    assert alone.landmarks["kept"].tolist() == [1, 1, 30, 20]


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
    # given twelve landmarks, of which a few images show another one
    generator = np.random.default_rng(11)
    shows = np.repeat(np.arange(12), 40)
    ids = np.where(generator.random(480) < 0.1, generator.integers(0, 12, 480), shows)
    rows = generator.standard_normal((12, 64))[shows] + 0.3 * generator.standard_normal((480, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    rivalry = estimate_label_noise(rows, ids)
    found = clean(rows, ids, dataclasses.replace(CONFIG, suspects=True))
    assert found.images.equals(clean(rows, ids, CONFIG, suspects=rivalry.suspects).images)
    assert ((found.images["dropped_as"] == "suspect") == (shows != ids)).mean() > 0.95
    assert found.reason == f"{rivalry.reason}; eps was given"


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
        (CONFIG, ["a"], "one id for each of the 2 images"),
        (CONFIG, ["a", "a"], "unique ids"),
    ],
)
def test_clean_refuses_what_does_not_fit(config: CleanConfig, ids, what: str):
    with pytest.raises(ValueError, match=what):
        clean(directions(0, 90), np.zeros(2, int), config, ids=ids)


@pytest.mark.filterwarnings("error")
def test_cleaning_gives_the_same_on_a_dask_cluster(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    # given rows on disk that make several tasks of a megabyte or more
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 4_096)
    rows, ids = blobs(np.random.default_rng(10), 9_000, 900)
    np.save(tmp_path / "rows.npy", np.tile(rows / 4, 16).astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    config = CleanConfig(eps=0.3, suspects=True, faces=True)
    expected = cluster_landmarks(mapped, ids, eps=0.3, min_samples=3), clean(mapped, ids, config)
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as two,
        distributed.Client(two),
        parallel_config(backend="dask"),
    ):
        found = cluster_landmarks(mapped, ids, eps=0.3, min_samples=3), clean(mapped, ids, config)
    assert found[0].tolist() == expected[0].tolist()
    assert found[1].images.equals(expected[1].images)
    assert found[1].reason == expected[1].reason

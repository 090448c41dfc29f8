"""Cleaning: both passes, split views, and tables that account for every image."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.cluster import DBSCAN
from sklearn.metrics import silhouette_samples

import lib.cleaning.dbscan
import lib.cleaning.per_landmark
from lib.cleaning.dbscan import cluster_landmarks
from lib.cleaning.eps import k_distances, suggest_eps, sweep
from lib.cleaning.label_noise import estimate_label_noise
from lib.cleaning.two_pass import (
    CleaningResult,
    assign_status,
    clean,
    count_by_landmark,
    count_flow,
    second_view,
    split_two_views,
    two_part_silhouette,
    two_pass_dbscan,
)
from lib.config import CleanConfig

CONFIG = CleanConfig(eps=0.2, min_samples=4, relaxed_eps=0.4, relaxed_min_samples=2)
OPTIONS = {"drop_suspected_mislabels": True, "split_two_views": True}  # beyond GLR20


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


CALLS = {
    "cluster_landmarks": lambda rows, ids: cluster_landmarks(rows, ids, eps=0.3, min_samples=3),
    "clean": lambda rows, ids: clean(rows, ids, CONFIG),
    "clean with all options": lambda rows, ids: clean(
        rows, ids, CleanConfig(min_samples=4, **OPTIONS)
    ),
    "suggest_eps": suggest_eps,
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


@pytest.mark.filterwarnings("error")
def test_clean_of_many_duplicates_and_single_images():
    # given landmarks of one image, of copies of one image, and of copies of two
    rows = np.eye(5, dtype=np.float32)[[0, 1, *[2] * 30, *[3] * 20, *[4] * 20]]
    ids = np.array([1, 2, *[3] * 30, *[4] * 40])
    result = clean(rows, ids, CleanConfig(eps=0.1, **OPTIONS))
    assert result.landmarks["kept"].tolist() == [0, 0, 30, 20]
    assert result.landmarks["split"].tolist() == [0, 0, 0, 20]
    assert result.images["distance"].dropna().abs().max() < 1e-6
    alone = clean(rows, ids, CleanConfig(eps=0.1, min_samples=1, min_cluster_size=1))
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


def test_clean_finds_suspected_mislabels_itself_when_told_to():
    # given twelve landmarks, of which a few images show another one
    generator = np.random.default_rng(11)
    shows = np.repeat(np.arange(12), 40)
    ids = np.where(generator.random(480) < 0.1, generator.integers(0, 12, 480), shows)
    rows = generator.standard_normal((12, 64))[shows] + 0.3 * generator.standard_normal((480, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    noise = estimate_label_noise(rows, ids)
    found = clean(rows, ids, dataclasses.replace(CONFIG, drop_suspected_mislabels=True))
    assert found.images.equals(
        clean(rows, ids, CONFIG, suspected_mislabels=noise.suspected_mislabels).images
    )
    assert ((found.images["dropped_as"] == "suspected mislabel") == (shows != ids)).mean() > 0.95
    assert found.reason == f"{noise.reason}; eps was given"


def test_clean_drops_suspected_mislabels_before_both_passes():
    rows, ids = blobs(np.random.default_rng(8), 300, 9)
    suspected = np.random.default_rng(9).random(300) < 0.2
    told = clean(rows, ids, CONFIG, suspected_mislabels=suspected).images
    rest = clean(rows[~suspected], ids[~suspected], CONFIG).images
    assert set(told["status"][suspected]) == {"dropped"}
    columns = ["landmark_id", "cluster", "label", "status", "distance"]
    assert told.loc[~suspected, columns].reset_index(drop=True).equals(rest[columns])


@pytest.mark.parametrize("suspected", [np.zeros(2), np.zeros(3, bool)])
def test_clean_refuses_suspected_mislabels_that_do_not_fit(suspected: np.ndarray):
    with pytest.raises(ValueError, match="2 booleans"):
        clean(directions(0, 90), np.zeros(2, int), CONFIG, suspected_mislabels=suspected)


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
        (CONFIG, ["a"], "one image id per row, found 1 ids for 2 rows"),
        (CONFIG, ["a", "a"], "distinct image ids, found 'a' twice"),
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
    config = CleanConfig(eps=0.3, **OPTIONS)
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


def twice(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of scikit-learn's two passes over one landmark, and which are the second's."""
    first = DBSCAN(eps=0.2, min_samples=4, metric="cosine").fit(rows).labels_
    noise = np.flatnonzero(first < 0)
    if len(noise):
        first[noise] = DBSCAN(eps=0.4, min_samples=2, metric="cosine").fit(rows[noise]).labels_
    is_rescued = np.zeros(len(rows), dtype=bool)
    is_rescued[noise] = first[noise] >= 0
    return first, is_rescued


def test_both_passes_are_scikit_learn_twice():
    generator = np.random.default_rng(0)
    for _ in range(30):
        sizes = np.sort(generator.integers(1, 60, 8))[::-1]
        rows = blobs(generator, sizes.sum(), 1)[0]
        cluster, is_rescued, _ = two_pass_dbscan(rows, sizes, CONFIG)
        expected = [twice(part) for part in np.split(rows, np.cumsum(sizes)[:-1])]
        assert cluster.tolist() == np.concatenate([one[0] for one in expected]).tolist()
        assert is_rescued.tolist() == np.concatenate([one[1] for one in expected]).tolist()


@pytest.mark.parametrize("whole", [10**6, 20])
def test_clean_reads_landmarks_of_any_size(monkeypatch, whole: int):
    # given that landmarks of more than `whole` rows, and their noise, are read slice by slice
    generator = np.random.default_rng(1)
    rows, ids = blobs(generator, 300, 4)
    monkeypatch.setattr(lib.cleaning.dbscan, "BLOCK", 5)
    for module in (lib.cleaning.dbscan, lib.cleaning.per_landmark):
        monkeypatch.setattr(module, "WHOLE", whole)
    images = clean(rows, ids, CONFIG).images
    for landmark in np.unique(ids):
        own = np.flatnonzero(ids == landmark)
        first, is_rescued = twice(rows[own])
        status = images["status"].to_numpy()[own]
        assert (status == "rescued").tolist() == is_rescued.tolist()
        assert np.isin(status, ["kept", "split"]).tolist() == ((first >= 0) & ~is_rescued).tolist()


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("whole", [10**6, 40])
def test_distance_is_to_the_mean_of_the_class(monkeypatch, split: bool, whole: int):
    monkeypatch.setattr(lib.cleaning.per_landmark, "WHOLE", whole)
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 30)
    generator = np.random.default_rng(2)
    rows, ids = blobs(generator, 300, 5)
    config = CleanConfig(eps=0.5, relaxed_eps=0.6, min_cluster_size=4, split=split)
    images = clean(rows, ids, config).images
    assert images["label"].max() > 2
    for label, members in images[images["label"] >= 0].groupby("label"):
        centre = rows[members.index].mean(axis=0)
        expected = 1 - rows[members.index] @ (centre / np.linalg.norm(centre))
        np.testing.assert_allclose(members["distance"], expected, atol=1e-6, err_msg=str(label))


@pytest.mark.filterwarnings("error")
def test_distance_to_the_mean_of_opposites_is_one():
    rows = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    distance = two_pass_dbscan(
        rows, np.array([2]), CleanConfig(eps=2, min_samples=2, relaxed_eps=2)
    )[2]
    assert distance.tolist() == [1, 1]


def around(generator: np.random.Generator, centre: np.ndarray, count: int) -> np.ndarray:
    rows = centre + 0.04 * generator.standard_normal((count, len(centre)))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_two_part_silhouette_equals_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(40):
        rows = around(generator, generator.standard_normal(5), int(generator.integers(3, 40)))
        part = generator.random(len(rows)) < generator.uniform(0.1, 0.9)
        part[:2] = [False, True]
        expected = silhouette_samples(rows, part, metric="cosine")
        np.testing.assert_allclose(two_part_silhouette(rows, part), expected, atol=1e-3)


def test_second_view_tells_two_directions_apart_and_leaves_one_alone():
    generator = np.random.default_rng(1)
    for _ in range(20):
        front, inside = np.linalg.qr(generator.standard_normal((64, 2)))[0].T
        sizes = generator.integers(4, 30, 2)
        is_inside = generator.permutation(np.repeat([False, True], sizes))
        rows = np.empty((sizes.sum(), 64), dtype=np.float32)
        rows[~is_inside], rows[is_inside] = (
            around(generator, view, size) for view, size in zip((front, inside), sizes, strict=True)
        )
        found = second_view(rows, 3)
        assert found.tolist() == (is_inside != is_inside[0]).tolist()
        assert second_view(rows[is_inside], 2) is None


def test_second_view_are_cut_apart_although_a_few_odd_rows_lie_further_out():
    generator, axes = np.random.default_rng(4), np.eye(64)
    front, inside = axes[0], 0.8 * axes[0] + 0.6 * axes[1]
    odd = 0.4 * front + axes[2]  # farther from both than they are from each other
    counts = {40: front, 30: inside, 2: odd}
    rows = np.concatenate([around(generator, view, count) for count, view in counts.items()])
    found = second_view(rows, 3)
    assert not found[:40].any()
    assert found[40:70].all()


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((6, 3)), np.eye(3), [[1, 0], [-1, 0]]])
def test_second_view_of_copies_or_of_strangers_are_one(rows):
    rows = np.asarray(rows, dtype=np.float32)
    assert second_view(rows / np.linalg.norm(rows, axis=1, keepdims=True), 2) is None


def test_split_two_views_cuts_again_and_numbers_within_the_landmark():
    # given landmarks of three views (two of them alike), of one, and of two that are told apart
    generator, axes = np.random.default_rng(2), np.eye(64)
    views = [axes[0], axes[1], axes[1] + 0.8 * axes[2], axes[3], axes[4], axes[5]]
    counts = [6, 7, 8, 9, 5, 5]
    rows = [around(generator, view, count) for view, count in zip(views, counts, strict=True)]
    rows = np.concatenate(rows)
    sizes = np.array([21, 9, 10])
    cluster = np.repeat([0, 0, 0, 1], [21, 9, 5, 5])
    found = split_two_views(rows, sizes, cluster, 3)
    counts = [sorted(np.unique(part, return_counts=True)[1]) for part in np.split(found, [21, 30])]
    assert counts == [[6, 7, 8], [9], [5, 5]]
    assert set(found[:21]) == {0, 1, 2}
    assert found[21:].tolist() == cluster[21:].tolist()
    assert cluster[:21].tolist() == [0] * 21  # the given clusters are left as they are


def test_split_two_views_invariants_hold_on_random_clusters():
    generator = np.random.default_rng(3)
    for _ in range(30):
        sizes = np.sort(generator.integers(1, 25, 6))[::-1]
        rows = around(generator, generator.standard_normal(4), sizes.sum())
        cluster = generator.integers(-1, 2, sizes.sum())
        smallest = int(generator.integers(1, 5))
        found = split_two_views(rows, sizes, cluster, smallest)
        assert ((found < 0) == (cluster < 0)).all()
        owner = np.repeat(np.arange(6), sizes)
        before = {(o, c) for o, c in zip(owner, cluster, strict=True) if c >= 0}
        after = {(o, f): [] for o, f in zip(owner, found, strict=True) if f >= 0}
        for o, c, f in zip(owner, cluster, found, strict=True):
            if f >= 0:
                after[o, f].append(c)
        assert all(len(set(old)) == 1 for old in after.values())  # parts of one cluster each
        assert len(after) >= len(before)
        new = [old for part, old in after.items() if part not in before]
        assert all(len(old) >= smallest for old in new)


def test_split_two_views_leaves_huge_clusters_whole(monkeypatch):
    generator, axes = np.random.default_rng(4), np.eye(64)
    rows = np.concatenate([around(generator, axes[view], 20) for view in (0, 1)])
    cluster = np.zeros(40, dtype=int)
    assert split_two_views(rows, np.array([40]), cluster, 3).max() == 1
    monkeypatch.setattr(lib.cleaning.per_landmark, "WHOLE", 39)
    assert split_two_views(rows, np.array([40]), cluster, 3).max() == 0


def test_clean_makes_a_class_of_each_view_where_asked_to():
    # given two views that a chain of few images joins
    generator, axes = np.random.default_rng(5), np.eye(64)
    bridge = np.linspace(0, 1, 9)[:, None] * (axes[1] - axes[0]) + axes[0]
    rows = [around(generator, axes[view], 30) for view in (0, 1)]
    rows = np.concatenate([*rows, bridge / np.linalg.norm(bridge, axis=1, keepdims=True)])
    config, ids = CleanConfig(eps=0.5, min_samples=2), np.zeros(69, dtype=int)
    assert clean(rows, ids, config).summary()["classes"] == 1
    told = clean(rows, ids, dataclasses.replace(config, split_two_views=True))
    label = told.images["label"]
    assert len(set(label[:30])) == len(set(label[30:60])) == 1
    assert label[0] != label[30]


STATUSES = ["kept", "split", "rescued", "dropped"]


def random_result(generator: np.random.Generator) -> tuple[CleaningResult, np.ndarray, np.ndarray]:
    """Clusters of two random passes over random landmarks, some of which fall apart entirely."""
    count = int(generator.integers(1, 200))
    ids = generator.integers(0, 12, count) ** 3 - 40
    suspected = generator.random(count) < generator.choice([0, 0.3])
    cluster = generator.integers(-1, 5, count)
    cluster[suspected | (ids % 4 == 0)] = -1
    config = CleanConfig(
        eps=0.1, min_cluster_size=int(generator.integers(1, 6)), split=bool(generator.integers(2))
    )
    is_rescued = (cluster >= 0) & (generator.random(count) < 0.3) & bool(generator.integers(2))
    images = assign_status(ids, cluster, is_rescued, suspected, config)
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
        & (images["dropped_as"] != "suspected mislabel")[images["label"] < 0]
    )
    assert ((images["status"] == "rescued") == (is_rescued & (images["label"] >= 0))).all()
    sizes = held.groupby(["landmark_id", "cluster"]).size()
    assert sizes.min() >= config.min_cluster_size if len(held) else True
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
    suspected = np.zeros(9, dtype=bool)
    config = CleanConfig(eps=0.1)
    images = assign_status(np.zeros(9, int), cluster, is_rescued, suspected, config)
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
            min_cluster_size=int(generator.integers(1, 6)),
            rescue=bool(generator.integers(2)),
            split=bool(generator.integers(2)),
            drop_suspected_mislabels=bool(generator.integers(2)),
            split_two_views=bool(generator.integers(2)),
        )
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        result = clean(rows, ids, config, ids=names)
        assert result.images["id"].tolist() == names
        assert result.images["landmark_id"].tolist() == ids.tolist()
        assert ((result.images["label"] < 0) == result.images["distance"].isna()).all()
        assert sum(result.summary()[status] for status in STATUSES) == count
        listed = " ".join(result.train_cluster()["images"]).split()
        assert sorted(listed) == sorted(result.images.loc[result.images["label"] >= 0, "id"])

"""DBSCAN against scikit-learn's, whatever the path through the code."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

import lib.cleaning.dbscan
import lib.cleaning.per_landmark
from lib.cleaning.dbscan import check_settings, cluster_landmarks, dbscan_labels


def reference(rows: np.ndarray, eps: float, min_samples: int) -> np.ndarray:
    return DBSCAN(eps=eps, min_samples=min_samples, metric="cosine").fit(rows).labels_


def blobs(generator: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    centres = generator.standard_normal((1 + count // 10, dimensions))
    rows = centres[generator.integers(0, len(centres), count)]
    rows = rows + generator.uniform(0.1, 1) * generator.standard_normal(rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["small", "whole", "blocks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send landmarks of every size down one of the three paths."""
    small, whole = {"small": (10**6, 10**6), "whole": (0, 10**6), "blocks": (0, 0)}[request.param]
    monkeypatch.setattr(lib.cleaning.dbscan, "SMALL", small)
    monkeypatch.setattr(lib.cleaning.dbscan, "WHOLE", whole)
    monkeypatch.setattr(lib.cleaning.dbscan, "BLOCK", 5)


@pytest.mark.usefixtures("path")
def test_dbscan_equals_scikit_learn_on_random_blobs():
    generator = np.random.default_rng(0)
    for _ in range(60):
        rows = blobs(generator, int(generator.integers(1, 90)), int(generator.integers(2, 20)))
        eps, min_samples = generator.uniform(0.02, 1.2), int(generator.integers(1, 8))
        found = dbscan_labels(rows, [len(rows)], [eps], min_samples)[0]
        assert found.tolist() == reference(rows, eps, min_samples).tolist()


@pytest.mark.usefixtures("path")
def test_dbscan_equals_scikit_learn_on_duplicates_and_exact_ties():
    # given rows from few directions, whose distances 0, 0.5, 1, 1.5 and 2 are exact
    directions = np.concatenate([np.eye(4), -np.eye(4), np.full((1, 4), 0.5)]).astype(np.float32)
    generator = np.random.default_rng(1)
    for eps in (1e-7, 0.25, 0.5, 1.0, 1.5, 2.0):
        for min_samples in (1, 3, 6):
            rows = directions[generator.integers(0, len(directions), 40)]
            found = dbscan_labels(rows, [len(rows)], [eps], min_samples)[0]
            assert found.tolist() == reference(rows, eps, min_samples).tolist()


@pytest.mark.usefixtures("path")
def test_dbscan_gives_a_border_row_to_the_lowest_numbered_cluster():
    # given two groups of three on a circle and one row between them, in reach of both ends
    degrees = np.array([20, 0, 2, 4, 36, 38, 40])
    rows = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
    eps = 1 - np.cos(np.radians(16.5))
    found = dbscan_labels(rows.astype(np.float32), [7], [eps], 4)[0]
    # then the group that comes first has number 0, and the row between them belongs to it
    assert found.tolist() == reference(rows, eps, 4).tolist()
    assert dbscan_labels(rows[::-1].astype(np.float32), [7], [eps], 4)[0].tolist() == (
        reference(rows[::-1], eps, 4).tolist()
    )


@pytest.mark.usefixtures("path")
def test_dbscan_follows_a_chain_to_its_end():
    # given a chain in which only neighbours are near, in a random order
    angles = np.random.default_rng(2).permutation(np.arange(64) * np.radians(2.5))
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    eps = 1 - np.cos(np.radians(3))
    assert dbscan_labels(rows, [len(rows)], [eps], 2).tolist() == [[0] * 64]
    assert dbscan_labels(rows, [len(rows)], [eps / 2], 2).tolist() == [[-1] * 64]


@pytest.mark.usefixtures("path")
def test_dbscan_shares_products_between_radii_in_any_order():
    rows = blobs(np.random.default_rng(3), 80, 6)
    eps_values = [0.5, 0.1, 0.1, 0.9, 2.0, 0.3]
    found = dbscan_labels(rows, [len(rows)], eps_values, 3)
    for eps, labels in zip(eps_values, found, strict=True):
        assert labels.tolist() == reference(rows, eps, 3).tolist()


def test_dbscan_labels_landmarks_of_any_sizes_as_if_alone():
    generator = np.random.default_rng(4)
    for sizes in ([1], [1, 1, 2, 2, 2], [150, 150, 9, 9, 9, 1], [3, 5, 3, 140]):
        rows = blobs(generator, sum(sizes), 8)
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        alone = [dbscan_labels(part, [len(part)], [0.2, 0.6], 3) for part in parts]
        assert dbscan_labels(rows, sizes, [0.2, 0.6], 3).tolist() == np.hstack(alone).tolist()


def test_dbscan_is_the_same_on_either_side_of_a_threshold(monkeypatch):
    # given landmarks one row below, at and above the sizes where the path changes
    monkeypatch.setattr(lib.cleaning.dbscan, "SMALL", 12)
    monkeypatch.setattr(lib.cleaning.dbscan, "WHOLE", 24)
    monkeypatch.setattr(lib.cleaning.dbscan, "BLOCK", 4)
    generator = np.random.default_rng(6)
    for size in (1, 2, 7, 8, 9, 11, 12, 13, 16, 23, 24, 25, 31, 32, 33, 64, 65):
        rows = blobs(generator, size, 8)
        for min_samples in (1, 2, 5):
            found = dbscan_labels(rows, [size], [0.3, 0.7], min_samples)
            for eps, labels in zip((0.3, 0.7), found, strict=True):
                assert labels.tolist() == reference(rows, eps, min_samples).tolist()


@pytest.mark.parametrize(
    ("eps", "min_samples"),
    [
        *((eps, 2) for eps in (0, -1, 2.01, np.nan, np.inf, True, None, "0.5", 1j)),
        *((0.5, count) for count in (0, -1, 2.5, 3.0, True, None, "3")),
    ],
)
def test_cluster_landmarks_refuses_settings_without_a_meaning(eps, min_samples):
    rows = np.eye(2, dtype=np.float32)
    with pytest.raises(ValueError, match=r"expected .* found"):
        cluster_landmarks(rows, np.zeros(2, int), eps=eps, min_samples=min_samples)


def test_check_settings_takes_numbers_of_any_kind():
    for eps in (1, 2, 1e-9, np.float32(0.5), np.float16(2), np.int64(1)):
        check_settings(eps, np.int32(3))


def per_landmark(rows: np.ndarray, ids: np.ndarray, eps: float, min_samples: int) -> np.ndarray:
    labels = np.full(len(ids), -1)
    for landmark in np.unique(ids):
        labels[ids == landmark] = reference(rows[ids == landmark], eps, min_samples)
    return labels


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cluster_landmarks_equals_a_loop_over_scikit_learn(dtype, monkeypatch):
    generator = np.random.default_rng(0)
    for _ in range(15):
        rows = blobs(generator, int(generator.integers(1, 300)), 16).astype(dtype)
        ids = generator.integers(0, 12, len(rows)) * 37 - 50
        monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", int(generator.integers(1, 100)))
        eps, min_samples = generator.uniform(0.05, 0.8), int(generator.integers(1, 6))
        found = cluster_landmarks(rows, ids, eps=eps, min_samples=min_samples)
        assert found.dtype == np.int64
        assert found.tolist() == per_landmark(rows, ids, eps, min_samples).tolist()


def test_cluster_landmarks_reads_a_memory_map(tmp_path):
    generator = np.random.default_rng(1)
    np.save(tmp_path / "rows.npy", blobs(generator, 200, 16).astype(np.float16))
    mapped, ids = np.load(tmp_path / "rows.npy", mmap_mode="r"), generator.integers(0, 8, 200)
    found = cluster_landmarks(mapped, ids, eps=0.3, min_samples=3)
    assert found.tolist() == per_landmark(mapped, ids, 0.3, 3).tolist()


def test_cluster_landmarks_of_one_image_each_are_noise_or_singletons():
    rows, ids = blobs(np.random.default_rng(2), 9, 16), np.arange(9)
    assert cluster_landmarks(rows, ids, eps=2, min_samples=2).tolist() == [-1] * 9
    assert cluster_landmarks(rows, ids, eps=0.1, min_samples=1).tolist() == [0] * 9

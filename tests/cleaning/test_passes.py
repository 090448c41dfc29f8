"""Both passes: scikit-learn's twice, and distances to the means of classes."""

import numpy as np
import pytest
from sklearn.cluster import DBSCAN

import lib.cleaning.dbscan
import lib.cleaning.per_landmark
from lib.cleaning.two_pass import clean, two_pass_dbscan
from lib.config import CleanConfig

CONFIG = CleanConfig(eps=0.2, min_samples=4, relaxed_eps=0.4, relaxed_min_samples=2)


def blobs(generator: np.random.Generator, count: int) -> np.ndarray:
    centres = generator.standard_normal((1 + count // 15, 16))
    rows = centres[generator.integers(0, len(centres), count)]
    rows = rows + generator.uniform(0.2, 0.8) * generator.standard_normal(rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


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
        rows = blobs(generator, sizes.sum())
        cluster, is_rescued, _ = two_pass_dbscan(rows, sizes, CONFIG)
        expected = [twice(part) for part in np.split(rows, np.cumsum(sizes)[:-1])]
        assert cluster.tolist() == np.concatenate([one[0] for one in expected]).tolist()
        assert is_rescued.tolist() == np.concatenate([one[1] for one in expected]).tolist()


@pytest.mark.parametrize("whole", [10**6, 20])
def test_clean_reads_landmarks_of_any_size(monkeypatch, whole: int):
    # given that landmarks of more than `whole` rows, and their noise, are read slice by slice
    generator = np.random.default_rng(1)
    rows, ids = blobs(generator, 300), generator.integers(0, 4, 300) ** 2
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
    monkeypatch.setattr("lib.cleaning.two_pass.TASK_ROWS", 30)
    generator = np.random.default_rng(2)
    rows, ids = blobs(generator, 300), generator.integers(0, 5, 300)
    config = CleanConfig(eps=0.5, relaxed_eps=0.6, smallest=4, split=split)
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

"""A sweep tells of every radius what clustering with it alone would tell."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

import lib.cleaning.per_landmark
from lib.cleaning.eps import sweep
from lib.cleaning.two_pass import cluster_landmarks


def blobs(generator: np.random.Generator, count: int, landmarks: int) -> tuple:
    centres = generator.standard_normal((12, 16))
    rows = centres[generator.integers(0, 12, count)]
    rows = rows + 0.5 * generator.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), generator.integers(0, landmarks, count) * 5 - 7


def classes(rows, ids, eps: float) -> np.ndarray:
    labels = cluster_landmarks(rows, ids, eps=eps, min_samples=3)
    return np.where(labels >= 0, (ids + 7) * 1000 + labels, -1)


def test_sweep_equals_one_clustering_after_the_other(monkeypatch):
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 50)
    rows, ids = blobs(np.random.default_rng(0), 300, 6)
    eps_values = [0.1, 0.15, 0.2, 0.3, 0.5, 0.9]
    table = sweep(rows, ids, eps_values, min_samples=3)
    before = None
    for row, eps in zip(table.itertuples(), eps_values, strict=True):
        own = classes(rows, ids, eps)
        held = own >= 0
        assert row.eps == eps
        assert row.kept == pytest.approx(held.mean())
        assert row.classes == len(np.unique(own[held]))
        assert row.lost == pytest.approx(1 - len(np.unique(ids[held])) / 6)
        expected = silhouette_score(rows[held], own[held], metric="cosine")
        assert row.silhouette == pytest.approx(expected, abs=1e-4)
        alone = np.where(held, own, -1 - np.arange(300))
        if before is not None:
            assert row.agreement == pytest.approx(adjusted_rand_score(before, alone))
        before = alone
    assert np.isnan(table["agreement"][0])


def test_sweep_of_growing_radii_keeps_more():
    generator = np.random.default_rng(1)
    for _ in range(10):
        rows, ids = blobs(generator, 120, 9)
        table = sweep(rows, ids, np.linspace(0.05, 2, 20), min_samples=2)
        assert (np.diff(table["kept"]) >= 0).all()
        assert (np.diff(table["lost"]) <= 0).all()
        assert table["kept"].iloc[-1] == 1
        assert (table["agreement"].dropna() <= 1).all()


def test_sweep_without_any_cluster_agrees_and_has_no_silhouette():
    table = sweep(np.eye(8, dtype=np.float32), np.zeros(8, int), [0.1, 0.2], min_samples=2)
    assert table["kept"].tolist() == [0, 0]
    assert table["agreement"].tolist()[1:] == [1]
    assert table["silhouette"].isna().all()


def test_sweep_of_a_large_dataset_looks_at_few_images_for_the_silhouette(monkeypatch):
    monkeypatch.setattr("lib.cleaning.eps.SILHOUETTE_IMAGES", 100)
    rows, ids = blobs(np.random.default_rng(1), 1000, 40)
    few = np.unique(ids)[::10]  # every tenth landmark: 90 images
    own = classes(rows, ids, 0.4)
    held = np.flatnonzero(np.isin(ids, few) & (own >= 0))
    expected = silhouette_score(rows[held], own[held], metric="cosine")
    found = sweep(rows, ids, [0.2, 0.4], min_samples=3)["silhouette"][1]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("eps_values", [[], [0.2, 0.1], [0.1, 0.1], [0.1, 3]])
def test_sweep_refuses_radii_that_do_not_ascend(eps_values):
    with pytest.raises(ValueError, match="expected"):
        sweep(np.eye(4, dtype=np.float32), np.zeros(4, int), eps_values, min_samples=2)


def test_sweep_of_nothing_has_its_columns():
    table = sweep(np.empty((0, 4), np.float32), np.empty(0, int), [0.1, 0.2], min_samples=2)
    assert list(table) == ["eps", "kept", "classes", "lost", "silhouette", "agreement"]
    assert len(table) == 2

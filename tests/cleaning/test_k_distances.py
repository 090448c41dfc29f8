"""Distances to the k-th neighbour, and the knee of their curve."""

import numpy as np
import pytest

import lib.cleaning.eps
import lib.cleaning.per_landmark
from lib.cleaning.eps import k_distances, knee, kth_nearest


def unit(generator: np.random.Generator, count: int) -> np.ndarray:
    rows = generator.standard_normal((count, 6))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_k_distances_equal_sorted_distances(monkeypatch):
    monkeypatch.setattr(lib.cleaning.eps, "BLOCK", 7)
    monkeypatch.setattr(
        lib.cleaning.per_landmark, "WHOLE", 40
    )  # the largest landmarks are read in slices
    generator = np.random.default_rng(0)
    for _ in range(10):
        rows, ids = unit(generator, 150), generator.integers(0, 5, 150) ** 2
        k = int(generator.integers(1, 5))
        found = k_distances(rows, ids, k)
        for landmark in np.unique(ids):
            own = np.flatnonzero(ids == landmark)
            distance = np.sort(1 - rows[own] @ rows[own].T + 9 * np.eye(len(own)), axis=1)
            expected = distance[:, k - 1] if len(own) > k else np.full(len(own), np.inf)
            np.testing.assert_allclose(found[own], expected, atol=1e-6)


def test_k_distances_tell_the_core_images_of_dbscan():
    rows, ids = unit(np.random.default_rng(1), 200), np.repeat(np.arange(10), 20)
    near = 1 - rows @ rows.T <= 0.3
    core = (near & (ids[:, None] == ids)).sum(axis=1) >= 4
    assert (k_distances(rows, ids, 3) <= 0.3).tolist() == core.tolist()


def test_k_distances_refuse_k_of_zero():
    with pytest.raises(ValueError, match="k of at least 1"):
        k_distances(unit(np.random.default_rng(2), 3), np.zeros(3, int), 0)


def test_kth_nearest_among_other_rows_counts_duplicates():
    rows = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    assert kth_nearest(rows[:1], rows, 2).tolist() == [0]
    assert kth_nearest(rows, rows, 1, is_same=True).tolist() == [0, 0, 1]


def test_knee_is_where_a_flat_curve_turns_up():
    generator = np.random.default_rng(3)
    flat, steep = np.linspace(0.1, 0.2, 900), np.linspace(0.2, 1.0, 100)
    curve = generator.permutation(np.concatenate([flat, steep, [np.inf]]))
    assert knee(curve) == pytest.approx(0.2, abs=0.01)


def test_knee_needs_a_finite_distance():
    with pytest.raises(ValueError, match="finite"):
        knee(np.array([np.inf, np.inf]))

"""Suggested radii, sweeps and distances, against naive loops and the best radius by the truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score, silhouette_score

import lib.cleaning.eps
import lib.cleaning.per_landmark
from lib.cleaning.dbscan import cluster_landmarks
from lib.cleaning.eps import (
    best_threshold,
    draw_foreign,
    k_distances,
    knee,
    kth_nearest,
    measure_moves,
    sample_distances,
    sample_landmarks,
    suggest_eps,
    sweep,
)
from lib.cleaning.evaluate import score_cleaning
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig


def world(generator: np.random.Generator, spread: float, noise: float = 0.15) -> tuple:
    """Landmarks of heavy-tailed sizes, a quarter with a second view, and planted noise."""
    rows, ids, truth = [], [], []
    for landmark in range(60):
        size = int(np.clip(generator.lognormal(2.7, 0.8), 5, 120))
        views = generator.standard_normal((1 + (landmark % 4 == 0), 64))
        view = generator.integers(0, len(views), size)
        own = views[view] + spread * generator.standard_normal((size, 64))
        is_noise = generator.random(size) < noise
        own[is_noise] = generator.standard_normal((int(is_noise.sum()), 64))
        rows.append(own)
        ids.append(np.full(size, 3 * landmark))
        truth.append(np.where(is_noise, -1, 2 * landmark + view))
    rows, ids, truth = np.concatenate(rows), np.concatenate(ids), np.concatenate(truth)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = generator.permutation(len(rows))
    return rows[order].astype(np.float32), ids[order], truth[order]


@pytest.mark.parametrize("spread", [0.5, 0.8, 1.1])
def test_suggest_comes_within_two_points_of_the_best_radius(spread: float):
    rows, ids, truth = world(np.random.default_rng(0), spread)
    advice = suggest_eps(rows, ids)
    radii = np.linspace(0.1, 1, 19)
    found = [
        score_cleaning(clean(rows, ids, CleanConfig(eps=eps, rescue=False)).images, truth)["ari"]
        for eps in (advice.eps, *radii)
    ]
    assert found[0] > max(found) - 0.02
    assert found[0] > 0.9


def test_suggest_follows_the_descriptor():
    tight, loose = (
        suggest_eps(*world(np.random.default_rng(1), spread)[:2]).eps for spread in (0.4, 1.0)
    )
    assert tight < loose


def test_suggest_is_reproducible_and_explains_itself():
    rows, ids, _ = world(np.random.default_rng(2), 0.8)
    first, second = suggest_eps(rows, ids), suggest_eps(rows, ids)
    assert first.eps == second.eps
    assert f"{first.eps:.3f}" in first.reason
    assert len(first.sweep) == 20
    assert np.isclose(first.sweep["eps"], first.eps, atol=1e-4).any()
    other = suggest_eps(rows, ids, generator=np.random.default_rng(7))
    assert other.eps == pytest.approx(first.eps, rel=0.1)


def test_clean_takes_the_suggestion_for_radii_of_zero():
    rows, ids, _ = world(np.random.default_rng(3), 0.8)
    advice = suggest_eps(rows, ids)
    config = clean(rows, ids, CleanConfig()).config
    assert config.eps == advice.eps
    assert config.relaxed_eps == pytest.approx(1.2 * advice.eps, abs=1e-4)
    other = clean(rows, ids, CleanConfig(relaxation=1.5)).config
    assert other.relaxed_eps == pytest.approx(1.5 * advice.eps, abs=1e-4)
    assert clean(rows, ids, CleanConfig(eps=0.3)).config.relaxed_eps == 0.36


def test_suggest_leaves_out_what_it_is_told_to():
    rows, ids, truth = world(np.random.default_rng(8), 0.8)
    noise = truth < 0
    told, rest = suggest_eps(rows, ids, without=noise), suggest_eps(rows[~noise], ids[~noise])
    assert (told.eps, told.reason) == (rest.eps, rest.reason)
    assert told.sweep.equals(rest.sweep)


def test_suggest_of_identical_images_is_a_small_radius():
    rows = np.eye(3, dtype=np.float32)[np.repeat([0, 1, 2], 5)]
    assert 0 < suggest_eps(rows, np.repeat([0, 1, 2], 5)).eps < 0.01


def test_suggest_needs_two_landmarks_that_are_large_enough():
    rows = np.eye(8, dtype=np.float32)
    with pytest.raises(ValueError, match="two landmarks of 4 images"):
        suggest_eps(rows, np.array([1, 1, 1, 1, 2, 2, 2, 3]), min_samples=4)


def test_sample_landmarks_takes_landmarks_whole_and_together(monkeypatch):
    monkeypatch.setattr("lib.cleaning.eps.SAMPLE_IMAGES", 100)
    monkeypatch.setattr("lib.cleaning.eps.SAMPLE_LARGEST", 30)
    generator = np.random.default_rng(4)
    for _ in range(30):
        all_ids = generator.integers(0, 25, 500) ** 2
        positions, ids = sample_landmarks(all_ids, 4, generator)
        assert len(positions) <= 100
        assert (all_ids[positions] == ids).all()
        assert len(np.unique(positions)) == len(positions)
        for landmark in np.unique(ids):
            at = np.flatnonzero(ids == landmark)
            assert len(at) == min(30, (all_ids == landmark).sum()) >= 4
            assert (np.diff(at) == 1).all()


def test_draw_foreign_draws_all_images_of_other_landmarks():
    generator = np.random.default_rng(2)
    for _ in range(20):
        ids = generator.integers(0, 6, int(generator.integers(10, 80))) ** 2
        owner = np.unique(ids, return_inverse=True)[1]
        images = np.tile(generator.permutation(len(ids)), 50)
        drawn = draw_foreign(owner, images, generator)
        assert (owner[drawn] != owner[images]).all()
        assert set(drawn) == set(range(len(ids)))


def test_measure_moves_moves_images_to_other_landmarks():
    generator = np.random.default_rng(5)
    rows, all_ids, _ = world(generator, 0.8)
    positions, ids = sample_landmarks(all_ids, 4, generator)
    near, foreign, moved = measure_moves(rows, positions, ids, 2, generator, 1)
    assert (ids[moved] != ids).all()
    for i in range(0, len(ids), 17):
        home = positions[ids == ids[i]]
        own = np.sort(1 - rows[home] @ rows[positions[i]])
        strange = np.sort(1 - rows[home[1:]] @ rows[positions[moved[i]]])
        assert near[i] == pytest.approx(own[2], abs=1e-5)  # the first is itself
        assert foreign[i] == pytest.approx(strange[1], abs=1e-5)


def test_best_threshold_beats_all_others():
    generator = np.random.default_rng(6)
    for _ in range(3):
        own, strange = generator.normal(0, 1, 80), generator.normal(1.5, 1, 50)
        threshold, near, taken = best_threshold(own, strange)
        every = [(own <= t).mean() - (strange <= t).mean() for t in [*own, *strange]]
        assert near - taken == pytest.approx(max(every))
        assert (near, taken) == ((own <= threshold).mean(), (strange <= threshold).mean())


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


def naive_distances(rows, landmark_ids):
    """Cosine distances of all pairs of one landmark, and of all pairs of two."""
    rows = rows.astype(np.float64)
    within, between = [], []
    for i in range(len(rows)):
        for j in range(i):
            same = landmark_ids[i] == landmark_ids[j]
            (within if same else between).append(1 - rows[i] @ rows[j])
    return np.array(within), np.array(between)


@pytest.fixture
def scattered():
    """Landmarks of 1, 2, 3 and 4 images in disorder, all distances different."""
    generator = np.random.default_rng(3)
    landmark_ids = generator.permutation(np.repeat([40, 7, 12, 3], [1, 2, 3, 4]))
    rows = generator.normal(size=(10, 4))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    return rows, landmark_ids


def which(found, expected):
    """For every found distance the place of the expected one, which must be there."""
    gaps = np.abs(found[:, None] - expected[None, :])
    assert gaps.min(axis=1).max() < 1e-5
    return gaps.argmin(axis=1)


def test_sample_distances_draws_every_pair_and_no_other(scattered):
    rows, landmark_ids = scattered
    found = sample_distances(rows, landmark_ids, generator=np.random.default_rng(0), pairs=4000)
    expected = naive_distances(rows, landmark_ids)
    for sample, pairs in zip(found, expected, strict=True):
        assert np.diff(np.sort(pairs)).min() > 1e-4
        assert set(which(sample, pairs)) == set(range(len(pairs)))


def test_sample_distances_draws_images_and_partners_evenly(scattered):
    rows, landmark_ids = scattered
    within, between = sample_distances(
        rows, landmark_ids, generator=np.random.default_rng(1), pairs=20_000
    )
    pairs_within, pairs_between = naive_distances(rows, landmark_ids)
    # Nine of ten images have a partner; a pair {i, j} of a landmark of n images is drawn as often
    # as one of its two images, times 1 / (n - 1). Pairs of two landmarks are all alike.
    sizes = pd.Series(landmark_ids).map(pd.Series(landmark_ids).value_counts()).to_numpy()
    weights = [
        2 / (sizes[i] - 1)
        for i in range(10)
        for j in range(i)
        if landmark_ids[i] == landmark_ids[j]
    ]
    assert len(within) == pytest.approx(20_000 * 0.9, rel=0.05)
    unlike = 2 * len(pairs_between) / 100
    assert len(between) == pytest.approx(20_000 * unlike, rel=0.05)
    for sample, pairs, share in (
        (within, pairs_within, np.array(weights) / np.sum(weights)),
        (between, pairs_between, np.full(len(pairs_between), 1 / len(pairs_between))),
    ):
        counts = np.bincount(which(sample, pairs), minlength=len(pairs))
        assert stats.chisquare(counts, share * len(sample)).pvalue > 1e-3


def test_sample_distances_of_one_landmark_or_of_single_images(scattered):
    rows, _ = scattered
    generator = np.random.default_rng(2)
    within, between = sample_distances(rows, np.full(10, 5), generator=generator, pairs=50)
    assert (len(within), len(between)) == (50, 0)
    within, between = sample_distances(rows, np.arange(10), generator=generator, pairs=50)
    assert len(within) == 0
    assert 0 < len(between) <= 50


def test_sample_distances_repeats_with_its_generator(scattered):
    rows, landmark_ids = scattered
    first, second, other = (
        sample_distances(rows, landmark_ids, generator=np.random.default_rng(seed), pairs=100)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])

"""Random pairs: every pair can be drawn, evenly, and no other."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.cleaning.eps import sample_distances


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

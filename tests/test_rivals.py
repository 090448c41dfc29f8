"""Rivals: every image against all the others, and suspects that are really wrong."""

import numpy as np
import pytest

from lib.clean import clean
from lib.cleaning_score import score_cleaning
from lib.config import CleanConfig
from lib.rivals import find_suspects, rival_distances


def swapped(generator: np.random.Generator, spread: float) -> tuple:
    """Twenty landmarks of thirty images, in each of which a sixth come from another landmark."""
    ids = np.repeat(np.arange(20), 30)
    shows = np.where(
        generator.random(600) < 1 / 6, (ids + generator.integers(1, 20, 600)) % 20, ids
    )
    rows = generator.standard_normal((20, 64))[shows]
    rows += spread * generator.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), ids, np.where(shows == ids, ids, -1)


def test_rival_distances_equal_sorted_distances(monkeypatch):
    monkeypatch.setattr("lib.rivals.BLOCK", 9)
    generator = np.random.default_rng(0)
    for k in (1, 4):
        rows, _, _ = swapped(generator, 0.5)
        rows, ids = rows[:200], generator.integers(0, 6, 200)
        rivals, anyone = rival_distances(rows, ids, k)
        distance = 1 - rows @ rows.T + 9 * np.eye(200)
        np.testing.assert_allclose(anyone, np.sort(distance, axis=1)[:, k - 1], atol=1e-6)
        distance[ids[:, None] == ids] = 9
        np.testing.assert_allclose(rivals, np.sort(distance, axis=1)[:, k - 1], atol=1e-6)


def test_rival_distances_are_infinite_without_other_landmarks():
    rivals, anyone = rival_distances(np.eye(3, dtype=np.float32), np.zeros(3, int), 2)
    assert np.isinf(rivals).all()
    assert anyone.tolist() == [1, 1, 1]


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_find_suspects_finds_images_of_other_landmarks(spread: float):
    rows, ids, truth = swapped(np.random.default_rng(1), spread)
    suspects = find_suspects(rows, ids)
    wrong = truth < 0
    assert (suspects & wrong).sum() > 0.75 * wrong.sum()
    assert (suspects & wrong).sum() > 0.95 * suspects.sum()


def test_find_suspects_improves_a_cleaning_with_rescue():
    # given that wrong images of one place meet in a landmark, and rescue each other
    rows, ids, truth = swapped(np.random.default_rng(2), 0.8)
    config = CleanConfig(eps=0.5, relaxed_eps=0.6)
    plain = clean(rows, ids, config)
    told = clean(rows, ids, config, suspects=find_suspects(rows, ids))
    before, after = (score_cleaning(result.images, truth) for result in (plain, told))
    assert after["noise_recall"] > before["noise_recall"] + 0.05
    assert after["noise_precision"] > before["noise_precision"] - 0.05


def test_find_suspects_leaves_alone_what_cannot_be_told_apart():
    # given a descriptor that shows nothing of the landmark
    rows = swapped(np.random.default_rng(3), 100.0)[0]
    assert find_suspects(rows, np.repeat(np.arange(20), 30)).mean() < 0.1


def test_find_suspects_never_suspects_images_of_tiny_landmarks():
    rows, ids, _ = swapped(np.random.default_rng(4), 0.5)
    ids[:6] = [100, 100, 100, 101, 101, 102]
    assert not find_suspects(rows, ids, k=3)[:6].any()

"""A suggestion comes close to the best radius, which only the truth can tell."""

import numpy as np
import pytest

from lib.cleaning.eps import best_threshold, measure_moves, sample_landmarks, suggest
from lib.cleaning.evaluate import score_cleaning
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig


def world(generator: np.random.Generator, spread: float, noise: float = 0.15) -> tuple:
    """Landmarks of heavy-tailed sizes, a quarter with a second face, and planted noise."""
    rows, ids, truth = [], [], []
    for landmark in range(60):
        size = int(np.clip(generator.lognormal(2.7, 0.8), 5, 120))
        faces = generator.standard_normal((1 + (landmark % 4 == 0), 64))
        face = generator.integers(0, len(faces), size)
        own = faces[face] + spread * generator.standard_normal((size, 64))
        is_noise = generator.random(size) < noise
        own[is_noise] = generator.standard_normal((int(is_noise.sum()), 64))
        rows.append(own)
        ids.append(np.full(size, 3 * landmark))
        truth.append(np.where(is_noise, -1, 2 * landmark + face))
    rows, ids, truth = np.concatenate(rows), np.concatenate(ids), np.concatenate(truth)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = generator.permutation(len(rows))
    return rows[order].astype(np.float32), ids[order], truth[order]


@pytest.mark.parametrize("spread", [0.5, 0.8, 1.1])
def test_suggest_comes_within_two_points_of_the_best_radius(spread: float):
    rows, ids, truth = world(np.random.default_rng(0), spread)
    advice = suggest(rows, ids)
    radii = np.linspace(0.1, 1, 19)
    found = [
        score_cleaning(clean(rows, ids, CleanConfig(eps=eps, rescue=False)).images, truth)["ari"]
        for eps in (advice.eps, *radii)
    ]
    assert found[0] > max(found) - 0.02
    assert found[0] > 0.9


def test_suggest_follows_the_descriptor():
    tight, loose = (
        suggest(*world(np.random.default_rng(1), spread)[:2]).eps for spread in (0.4, 1.0)
    )
    assert tight < loose


def test_suggest_is_reproducible_and_explains_itself():
    rows, ids, _ = world(np.random.default_rng(2), 0.8)
    first, second = suggest(rows, ids), suggest(rows, ids)
    assert first.eps == second.eps
    assert f"{first.eps:.3f}" in first.reason
    assert len(first.sweep) == 20
    assert np.isclose(first.sweep["eps"], first.eps, atol=1e-4).any()
    other = suggest(rows, ids, generator=np.random.default_rng(7))
    assert other.eps == pytest.approx(first.eps, rel=0.1)


def test_clean_takes_the_suggestion_for_radii_of_zero():
    rows, ids, _ = world(np.random.default_rng(3), 0.8)
    advice = suggest(rows, ids)
    config = clean(rows, ids, CleanConfig()).config
    assert config.eps == advice.eps
    assert config.relaxed_eps == pytest.approx(1.2 * advice.eps, abs=1e-4)
    other = clean(rows, ids, CleanConfig(relaxation=1.5)).config
    assert other.relaxed_eps == pytest.approx(1.5 * advice.eps, abs=1e-4)
    assert clean(rows, ids, CleanConfig(eps=0.3)).config.relaxed_eps == 0.36


def test_suggest_leaves_out_what_it_is_told_to():
    rows, ids, truth = world(np.random.default_rng(8), 0.8)
    noise = truth < 0
    told, rest = suggest(rows, ids, without=noise), suggest(rows[~noise], ids[~noise])
    assert (told.eps, told.reason) == (rest.eps, rest.reason)
    assert told.sweep.equals(rest.sweep)


def test_suggest_of_identical_images_is_a_small_radius():
    rows = np.eye(3, dtype=np.float32)[np.repeat([0, 1, 2], 5)]
    assert 0 < suggest(rows, np.repeat([0, 1, 2], 5)).eps < 0.01


def test_suggest_needs_two_landmarks_that_are_large_enough():
    rows = np.eye(8, dtype=np.float32)
    with pytest.raises(ValueError, match="two landmarks of 4 images"):
        suggest(rows, np.array([1, 1, 1, 1, 2, 2, 2, 3]), min_samples=4)


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


def test_measure_moves_moves_images_to_other_landmarks():
    generator = np.random.default_rng(5)
    rows, all_ids, _ = world(generator, 0.8)
    positions, ids = sample_landmarks(all_ids, 4, generator)
    moves = measure_moves(rows, positions, ids, 2, generator, 1)
    assert (ids[moves.moved] != ids).all()
    for i in range(0, len(ids), 17):
        home = positions[ids == ids[i]]
        own = np.sort(1 - rows[home] @ rows[positions[i]])
        strange = np.sort(1 - rows[home[1:]] @ rows[positions[moves.moved[i]]])
        assert moves.own[i] == pytest.approx(own[2], abs=1e-5)  # the first is itself
        assert moves.strange[i] == pytest.approx(strange[1], abs=1e-5)


def test_best_threshold_beats_all_others():
    generator = np.random.default_rng(6)
    for cost in (0.3, 1, 2):
        own, strange = generator.normal(0, 1, 80), generator.normal(1.5, 1, 50)
        threshold, near, taken = best_threshold(own, strange, cost)
        every = [(own <= t).mean() - cost * (strange <= t).mean() for t in [*own, *strange]]
        assert near - cost * taken == pytest.approx(max(every))
        assert (near, taken) == ((own <= threshold).mean(), (strange <= threshold).mean())

"""Label noise: support by naive loops, moves, and suspected mislabels that are really wrong."""

import numpy as np
import pytest

import lib.cleaning.label_noise
import lib.cleaning.per_landmark
from lib.cleaning.evaluate import score_cleaning
from lib.cleaning.label_noise import (
    choose_descriptor,
    estimate_label_noise,
    fit_threshold,
    measure_support,
    nearest_others,
    whiten,
)
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig


def swapped(generator: np.random.Generator, spread: float, share: float = 1 / 6) -> tuple:
    """Twenty landmarks of thirty images; a share of each come from another landmark."""
    ids = np.repeat(np.arange(20), 30)
    is_wrong = generator.random(600) < share
    shows = np.where(is_wrong, (ids + generator.integers(1, 20, 600)) % 20, ids)
    rows = generator.standard_normal((20, 64))[shows]
    rows += spread * generator.standard_normal(rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32), ids, np.where(is_wrong, -1, ids)


def naive_support(row: np.ndarray, others: np.ndarray) -> float:
    if not len(others):
        return -np.inf
    mean = others.sum(axis=0)
    return (others @ row).max() + mean @ row / np.linalg.norm(mean)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_measure_support_equals_naive_loops(monkeypatch, dtype):
    monkeypatch.setattr(lib.cleaning.label_noise, "BLOCK", 3)
    monkeypatch.setattr(lib.cleaning.per_landmark, "WHOLE", 60)  # some landmarks are read in slices
    monkeypatch.setattr(lib.cleaning.per_landmark, "TASK_ROWS", 40)
    generator = np.random.default_rng(0)
    rows = swapped(generator, 0.8)[0][:150].astype(dtype)
    owner = np.unique(generator.integers(0, 9, 150) ** 2, return_inverse=True)[1]
    guests = generator.integers(0, 150, 200)
    hosts = (owner[guests] + generator.integers(1, 9, 200)) % (owner.max() + 1)
    own, visits = measure_support(rows, owner, guests, hosts)
    plain = rows.astype(np.float64)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    for i in range(150):
        others = plain[(owner == owner[i]) & (np.arange(150) != i)]
        assert own[i] == pytest.approx(naive_support(plain[i], others), abs=1e-4)
    for guest, host, found in zip(guests, hosts, visits, strict=True):
        if host != owner[guest]:
            expected = naive_support(plain[guest], plain[owner == host])
            assert found == pytest.approx(expected, abs=1e-4)


def test_nearest_others_are_the_nearest_centres_but_the_own():
    generator = np.random.default_rng(1)
    rows, ids, _ = swapped(generator, 0.5)
    centres = generator.standard_normal((20, 64)).astype(np.float32)
    for count in (1, 4, 50):
        found = nearest_others(rows, centres, ids, count)
        assert found.shape == (600, min(count, 19))
        for i in range(0, 600, 37):
            order = np.argsort(-(centres @ rows[i]))
            assert found[i].tolist() == order[order != ids[i]][:count].tolist()


@pytest.mark.parametrize("spread", [0.5, 1.0])
@pytest.mark.parametrize("share", [0.05, 1 / 6, 0.3])
def test_estimate_label_noise_tells_how_many_labels_are_wrong_and_which(
    spread: float, share: float
):
    rows, ids, truth = swapped(np.random.default_rng(3), spread, share)
    noise = estimate_label_noise(rows, ids)
    wrong = truth < 0
    assert noise.wrong == pytest.approx(wrong.mean(), abs=0.06)
    assert (noise.suspected_mislabels & wrong).sum() > 0.8 * wrong.sum()
    assert (noise.suspected_mislabels & wrong).sum() > 0.95 * noise.suspected_mislabels.sum()


def test_estimate_label_noise_makes_a_cleaning_better():
    # given that wrong images of one place meet in a landmark, and rescue each other
    rows, ids, truth = swapped(np.random.default_rng(4), 0.8)
    plain = CleanConfig(eps=0.5, relaxed_eps=0.6)
    before, after = (
        score_cleaning(clean(rows, ids, config).images, truth)
        for config in (plain, CleanConfig(eps=0.5, relaxed_eps=0.6, drop_suspected_mislabels=True))
    )
    assert after["noise_recall"] > before["noise_recall"] + 0.05
    assert after["noise_precision"] > before["noise_precision"] - 0.05


def test_estimate_label_noise_suspects_few_where_labels_are_right():
    rows, ids, _ = swapped(np.random.default_rng(5), 0.8, 0)
    assert estimate_label_noise(rows, ids).suspected_mislabels.mean() < 0.02


def test_estimate_label_noise_leaves_alone_what_cannot_be_told_apart():
    # given a descriptor that shows nothing of the landmark
    rows = swapped(np.random.default_rng(6), 100.0)[0]
    assert estimate_label_noise(rows, np.repeat(np.arange(20), 30)).suspected_mislabels.mean() < 0.1


def test_estimate_label_noise_is_reproducible_and_explains_itself():
    rows, ids, _ = swapped(np.random.default_rng(7), 0.8)
    first, second = estimate_label_noise(rows, ids), estimate_label_noise(rows, ids)
    assert first.threshold == second.threshold
    assert f"{first.suspected_mislabels.mean():.1%}" in first.reason
    other = estimate_label_noise(rows, ids, generator=np.random.default_rng(1))
    assert (other.suspected_mislabels == first.suspected_mislabels).mean() > 0.98


@pytest.mark.parametrize("ids", [np.zeros(9, int), np.arange(9), np.empty(0, int)])
def test_estimate_label_noise_needs_another_landmark_and_another_image(ids: np.ndarray):
    rows = np.eye(9, dtype=np.float32)[: len(ids)]
    assert not estimate_label_noise(rows, ids).suspected_mislabels.any()


def test_estimate_label_noise_never_suspects_the_only_image_of_a_landmark():
    rows, ids, _ = swapped(np.random.default_rng(8), 0.5)
    ids[:3] = [100, 101, 102]
    noise = estimate_label_noise(rows, ids)
    assert np.isnan(noise.margins[:3]).all()
    assert not noise.suspected_mislabels[:3].any()


@pytest.mark.parametrize("odds", [1.0, 2.0, 4.0])
def test_fit_threshold_finds_the_margin_where_wrong_is_so_much_likelier(odds: float):
    # given right margins around -1 and wrong ones around 1, a quarter of all
    generator = np.random.default_rng(9)
    margins = np.concatenate([generator.normal(-1, 1, 75_000), generator.normal(1, 1, 25_000)])
    moved = generator.normal(1, 1, 100_000)
    noise = fit_threshold(margins, moved, moved, odds)
    assert noise.wrong == pytest.approx(0.25, abs=0.05)
    # then 0.25 N(t; 1) = odds · 0.75 N(t; -1), so 2 t = log(3 odds)
    assert noise.threshold == pytest.approx(np.log(3 * odds) / 2, abs=0.25)


@pytest.mark.parametrize("odds", [0.0, -1.0, float("nan")])
def test_estimate_label_noise_refuses_odds_that_are_none(odds: float):
    with pytest.raises(ValueError, match="expected positive odds"):
        estimate_label_noise(np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1]), odds=odds)


def test_fit_threshold_without_moved_images_suspects_none():
    assert not fit_threshold(
        np.array([0.5, np.nan]), np.empty(0), np.empty(0)
    ).suspected_mislabels.any()
    assert not fit_threshold(np.full(2, np.nan), np.ones(1), np.ones(1)).suspected_mislabels.any()


@pytest.mark.parametrize("inside", [0.0, 0.5, 1.0])
def test_fit_threshold_tells_where_wrong_images_come_from(inside: float):
    # given wrong images whose landmark is found at margins around 3, or hidden at 1
    generator = np.random.default_rng(10)
    right, centre = generator.normal(-2, 0.7, 80_000), 1 + 2 * (generator.random(20_000) < inside)
    margins = np.concatenate([right, generator.normal(centre, 0.5)])
    hidden, found = generator.normal(1, 0.5, 50_000), generator.normal(3, 0.5, 50_000)
    noise = fit_threshold(margins, hidden, found)
    assert noise.wrong == pytest.approx(0.2, abs=0.02)
    assert noise.inside == pytest.approx(inside, abs=0.05)


def test_fit_threshold_hardly_moves_between_samples():
    # given samples of 1,000 images, of which 150 are wrong
    generator, found = np.random.default_rng(11), []
    for _ in range(20):
        right, wrong = generator.normal(-1, 0.6, 850), generator.normal(1, 0.6, 150)
        moved = generator.normal(1, 0.6, 10_000)
        found.append(fit_threshold(np.concatenate([right, wrong]), moved, moved).threshold)
    assert np.std(found) < 0.2  # of 0.6, the deviation of either kind


def test_whiten_divides_principal_components_by_a_power_of_their_deviation():
    generator = np.random.default_rng(12)
    rows = generator.standard_normal((400, 6)) * [4, 3, 2, 1, 0.5, 0.25]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    centred = rows - rows.mean(axis=0)
    _, deviation, axes = np.linalg.svd(centred, full_matrices=False)
    for power in (0.0, 0.5, 1.0):
        expected = centred @ axes.T / deviation**power
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        found = whiten(rows, power, generator=generator)
        np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_whiten_of_alike_rows_and_of_their_mean_stays_finite():
    generator = np.random.default_rng(13)
    same = np.tile(np.float16([0.6, 0.8]), (5, 1))
    np.testing.assert_array_equal(whiten(same, 0.5, generator=generator), same)
    rows = np.float16([[1, 0], [-1, 0], [0, 1], [0, -1]])
    found = whiten(rows, 0.5, generator=generator)
    assert found.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(found.astype(float), axis=1), 1, atol=1e-3)


def test_choose_descriptor_takes_the_one_that_sees_landmarks_best():
    # given the same images seen through three spreads
    generator = np.random.default_rng(14)
    rows, ids, _ = swapped(generator, 0.3)
    blurred = {}
    for name, spread in (("worst", 0.3), ("best", 0.0), ("middle", 0.15)):
        seen = rows + spread * generator.standard_normal(rows.shape).astype(np.float32)
        blurred[name] = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    name, table = choose_descriptor(blurred, ids)
    assert name == "best"
    assert table["descriptor"].tolist() == ["best", "middle", "worst"]
    assert table["auc"].between(0.5, 1).all()


def test_choose_descriptor_of_single_images_takes_the_first_and_refuses_none():
    rows = np.eye(5, dtype=np.float32)
    assert choose_descriptor({"b": rows, "a": rows}, np.arange(5))[0] == "b"
    with pytest.raises(ValueError, match="expected descriptors"):
        choose_descriptor({}, np.arange(5))

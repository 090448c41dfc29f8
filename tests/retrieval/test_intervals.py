import numpy as np
import pandas as pd
import pytest

from lib.retrieval.bootstrap import Interval, bootstrap_interval, paired_difference


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(0.4, 0.2, 1129)
    found = bootstrap_interval(values, generator=np.random.default_rng(1))
    error = values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_says():
    generator = np.random.default_rng(2)
    covered = [
        not bootstrap_interval(
            generator.uniform(size=60), generator=generator, resamples=500, level=0.8
        ).excludes(0.5)
        for _ in range(300)
    ]
    assert 0.7 < np.mean(covered) < 0.9


def test_bootstrap_interval_of_two_values_counts_the_outcomes():
    # Means of two draws from {0, 1}: 0, 0.5 and 1 with chances 1/4, 1/2 and 1/4.
    narrow = bootstrap_interval([0.0, 1.0], generator=np.random.default_rng(3), level=0.4)
    wide = bootstrap_interval([0.0, 1.0], generator=np.random.default_rng(3), level=0.9)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_bootstrap_interval_widens_with_level_and_repeats_with_its_generator():
    values = np.random.default_rng(4).uniform(size=50)
    intervals = [
        bootstrap_interval(values, generator=np.random.default_rng(5), level=level)
        for level in (0.5, 0.95, 0.95)
    ]
    assert intervals[1] == intervals[2]
    assert intervals[1].low < intervals[0].low < intervals[0].high < intervals[1].high


def test_bootstrap_interval_of_one_value_has_no_width():
    found = bootstrap_interval([0.3], generator=np.random.default_rng(6))
    assert found == Interval(0.3, 0.3, 0.3)


def test_bootstrap_interval_does_not_depend_on_how_many_draws_fit_in_memory(monkeypatch):
    values = np.random.default_rng(7).uniform(size=40)
    at_once = bootstrap_interval(values, generator=np.random.default_rng(8), resamples=999)
    monkeypatch.setattr("lib.retrieval.bootstrap.DRAWS_AT_ONCE", 100)
    in_parts = bootstrap_interval(values, generator=np.random.default_rng(8), resamples=999)
    assert at_once == in_parts


def test_paired_difference_sees_what_unpaired_intervals_cannot():
    generator = np.random.default_rng(9)
    before = generator.uniform(size=300)
    after = before + generator.normal(0.01, 0.02, 300)
    alone = [bootstrap_interval(x, generator=generator) for x in (before, after)]
    assert alone[0].high > alone[1].low
    difference = paired_difference(after, before, generator=generator)
    assert difference.excludes(0.0)
    assert difference.mean == pytest.approx(np.mean(after - before))


def test_paired_difference_matches_series_by_query():
    after = pd.Series([0.9, 0.1], index=["q", "r"])
    before = pd.Series([0.0, 0.8], index=["r", "q"])
    found = paired_difference(after, before, generator=np.random.default_rng(10))
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError, match="2 in one only"):
        paired_difference(after, before.rename({"r": "s"}), generator=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([], {}, "found shape \\(0,\\)"),
        ([0.1, np.nan], {}, "1 not finite"),
        ([[0.1]], {}, "flat list"),
        ([0.1], {"level": 1.0}, "between 0 and 1"),
        ([0.1], {"resamples": 0}, "at least one resample"),
    ],
)
def test_bootstrap_interval_refuses_bad_input(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, generator=np.random.default_rng(0), **options)


def test_paired_difference_refuses_other_lengths():
    with pytest.raises(ValueError, match="as many values"):
        paired_difference([0.1, 0.2], [0.1], generator=np.random.default_rng(0))

"""Scores per query, steps compared on the same queries, and continents."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.data.evaluation_set import Evaluation
from lib.data.tables import read_submission
from lib.retrieval import metrics, scoring
from lib.retrieval.ranking import Ranking
from lib.retrieval.scoring import (
    Interval,
    bootstrap_interval,
    compare_steps,
    map_by_continent,
    map_of_usage,
    most_changed,
    paired_gain,
    score_queries,
    unpaired_gain,
)
from lib.retrieval.submission import write_submission


def table(precisions, usages=("Public", "Private", "Private", "Private"), continents=None):
    """What `score_queries` gives for queries q0, q1, ..."""
    count = len(precisions)
    return pd.DataFrame(
        {
            "id": [f"q{number}" for number in range(count)],
            "usage": usages,
            "country": "FR",
            "continent": continents or ["Europe"] * count,
            "average_precision": precisions,
            "first_hit": 1,
        }
    )


@pytest.fixture
def three_queries():
    queries = pd.DataFrame(
        {
            "id": ["q2", "q0", "q1"],
            "path": "x",
            "usage": ["Private", "Public", "Private"],
            "country": ["JP", "FR", "OTHER"],
            "continent": ["Asia", "Europe", "OTHER"],
        }
    )
    solution = {"Public": {"q0": {"a"}}, "Private": {"q2": {"a", "d"}, "q1": {"c"}}}
    return Evaluation(queries, pd.DataFrame(), solution, "solution", np.empty(0, int))


def test_score_queries_gives_a_row_per_query_in_their_order(three_queries):
    ranking = Ranking(
        np.tile([0.9, 0.8, 0.7], (3, 1)),
        np.array([[0, 1, 3], [0, 1, 3], [1, 0, 3]]),
        ["q0", "q1", "q2"],
        ["a", "b", "c", "d"],
    )
    found = score_queries(ranking, three_queries)
    assert found["id"].tolist() == ["q2", "q0", "q1"]
    assert found["usage"].tolist() == ["Private", "Public", "Private"]
    assert found["continent"].tolist() == ["Asia", "Europe", "OTHER"]
    np.testing.assert_allclose(found["average_precision"], [(1 / 2 + 2 / 3) / 2, 1.0, 0.0])
    assert found["first_hit"].tolist() == [2, 1, 4]  # one more than are ranked
    assert score_queries(ranking, three_queries, k=1)["first_hit"].tolist() == [2, 1, 2]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_every_score_of_a_ranking_counts_as_many_as_it_holds(three_queries, k, tmp_path):
    ids, queries = [f"g{number}" for number in range(9)], ["q0", "q1", "q2"]
    positions = np.array([np.roll(np.arange(9), shift)[:k] for shift in (0, 1, 3)])
    ranking = Ranking(np.tile(-np.arange(9.0)[:k], (3, 1)), positions, queries, ids)
    solution = {"Public": {"q0": set(ids[:4])}, "Private": {"q2": set(ids[5:]), "q1": {"g0"}}}
    scores = score_queries(ranking, dataclasses.replace(three_queries, solution=solution))
    private = {query: ranking.predictions()[query] for query in solution["Private"]}
    expected = metrics.mean_average_precision(private, solution["Private"], k)
    assert map_of_usage(scores) == pytest.approx(expected)
    assert scores["first_hit"].max() <= k + 1
    found = metrics.evaluate(ranking, solution)
    assert found.loc["Private", f"mAP@{k}"] == pytest.approx(expected)
    path = write_submission(ranking, tmp_path / "s.csv", query_ids=queries, gallery_ids=ids)
    assert read_submission(path) == ranking.predictions()


def test_map_of_usage_averages_one_usage():
    scores = table([1.0, 0.2, 0.4, 0.9])
    assert map_of_usage(scores) == pytest.approx(0.5)
    assert map_of_usage(scores, "Public") == 1.0


def test_compare_steps_is_right_on_tables_made_by_hand():
    steps = {
        "first": table([0.5, 0.2, 0.2, 0.2]),
        "better": table([0.75, 0.3, 0.3, 0.3]),
        "mixed": table([0.0, 0.0, 0.3, 0.9]),
    }
    found = compare_steps(steps).set_index("step")
    assert found.index.tolist() == list(steps)
    np.testing.assert_allclose(found["public"], [0.5, 0.75, 0.0])
    np.testing.assert_allclose(found["private"], [0.2, 0.3, 0.4])
    # Equal queries leave nothing to chance: no width.
    np.testing.assert_allclose(found.loc["first", ["low", "high"]].astype(float), [0.2, 0.2])
    assert found.loc["first", ["gain", "gain_low", "gain_high"]].isna().all()
    gains = found.loc["better", ["gain", "gain_low", "gain_high"]].astype(float)
    np.testing.assert_allclose(gains, [0.1, 0.1, 0.1])
    mixed = found.loc["mixed"]
    assert mixed["gain"] == pytest.approx(0.1)
    assert mixed["gain_low"] == pytest.approx(-0.3)  # thrice the query that lost
    assert mixed["gain_high"] == pytest.approx(0.6)


def test_compare_steps_shows_landmarks_seen_in_training_and_others_apart():
    first = table([0.5, 0.1, 0.3, 0.8]).assign(is_seen=[True, True, False, True])
    found = compare_steps({"only": first})
    assert found.loc[0, "private_seen"] == pytest.approx(0.45)
    assert found.loc[0, "private_unseen"] == pytest.approx(0.3)


def test_compare_steps_matches_queries_by_id():
    first = table([0.5, 0.1, 0.5, 0.9])
    second = first.assign(average_precision=first["average_precision"] + 0.05)
    found = compare_steps({"first": first, "second": second.iloc[::-1]})
    last = found[["gain", "gain_low", "gain_high"]].iloc[1]
    np.testing.assert_allclose(last.astype(float), [0.05] * 3)


def test_compare_steps_refuses_steps_about_other_queries():
    with pytest.raises(ValueError, match="expected the same queries twice, found 2 in one only"):
        compare_steps({"first": table([0.5] * 4), "second": table([0.5] * 4).replace("q3", "q9")})


def test_compare_steps_repeats_itself_by_seed():
    generator = np.random.default_rng(0)
    steps = {
        name: table(list(generator.random(40)), ["Public"] * 10 + ["Private"] * 30)
        for name in ("a", "b")
    }
    pd.testing.assert_frame_equal(compare_steps(steps, seed=1), compare_steps(steps, seed=1))
    assert not compare_steps(steps, seed=1).equals(compare_steps(steps, seed=2))
    found = compare_steps(steps)
    assert (found["low"] < found["private"]).all()
    assert (found["private"] < found["high"]).all()


def test_compare_steps_does_without_public_queries_and_asks_for_private_ones():
    found = compare_steps({"only": table([0.2, 0.4], ["Private"] * 2)})
    assert np.isnan(found["public"][0])
    assert found["private"][0] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="expected Private queries in step 'only', found Public"):
        compare_steps({"only": table([0.2, 0.4], ["Public"] * 2)})


def test_map_by_continent_is_right_on_a_table_made_by_hand():
    places = ["Asia", "Europe", "Europe", "Africa", "Europe", "Africa", "Africa", "Africa"]
    usages = ["Public"] * 2 + ["Private"] * 6
    first = table([0.1, 0.2, 0.3, 0.4, 0.7, 0.0, 0.4, 0.8], usages, places)
    second = first.assign(average_precision=1.0)
    found = map_by_continent({"first": first, "second": second})
    assert found.columns.tolist() == ["continent", "queries", "first", "second"]
    assert found["continent"].tolist() == ["Africa", "Europe"]  # Asia has one query
    assert found["queries"].tolist() == [4, 3]
    np.testing.assert_allclose(found["first"], [0.4, 0.4])
    assert found["second"].tolist() == [1.0, 1.0]
    assert map_by_continent({"first": first}, fewest=1)["continent"].tolist()[-1] == "Asia"


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_values():
    values = np.random.default_rng(0).normal(0.4, 0.2, 1129)
    found = bootstrap_interval(values, generator=np.random.default_rng(1))
    error = values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 500)
    monkeypatch.setattr(scoring, "TAILS", (0.1, 0.9))
    generator = np.random.default_rng(2)
    covered = [
        found.low <= 0.5 <= found.high
        for found in (
            bootstrap_interval(generator.uniform(size=60), generator=generator) for _ in range(300)
        )
    ]
    assert 0.7 < np.mean(covered) < 0.9


@pytest.mark.parametrize(("tails", "expected"), [((0.3, 0.7), (0.5, 0.5)), ((0.05, 0.95), (0, 1))])
def test_bootstrap_interval_of_two_values_counts_the_outcomes(monkeypatch, tails, expected):
    # Means of two draws from {0, 1}: 0, 0.5 and 1 with chances 1/4, 1/2 and 1/4.
    monkeypatch.setattr(scoring, "TAILS", tails)
    found = bootstrap_interval([0.0, 1.0], generator=np.random.default_rng(3))
    assert (found.low, found.high) == expected


def test_bootstrap_interval_repeats_with_its_generator():
    values = np.random.default_rng(4).uniform(size=50)
    seeds = (5, 5, 6)
    one, same, other = (
        bootstrap_interval(values, generator=np.random.default_rng(seed)) for seed in seeds
    )
    assert one == same != other


def test_bootstrap_interval_of_one_value_has_no_width():
    found = bootstrap_interval([0.3], generator=np.random.default_rng(6))
    assert found == Interval(0.3, 0.3, 0.3)


def test_bootstrap_interval_does_not_depend_on_how_many_draws_fit_in_memory(monkeypatch):
    values = np.random.default_rng(7).uniform(size=40)
    monkeypatch.setattr(scoring, "RESAMPLES", 999)
    at_once = bootstrap_interval(values, generator=np.random.default_rng(8))
    monkeypatch.setattr(scoring, "RESAMPLED_AT_ONCE", 100)
    in_parts = bootstrap_interval(values, generator=np.random.default_rng(8))
    assert at_once == in_parts


def test_bootstrap_interval_is_the_percentile_of_means_drawn_one_by_one(monkeypatch):
    monkeypatch.setattr(scoring, "RESAMPLES", 200)
    values = np.random.default_rng(11).uniform(size=31)
    found = bootstrap_interval(values, generator=np.random.default_rng(12))
    generator = np.random.default_rng(12)
    means = [values[generator.integers(31, size=31)].mean() for _ in range(200)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_paired_gain_sees_what_unpaired_intervals_cannot():
    generator = np.random.default_rng(9)
    before = pd.Series(generator.uniform(size=300))
    after = before + generator.normal(0.01, 0.02, 300)
    alone = [bootstrap_interval(x, generator=generator) for x in (before, after)]
    assert alone[0].high > alone[1].low
    gain = paired_gain(after, before, generator=generator)
    assert 0 < gain.low < gain.mean < gain.high
    assert gain.mean == pytest.approx(np.mean(after - before))


def test_paired_gain_matches_values_by_query():
    after = pd.Series([0.9, 0.1], index=["q", "r"])
    before = pd.Series([0.0, 0.8], index=["r", "q"])
    found = paired_gain(after, before, generator=np.random.default_rng(10))
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    for other in (before.rename({"r": "s"}), before[:1]):
        with pytest.raises(ValueError, match="expected the same queries twice"):
            paired_gain(after, other, generator=np.random.default_rng(0))


def test_paired_gain_without_anything_before_is_nan():
    assert np.isnan(paired_gain(pd.Series([0.5]), None, generator=np.random.default_rng(0))).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "found shape \\(0,\\)"),
        ([0.1, np.nan], "1 not finite"),
        ([[0.1]], "flat list"),
    ],
)
def test_bootstrap_interval_refuses_bad_input(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, generator=np.random.default_rng(0))


def test_unpaired_gain_agrees_with_the_normal_interval_of_two_samples():
    generator = np.random.default_rng(3)
    after = pd.Series(generator.uniform(0.2, 1, 300))
    before = pd.Series(generator.uniform(0, 0.6, 200))
    found = unpaired_gain(after, before, generator=generator)
    half = 1.96 * np.sqrt(after.var() / 300 + before.var() / 200)
    gain = after.mean() - before.mean()
    assert found == pytest.approx((gain, gain - half, gain + half), abs=0.004)
    one = unpaired_gain(after[:1], before[:1], generator=generator)
    assert one == pytest.approx((after[0] - before[0],) * 3)


@pytest.mark.parametrize(
    ("change", "shown", "words"),
    [
        (
            [0.1, 0.4, 0.2, 0.3, -0.1, -0.2],
            "bdcf",
            "the 3 queries that gained most (+0.40 to +0.20)",
        ),
        (
            [0.1, 0, 0, -0.2],
            "ad",
            "the query that gained most (+0.10), the one that lost most (-0.20)",
        ),
        ([0, -0.1, -0.2], "c", "no query gained, the one that lost most (-0.20)"),
        ([0.0] * 6, "abcd", "no query gained, no query lost"),
        ([], "", "no query gained, no query lost"),
    ],
)
def test_most_changed_says_what_it_shows(change, shown, words):
    found, told = most_changed(pd.Series(change, list("abcdef"[: len(change)]), dtype=float))
    assert found == list(shown)
    assert told.startswith(words)

"""Scores per query, steps compared on the same queries, and continents."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.config import InferenceConfig
from lib.data.evaluation_set import Evaluation
from lib.data.tables import read_submission
from lib.data.training_lists import training_list
from lib.retrieval import embedding as embed
from lib.retrieval import metrics
from lib.retrieval.ranking import Ranking
from lib.retrieval.scoring import by_continent, compare, difference, mean_of, rank, score
from lib.retrieval.submission import write_submission
from lib.training.stage import train


def table(precisions, usages=("Public", "Private", "Private", "Private"), continents=None):
    """What `score` gives for queries q0, q1, ..."""
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


def test_score_gives_a_row_per_query_in_their_order(three_queries):
    ranking = Ranking(
        np.tile([0.9, 0.8, 0.7], (3, 1)),
        np.array([[0, 1, 3], [0, 1, 3], [1, 0, 3]]),
        ["q0", "q1", "q2"],
        ["a", "b", "c", "d"],
    )
    found = score(ranking, three_queries)
    assert found["id"].tolist() == ["q2", "q0", "q1"]
    assert found["usage"].tolist() == ["Private", "Public", "Private"]
    assert found["continent"].tolist() == ["Asia", "Europe", "OTHER"]
    np.testing.assert_allclose(found["average_precision"], [(1 / 2 + 2 / 3) / 2, 1.0, 0.0])
    assert found["first_hit"].tolist() == [2, 1, 4]  # one more than are ranked
    assert score(ranking, three_queries, k=1)["first_hit"].tolist() == [2, 1, 2]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_every_score_of_a_ranking_counts_as_many_as_it_holds(three_queries, k, tmp_path):
    ids, queries = [f"g{number}" for number in range(9)], ["q0", "q1", "q2"]
    positions = np.array([np.roll(np.arange(9), shift)[:k] for shift in (0, 1, 3)])
    ranking = Ranking(np.tile(-np.arange(9.0)[:k], (3, 1)), positions, queries, ids)
    solution = {"Public": {"q0": set(ids[:4])}, "Private": {"q2": set(ids[5:]), "q1": {"g0"}}}
    scores = score(ranking, dataclasses.replace(three_queries, solution=solution))
    private = {query: ranking.predictions()[query] for query in solution["Private"]}
    expected = metrics.mean_average_precision(private, solution["Private"], k)
    assert mean_of(scores) == pytest.approx(expected)
    assert scores["first_hit"].max() <= k + 1
    found = metrics.evaluate(ranking, solution)
    assert found.loc["Private", f"mAP@{k}"] == pytest.approx(expected)
    every = metrics.average_precisions(ranking, solution["Private"] | solution["Public"])
    assert every[["q2", "q1"]].mean() == pytest.approx(expected)
    path = write_submission(ranking, tmp_path / "s.csv", query_ids=queries, gallery_ids=ids)
    assert read_submission(path) == ranking.predictions()


def test_mean_of_averages_one_usage():
    scores = table([1.0, 0.2, 0.4, 0.9])
    assert mean_of(scores) == pytest.approx(0.5)
    assert mean_of(scores, "Public") == 1.0


def test_compare_is_right_on_tables_made_by_hand():
    steps = {
        "first": table([0.5, 0.2, 0.2, 0.2]),
        "better": table([0.75, 0.3, 0.3, 0.3]),
        "mixed": table([0.0, 0.0, 0.3, 0.9]),
    }
    found = compare(steps).set_index("step")
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


def test_compare_matches_queries_by_id():
    first = table([0.5, 0.1, 0.5, 0.9])
    second = first.assign(average_precision=first["average_precision"] + 0.05)
    found = compare({"first": first, "second": second.iloc[::-1]})
    last = found[["gain", "gain_low", "gain_high"]].iloc[1]
    np.testing.assert_allclose(last.astype(float), [0.05] * 3)


def test_compare_refuses_steps_about_other_queries():
    with pytest.raises(ValueError, match="expected the same queries twice, found 2 in one only"):
        compare({"first": table([0.5] * 4), "second": table([0.5] * 4).replace("q3", "q9")})


def test_compare_repeats_itself_by_seed():
    generator = np.random.default_rng(0)
    steps = {
        name: table(list(generator.random(40)), ["Public"] * 10 + ["Private"] * 30)
        for name in ("a", "b")
    }
    pd.testing.assert_frame_equal(compare(steps, seed=1), compare(steps, seed=1))
    assert not compare(steps, seed=1).equals(compare(steps, seed=2))
    found = compare(steps)
    assert (found["low"] < found["private"]).all()
    assert (found["private"] < found["high"]).all()


def test_compare_does_without_public_queries_and_asks_for_private_ones():
    found = compare({"only": table([0.2, 0.4], ["Private"] * 2)})
    assert np.isnan(found["public"][0])
    assert found["private"][0] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="expected Private queries in step 'only', found Public"):
        compare({"only": table([0.2, 0.4], ["Public"] * 2)})


def test_difference_without_a_step_before_is_nothing():
    assert np.isnan(difference(pd.Series([0.5]), None)).all()


def test_by_continent_is_right_on_a_table_made_by_hand():
    places = ["Asia", "Europe", "Europe", "Africa", "Europe", "Africa", "Africa", "Africa"]
    usages = ["Public"] * 2 + ["Private"] * 6
    first = table([0.1, 0.2, 0.3, 0.4, 0.7, 0.0, 0.4, 0.8], usages, places)
    second = first.assign(average_precision=1.0)
    found = by_continent({"first": first, "second": second})
    assert found.columns.tolist() == ["continent", "queries", "first", "second"]
    assert found["continent"].tolist() == ["Africa", "Europe"]  # Asia has one query
    assert found["queries"].tolist() == [4, 3]
    np.testing.assert_allclose(found["first"], [0.4, 0.4])
    assert found["second"].tolist() == [1.0, 1.0]
    assert by_continent({"first": first}, fewest=1)["continent"].tolist()[-1] == "Asia"


@pytest.fixture(scope="module")
def checkpoint(tiny_stage, tiny_model, dataset, stripes, tmp_path_factory):
    images, folder = training_list(dataset, "clean"), tmp_path_factory.mktemp("stage")
    return train(tiny_stage, tiny_model, images, stripes, folder)


def test_rank_finds_each_query_its_landmark(checkpoint, evaluation, stripes, tmp_path):
    ranking = rank(checkpoint, evaluation, stripes, tmp_path, InferenceConfig(size=32), k=5)
    assert ranking.positions.shape == (12, 5)
    scores = score(ranking, evaluation)
    landmark = evaluation.gallery.set_index("id")["landmark_id"]
    first = [landmark[ids[0]] for ids in ranking.predictions().values()]
    truth = {q: landmark[next(iter(a))] for s in evaluation.solution.values() for q, a in s.items()}
    hits = [
        truth[query] == found for query, found in zip(ranking.predictions(), first, strict=True)
    ]
    assert np.mean(hits) > 0.6
    assert (scores.set_index("id")["first_hit"] == 1).sum() == sum(hits)
    assert mean_of(scores) > 0.5
    assert mean_of(scores, "Public") > 0.5


def test_rank_embeds_only_what_is_missing(checkpoint, evaluation, stripes, tmp_path, monkeypatch):
    first = rank(checkpoint, evaluation, stripes, tmp_path, InferenceConfig(size=32), k=5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gallery", "query"]
    monkeypatch.setattr(embed, "_embed", None)
    second = rank(checkpoint, evaluation, stripes, tmp_path, InferenceConfig(size=32), k=5)
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.scores, second.scores)

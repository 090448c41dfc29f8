import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib.reranking.comparison import PLAIN, RERANKERS, Comparison, Reranker, compare
from lib.retrieval import scoring
from tests.material import small_evaluation, small_material

FEW = tuple(
    reranker
    for reranker in RERANKERS
    if reranker.name in (PLAIN, "soft addition and penalty", "two models side by side")
)


@pytest.fixture(scope="module")
def evaluation():
    return small_evaluation()


@pytest.fixture(scope="module")
def material(evaluation):
    return small_material(evaluation)


@pytest.fixture(scope="module")
def comparison(material, evaluation):
    return compare(material, evaluation, rerankers=FEW)


def test_compare_has_a_row_per_reranker(comparison):
    table = comparison.table
    assert table["reranker"].tolist() == [reranker.name for reranker in FEW]
    assert table["tried"].tolist() == [1, 16, 1]
    assert table[["gain", "gain_low", "gain_high"]].iloc[0].isna().all()
    assert (table["low"] <= table["private"]).all()
    assert (table["private"] <= table["high"]).all()
    assert set(comparison.chosen) == set(table["reranker"])


def test_compare_chooses_on_public_and_reports_private(comparison, material, evaluation):
    soft = FEW[1]
    tried = {}
    for bonus in soft.grid["bonus"]:
        for penalty in soft.grid["penalty"]:
            ranking = soft.rerank(material, bonus=bonus, penalty=penalty)
            tried[bonus, penalty] = scoring.score_queries(ranking, evaluation, k=20)
    public = {key: scoring.map_of_usage(scored, "Public") for key, scored in tried.items()}
    best = max(public, key=public.get)  # the first of several
    row = comparison.table.iloc[1]
    assert row["settings"] == f"bonus {best[0]:g}, penalty {best[1]:g}"
    assert row["public"] == public[best]
    assert row["private"] == pytest.approx(scoring.map_of_usage(tried[best]))
    plain = scoring.score_queries(material.plain, evaluation, k=20)
    gain = scoring.map_of_usage(tried[best]) - scoring.map_of_usage(plain)
    assert row["gain"] == pytest.approx(gain)
    assert row["gain_low"] <= gain <= row["gain_high"]


def test_compare_never_looks_at_private_answers_to_choose(material, evaluation):
    shuffled = {query: {"g0"} for query in evaluation.solution["Private"]}
    solution = evaluation.solution | {"Private": shuffled}
    other = compare(material, dataclasses.replace(evaluation, solution=solution), rerankers=FEW)
    first = compare(material, evaluation, rerankers=FEW)
    assert other.table["settings"].tolist() == first.table["settings"].tolist()
    assert other.table["private"].tolist() != first.table["private"].tolist()


def test_compare_repeats_itself(material, evaluation, comparison):
    again = compare(small_material(evaluation), evaluation, rerankers=FEW)
    pd.testing.assert_frame_equal(again.table, comparison.table)
    pd.testing.assert_frame_equal(again.continents, comparison.continents)


def test_compare_leaves_ensembles_out_where_there_is_one_model(evaluation):
    alone = compare(small_material(evaluation, two=False), evaluation, rerankers=FEW)
    assert alone.table["reranker"].tolist() == [FEW[0].name, FEW[1].name]


def test_compare_takes_the_published_setting_without_public_queries(material, evaluation):
    queries = evaluation.queries.assign(usage="Private")
    solution = {"Private": evaluation.solution["Public"] | evaluation.solution["Private"]}
    privately = dataclasses.replace(evaluation, queries=queries, solution=solution)
    table = compare(material, privately, rerankers=FEW).table
    assert table["settings"].iloc[1] == "bonus 1, penalty 0.1"
    assert table["public"].isna().all()


def test_compare_asks_for_private_queries(material, evaluation):
    queries = evaluation.queries.assign(usage="Public")
    solution = {"Public": evaluation.solution["Public"] | evaluation.solution["Private"]}
    with pytest.raises(ValueError, match="Private queries to report, found none"):
        compare(material, dataclasses.replace(evaluation, queries=queries, solution=solution))


def test_compare_prefers_the_first_of_equally_good_settings(material, evaluation):
    indifferent = Reranker("same", "x", lambda material, **_: material.plain, {"a": (3, 1, 2)})
    table = compare(material, evaluation, rerankers=[FEW[0], indifferent]).table
    assert table["settings"].iloc[1] == "a 3"
    assert table["gain"].iloc[1] == 0.0


def test_continents_and_their_spread_are_those_of_private_queries(comparison):
    scored = comparison.chosen[PLAIN].scores
    private = scored[scored["usage"] == "Private"]
    expected = private.groupby("continent")["average_precision"].mean()
    table = comparison.continents.set_index("continent")
    np.testing.assert_allclose(table[PLAIN], expected.loc[table.index])
    assert table["queries"].sum() == len(private)
    spread = comparison.spread().set_index("reranker").loc[PLAIN]
    assert spread["spread"] == pytest.approx(expected.max() - expected.min())
    assert (spread["best"], spread["worst"]) == (expected.idxmax(), expected.idxmin())


def test_spread_is_one_of_continents_and_other_is_none():
    continents = pd.DataFrame(
        {"continent": ["Asia", "OTHER", "Africa"], "queries": [9, 9, 9], "plain": [0.5, 0.1, 0.4]}
    )
    found = Comparison(pd.DataFrame(), continents, {}).spread()
    assert found["worst"].tolist() == ["Africa"]
    assert found["spread"].tolist() == pytest.approx([0.1])
    nowhere = Comparison(pd.DataFrame(), continents.iloc[[1]], {}).spread()
    assert len(nowhere) == 0


def test_spread_of_one_continent_is_none(capsys):
    continents = pd.DataFrame(
        {
            "continent": ["Asia", "OTHER"],
            "queries": [9, 9],
            "plain": [0.5, 0.1],
            "other": [0.6, 0.2],
        }
    )
    found = Comparison(pd.DataFrame(), continents, {}).spread()
    assert found["best_map"].tolist() == [0.5, 0.6]
    assert found["spread"].isna().all()
    assert capsys.readouterr().out == (
        "no spread: expected two continents with enough queries, found Asia\n"
    )


def test_best_is_the_one_of_one_model_that_is_best_on_public(comparison, material):
    alone = comparison.table[comparison.table["reranker"] != "two models side by side"]
    best = comparison.best()
    assert best.reranker.name == alone.loc[alone["public"].idxmax(), "reranker"]
    again = best.reranker.rerank(material, **best.settings)
    assert again.predictions() == best.ranking.predictions()

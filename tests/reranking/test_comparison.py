import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from lib.reranking.comparison import (
    RERANKERS,
    Comparison,
    Reranker,
    best_of_tuned,
    best_second_model,
    choose_weights,
    compare,
)
from lib.reranking.landmark_country import landmark_country_rerank
from lib.retrieval import metrics, scoring
from tests.made_up import small_data, small_evaluation, write_folder

PLAIN, SOFT = "plain search", "soft addition and penalty"
FEW = (PLAIN, SOFT, "two models side by side")


class KnownMatches:
    """Stands in for `PairVerifier`: half of the pairs of one landmark have inliers."""

    def __init__(self, queries, gallery):
        generator = np.random.default_rng(0)
        same = np.equal.outer(queries, gallery)
        self.gallery = gallery
        self.table = np.where(same & (generator.random(same.shape) < 0.5), 15, 3)

    def inliers(self, positions):
        return np.take_along_axis(self.table, positions, axis=1)

    def of_pairs(self, rows, positions):
        return self.table[rows, positions]

    def within_gallery(self):
        return KnownMatches(self.gallery, self.gallery)


@pytest.fixture(scope="module")
def evaluation():
    return small_evaluation()


@pytest.fixture(scope="module")
def data(evaluation):
    queries, gallery = (
        table["country"].to_numpy() for table in (evaluation.queries, evaluation.gallery)
    )
    local = KnownMatches(queries, gallery)
    return dataclasses.replace(small_data(evaluation), local=local)


@pytest.fixture(scope="module")
def comparison(data, evaluation):
    return compare(data, evaluation, names=FEW)


def test_compare_has_a_row_per_reranker(comparison):
    table = comparison.table
    assert table["reranker"].tolist() == list(FEW)
    assert table["tried"].tolist() == [1, 16, 1]
    assert table[["gain", "gain_low", "gain_high"]].iloc[0].isna().all()
    assert (table["low"] <= table["private"]).all()
    assert (table["private"] <= table["high"]).all()
    assert set(comparison.chosen) == set(table["reranker"])


def test_compare_chooses_on_public_and_reports_private(comparison, data, evaluation):
    soft = RERANKERS[SOFT]
    tried = {}
    for bonus in soft.settings["bonus"]:
        for penalty in soft.settings["penalty"]:
            ranking = soft.rerank(data, bonus=bonus, penalty=penalty)
            tried[bonus, penalty] = scoring.score_queries(ranking, evaluation, k=20)
    public = {key: scoring.map_of_usage(scored, "Public") for key, scored in tried.items()}
    best = max(public, key=public.get)  # the first of several
    row = comparison.table.iloc[1]
    assert row["settings"] == f"bonus {best[0]:g}, penalty {best[1]:g}"
    assert row["public"] == public[best]
    assert row["private"] == pytest.approx(scoring.map_of_usage(tried[best]))
    plain = scoring.score_queries(data.plain, evaluation, k=20)
    gain = scoring.map_of_usage(tried[best]) - scoring.map_of_usage(plain)
    assert row["gain"] == pytest.approx(gain)
    assert row["gain_low"] <= gain <= row["gain_high"]


def test_compare_never_looks_at_private_answers_to_choose(data, evaluation):
    shuffled = {query: {"g0"} for query in evaluation.solution["Private"]}
    solution = evaluation.solution | {"Private": shuffled}
    other = compare(data, dataclasses.replace(evaluation, solution=solution), names=FEW)
    first = compare(data, evaluation, names=FEW)
    assert other.table["settings"].tolist() == first.table["settings"].tolist()
    assert other.table["private"].tolist() != first.table["private"].tolist()


def test_compare_repeats_itself(data, evaluation, comparison):
    again = compare(small_data(evaluation), evaluation, names=FEW)
    pd.testing.assert_frame_equal(again.table, comparison.table)
    pd.testing.assert_frame_equal(again.continents, comparison.continents)


def test_compare_leaves_ensembles_out_where_there_is_one_model(evaluation):
    alone = compare(small_data(evaluation, two=False), evaluation, names=FEW)
    assert alone.table["reranker"].tolist() == [PLAIN, SOFT]


def without_public(evaluation):
    queries = evaluation.queries.assign(usage="Private")
    solution = {"Private": evaluation.solution["Public"] | evaluation.solution["Private"]}
    return dataclasses.replace(evaluation, queries=queries, solution=solution)


def test_compare_takes_the_published_setting_without_public_queries(data, evaluation):
    table = compare(data, without_public(evaluation), names=FEW).table
    assert table["settings"].iloc[1] == "bonus 1, penalty 0.1"
    assert table["public"].isna().all()


def test_compare_asks_for_private_queries(data, evaluation):
    queries = evaluation.queries.assign(usage="Public")
    solution = {"Public": evaluation.solution["Public"] | evaluation.solution["Private"]}
    with pytest.raises(ValueError, match="Private queries in step 'plain search', found Public;"):
        compare(data, dataclasses.replace(evaluation, queries=queries, solution=solution))


def test_compare_takes_a_new_row_and_prefers_the_first_of_equally_good_settings(
    data, evaluation, monkeypatch
):
    same = Reranker(lambda data, **_: data.plain, "x", {"a": (3, 1, 2)})
    monkeypatch.setitem(RERANKERS, "same", same)
    table = compare(data, evaluation, names=[PLAIN, "same"]).table
    assert table["settings"].iloc[1] == "a 3"
    assert table["gain"].iloc[1] == 0.0
    with pytest.raises(ValueError, match=r"among plain search, .*, same; found 'nothing'"):
        compare(data, evaluation, names=[PLAIN, "nothing"])


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


def test_best_is_the_one_that_is_best_on_public_with_ensembles(comparison, data):
    best = best_of_tuned(comparison.chosen.values())
    assert best.name == comparison.table["reranker"][comparison.table["public"].idxmax()]
    assert best.rerank(data).predictions() == best.ranking.predictions()


def with_seen(evaluation, is_seen):
    return dataclasses.replace(evaluation, queries=evaluation.queries.assign(is_seen=is_seen))


def test_compare_shows_landmarks_of_training_and_others_apart(data, evaluation, comparison):
    ids = evaluation.queries["id"]
    seen = pd.Series((evaluation.queries["country"] == "NA").to_numpy(), index=ids)
    table = compare(data, with_seen(evaluation, seen.to_numpy()), names=FEW).table
    scored = comparison.chosen[SOFT].scores
    private = scored[scored["usage"] == "Private"]
    expected = private.groupby(private["id"].map(seen))["average_precision"].mean()
    assert table["private_seen"].iloc[1] == pytest.approx(expected[True])
    assert table["private_unseen"].iloc[1] == pytest.approx(expected[False])
    none = compare(data, with_seen(evaluation, False), names=FEW).table
    assert none["private_seen"].isna().all()
    assert "private_seen" not in comparison.table


ALPHAS, BETAS = (0.0, 0.3, 1.0), (0.0, 0.1, 0.4, 1.0)


@pytest.mark.parametrize("voting", [{}, {"top": 1, "normalise": False}])
def test_choose_weights_takes_the_first_best_cell_on_public_queries(data, evaluation, voting):
    given = {"alphas": ALPHAS[::-1], "betas": (1.0, 0.1, 0.4, 0.0, 1.0)}
    best, table = choose_weights(data, evaluation, **given, **voting)
    assert (table.index.tolist(), table.columns.tolist()) == (list(ALPHAS), list(BETAS))
    expected = {}
    for cell in itertools.product(*given.values()):
        weights = dict(zip(("alpha", "beta"), cell, strict=True))
        ranking = landmark_country_rerank(data, **weights, **voting)
        scores = scoring.score_queries(ranking, evaluation)
        expected[cell] = scoring.map_of_usage(scores, "Public")
        assert table.loc[cell] == pytest.approx(expected[cell], abs=1e-12)
    assert tuple(best.settings.values()) == max(expected, key=expected.get)
    again = landmark_country_rerank(data, **best.settings, **voting)
    assert best.ranking.predictions() == again.predictions() == best.rerank(data).predictions()
    assert len(np.unique(table)) > 3  # the weights matter here


def test_choose_weights_takes_the_first_without_public_queries(data, evaluation):
    privately = without_public(evaluation)
    best, table = choose_weights(data, privately, alphas=[1, 0], betas=[0.1])
    assert best.settings == {"alpha": 1, "beta": 0.1}
    assert table.shape == (1, 1)


def test_best_second_model_is_the_one_that_helps_public_queries(data, evaluation, tmp_path):
    generator = np.random.default_rng(0)
    tables = {"query": data.queries, "gallery": data.gallery}
    ids = {"query": data.query_ids, "gallery": data.gallery_ids}
    for name, rows in tables.items():
        write_folder(tmp_path / "noise" / name, ids[name], generator.normal(size=rows.shape))
        better = np.eye(3)[[int(one[1:]) % 3 for one in ids[name]]]
        write_folder(tmp_path / "better" / name, ids[name], better)
    folders = [tmp_path / "noise", tmp_path / "better"]
    assert best_second_model(data, folders, evaluation) == folders[1]
    assert best_second_model(data, folders, without_public(evaluation)) == folders[0]


def every_ranking(name, data):
    rerank, _, settings, _ = RERANKERS[name]
    for values in itertools.product(*settings.values()):
        yield rerank(data, **dict(zip(settings, values, strict=True)))


def test_rerankers_have_sources_and_begin_with_plain_search():
    assert next(iter(RERANKERS)) == PLAIN
    assert all(reranker.source for name, reranker in RERANKERS.items() if name != PLAIN)


@pytest.mark.parametrize("name", RERANKERS)
def test_rerankers_return_whole_rankings_and_beat_plain_search_at_best(name, evaluation, data):
    before = data.plain.positions.copy()
    answers = {query: ids for part in evaluation.solution.values() for query, ids in part.items()}
    found = []
    for ranking in every_ranking(name, data):
        assert ranking.positions.shape == (30, 20)
        assert list(ranking.predictions()) == data.query_ids.tolist()
        np.testing.assert_array_equal(ranking.gallery_ids, data.gallery_ids)
        found.append(metrics.mean_average_precision(ranking, answers, 20))
    np.testing.assert_array_equal(data.plain.positions, before)
    plain = metrics.mean_average_precision(data.plain, answers, 20)
    assert max(found) > plain + 0.01 if name != PLAIN else found == [plain]

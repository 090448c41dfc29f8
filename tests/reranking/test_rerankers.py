"""Every row of the list runs with all its settings and keeps what a reranker must keep."""

import itertools

import numpy as np
import pytest

from lib.reranking.comparison import PLAIN, RERANKERS
from lib.retrieval import metrics
from tests.material import small_evaluation, small_material


@pytest.fixture(scope="module")
def evaluation():
    return small_evaluation()


@pytest.fixture(scope="module")
def material(evaluation):
    return small_material(evaluation)


def test_rerankers_have_names_sources_and_begin_with_plain_search():
    names = [reranker.name for reranker in RERANKERS]
    assert names[0] == PLAIN
    assert len(set(names)) == len(names)
    assert all(reranker.source for reranker in RERANKERS[1:])


@pytest.mark.parametrize("reranker", RERANKERS, ids=lambda reranker: reranker.name)
def test_reranker_returns_whole_rankings_for_every_setting(reranker, material):
    before = material.plain.positions.copy()
    for values in itertools.product(*reranker.grid.values()):
        found = reranker.rerank(material, **dict(zip(reranker.grid, values, strict=True)))
        assert found.positions.shape == (30, 20)
        assert list(found.predictions()) == material.queries.ids.tolist()
        np.testing.assert_array_equal(found.gallery_ids, material.gallery.ids)
    np.testing.assert_array_equal(material.plain.positions, before)


@pytest.mark.parametrize("reranker", RERANKERS[1:], ids=lambda reranker: reranker.name)
def test_reranker_beats_plain_search_where_references_know_better(reranker, evaluation, material):
    answers = {query: ids for part in evaluation.solution.values() for query, ids in part.items()}
    plain = metrics.mean_average_precision(material.plain, answers, 20)
    best = max(
        metrics.mean_average_precision(
            reranker.rerank(material, **dict(zip(reranker.grid, values, strict=True))), answers, 20
        )
        for values in itertools.product(*reranker.grid.values())
    )
    assert best > plain + 0.01

import numpy as np
import pytest

from lib.reranking.superglobal import superglobal_rerank
from lib.retrieval.metrics import mean_average_precision
from tests.made_up import random_case, similarities, small_data, small_evaluation


def naive_superglobal(case, candidates, neighbours, beta):
    """One query after the other, image by image; the (Q, candidates) scores by position."""
    gallery = case.gallery.astype(np.float64)
    result = []
    for query, row in zip(case.queries.astype(np.float64), similarities(case), strict=True):
        listed = sorted(range(len(row)), key=lambda i: (-np.float32(row[i]), i))[:candidates]
        refined = {}
        for i in listed:
            others = sorted((j for j in listed if j != i), key=lambda j: -gallery[i] @ gallery[j])
            total, weight = gallery[i].copy(), 1.0
            for j in others[: neighbours - 1]:
                sim = gallery[i] @ gallery[j]
                total, weight = total + beta * sim * gallery[j], weight + beta * sim
            refined[i] = total / weight
        first = {i: query @ refined[i] for i in listed}
        best = sorted(listed, key=lambda i: -first[i])[:neighbours]
        expanded = np.max([refined[i] for i in best], axis=0)
        result.append({i: (first[i] + expanded @ refined[i]) / 2 for i in listed})
    return result


@pytest.mark.parametrize(("candidates", "neighbours"), [(60, 5), (40, 1), (100, 10)])
def test_superglobal_agrees_with_naive_reference(candidates, neighbours):
    case = random_case(4)
    found = superglobal_rerank(case, candidates=candidates, neighbours=neighbours, beta=0.3)
    expected = naive_superglobal(case, candidates, neighbours, 0.3)
    for row, scores in enumerate(expected):
        best = sorted(scores.values(), reverse=True)[: case.k]
        np.testing.assert_allclose(found.scores[row], best, atol=1e-5)
        own = [scores[i] for i in found.positions[row]]
        np.testing.assert_allclose(own, found.scores[row], atol=1e-5)


def test_superglobal_ranks_at_least_k_and_all_of_a_small_gallery():
    case = random_case(5, images=12)
    assert superglobal_rerank(case, candidates=3).positions.shape == (9, 12)
    assert superglobal_rerank(random_case(5), candidates=3).positions.shape == (9, 40)


def test_superglobal_beats_search_where_images_have_copies_of_their_landmark():
    evaluation = small_evaluation()
    data = small_data(evaluation)
    answers = evaluation.solution["Private"] | evaluation.solution["Public"]
    before, after = (
        mean_average_precision(ranking, answers, 20)
        for ranking in (data.plain, superglobal_rerank(data, beta=1.0))
    )
    assert after > before + 0.01


@pytest.mark.parametrize("settings", [{"candidates": 0}, {"neighbours": 0}, {"beta": np.nan}])
def test_superglobal_refuses_bad_settings(settings):
    with pytest.raises(ValueError, match=r"counts of at least 1 and a finite beta, found .*; 400"):
        superglobal_rerank(random_case(0), **settings)

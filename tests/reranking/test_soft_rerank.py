import numpy as np
import pytest

from lib.reranking.kaggle_winners import soft_rerank
from tests.winners import random_case


def naive(case, bonus, penalty):
    """The formula of the post, pair by pair."""
    final = case.similarities()
    asked = [case.nearest(query, 1) for query in case.queries]
    shown = [case.nearest(image, 1) for image in case.gallery]
    for q, query in enumerate(asked):
        for i, image in enumerate(shown):
            if query and image:
                sure = max(image[0][1], 0.0)
                same = case.landmarks[query[0][0]] == case.landmarks[image[0][0]]
                final[q, i] += bonus * sure if same else -penalty * sure
    return final


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("bonus", "penalty"), [(1.0, 0.1), (0.3, 0.8), (0.0, 0.0), (0.0, 2.0)])
def test_soft_rerank_agrees_with_the_dense_formula(ties, bonus, penalty):
    case = random_case(1, ties=ties)
    found = soft_rerank(
        case.ranking(),
        case.queries,
        case.gallery,
        *case.votes(1),
        bonus=bonus,
        penalty=penalty,
        block=77,
    )
    final = naive(case, bonus, penalty).astype(np.float32)
    order = np.argsort(-final, axis=1, kind="stable")[:, : case.k]
    np.testing.assert_allclose(found.scores, np.take_along_axis(final, order, 1), atol=1e-6)
    if not ties:
        np.testing.assert_array_equal(found.positions, order)
    else:  # equal images stay in the order of their positions
        for scores, positions in zip(found.scores, found.positions, strict=True):
            assert (np.diff(positions)[np.diff(scores) == 0] > 0).all()


def test_soft_rerank_without_labels_is_search():
    case = random_case(2)
    case.landmarks[:] = -1
    plain = case.ranking()
    found = soft_rerank(plain, case.queries, case.gallery, *case.votes(1))
    np.testing.assert_array_equal(found.positions, plain.positions)
    np.testing.assert_array_equal(found.scores, plain.scores)


def test_soft_rerank_brings_in_what_search_did_not_retrieve_and_keeps_ids():
    case = random_case(3, k=2)
    ids = {"query_ids": [f"q{i}" for i in range(9)], "gallery_ids": [f"g{i}" for i in range(260)]}
    plain = case.ranking(**ids)
    found = soft_rerank(plain, case.queries, case.gallery, *case.votes(1), bonus=9.0)
    assert list(found.predictions()) == ids["query_ids"]
    assert (found.positions != plain.positions).any()


def test_soft_rerank_refuses_what_is_out_of_step():
    case = random_case(4)
    votes = case.votes(1)
    with pytest.raises(ValueError, match="gallery votes of the 260 gallery images, found 9"):
        soft_rerank(case.ranking(), case.queries, case.gallery, votes[0], votes[0])
    with pytest.raises(ValueError, match="queries of the 9 ranked queries, found 8"):
        soft_rerank(case.ranking(), case.queries[:8], case.gallery, *votes)
    with pytest.raises(ValueError, match="finite bonus and penalty, found nan"):
        soft_rerank(case.ranking(), case.queries, case.gallery, *votes, bonus=float("nan"))

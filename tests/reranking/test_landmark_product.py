import numpy as np
import pytest

from lib.reranking.kaggle_winners import landmark_product
from tests.winners import random_case


def tally(case, image, top):
    found = {}
    for reference, similarity in case.nearest(image, top):
        landmark = case.landmarks[reference]
        found[landmark] = found.get(landmark, 0.0) + max(similarity, 0.0)
    return found


def naive(case, plain, top):
    """Products of dictionaries, best first by position among equals, then the plain list."""
    shown = [tally(case, image, top) for image in case.gallery]
    result = []
    for query, listed in zip(case.queries, plain.positions.tolist(), strict=True):
        asked = tally(case, query, top)
        products = [
            np.float32(sum(s * own.get(mark, 0.0) for mark, s in asked.items())) for own in shown
        ]
        linked = sorted((i for i, p in enumerate(products) if p > 0), key=lambda i: -products[i])
        order = (linked + [i for i in listed if i not in linked])[: plain.k]
        result.append((order, [products[i] for i in order if products[i] > 0]))
    return result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top", [1, 5])
def test_landmark_product_agrees_with_naive_reference(seed, top):
    case = random_case(seed, landmarks=40, k=60)
    plain = case.ranking()
    found = landmark_product(plain, *case.votes(top))
    for row, (order, products) in enumerate(naive(case, plain, top)):
        assert found.positions[row].tolist() == order
        np.testing.assert_allclose(found.scores[row, : len(products)], products, atol=1e-6)


def test_landmark_product_breaks_ties_by_position():
    case = random_case(3, ties=True, landmarks=8)
    found = landmark_product(case.ranking(), *case.votes(5))
    for scores, positions in zip(found.scores, found.positions, strict=True):
        linked = scores > 0
        assert (np.diff(positions[linked])[np.diff(scores[linked]) == 0] > 0).all()
        assert linked.any()


def test_landmark_product_without_labels_is_the_plain_list():
    case = random_case(4)
    case.landmarks[:] = -1
    plain = case.ranking()
    found = landmark_product(plain, *case.votes(5))
    np.testing.assert_array_equal(found.positions, plain.positions)
    np.testing.assert_allclose(found.scores, plain.scores - 1)


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_landmark_product_is_defined_for_little(queries, images):
    case = random_case(5, queries=queries, images=images)
    found = landmark_product(case.ranking(), *case.votes(5))
    assert found.positions.shape == (queries, images)


def test_landmark_product_refuses_votes_of_something_else():
    case = random_case(6)
    votes = case.votes(5)
    with pytest.raises(ValueError, match="query votes of the 9 ranked queries, found 260"):
        landmark_product(case.ranking(), votes[1], votes[1])

import numpy as np
import pytest

from lib.reranking.kaggle_winners import sort_and_insert
from lib.retrieval.ranking import Ranking
from tests.winners import random_case


def predict(case, image, top):
    """Landmark of largest summed similarity among the nearest, and the sum over their number."""
    tally = {}
    for reference, similarity in case.nearest(image, top):
        if similarity > 0:
            landmark = case.landmarks[reference]
            tally[landmark] = tally.get(landmark, 0.0) + similarity
    if not tally:
        return None, 0.0
    best = max(tally.values())
    nearest = [case.landmarks[i] for i, _ in case.nearest(image, top)]
    first = min((nearest.index(mark), mark) for mark in tally if tally[mark] == best)[1]
    return first, best / top


def naive(case, plain, top, threshold):
    """Both steps with lists."""
    shown = [predict(case, image, top) for image in case.gallery]
    result = []
    for query, listed in zip(case.queries, plain.positions.tolist(), strict=True):
        landmark, score = predict(case, query, top)
        front = [i for i in listed if landmark is not None and shown[i][0] == landmark]
        extra = [
            (-(score + shown[i][1]), i)
            for i in range(len(shown))
            if i not in listed and landmark is not None and shown[i][0] == landmark
            if score + shown[i][1] > threshold
        ]
        rest = [i for i in listed if i not in front]
        result.append((front + [i for _, i in sorted(extra)] + rest)[: plain.k])
    return result


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("top", "threshold"), [(3, 0.6), (1, 0.0), (5, 1.4), (3, 1.9)])
def test_sort_and_insert_agrees_with_naive_reference(ties, top, threshold):
    case = random_case(5, ties=ties, landmarks=6, k=30)
    plain = case.ranking()
    found = sort_and_insert(plain, *case.votes(top), threshold=threshold)
    assert found.positions.tolist() == naive(case, plain, top, threshold)


def test_sort_and_insert_says_the_part_in_its_scores():
    case = random_case(6, landmarks=6, k=30)
    plain = case.ranking()
    found = sort_and_insert(plain, *case.votes(3))
    for row in range(len(plain)):
        similarity = dict(zip(plain.positions[row], plain.scores[row], strict=True))
        for image, score in zip(found.positions[row], found.scores[row], strict=True):
            if score >= 3:
                assert score == pytest.approx(similarity[image] + 4)
            elif image in similarity:
                assert score == similarity[image]
            else:
                assert 1.6 < score < 3


def test_sort_and_insert_without_labels_changes_nothing():
    case = random_case(7)
    case.landmarks[:] = -1
    plain = case.ranking()
    found = sort_and_insert(plain, *case.votes(3))
    np.testing.assert_array_equal(found.positions, plain.positions)
    np.testing.assert_array_equal(found.scores, plain.scores)


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_sort_and_insert_is_defined_for_little(queries, images):
    case = random_case(8, queries=queries, images=images)
    found = sort_and_insert(case.ranking(), *case.votes(3))
    assert found.positions.shape == (queries, images)


def test_sort_and_insert_refuses_votes_of_something_else():
    case = random_case(9)
    votes = case.votes(3)
    with pytest.raises(ValueError, match="query votes of the 9 ranked queries, found 260"):
        sort_and_insert(case.ranking(), votes[1], votes[1])
    with pytest.raises(ValueError, match="holds every ranked position, found 9 images"):
        sort_and_insert(Ranking(np.ones((9, 1)), np.full((9, 1), 9)), votes[0], votes[0])

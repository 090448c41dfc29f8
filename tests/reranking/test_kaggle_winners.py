"""Every winner's reranking agrees with a naive reference, and keeps what a reranker must keep."""

import dataclasses

import numpy as np
import pytest

from lib.reranking import kaggle_winners
from lib.reranking.kaggle_winners import (
    TagIndex,
    bridged_rerank,
    landmark_distances,
    landmark_product,
    soft_rerank,
    sort_and_insert,
)
from tests.made_up import nearest_references, random_case, similarities

ALL = pytest.mark.parametrize(
    "rerank", [soft_rerank, sort_and_insert, landmark_product, bridged_rerank]
)


def unlabelled(seed):
    case = random_case(seed)
    return dataclasses.replace(case, reference_landmarks=np.full(120, -1))


def assert_ties_are_broken_by_position(ranking):
    for scores, positions in zip(ranking.scores, ranking.positions, strict=True):
        assert (np.diff(positions)[np.diff(scores) == 0] > 0).all()


@ALL
@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_rerankers_are_defined_for_little(rerank, queries, images):
    found = rerank(random_case(5, queries=queries, images=images))
    assert found.positions.shape == (queries, images)


@ALL
def test_rerankers_keep_ids(rerank):
    ids = {"query_ids": [f"q{i}" for i in range(9)], "gallery_ids": [f"g{i}" for i in range(260)]}
    assert list(rerank(random_case(3, **ids)).predictions()) == ids["query_ids"]


@ALL
def test_rerankers_without_labels_keep_the_order(rerank):
    case = unlabelled(7)
    found = rerank(case)
    np.testing.assert_array_equal(found.positions, case.plain.positions)
    similarity = case.plain.scores.astype(float)
    expected = {landmark_product: similarity - 1, bridged_rerank: similarity**3}
    np.testing.assert_allclose(found.scores, expected.get(rerank, similarity), atol=1e-6)


def naive_soft(case, bonus, penalty):
    """The formula of the post, pair by pair."""
    final = similarities(case)
    landmarks = case.reference_landmarks
    voters = [nearest_references(case, query, 1) for query in case.queries]
    nearest = [nearest_references(case, image, 1) for image in case.gallery]
    for q, query in enumerate(voters):
        for i, image in enumerate(nearest):
            if query and image:
                cos = max(image[0][1], 0.0)
                same = landmarks[query[0][0]] == landmarks[image[0][0]]
                final[q, i] += bonus * cos if same else -penalty * cos
    return final


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("bonus", "penalty"), [(1.0, 0.1), (0.3, 0.8), (0.0, 0.0), (0.0, 2.0)])
def test_soft_rerank_agrees_with_the_dense_formula(ties, bonus, penalty):
    case = random_case(1, ties=ties)
    found = soft_rerank(case, bonus=bonus, penalty=penalty)
    final = naive_soft(case, bonus, penalty).astype(np.float32)
    order = np.argsort(-final, axis=1, kind="stable")[:, : case.k]
    np.testing.assert_allclose(found.scores, np.take_along_axis(final, order, 1), atol=1e-6)
    if not ties:
        np.testing.assert_array_equal(found.positions, order)
    assert_ties_are_broken_by_position(found)


def test_soft_rerank_brings_in_what_search_did_not_retrieve():
    case = random_case(3, k=2)
    assert (soft_rerank(case, bonus=9.0).positions != case.plain.positions).any()
    with pytest.raises(ValueError, match="finite weight of a score, found nan"):
        soft_rerank(case, bonus=float("nan"))


def predict(case, image, top):
    """Landmark of largest summed similarity among the nearest, and the sum over their number."""
    tally = {}
    for reference, similarity in nearest_references(case, image, top):
        if similarity > 0:
            landmark = case.reference_landmarks[reference]
            tally[landmark] = tally.get(landmark, 0.0) + similarity
    if not tally:
        return None, 0.0
    best = max(tally.values())
    nearest = [case.reference_landmarks[i] for i, _ in nearest_references(case, image, top)]
    first = min((nearest.index(mark), mark) for mark in tally if tally[mark] == best)[1]
    return first, best / top


def naive_sort_and_insert(case, top, threshold):
    """Both steps with lists."""
    of_images = [predict(case, image, top) for image in case.gallery]
    result = []
    for query, listed in zip(case.queries, case.plain.positions.tolist(), strict=True):
        landmark, score = predict(case, query, top)
        front = [i for i in listed if landmark is not None and of_images[i][0] == landmark]
        extra = [
            (-(score + of_images[i][1]), i)
            for i in range(len(of_images))
            if i not in listed and landmark is not None and of_images[i][0] == landmark
            if score + of_images[i][1] > threshold
        ]
        rest = [i for i in listed if i not in front]
        result.append((front + [i for _, i in sorted(extra)] + rest)[: case.plain.k])
    return result


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("top", "threshold"), [(3, 0.6), (1, 0.0), (5, 1.4), (3, 1.9)])
def test_sort_and_insert_agrees_with_naive_reference(ties, top, threshold):
    case = random_case(5, ties=ties, landmarks=6, k=30)
    found = sort_and_insert(case, top=top, threshold=threshold)
    assert found.positions.tolist() == naive_sort_and_insert(case, top, threshold)


def test_sort_and_insert_says_the_part_in_its_scores():
    case = random_case(6, landmarks=6, k=30)
    plain, found = case.plain, sort_and_insert(case)
    for row in range(len(plain)):
        similarity = dict(zip(plain.positions[row], plain.scores[row], strict=True))
        for image, score in zip(found.positions[row], found.scores[row], strict=True):
            if score >= 3:
                assert score == pytest.approx(similarity[image] + 4)
            elif image in similarity:
                assert score == similarity[image]
            else:
                assert 1.6 < score < 3


def sums_per_landmark(case, image, top):
    found = {}
    for reference, similarity in nearest_references(case, image, top):
        landmark = case.reference_landmarks[reference]
        found[landmark] = found.get(landmark, 0.0) + max(similarity, 0.0)
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("top", [1, 5])
def test_landmark_product_agrees_with_naive_reference(seed, top):
    case = random_case(seed, landmarks=40, k=60)
    found = landmark_product(case, top=top)
    of_images = [sums_per_landmark(case, image, top) for image in case.gallery]
    for row, (query, listed) in enumerate(
        zip(case.queries, case.plain.positions.tolist(), strict=True)
    ):
        own = sums_per_landmark(case, query, top)
        products = [
            np.float32(sum(s * image.get(mark, 0.0) for mark, s in own.items()))
            for image in of_images
        ]
        linked = sorted((i for i, p in enumerate(products) if p > 0), key=lambda i: -products[i])
        order = (linked + [i for i in listed if i not in linked])[: found.k]
        assert found.positions[row].tolist() == order
        expected = [products[i] for i in order if products[i] > 0]
        np.testing.assert_allclose(found.scores[row, : len(expected)], expected, atol=1e-6)


def test_landmark_product_breaks_ties_by_position():
    found = landmark_product(random_case(3, ties=True, landmarks=8))
    for scores, positions in zip(found.scores, found.positions, strict=True):
        linked = scores > 0
        assert (np.diff(positions[linked])[np.diff(scores[linked]) == 0] > 0).all()
        assert linked.any()


def naive_distances(case, image, bonus=0.0, *, per_landmark=2, neighbours=300, keep=5):
    """Landmark to distance by dictionaries, the nearest one with the bonus off."""
    away = {}
    for reference, similarity in nearest_references(case, image, neighbours):
        away.setdefault(case.reference_landmarks[reference], []).append(1 - similarity)
    means = {mark: np.mean(sorted(values)[:per_landmark]) for mark, values in away.items()}
    kept = sorted(means.items(), key=lambda item: (item[1], item[0]))[:keep]
    return {mark: mean - (bonus if place == 0 else 0) for place, (mark, mean) in enumerate(kept)}


@pytest.mark.parametrize(
    "settings",
    [
        dict(neighbours=30, per_landmark=2, keep=5),
        dict(neighbours=8, per_landmark=1, keep=2),
        dict(neighbours=300, per_landmark=3, keep=40),
    ],
)
def test_landmark_distances_agree_with_naive_reference(monkeypatch, settings):
    monkeypatch.setattr(kaggle_winners, "IMAGES_AT_ONCE", 100)
    case = random_case(1)
    (of_queries, _), (landmarks, distances) = landmark_distances(case, **settings)
    assert len(of_queries) == 9
    for row, image in enumerate(case.gallery):
        expected = naive_distances(case, image, **settings)
        kept = landmarks[row] != -1
        assert landmarks[row, kept].tolist() == list(expected)
        np.testing.assert_allclose(distances[row, kept], list(expected.values()), atol=1e-6)
        assert np.isinf(distances[row, ~kept]).all()


@pytest.mark.parametrize(("bonus", "per_landmark"), [(0.5, 2), (0.0, 1), (0.2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_bridged_rerank_agrees_with_the_dense_formula(bonus, per_landmark, ties):
    case = random_case(2, ties=ties, landmarks=12)
    found = bridged_rerank(case, bonus=bonus, per_landmark=per_landmark)
    of_queries, of_images = (
        [naive_distances(case, row, bonus, per_landmark=per_landmark) for row in rows]
        for rows in (case.queries, case.gallery)
    )
    final = similarities(case) ** 3
    for q, query in enumerate(of_queries):
        for i, image in enumerate(of_images):
            bridges = [max(query[mark], image[mark]) for mark in query if mark in image]
            if bridges and min(bridges) < 1:
                final[q, i] += (1 - min(bridges)) ** 3
    order = np.argsort(-final, axis=1, kind="stable")[:, : case.k]
    np.testing.assert_allclose(found.scores, np.take_along_axis(final, order, 1), atol=1e-5)
    if not ties:
        np.testing.assert_array_equal(found.positions, order)
    assert_ties_are_broken_by_position(found)


def test_bridged_rerank_refuses_bad_input():
    case = random_case(6)
    with pytest.raises(ValueError, match="finite bonus, found inf"):
        bridged_rerank(case, bonus=np.inf)
    wrong = dataclasses.replace(case, reference_landmarks=case.reference_landmarks[1:])
    with pytest.raises(ValueError, match="120 references, found 119 and 120"):
        bridged_rerank(wrong)


@pytest.mark.parametrize("width", [1, 3])
def test_images_with_tags_agree_with_naive_reference(width):
    generator = np.random.default_rng(width)
    tags = generator.integers(-1, 9, (50, width))
    index = TagIndex(tags)
    for _ in range(20):
        wanted = generator.integers(-1, 12, 4)
        found = list(zip(*(part.tolist() for part in index.images_with_tags(wanted)), strict=True))
        expected = [
            (place, image, column)
            for place, tag in enumerate(wanted)
            for image in range(50)
            for column in range(width)
            if tag == tags[image, column] and tag != -1
        ]
        assert found == expected


@pytest.mark.parametrize("tags", [np.empty((0, 3), int), np.empty((4, 0), int), np.full(3, -1)])
def test_no_image_has_a_tag_that_is_not_there(tags):
    assert all(len(part) == 0 for part in TagIndex(tags).images_with_tags(np.array([1, -1])))

import numpy as np
import pytest

from lib.reranking import bridged as bridge
from lib.reranking.bridged import bridged_rerank, landmark_distances, likeness_to_strangers
from tests.winners import random_case, unit_rows


def naive_distances(case, image, settings, penalties):
    """Landmark to distance by dictionaries, the nearest few with the bonus off."""
    near = case.nearest(image, settings["neighbours"])
    away = {}
    for reference, similarity in near:
        distance = 1 - similarity + penalties[reference]
        away.setdefault(case.landmarks[reference], []).append(distance)
    means = {
        mark: np.mean(sorted(values)[: settings["per_landmark"]]) for mark, values in away.items()
    }
    kept = sorted(means.items(), key=lambda item: (item[1], item[0]))[: settings["keep"]]
    return {
        mark: mean - (settings["bonus"] if place == 0 else 0)
        for place, (mark, mean) in enumerate(kept)
    }


SETTINGS = [
    dict(neighbours=30, per_landmark=2, keep=5, bonus=0.5),
    dict(neighbours=8, per_landmark=1, keep=2, bonus=0.0),
    dict(neighbours=300, per_landmark=3, keep=40, bonus=0.2),
]


def measure(case, settings, penalties=None):
    options = {name: value for name, value in settings.items() if name != "bonus"}
    return [
        landmark_distances(
            rows, case.references, case.landmarks, **options, penalties=penalties, block=50
        )
        for rows in (case.queries, case.gallery)
    ]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("with_penalties", [False, True])
def test_landmark_distances_agree_with_naive_reference(monkeypatch, settings, with_penalties):
    monkeypatch.setattr(bridge, "IMAGES_AT_ONCE", 100)
    case = random_case(1)
    penalties = np.random.default_rng(0).random(120) * with_penalties
    found = measure(case, settings, penalties)[1]
    for row, image in enumerate(case.gallery):
        expected = naive_distances(case, image, settings | {"bonus": 0.0}, penalties)
        kept = found.landmarks[row] != -1
        assert found.landmarks[row][kept].tolist() == list(expected)
        np.testing.assert_allclose(found.distances[row][kept], list(expected.values()), atol=1e-6)
        assert np.isinf(found.distances[row][~kept]).all()


def naive_rerank(case, settings, power):
    penalties = np.zeros(len(case.references))
    asked = [naive_distances(case, query, settings, penalties) for query in case.queries]
    shown = [naive_distances(case, image, settings, penalties) for image in case.gallery]
    final = case.similarities() ** power
    for q, query in enumerate(asked):
        for i, image in enumerate(shown):
            bridges = [max(query[mark], image[mark]) for mark in query if mark in image]
            if bridges and min(bridges) < 1:
                final[q, i] += (1 - min(bridges)) ** power
    return final


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("power", [1, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_bridged_rerank_agrees_with_the_dense_formula(settings, power, ties):
    case = random_case(2, ties=ties, landmarks=12)
    found = bridged_rerank(
        case.ranking(),
        case.queries,
        case.gallery,
        *measure(case, settings),
        bonus=settings["bonus"],
        power=power,
    )
    final = naive_rerank(case, settings, power)
    order = np.argsort(-final, axis=1, kind="stable")[:, : case.k]
    np.testing.assert_allclose(found.scores, np.take_along_axis(final, order, 1), atol=1e-5)
    if not ties:
        np.testing.assert_array_equal(found.positions, order)
    for scores, positions in zip(found.scores, found.positions, strict=True):
        assert (np.diff(positions)[np.diff(scores) == 0] > 0).all()


def test_likeness_to_strangers_is_the_mean_of_the_most_similar():
    generator = np.random.default_rng(3)
    references, strangers = unit_rows(generator, 30, 6), unit_rows(generator, 25, 6)
    expected = np.sort(references @ strangers.T, axis=1)[:, -10:].mean(axis=1)
    np.testing.assert_allclose(likeness_to_strangers(references, strangers), expected, atol=1e-6)
    assert likeness_to_strangers(references, strangers[:0]).tolist() == [0.0] * 30


def test_bridged_rerank_without_labels_keeps_the_order():
    case = random_case(4)
    case.landmarks[:] = -1
    plain = case.ranking()
    found = bridged_rerank(plain, case.queries, case.gallery, *measure(case, SETTINGS[0]))
    np.testing.assert_array_equal(found.positions, plain.positions)
    np.testing.assert_allclose(found.scores, plain.scores.astype(float) ** 3, atol=1e-6)


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_bridged_rerank_is_defined_for_little(queries, images):
    case = random_case(5, queries=queries, images=images)
    distances = measure(case, SETTINGS[0])
    found = bridged_rerank(case.ranking(), case.queries, case.gallery, *distances)
    assert found.positions.shape == (queries, images)


def test_bridge_refuses_bad_input():
    case = random_case(6)
    distances = measure(case, SETTINGS[0])
    with pytest.raises(ValueError, match="query distances of the 9 ranked queries, found 260"):
        bridged_rerank(case.ranking(), case.queries, case.gallery, *distances[::-1])
    with pytest.raises(ValueError, match="an odd power from 1, found 2"):
        bridged_rerank(case.ranking(), case.queries, case.gallery, *distances, power=2)
    with pytest.raises(ValueError, match="finite bonus, found inf"):
        bridged_rerank(case.ranking(), case.queries, case.gallery, *distances, bonus=np.inf)
    with pytest.raises(ValueError, match="one penalty per reference, found 2 for 120"):
        measure(case, SETTINGS[0], np.zeros(2))
    with pytest.raises(ValueError, match="found 119 for 120 references"):
        landmark_distances(case.queries, case.references, case.landmarks[1:])

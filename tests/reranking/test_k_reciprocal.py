import numpy as np
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.k_reciprocal import (
    ReciprocalSettings,
    k_reciprocal_rerank,
    reciprocal_neighbours,
)
from tests.made_up import unit_rows


def naive(query, references, k, settings):
    """Zhong et al. written out with lists and sets, for one query."""
    references = references.astype(np.float64)

    def nearest(vector, count):
        return np.argsort(-(references @ vector), kind="stable")[:count].tolist()

    first = nearest(query.astype(np.float64), max(k, settings.candidates))
    union = sorted(
        {*first, *(j for i in first for j in nearest(references[i], settings.candidates))}
    )
    vectors = [query.astype(np.float64)] + [references[i] for i in union]
    count = len(vectors)
    distance = [[(1 - float(a @ b)) / 2 for b in vectors] for a in vectors]
    order = [sorted(range(count), key=lambda j: (j != i, distance[i][j], j)) for i in range(count)]

    def mutual(i, n):
        return {j for j in order[i][: n + 1] if i in order[j][: n + 1]}

    encodings = []
    for i in range(count):
        mine = mutual(i, settings.k1)
        expanded = set(mine)
        for j in mine:
            circle = mutual(j, round(settings.k1 / 2))
            if len(circle & mine) > 2 / 3 * len(circle):
                expanded |= circle
        weights = np.zeros(count)
        for j in expanded:
            weights[j] = np.exp(-distance[i][j])
        encodings.append(weights / weights.sum())
    averaged = [
        np.mean([encodings[j] for j in order[i][: settings.k2]], axis=0) for i in range(count)
    ]
    final = {}
    for place, reference in enumerate(union, start=1):
        overlap = np.minimum(averaged[0], averaged[place]).sum()
        jaccard = 1 - overlap / (2 - overlap)
        final[reference] = 1 - (
            settings.plain * distance[0][place] + (1 - settings.plain) * jaccard
        )
    best = sorted(final, key=lambda i: (-final[i], i))[:k]
    return [final[i] for i in best], best


@pytest.mark.parametrize("few", [8192, 0])
@pytest.mark.parametrize(
    "settings",
    [
        ReciprocalSettings(),
        ReciprocalSettings(6, 4, 1),
        ReciprocalSettings(10, 7, 2, plain=0.3),
        ReciprocalSettings(3, 10, 3),
    ],
)
def test_reciprocal_neighbours_agree_with_naive_reference(settings, few, monkeypatch):
    monkeypatch.setattr("lib.reranking.k_reciprocal.FEW", few)
    generator = np.random.default_rng(0)
    centres = unit_rows(generator, 12, 16)
    references = centres[generator.integers(0, 12, 150)] + 0.25 * unit_rows(generator, 150, 16)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    queries = unit_rows(generator, 4, 16)
    queries[1:] = references[:3] + 0.2 * queries[1:]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    similarities, positions = reciprocal_neighbours(queries, references, 8, settings)
    for row in range(4):
        expected, best = naive(queries[row], references, 8, settings)
        np.testing.assert_allclose(similarities[row], expected, atol=1e-5)
        assert positions[row].tolist() == best


def test_reciprocal_neighbours_prefer_mutual_neighbours():
    # The query sits in the tight group of references 0 to 4; reference 5 is as near but belongs
    # to a group of its own on the other side.
    angles = np.array([0.30, 0.31, 0.32, 0.33, 0.34, -0.29, -0.60, -0.61, -0.62, -0.63, -0.64])
    references = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    query = np.array([[1.0, 0.0]])
    near = np.argsort(-(query @ references.T)[0])[:2].tolist()
    found = reciprocal_neighbours(
        query, references, 5, ReciprocalSettings(candidates=11, k1=5, k2=1)
    )[1]
    assert near[0] == 5
    assert found[0].tolist() == [0, 1, 2, 3, 4]


def test_reciprocal_neighbours_of_many_copies_agree_with_naive_reference():
    # More copies than k1: an image that did not count as its own neighbour would have none left.
    references = np.repeat(unit_rows(np.random.default_rng(3), 3, 8), 14, axis=0)
    similarities, positions = reciprocal_neighbours(references[[20]], references, 42)
    expected, best = naive(references[20], references, 42, ReciprocalSettings())
    np.testing.assert_allclose(similarities[0], expected, atol=1e-5)
    assert sorted(positions[0, :14]) == list(range(14, 28)) == sorted(best[:14])


def test_reciprocal_neighbours_lie_between_zero_and_one():
    generator = np.random.default_rng(1)
    similarities, _ = reciprocal_neighbours(
        unit_rows(generator, 5, 4), unit_rows(generator, 60, 4), 60, ReciprocalSettings(60, 5, 2)
    )
    assert (similarities >= 0).all()
    assert (similarities <= 1).all()


@pytest.mark.parametrize(("queries", "references"), [(0, 5), (3, 0), (3, 2), (1, 1)])
def test_reciprocal_neighbours_are_defined_for_few_images(queries, references):
    generator = np.random.default_rng(2)
    similarities, positions = reciprocal_neighbours(
        unit_rows(generator, queries, 4), unit_rows(generator, references, 4), 3
    )
    assert similarities.shape == positions.shape == (queries, min(3, references))
    assert np.isfinite(similarities).all()


@pytest.mark.parametrize("wrong", [dict(candidates=0), dict(k1=0), dict(k2=0), dict(plain=1.1)])
def test_reciprocal_refuses_absurd_settings(wrong):
    with pytest.raises(ValueError, match="counts of at least 1 and a plain share"):
        ReciprocalSettings(**wrong)


@pytest.mark.parametrize(
    "settings", [ReciprocalSettings(10, 10, 3, plain=0.3), ReciprocalSettings(40, 20, 6, 0.3)]
)
def test_k_reciprocal_rerank_agrees_with_naive_reference(settings):
    generator = np.random.default_rng(4)
    centres = unit_rows(generator, 8, 12)
    gallery = centres[generator.integers(0, 8, 90)] + 0.4 * unit_rows(generator, 90, 12)
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    queries = unit_rows(generator, 3, 12)
    ids = {"query_ids": list("abc"), "gallery_ids": [f"g{i}" for i in range(90)]}
    data = RetrievalData(queries, gallery, gallery[:0], [], [], k=25, **ids)
    found = k_reciprocal_rerank(data, settings=settings)
    for row, query in enumerate(queries):
        expected, best = naive(query, gallery, 25, settings)
        np.testing.assert_allclose(found.scores[row], expected, atol=1e-5)
        assert found.positions[row].tolist() == best
    assert list(found.predictions()) == ["a", "b", "c"]
    assert k_reciprocal_rerank(data, settings=settings) is found  # computed once


def test_k_reciprocal_rerank_looking_at_all_of_it_is_the_papers_formula():
    # Zhong et al. encode all images; so does this when all are candidates.
    generator = np.random.default_rng(5)
    gallery, queries = unit_rows(generator, 40, 6), unit_rows(generator, 2, 6)
    settings = ReciprocalSettings(candidates=40, k1=8, k2=4, plain=0.3)
    data = RetrievalData(queries, gallery, gallery[:0], [], [], k=40)
    found = k_reciprocal_rerank(data, settings=settings)
    for row, query in enumerate(queries):
        assert found.positions[row].tolist() == naive(query, gallery, 40, settings)[1]
        assert sorted(found.positions[row]) == list(range(40))

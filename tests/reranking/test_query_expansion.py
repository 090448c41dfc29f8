import numpy as np
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.query_expansion import augment_gallery, expand_queries, query_expansion
from lib.retrieval.metrics import mean_average_precision
from tests.made_up import random_case, similarities, unit_rows


def naive_expansion(case, neighbours, alpha, decay=False):
    """One query after the other, neighbour by neighbour."""
    result = []
    for query, row in zip(case.queries.astype(np.float64), similarities(case), strict=True):
        best = sorted(range(len(row)), key=lambda i: (-np.float32(row[i]), i))
        for rank, i in enumerate(best[: min(neighbours, case.k)], start=1):
            fades = (neighbours - rank) / neighbours if decay else 1.0
            query = query + fades * max(row[i], 0.0) ** alpha * case.gallery[i]
        result.append(query / np.linalg.norm(query))
    return np.array(result)


@pytest.mark.parametrize("decay", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("neighbours", "alpha"), [(10, 3.0), (1, 0.0), (0, 3.0), (90, 1.0)])
def test_expand_queries_agrees_with_naive_reference(ties, neighbours, alpha, decay):
    case, settings = random_case(1, ties=ties), (neighbours, alpha, decay)
    chosen = dict(zip(("neighbours", "alpha", "decay"), settings, strict=True))
    found = expand_queries(case, **chosen).queries
    expected = naive_expansion(case, *settings)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = query_expansion(case, **chosen)
    final = expected @ case.gallery.T.astype(np.float64)
    np.testing.assert_allclose(again.scores, -np.sort(-final, axis=1)[:, : case.k], atol=1e-6)


def test_expanding_by_nothing_is_search():
    case = random_case(2)
    again = query_expansion(case, neighbours=0)
    np.testing.assert_array_equal(again.positions, case.plain.positions)


def naive_augmentation(gallery, neighbours, last):
    rows = gallery.astype(np.float64)
    result = []
    for row in rows:
        near = sorted(range(len(rows)), key=lambda i: (-np.float32(row @ rows[i]), i))
        mixed = np.zeros(rows.shape[1])
        for place, i in enumerate(near[:neighbours]):
            exponent = last * place / (neighbours - 1) if neighbours > 1 else 0.0
            mixed += 10**exponent * rows[i]
        result.append(mixed / np.linalg.norm(mixed))
    return np.array(result)


@pytest.mark.parametrize(("neighbours", "last"), [(10, -1.5), (1, -1.5), (3, 0.0), (400, -2.0)])
def test_augment_gallery_agrees_with_naive_reference(neighbours, last):
    case = random_case(3)
    augmented = augment_gallery(case, neighbours=neighbours, last=last)
    expected = naive_augmentation(case.gallery, neighbours, last)
    np.testing.assert_allclose(augmented.gallery, expected, atol=1e-5)
    final = case.queries @ expected.T
    best = -np.sort(-final, axis=1)[:, : case.k]
    np.testing.assert_allclose(augmented.plain.scores, best, atol=1e-5)


def test_opposite_neighbours_leave_the_image_as_it_is():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    data = RetrievalData(rows, rows, rows[:0], [], [])
    np.testing.assert_allclose(augment_gallery(data, neighbours=2, last=0.0).gallery, rows)


def test_expansion_and_augmentation_help_where_a_landmark_has_many_views():
    generator = np.random.default_rng(5)
    landmarks = np.repeat(np.arange(30), 12)
    centres = unit_rows(generator, 30, 24)
    queries = centres + 1.1 * unit_rows(generator, 30, 24)
    gallery = centres[landmarks] + 1.1 * unit_rows(generator, 360, 24)
    queries, gallery = (r / np.linalg.norm(r, axis=1, keepdims=True) for r in (queries, gallery))
    names = [f"g{i}" for i in range(360)]
    solution = {f"q{q}": {names[i] for i in np.flatnonzero(landmarks == q)} for q in range(30)}
    ids = {"query_ids": list(solution), "gallery_ids": names}
    data = RetrievalData(queries, gallery, gallery[:0], [], [], k=50, **ids)
    before = mean_average_precision(data.plain, solution)
    for better in (expand_queries, augment_gallery):
        after = better(data, neighbours=5).plain
        assert mean_average_precision(after, solution) > before + 0.05


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_expansion_is_defined_for_little(queries, images):
    case = random_case(6, queries=queries, images=images)
    for change in (expand_queries, augment_gallery):
        found = change(case).plain
        assert found.positions.shape == (queries, images)


def test_expansion_refuses_bad_input():
    case = random_case(7)
    with pytest.raises(ValueError, match="from 0, found -1 and 3"):
        expand_queries(case, neighbours=-1)
    with pytest.raises(ValueError, match="at least 1 neighbour, found 0"):
        augment_gallery(case, neighbours=0)

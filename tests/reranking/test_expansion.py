import numpy as np
import pytest

from lib.reranking.query_expansion import (
    augment_gallery,
    augmented_search,
    expand_queries,
    expanded_search,
)
from lib.retrieval.ann_index import build_index, read_index
from lib.retrieval.knn import search
from lib.retrieval.metrics import mean_average_precision
from tests.winners import random_case, unit_rows


def naive_expansion(case, neighbours, alpha):
    """One query after the other, neighbour by neighbour."""
    similarities = case.similarities()
    result = []
    for query, row in zip(case.queries.astype(np.float64), similarities, strict=True):
        best = sorted(range(len(row)), key=lambda i: (-np.float32(row[i]), i))
        for i in best[: min(neighbours, case.k)]:
            query = query + max(row[i], 0.0) ** alpha * case.gallery[i]
        result.append(query / np.linalg.norm(query))
    return np.array(result)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("neighbours", "alpha"), [(10, 3.0), (1, 0.0), (0, 3.0), (90, 1.0)])
def test_expand_queries_agrees_with_naive_reference(ties, neighbours, alpha):
    case = random_case(1, ties=ties)
    plain = case.ranking()
    options = {"neighbours": neighbours, "alpha": alpha}
    found = expand_queries(plain, case.queries, case.gallery, **options)
    expected = naive_expansion(case, neighbours, alpha)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    again = expanded_search(plain, case.queries, case.gallery, **options)
    final = expected @ case.gallery.T.astype(np.float64)
    np.testing.assert_allclose(again.scores, -np.sort(-final, axis=1)[:, : case.k], atol=1e-6)


def test_expanding_by_nothing_is_search():
    case = random_case(2)
    plain = case.ranking()
    again = expanded_search(plain, case.queries, case.gallery, neighbours=0)
    np.testing.assert_array_equal(again.positions, plain.positions)


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
    found = augment_gallery(case.gallery, neighbours=neighbours, last=last, block=77)
    expected = naive_augmentation(case.gallery, neighbours, last)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = augmented_search(
        case.ranking(), case.queries, case.gallery, neighbours=neighbours, last=last
    )
    final = case.queries @ expected.T
    np.testing.assert_allclose(again.scores, -np.sort(-final, axis=1)[:, : case.k], atol=1e-5)


def test_augment_gallery_writes_to_a_float16_map_and_takes_an_index(tmp_path, capsys):
    gallery = unit_rows(np.random.default_rng(4), 900, 8).astype(np.float16)
    index = read_index(build_index(gallery, tmp_path, cells=6), gallery, candidates=900)
    room = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float16, gallery.shape)
    found = augment_gallery(gallery, index=index, out=room)
    assert found is room
    np.testing.assert_allclose(found, augment_gallery(gallery), atol=1e-3)
    assert "recall@1 1.0000" in capsys.readouterr().out


def test_opposite_neighbours_leave_the_image_as_it_is():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(augment_gallery(rows, neighbours=2, last=0.0), rows)


def test_expansion_and_augmentation_help_where_a_landmark_has_many_views():
    generator = np.random.default_rng(5)
    landmarks = np.repeat(np.arange(30), 12)
    centres = unit_rows(generator, 30, 24)
    queries = centres + 1.1 * unit_rows(generator, 30, 24)
    gallery = centres[landmarks] + 1.1 * unit_rows(generator, 360, 24)
    queries, gallery = (r / np.linalg.norm(r, axis=1, keepdims=True) for r in (queries, gallery))
    names = [f"g{i}" for i in range(360)]
    solution = {f"q{q}": {names[i] for i in np.flatnonzero(landmarks == q)} for q in range(30)}
    plain = search(queries, gallery, 50, query_ids=list(solution), gallery_ids=names)
    before = mean_average_precision(plain, solution)
    for better in (expanded_search, augmented_search):
        after = better(plain, queries, gallery, neighbours=5)
        assert mean_average_precision(after, solution) > before + 0.05


@pytest.mark.parametrize(("queries", "images"), [(0, 5), (3, 0), (2, 3)])
def test_expansion_is_defined_for_little(queries, images):
    case = random_case(6, queries=queries, images=images)
    for again in (expanded_search, augmented_search):
        found = again(case.ranking(), case.queries, case.gallery)
        assert found.positions.shape == (queries, images)


def test_expansion_refuses_bad_input():
    case = random_case(7)
    plain = case.ranking()
    with pytest.raises(ValueError, match="from 0, found -1 and 3"):
        expand_queries(plain, case.queries, case.gallery, neighbours=-1)
    with pytest.raises(ValueError, match="queries of the 9 ranked queries, found 3"):
        expand_queries(plain, case.queries[:3], case.gallery)
    with pytest.raises(ValueError, match="at least 1 neighbour"):
        augment_gallery(case.gallery, neighbours=0)
    with pytest.raises(ValueError, match=r"room for \(260, 6\), found 10 and \(3, 6\)"):
        augment_gallery(case.gallery, out=np.empty((3, 6)))

import numpy as np
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.neighbours import (
    affinities,
    augment_gallery,
    diffusion_rerank,
    expand_queries,
    query_expansion,
    superglobal_rerank,
)
from lib.retrieval.metrics import mean_average_precision
from tests.made_up import random_case, similarities, small_data, small_evaluation, unit_rows


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


def naive_affinities(gallery, neighbours, gamma):
    """Pair by pair: each must be among the nearest of the other."""
    rows = gallery.astype(np.float64)
    sims = (rows @ rows.T).astype(np.float32)
    lists = [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (-sims[i, j], j))[:neighbours]
        for i in range(len(rows))
    ]
    found = np.zeros_like(sims, dtype=np.float64)
    for i, own in enumerate(lists):
        for j in own:
            if i in lists[j]:
                found[i, j] = max(sims[i, j], 0) ** gamma
    return found


def test_affinities_are_those_of_mutual_neighbours():
    case = random_case(3, images=80)
    found = affinities(case, neighbours=7)
    np.testing.assert_allclose(found.toarray(), naive_affinities(case.gallery, 7, 3.0), atol=1e-6)
    assert (found != found.T).nnz == 0


@pytest.mark.parametrize("candidates", [80, 50])
def test_diffusion_solves_the_truncated_system(candidates):
    case = random_case(6, images=80, k=30)
    settings = {"neighbours": 12, "started": 4, "alpha": 0.7}
    found = diffusion_rerank(case, candidates=candidates, **settings)
    A = naive_affinities(case.gallery, 12, 3.0)
    for row, sims in enumerate(similarities(case)):
        listed = sorted(range(80), key=lambda i: (-np.float32(sims[i]), i))[:candidates]
        own = A[np.ix_(listed, listed)]
        degree = own.sum(axis=1)
        root = np.array([d**-0.5 if d > 0 else 0.0 for d in degree])
        S = root[:, None] * own * root
        y = np.array([max(sims[i], 0) ** 3.0 if n < 4 else 0.0 for n, i in enumerate(listed)])
        f = np.linalg.solve(np.eye(candidates) - 0.7 * S, y)
        np.testing.assert_allclose(found.scores[row], -np.sort(-f)[:30], atol=1e-4)


def test_diffusion_reaches_along_a_chain_what_search_misses():
    """Images along an arc: the far end is linked to the query through those between."""
    angles = np.deg2rad([5, 20, 35, 50, 65, 80, 95])
    arc = np.stack([np.cos(angles), np.sin(angles), np.zeros(7)], axis=1)
    apart = np.array([[0.6, 0.0, 0.8], [0.1, -0.1, 0.99]])
    gallery = np.vstack([arc, apart / np.linalg.norm(apart, axis=1, keepdims=True)])
    nothing = np.empty(0)
    data = RetrievalData(np.array([[1.0, 0.0, 0.0]]), gallery, gallery[:0], nothing, nothing, k=9)
    assert data.plain.positions[0].tolist().index(7) < 5  # before the far half of the arc
    found = diffusion_rerank(data, neighbours=2, started=1)
    assert set(found.positions[0, :7].tolist()) == set(range(7))


def test_diffusion_keeps_the_order_of_what_is_not_reached():
    case = random_case(8, images=60, k=60)
    found = diffusion_rerank(case, neighbours=1, started=1)
    for before, after, scores in zip(
        case.plain.positions, found.positions, found.scores, strict=True
    ):
        rest = after[scores == 0]
        assert rest.tolist() == [i for i in before if i in set(rest)]


@pytest.mark.parametrize("settings", [{"started": 0}, {"alpha": 1.0}, {"neighbours": 0}])
def test_diffusion_refuses_bad_settings(settings):
    with pytest.raises(ValueError, match=r"expected .*at least 1"):
        diffusion_rerank(random_case(0), **settings)

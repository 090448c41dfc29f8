import numpy as np
import pytest

from lib.reranking.data import RetrievalData
from lib.reranking.diffusion import affinities, diffusion_rerank
from tests.made_up import random_case, similarities


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
    found = affinities(case, neighbours=7, gamma=3.0)
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

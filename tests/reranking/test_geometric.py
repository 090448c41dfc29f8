import dataclasses

import numpy as np
import pytest

from lib.reranking import geometric
from lib.reranking.geometric import (
    agreement,
    agreements,
    expand_verified,
    geometric_k_reciprocal,
    geometric_rerank,
)
from lib.reranking.k_reciprocal import (
    ZHONG,
    k_reciprocal_rerank,
    reciprocal_neighbours,
    reciprocal_similarities,
)
from tests.made_up import random_case


class KnownInliers:
    """Stands in for `PairVerifier`: tables of queries × gallery and gallery × gallery."""

    def __init__(self, table, within):
        self.table, self.within = table, within

    def inliers(self, positions):
        return np.take_along_axis(self.table, positions, axis=1)

    def of_pairs(self, rows, positions):
        return self.table[rows, positions]

    def within_gallery(self):
        return KnownInliers(self.within, None)


@pytest.fixture
def case(monkeypatch):
    monkeypatch.setattr(geometric, "CANDIDATES", 15)
    monkeypatch.setattr(geometric, "NEIGHBOURS", 4)
    generator = np.random.default_rng(1)
    table, within = generator.poisson(7, (9, 260)), generator.poisson(7, (260, 260))
    within = np.triu(within, 1) + np.triu(within, 1).T
    return dataclasses.replace(random_case(1), local=KnownInliers(table, within))


@pytest.mark.parametrize("base", [None, k_reciprocal_rerank])
def test_geometric_rerank_adds_agreement_to_the_first(case, base):
    options = {} if base is None else {"base": base}
    found = geometric_rerank(case, weight=0.5, **options)
    before = case.plain if base is None else base(case)
    for row in range(9):
        sums = []
        for rank, (image, score) in enumerate(
            zip(before.positions[row], before.scores[row].astype(float), strict=True)
        ):
            inliers = case.local.table[row, image] if rank < 15 else 0
            more = 0.5 * min(max(inliers - 4, 0), 16) / 16
            sums.append((-np.float32(score + more), int(image)))
        expected = sorted(sums)
        np.testing.assert_allclose(found.scores[row], [-score for score, _ in expected], atol=1e-6)
        assert found.positions[row].tolist() == [image for _, image in expected]


def test_geometric_rerankers_without_weight_are_their_base(case):
    found = geometric_rerank(case, weight=0.0)
    np.testing.assert_array_equal(found.positions, case.plain.positions)
    found, before = geometric_k_reciprocal(case, weight=0.0), k_reciprocal_rerank(case)
    np.testing.assert_array_equal(found.positions, before.positions)
    np.testing.assert_array_equal(found.scores, before.scores)


def test_agreements_are_those_of_first_results_and_nearest_gallery_images(case):
    Q, N = agreements(case)
    sims = case.gallery.astype(np.float64) @ case.gallery.astype(np.float64).T
    expected = np.zeros((260, 260))
    for i in range(260):
        others = sorted((j for j in range(260) if j != i), key=lambda j: -sims[i, j])[:4]
        for j in others:
            expected[i, j] = expected[j, i] = agreement(case.local.within[i, j])
    np.testing.assert_allclose(N.toarray(), expected)
    asked = np.zeros((9, 260))
    for row, images in enumerate(case.plain.positions[:, :15]):
        asked[row, images] = agreement(case.local.table[row, images])
    np.testing.assert_allclose(Q.toarray(), asked)


def test_geometric_k_reciprocal_adds_agreement_to_every_cosine(case):
    found = geometric_k_reciprocal(case, weight=0.3)
    Q, N = (one.toarray() for one in agreements(case))
    vectors = np.vstack([case.queries[3:4], case.gallery]).astype(np.float64)
    more = np.block([[np.zeros((1, 1)), Q[3:4]], [Q[3:4].T, N]])
    whole = dataclasses.replace(ZHONG, candidates=260)
    every = reciprocal_neighbours(
        case.queries, case.gallery, 40, whole, added=[0.3 * one for one in agreements(case)]
    )
    sim = (vectors @ vectors.T + 0.3 * more).astype(np.float32)
    expected = reciprocal_similarities(sim, whole)
    best = np.argsort(-expected, kind="stable")[:40]
    np.testing.assert_array_equal(every[1][3], best)
    np.testing.assert_allclose(every[0][3], expected[best], atol=1e-6)
    assert found.positions.shape == (9, 40)
    assert not np.array_equal(found.positions, k_reciprocal_rerank(case).positions)


def test_expand_verified_averages_the_query_with_verified_results(case):
    found = expand_verified(case, fewest=7)
    for row, query in enumerate(case.queries.astype(np.float64)):
        for image in case.plain.positions[row, :15]:
            if case.local.table[row, image] >= 7:
                query = query + case.gallery[image]
        np.testing.assert_allclose(found.queries[row], query / np.linalg.norm(query), atol=1e-6)
    alone = expand_verified(case, fewest=1000)
    np.testing.assert_allclose(alone.queries, case.queries, atol=1e-6)
    assert found.local is case.local


def test_geometric_rerankers_refuse_bad_settings_and_data_without_features(case):
    with pytest.raises(ValueError, match="expected at least 1 inlier, found 0"):
        expand_verified(case, fewest=0)
    for rerank in (geometric_rerank, expand_verified, geometric_k_reciprocal):
        with pytest.raises(ValueError, match=r"expected local features .* found none"):
            rerank(random_case(1))

import numpy as np
import pytest

from lib.retrieval.score_terms import SumOfTerms, TagScores


def random_tags(seed, queries=7, votes=3, images=40, *, weighted=False):
    generator = np.random.default_rng(seed)
    voted = np.stack([generator.choice(12, votes, replace=False) for _ in range(queries)])
    voted[generator.random(voted.shape) < 0.3] = -1
    scores = generator.random((queries, votes)) * (voted >= 0)
    tags = generator.integers(-1, 12, images)
    weights = generator.normal(size=images) if weighted else None
    return TagScores(voted, scores, tags, weights)


def naive(bonus):
    table = np.zeros((len(bonus.voted), len(bonus.tags)))
    for query in range(len(bonus.voted)):
        for tag, score in zip(bonus.voted[query], bonus.scores[query], strict=True):
            for image in range(len(bonus.tags)):
                if tag == bonus.tags[image] and tag != -1:
                    weight = 1.0 if bonus.weights is None else bonus.weights[image]
                    table[query, image] += score * weight
    return table


def in_tiles(bonus, queries, images, step=11):
    tile, rows = np.zeros((images, len(queries)), np.float32), np.asarray(queries)
    add = bonus.adder(rows)
    for start in range(0, images, step):
        add(tile[start : start + step], start)
    return tile.T


@pytest.mark.parametrize("seed", range(6))
def test_tag_bonus_agrees_with_naive_reference(seed):
    bonus = random_tags(seed, weighted=seed % 2 == 1)
    expected = naive(bonus)
    every = bonus.at(np.arange(7)[:, None], np.arange(40)[None])
    np.testing.assert_allclose(every, expected, atol=1e-12)
    pairs = np.random.default_rng(seed).integers(0, 40, (7, 5))
    at = bonus.at(np.arange(7)[:, None], pairs)
    np.testing.assert_allclose(at, np.take_along_axis(expected, pairs, 1), atol=1e-12)
    np.testing.assert_allclose(in_tiles(bonus, range(7), 40), expected, atol=1e-6)
    np.testing.assert_allclose(in_tiles(bonus, [4, 2], 40), expected[[4, 2]], atol=1e-6)


def test_tag_bonus_gives_nothing_without_votes_or_tags():
    for bonus in (
        TagScores(np.full((2, 3), -1), np.ones((2, 3)), np.array([-1, 5])),
        TagScores(np.empty((2, 0), int), np.empty((2, 0)), np.array([-1, 5])),
        TagScores(np.array([[7], [8]]), np.ones((2, 1)), np.array([-1, -1])),
    ):
        assert not bonus.at(np.arange(2)[:, None], np.arange(2)[None]).any()
        assert not in_tiles(bonus, range(2), 2).any()


def test_sum_of_bonuses_adds_them_up():
    parts = [random_tags(0), random_tags(1), random_tags(2, weighted=True)]
    expected = sum(naive(part) for part in parts)
    total = SumOfTerms(parts)
    np.testing.assert_allclose(
        total.at(np.arange(7)[:, None], np.arange(40)[None]), expected, atol=1e-12
    )
    np.testing.assert_allclose(in_tiles(total, range(7), 40), expected, atol=1e-6)

import numpy as np
import pytest

from lib.retrieval import running_topk as top_k
from lib.retrieval.blocks import blocks
from lib.retrieval.running_topk import RunningTopK


def sift(queries, gallery, count, *, block=500, adder=None):
    found = RunningTopK(queries, count, adder)
    for piece in blocks(gallery, block, "gallery"):
        found.update(piece)
    return *found.candidates(), found


def random_rows(seed, queries=9, images=3000, width=8):
    generator = np.random.default_rng(seed)
    return (
        generator.standard_normal((queries, width), dtype=np.float32),
        generator.standard_normal((images, width), dtype=np.float32),
    )


@pytest.mark.parametrize("order", ["random", "ascending", "descending"])
@pytest.mark.parametrize(("count", "block"), [(2, 700), (20, 64), (20, 3000), (300, 900)])
def test_sieve_keeps_the_best_whatever_the_order(monkeypatch, order, count, block):
    monkeypatch.setattr(top_k, "SHORTEST", 50)
    monkeypatch.setattr(top_k, "LONGEST", 400)
    queries, gallery = random_rows(0)
    queries[:] = queries[0] * np.linspace(0.5, 2, 9, dtype=np.float32)[:, None]
    if order != "random":
        gallery = gallery[np.argsort(gallery @ queries[0])[:: 1 if order == "ascending" else -1]]
    positions, threshold, _ = sift(queries, gallery, count, block=block)
    scores = queries @ gallery.T
    for row in range(9):
        kept = positions[row][positions[row] >= 0]
        assert len(set(kept)) == len(kept)
        assert set(np.argsort(-scores[row])[: count - 1]) <= set(kept)
        assert np.delete(scores[row], kept).max() <= threshold[row] + 1e-5


def test_sieve_drops_ties_at_the_floor_but_tells_the_floor():
    queries, gallery = np.ones((1, 2), np.float32), np.ones((5000, 2), np.float32)
    positions, threshold, _ = sift(queries, gallery, 10)
    assert threshold.tolist() == [2.0]
    assert (positions >= 0).sum() <= 10


def test_sieve_keeps_all_of_a_small_gallery():
    queries, gallery = random_rows(1, images=6)
    positions, threshold, _ = sift(queries, gallery, 10)
    assert np.sort(positions, axis=1).tolist() == [[-1] * 4 + list(range(6))] * 9
    assert (threshold == -np.inf).all()


def test_sieve_adds_the_bonus_where_each_image_stands():
    queries, gallery = random_rows(2, images=2000)
    extra = np.random.default_rng(3).random((2000, 9)).astype(np.float32) * 5

    def add(tile, start):
        tile += extra[start : start + len(tile)]

    positions, _, _ = sift(queries, gallery, 30, block=777, adder=add)
    expected = np.argsort(-(gallery @ queries.T + extra), axis=0)[:30].T
    np.testing.assert_array_equal(np.sort(positions, axis=1), np.sort(expected, axis=1))


def test_sieve_remembers_the_longest_row():
    queries, gallery = random_rows(4)
    gallery[1234] *= 10
    assert sift(queries, gallery, 5)[2].longest == pytest.approx((gallery[1234] ** 2).sum())

import re

import numpy as np
import pytest

from lib.reranking.landmark_country import landmark_country_rerank
from lib.reranking.votes import tag_gallery, vote
from lib.retrieval.ann_index import (
    ApproximateIndex,
    build_index,
    find_nearest,
    index_if_large,
    read_index,
)
from lib.retrieval.exact_search import search
from lib.retrieval.knn import nearest
from tests.winners import rows_around_centres


@pytest.fixture(scope="module")
def rows():
    return rows_around_centres(0, 3000)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    return build_index(rows, tmp_path_factory.mktemp("index"))


def test_index_finds_nearly_all_and_prints_how_many(rows, folder, capsys):
    queries = rows_around_centres(1, 400)
    found = read_index(folder, rows).nearest(queries, 10)
    scores, _ = nearest(queries, rows, 10)
    at_1 = (found.scores[:, 0] >= scores[:, 0]).mean()
    at_k = (found.scores >= scores[:, -1:]).mean()
    assert 0.9 < found.recall_at_k <= found.recall_at_1 <= 1
    assert (found.recall_at_1, found.recall_at_k) == pytest.approx((at_1, at_k))
    printed = capsys.readouterr().out
    assert f"recall@1 {at_1:.4f}, recall@10 {at_k:.4f}, measured on 400 of 400" in printed
    assert "(9 of 110 cells probed)" in printed


def test_index_gives_the_scores_of_the_exact_search(rows, folder):
    queries = rows_around_centres(2, 50)
    found = read_index(folder, rows).nearest(queries, 5)
    exact = (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(exact, found.positions, 1))


def test_index_that_scores_everything_again_is_exact(rows, folder):
    queries = rows_around_centres(3, 80)
    index = read_index(folder, rows, probes=110, candidates=3000, sample=20)
    for k in (1, 7, 100):
        found = index.nearest(queries, k, block=33)
        scores, positions = nearest(queries, rows, k)
        np.testing.assert_array_equal(found.positions, positions)
        np.testing.assert_array_equal(found.scores, scores)
        assert found.recall_at_k == 1.0


def test_more_probes_find_more(rows, folder):
    queries = rows_around_centres(4, 400, spread=1.0)
    recalls = [
        read_index(folder, rows, probes=probes).nearest(queries, 20).recall_at_k
        for probes in (1, 4, 16, 110)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9
    assert recalls[-1] > 0.99


def test_more_candidates_find_more(rows, folder):
    queries = rows_around_centres(8, 400, spread=1.0)
    recalls = [
        read_index(folder, rows, probes=110, candidates=count).nearest(queries, 1).recall_at_1
        for count in (1, 5, 100)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.95 < recalls[-1]


def test_queries_whose_cells_hold_too_little_are_searched_exactly(rows, folder):
    queries = rows_around_centres(5, 6)
    found = read_index(folder, rows, probes=1).nearest(queries, 2000)
    np.testing.assert_array_equal(found.positions, nearest(queries, rows, 2000)[1])


def test_k_is_clipped_and_nothing_is_asked_of_nobody(rows, folder):
    index = read_index(folder, rows)
    assert index.nearest(rows[:2], 5000).positions.shape == (2, 3000)
    assert index.nearest(rows[:0], 5).positions.shape == (0, 5)


def test_an_index_of_other_rows_is_refused(rows, folder):
    with pytest.raises(ValueError, match=r"index of 2999 rows of 24 in .*, found one of 3000"):
        read_index(folder, rows[:-1])
    index = read_index(folder, rows)
    with pytest.raises(ValueError, match="one width, found 5 and 24"):
        index.nearest(np.ones((1, 5)), 1)
    with pytest.raises(ValueError, match="at least 1, found 0"):
        index.nearest(rows[:1], 0)
    with pytest.raises(ValueError, match="index of the 2 gallery searched, found one of 3000"):
        find_nearest(rows[:1], rows[:2], 1, index)
    landmarks = np.where(np.arange(3000) == 7, -1, 1)
    with pytest.raises(ValueError, match="of the 2999 references searched, found one of 3000"):
        tag_gallery(rows[:1], rows, landmarks, ["CN"] * 3000, index=index)


def test_stages_take_the_index_and_say_how_good_it_is(rows, folder, capsys):
    index: ApproximateIndex = read_index(folder, rows, probes=110, candidates=3000)
    labels = np.arange(3000) % 60, np.where(np.arange(3000) % 2, "CN", "IN")
    queries, gallery = rows_around_centres(6, 9), rows_around_centres(7, 200)
    np.testing.assert_array_equal(
        search(queries, rows, 6, index=index).positions, search(queries, rows, 6).positions
    )
    tags = tag_gallery(gallery, rows, *labels, index=index)
    np.testing.assert_array_equal(tags.landmarks, tag_gallery(gallery, rows, *labels).landmarks)
    for reciprocal in (False, True):
        votes = vote(queries, rows, *labels, index=index, reciprocal=reciprocal)
        exact = vote(queries, rows, *labels, reciprocal=reciprocal)
        np.testing.assert_array_equal(votes.landmark_scores, exact.landmark_scores)
    ranking = landmark_country_rerank(queries, gallery, rows, *labels, index=index)
    exact = landmark_country_rerank(queries, gallery, rows, *labels)
    np.testing.assert_array_equal(ranking.positions, exact.positions)
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.search("recall@1 1.0000", line)) for line in lines) == len(lines) == 7


def test_index_if_large_is_none_where_exact_search_is_quick(rows, tmp_path):
    assert index_if_large(rows, tmp_path / "index") is None
    assert not (tmp_path / "index").exists()
    index = index_if_large(rows, tmp_path / "index", largest=2999, probes=5)
    assert (len(index), index.probes) == (3000, 5)

import dataclasses
import re

import faiss
import numpy as np
import pytest

from lib.reranking import RetrievalData, landmark_country_rerank, query_votes
from lib.reranking.landmark_country import tag_gallery
from lib.retrieval import ann_index
from lib.retrieval.ann_index import ApproximateIndex, build_index, index_if_large, read_index
from lib.retrieval.embedding_table import EmbeddingSubset
from lib.retrieval.knn import TagScores, nearest, search
from tests.made_up import rows_around_centres


@pytest.fixture(scope="module")
def rows():
    return rows_around_centres(0, 3000)


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    return build_index(rows, tmp_path_factory.mktemp("index"))


def recall(index, queries, k):
    """Share of the `k` neighbours that an index finds, counted by their scores."""
    return (index.nearest(queries, k)[0] >= nearest(queries, index.rows, k)[0][:, -1:]).mean()


def test_index_finds_nearly_all_and_prints_how_many(rows, folder, capsys):
    queries = rows_around_centres(1, 400)
    scores, exact = read_index(folder, rows).nearest(queries, 10)[0], nearest(queries, rows, 10)[0]
    at_1 = (scores[:, 0] >= exact[:, 0]).mean()
    at_k = (scores >= exact[:, -1:]).mean()
    assert 0.9 < at_k <= at_1 <= 1
    printed = capsys.readouterr().out
    assert f"recall@1 {at_1:.4f}, recall@10 {at_k:.4f}, measured on 400 of 400" in printed
    assert "(9 of 110 cells probed)" in printed


def test_index_gives_the_scores_of_the_exact_search(rows, folder):
    queries = rows_around_centres(2, 50)
    scores, positions = read_index(folder, rows).nearest(queries, 5)
    exact = (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, positions, 1))


def test_index_that_scores_everything_again_is_exact(rows, folder, monkeypatch):
    monkeypatch.setattr(ann_index, "SAMPLE", 20)
    monkeypatch.setattr(ann_index, "AT_ONCE", 33)
    queries = rows_around_centres(3, 80)
    index = read_index(folder, rows, probes=110, candidates=3000)
    for k in (1, 7, 100):
        found, expected = index.nearest(queries, k), nearest(queries, rows, k)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_more_probes_find_more(rows, folder):
    queries = rows_around_centres(4, 400, spread=1.0)
    recalls = [
        recall(read_index(folder, rows, probes=probes), queries, 20) for probes in (1, 4, 16, 110)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.9
    assert recalls[-1] > 0.99


def test_more_candidates_find_more(rows, folder):
    queries = rows_around_centres(8, 400, spread=1.0)
    recalls = [
        recall(read_index(folder, rows, probes=110, candidates=count), queries, 1)
        for count in (1, 5, 100)
    ]
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.95 < recalls[-1]


def test_queries_whose_cells_hold_too_little_are_searched_exactly(rows, folder):
    queries = rows_around_centres(5, 6)
    found = read_index(folder, rows, probes=1).nearest(queries, 2000)[1]
    np.testing.assert_array_equal(found, nearest(queries, rows, 2000)[1])


def test_k_is_clipped_and_there_may_be_no_query(rows, folder):
    index = read_index(folder, rows)
    assert index.nearest(rows[:2], 5000)[1].shape == (2, 3000)
    assert index.nearest(rows[:0], 5)[1].shape == (0, 5)


def test_an_index_of_other_rows_is_refused(rows, folder):
    with pytest.raises(ValueError, match=r"index of 2999 rows of 24 in .*, found one of 3000"):
        read_index(folder, rows[:-1])
    index = read_index(folder, rows)
    with pytest.raises(ValueError, match="one width, found 5 and 24"):
        index.nearest(np.ones((1, 5)), 1)
    with pytest.raises(ValueError, match="at least 1, found 0"):
        index.nearest(rows[:1], 0)
    with pytest.raises(ValueError, match="index of the 2 gallery searched, found one of 3000"):
        nearest(rows[:1], rows[:2], 1, index=index)
    term = TagScores(np.array([[7]]), np.ones((1, 1)), np.zeros(3000, int))
    with pytest.raises(ValueError, match="an index or score terms, found both"):
        nearest(rows[:1], rows, 1, index=index, terms=[term])
    landmarks = np.where(np.arange(3000) == 7, -1, 1)
    data = RetrievalData(rows[:1], rows[:1], rows, landmarks, ["CN"] * 3000, index=index)
    with pytest.raises(ValueError, match="of the 2999 references searched, found one of 3000"):
        tag_gallery(data)


def test_stages_take_the_index_and_say_how_good_it_is(rows, folder, capsys):
    index: ApproximateIndex = read_index(folder, rows, probes=110, candidates=3000)
    labels = np.arange(3000) % 60, np.where(np.arange(3000) % 2, "CN", "IN")
    queries, gallery = rows_around_centres(6, 9), rows_around_centres(7, 200)
    np.testing.assert_array_equal(
        search(queries, rows, 6, index=index).positions, search(queries, rows, 6).positions
    )
    exact = RetrievalData(queries, gallery, rows, *labels)
    data = dataclasses.replace(exact, index=index)
    np.testing.assert_array_equal(tag_gallery(data).landmarks, tag_gallery(exact).landmarks)
    for reciprocal in (False, True):
        votes, expected = (query_votes(one, reciprocal=reciprocal) for one in (data, exact))
        np.testing.assert_array_equal(votes.landmark_scores, expected.landmark_scores)
    ranking, expected = landmark_country_rerank(data), landmark_country_rerank(exact)
    np.testing.assert_array_equal(ranking.positions, expected.positions)
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.search("recall@1 1.0000", line)) for line in lines) == len(lines) == 5


def test_index_if_large_is_none_where_exact_search_is_quick(rows, tmp_path, monkeypatch):
    assert index_if_large(rows, tmp_path / "index") is None
    assert not (tmp_path / "index").exists()
    monkeypatch.setattr(ann_index, "LARGEST_EXACT", 2999)
    index = index_if_large(rows, tmp_path / "index")
    assert (len(index), index.probes) == (3000, 9)


def test_build_index_is_done_once_and_again_for_other_rows(rows, tmp_path, monkeypatch):
    build_index(rows, tmp_path, cells=20)
    monkeypatch.setattr(ann_index, "_train", None)  # calling it now would fail
    build_index(rows, tmp_path, cells=20)
    build_index(EmbeddingSubset(rows, np.arange(3000)), tmp_path, cells=20)  # the same values
    other = rows.copy()
    other[2999, 3] += 0.5
    for changed, options in ((other, {}), (rows, {"cells": 21}), (rows, {"seed": 1})):
        with pytest.raises(TypeError):
            build_index(changed, tmp_path, **({"cells": 20} | options))


def test_build_index_that_was_killed_is_no_index_until_it_is_repeated(rows, tmp_path, monkeypatch):
    def killed(index, path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(faiss, "write_index", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(rows, tmp_path, cells=20)
    with pytest.raises(
        ValueError, match=r"expected the index of 3000 rows of 24 in .*, found none"
    ):
        read_index(tmp_path, rows)
    build_index(rows, tmp_path, cells=20)
    assert len(read_index(tmp_path, rows)) == 3000
    assert not [path for path in tmp_path.rglob("*") if ".part" in path.name]


@pytest.mark.parametrize("size", [None, 0, 10, 5000])
def test_build_index_makes_a_missing_or_cut_file_again(rows, tmp_path, size):
    build_index(rows, tmp_path, cells=20)
    path = tmp_path / "index.faiss"
    whole = path.read_bytes()
    path.unlink() if size is None else path.write_bytes(whole[:size])
    with pytest.raises(
        ValueError, match=r"expected the index of 3000 rows of 24 in .*, found none"
    ):
        read_index(tmp_path, rows)
    build_index(rows, tmp_path, cells=20)
    assert len(read_index(tmp_path, rows)) == 3000


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        (np.ones(4), {}, r"rows to index as an \(N, D\) array"),
        (np.ones((70, 2)), {"cells": 71}, "found 70 rows for 71 cells"),
        (np.ones((63, 2)), {}, "at least 64 rows and as many as cells, found 63 rows"),
        (np.ones((0, 2)), {}, "found 0 rows"),
        (np.array([[1, 0]] * 99 + [[np.nan, 1]]), {}, "finite rows to index, .* row 99"),
    ],
)
def test_build_index_refuses_bad_input(tmp_path, wrong, options, message):
    with pytest.raises(ValueError, match=message):
        build_index(wrong, tmp_path, **options)


@pytest.mark.parametrize("width", [1, 2, 5, 24])
def test_build_index_takes_rows_of_any_width(width, tmp_path):
    rows = np.random.default_rng(width).standard_normal((300, width)).astype(np.float16)
    index = read_index(build_index(rows, tmp_path), rows, candidates=300)
    assert recall(index, rows[:20].astype(np.float32), 3) > 0.9


def test_build_index_is_the_same_from_float16_and_float32(rows, tmp_path):
    folders = [
        build_index(own, tmp_path / str(own.dtype)) for own in (rows, rows.astype(np.float32))
    ]
    found = [read_index(folder, rows).nearest(rows[:50], 5)[1] for folder in folders]
    np.testing.assert_array_equal(*found)

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import retrieval
from lib.reranking import landmark_country
from lib.reranking.data import Similarity, read_retrieval_data, read_second_model
from lib.reranking.landmark_country import gallery_votes, query_votes
from lib.reranking.neighbours import augment_gallery, expand_queries
from lib.retrieval.knn import TagScores, search
from tests.made_up import random_case, similarities, small_data, small_evaluation, write_folder


@pytest.fixture
def data():
    return small_data(small_evaluation())


def test_plain_is_search_with_ids(data):
    ids = {"query_ids": data.query_ids, "gallery_ids": data.gallery_ids}
    expected = search(data.queries, data.gallery, 20, **ids)
    assert data.plain.predictions() == expected.predictions()


def test_cached_computes_once_per_settings(data, monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    real = landmark_country._count
    monkeypatch.setattr(landmark_country, "_count", counted)
    for _ in range(3):
        query_votes(data)
        query_votes(data, top=3, normalise=True)
        query_votes(data, reciprocal=True)
        gallery_votes(data, top=3)
    assert len(calls) == 3
    assert augment_gallery(data, neighbours=3) is augment_gallery(data, neighbours=3)
    assert expand_queries(data, alpha=1) is not expand_queries(data, alpha=2)
    assert query_votes(data.second) is not query_votes(data)


def test_changed_data_computes_its_own_results(data):
    other = dataclasses.replace(data, queries=data.queries[::-1])
    np.testing.assert_array_equal(other.plain.positions, data.plain.positions[::-1])
    expected = query_votes(data).landmark_scores[::-1]
    np.testing.assert_array_equal(query_votes(other).landmark_scores, expected)


def test_with_queries_keeps_what_belongs_to_the_gallery(data):
    kept = landmark_country.tag_gallery(data), data.gallery_neighbours(4)[1]
    query_votes(data)
    other = data.with_queries(data.queries[5:6])
    assert landmark_country.tag_gallery(other) is kept[0]
    assert np.shares_memory(other.gallery_neighbours(4)[1], kept[1])
    ranking = landmark_country.landmark_country_rerank(other)
    expected = landmark_country.landmark_country_rerank(data, query="q5")
    np.testing.assert_array_equal(ranking.positions, expected.positions)
    assert query_votes(other).references.tolist() == query_votes(data).references[5:6].tolist()


def test_rank_is_the_dense_sum_of_similarity_and_terms():
    case = random_case(0)
    generator = np.random.default_rng(0)
    voted = np.array([generator.permutation(5)[:2] for _ in range(9)])
    term = TagScores(voted, generator.random((9, 2)), generator.integers(-1, 5, 260))
    final = similarities(case)
    for q in range(9):
        for tag, score in zip(term.voted[q], term.scores[q], strict=True):
            final[q] += 0.5 * score * (term.tags == tag)
    for factor in (0.5, np.float32(0.5)):
        found = case.rank(case.similarity + factor * term)
        expected = np.argsort(-final, axis=1, kind="stable")[:, : case.k]
        np.testing.assert_array_equal(found.positions, expected)
        alone = case.rank(case.similarity + factor * term, query=4)
        np.testing.assert_array_equal(alone.positions, found.positions[4:5])
        np.testing.assert_array_equal(alone.scores, found.scores[4:5])


def test_terms_of_other_images_and_ids_out_of_step_are_refused():
    rows = np.eye(3)
    term = TagScores(np.array([[0]]), np.array([[1.0]]), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"votes and tags .* = \(3, 3\), found \(1, 3\);"):
        Similarity(rows, rows) + term
    with pytest.raises(ValueError, match=r"votes and tags .* = \(1, 2\), found \(1, 3\);"):
        Similarity(rows[:1], rows[:2]) + term
    with pytest.raises(ValueError, match="finite weight of a score, found inf"):
        np.inf * term
    with pytest.raises(ValueError, match="one gallery id per row, found 4 ids for 260 rows"):
        random_case(0, gallery_ids=list("abcd"))
    with pytest.raises(ValueError, match="one query id per row, found 1 ids for 9 rows"):
        random_case(0, query_ids=["x"])


def test_read_retrieval_data_takes_references_by_id_from_a_larger_folder(tmp_path):
    generator = np.random.default_rng(0)
    names = {"query": ["q0", "q1"], "gallery": ["g0", "g1", "g2"], "raw": list("abcde")}
    rows = {name: generator.normal(size=(len(ids), 4)) for name, ids in names.items()}
    for name, ids in names.items():
        write_folder(tmp_path / name, ids, rows[name])
    labelled = pd.DataFrame({"id": ["d", "a"], "landmark_id": [7, 9], "country": ["NA", "FR"]})
    found = read_retrieval_data(tmp_path, labelled, references="raw", k=2)
    expected = rows["raw"][[3, 0]].astype(np.float16)
    np.testing.assert_array_equal(found.references[:], expected)
    assert found.reference_landmarks.tolist() == [7, 9]
    assert found.reference_countries.tolist() == ["NA", "FR"]
    assert list(found.plain.predictions()) == ["q0", "q1"]
    unknown = pd.concat([labelled, labelled.head(1).assign(id="z")])
    with pytest.raises(ValueError, match=r"embeddings of all 3 images in .*raw, found none of z"):
        read_retrieval_data(tmp_path, unknown, references="raw")


def test_read_second_model_is_for_a_model_that_embedded_the_raw_images(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("query", 2), ("gallery", 3)):
        ids = [f"{name}{i}" for i in range(count)]
        write_folder(tmp_path / name, ids, generator.normal(size=(count, 4)))
    labelled = pd.DataFrame({"id": ["b"], "landmark_id": [7], "country": ["NA"]})
    assert read_second_model(tmp_path, labelled) is None
    rows = generator.normal(size=(2, 4)).astype(np.float16)
    write_folder(tmp_path / "raw", ["a", "b"], rows)
    found = read_second_model(tmp_path, labelled, k=2)
    np.testing.assert_array_equal(found.references[:], rows[1:])
    assert found.plain.k == 2
    assert read_second_model(tmp_path, labelled.assign(id="z")) is None
    write_folder(tmp_path / "references", ["z"], rows[:1])
    other = read_second_model(tmp_path, labelled.assign(id="z"))
    np.testing.assert_array_equal(other.references[:], rows[:1])


@pytest.mark.parametrize("ties", [False, True])
def test_gallery_neighbours_are_searched_again_only_for_more(monkeypatch, ties):
    data, calls = random_case(0, ties=ties), []
    nearest = retrieval.nearest
    monkeypatch.setattr(retrieval, "nearest", lambda *a, **k: calls.append(1) or nearest(*a, **k))
    for count, searches in ((5, 1), (3, 1), (9, 2), (5, 2)):
        expected = nearest(data.gallery, data.gallery, count)
        for found, own in zip(data.gallery_neighbours(count), expected, strict=True):
            np.testing.assert_array_equal(found, own)
        assert len(calls) == searches
    everything = data.gallery_neighbours(10 * len(data.gallery))[1]
    assert everything.shape == (len(data.gallery),) * 2
    data.gallery_neighbours(10 * len(data.gallery))
    assert len(calls) == 3

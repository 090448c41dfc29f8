import dataclasses

import numpy as np
import pytest

from lib.reranking.ensemble import (
    ConcatenatedTable,
    concatenate,
    join_models,
    landmark_country_of_each,
)
from lib.reranking.landmark_country import landmark_country_rerank
from lib.retrieval.knn import search
from tests.made_up import random_case


def unit_rows(generator, count, width):
    rows = generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def models(seed, count, widths=(6, 9, 4)):
    generator = np.random.default_rng(seed)
    return [unit_rows(generator, count, width) for width in widths]


def ranked(final, k):
    return np.argsort(-final, axis=1, kind="stable")[:, :k]


def similarities(queries, gallery):
    return [
        q.astype(np.float64) @ g.astype(np.float64).T for q, g in zip(queries, gallery, strict=True)
    ]


def test_concatenated_similarities_are_added_up():
    queries, gallery = models(0, 8), models(1, 900)
    found = search(ConcatenatedTable(queries), ConcatenatedTable(gallery), 30, block=101)
    final = sum(similarities(queries, gallery))
    np.testing.assert_array_equal(found.positions, ranked(final, 30))
    expected = np.take_along_axis(final, found.positions, 1)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


def test_concatenated_unit_rows_are_unit_rows_and_rank_like_the_sum():
    queries, gallery = models(2, 8), models(3, 900)
    joined = concatenate(gallery)
    assert joined.shape == (900, 19)
    np.testing.assert_allclose(np.linalg.norm(joined[:], axis=1), 1.0, atol=1e-3)  # of float16
    found = search(concatenate(queries), joined, 30)
    added = search(ConcatenatedTable(queries), ConcatenatedTable(gallery), 30)
    np.testing.assert_array_equal(found.positions, added.positions)
    np.testing.assert_allclose(found.scores * 3, added.scores, atol=1e-5)


def test_one_model_alone_is_itself():
    rows = models(4, 50)[0]
    np.testing.assert_array_equal(concatenate([rows])[:], rows.astype(np.float32))
    twice = ConcatenatedTable([rows], 2.0)
    np.testing.assert_array_equal(twice[[3, 1]], 2 * rows[[3, 1]].astype(float))


def two_models(seeds, **fields):
    """Data of two models whose references may have other labels."""
    data = [
        random_case(seed, width=width, **fields) for seed, width in zip(seeds, (6, 9), strict=True)
    ]
    return dataclasses.replace(data[0], second=data[1])


def test_landmark_country_of_each_adds_up_every_models_final_similarity():
    data = two_models((5, 6))
    found = landmark_country_of_each(data, alpha=0.6, beta=0.2)
    final = 0.0
    for one in (data, data.second):
        whole = dataclasses.replace(one, k=260)
        ranking = landmark_country_rerank(whole, alpha=0.6, beta=0.2)
        sims = np.zeros((9, 260))
        np.put_along_axis(sims, ranking.positions, ranking.scores.astype(np.float64), axis=1)
        final = final + sims
    best = ranked(final, 40)
    np.testing.assert_allclose(found.scores, np.take_along_axis(final, best, 1), atol=1e-5)
    np.testing.assert_array_equal(found.positions[:, :5], best[:, :5])


def test_similarities_added_up_rank_as_rows_side_by_side():
    data = two_models((5, 6))
    found = landmark_country_of_each(data, alpha=0.0, beta=0.0)
    np.testing.assert_array_equal(found.positions, join_models(data).plain.positions)
    np.testing.assert_allclose(found.scores, 2 * join_models(data).plain.scores, atol=1e-6)


def test_join_models_lays_all_rows_side_by_side():
    data = two_models((7, 8))
    joined = join_models(data)
    for name in ("queries", "gallery", "references"):
        both = [getattr(one, name) for one in (data, data.second)]
        np.testing.assert_array_equal(getattr(joined, name)[:], concatenate(both)[:])
    assert joined.references.shape == (120, 15)
    assert landmark_country_rerank(joined).positions.shape == (9, 40)
    for ensemble in (join_models, landmark_country_of_each):
        with pytest.raises(ValueError, match="expected a second model for an ensemble, found none"):
            ensemble(data.second)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "at least one model's embeddings, found none"),
        ([np.eye(2), np.ones((3, 2))], "2 rows from every model, found 3 from model 2"),
        ([np.eye(2), np.ones(2)], r"embeddings of model 2 as an \(N, D\) array"),
    ],
)
def test_ensembles_refuse_bad_input(tables, message):
    for join in (concatenate, ConcatenatedTable):
        with pytest.raises(ValueError, match=message):
            join(tables)


def test_a_bad_value_in_any_model_is_named():
    rows = [np.eye(3), np.eye(3)]
    rows[1][2, 0] = np.nan
    with pytest.raises(ValueError, match="finite gallery, found a NaN or an infinity in row 2;"):
        search(concatenate([np.eye(3), np.eye(3)]), concatenate(rows), 1)

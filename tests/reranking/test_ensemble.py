import numpy as np
import pytest

from lib.reranking.ensemble import ModelView, concatenate, merge_reranked, summed
from lib.reranking.landmark_country import apply_votes, landmark_country_rerank
from lib.reranking.votes import tag_gallery, vote
from lib.retrieval.knn import search

WEIGHTS = [1.0, 0.5, 2.0]


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


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_summed_similarities_are_added_up(weights):
    queries, gallery = models(0, 8), models(1, 900)
    found = search(summed(queries, weights), summed(gallery, weights), 30, block=101)
    factors = weights or [1, 1, 1]
    final = sum(w * s for w, s in zip(factors, similarities(queries, gallery), strict=True))
    np.testing.assert_array_equal(found.positions, ranked(final, 30))
    expected = np.take_along_axis(final, found.positions, 1)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


def test_concatenated_unit_rows_are_unit_rows_and_rank_like_the_sum():
    queries, gallery = models(2, 8), models(3, 900)
    joined = concatenate(gallery, WEIGHTS)
    assert joined.shape == (900, 19)
    np.testing.assert_allclose(np.linalg.norm(joined[:], axis=1), 1.0, atol=1e-3)  # of float16
    found = search(concatenate(queries, WEIGHTS), joined, 30)
    added = search(summed(queries, WEIGHTS), summed(gallery, WEIGHTS), 30)
    np.testing.assert_array_equal(found.positions, added.positions)
    np.testing.assert_allclose(found.scores * sum(WEIGHTS), added.scores, atol=1e-5)


def test_one_model_alone_is_itself():
    rows = models(4, 50)[0]
    np.testing.assert_array_equal(concatenate([rows])[:], rows.astype(np.float32))
    np.testing.assert_array_equal(summed([rows], [4.0])[[3, 1]], 2 * rows[[3, 1]].astype(float))


def labels(seed, count):
    generator = np.random.default_rng(seed)
    return generator.integers(-1, 12, count), generator.choice(["", "CN", "FR", "OTHER"], count)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_merge_reranked_adds_up_every_models_dense_formula(weights):
    queries, gallery, references = models(5, 7), models(6, 800), models(7, 90)
    views, final = [], 0.0
    for number, (q, g, r) in enumerate(zip(queries, gallery, references, strict=True)):
        own = labels(number, 90)  # even the labels may differ from model to model
        view = ModelView(q, g, vote(q, r, *own), tag_gallery(g, r, *own))
        views.append(view)
        dense = apply_votes(q, g, view.votes, view.tags, k=800, alpha=0.6, beta=0.2)
        sims = np.zeros((7, 800))
        np.put_along_axis(sims, dense.positions, dense.scores.astype(np.float64), axis=1)
        final = final + (weights or [1, 1, 1])[number] * sims
    found = merge_reranked(views, weights, k=40, alpha=0.6, beta=0.2, block=77)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(final, ranked(final, 40), 1), atol=1e-5
    )
    np.testing.assert_array_equal(found.positions[:, :5], ranked(final, 40)[:, :5])


def test_merging_one_model_before_is_merging_it_after():
    queries, gallery, references = (models(seed, n)[0] for seed, n in ((8, 5), (9, 300), (10, 60)))
    own = labels(3, 60)
    view = ModelView(
        queries, gallery, vote(queries, references, *own), tag_gallery(gallery, references, *own)
    )
    before = merge_reranked([view], k=20)
    after = landmark_country_rerank(
        concatenate([queries]), concatenate([gallery]), concatenate([references]), *own, k=20
    )
    np.testing.assert_array_equal(before.positions, after.positions)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_ensembles_keep_ids_in_step():
    queries, gallery = models(11, 2), models(12, 5)
    own = np.arange(5), ["CN"] * 5
    views = [
        ModelView(q, g, vote(q, g, *own), tag_gallery(g, g, *own))
        for q, g in zip(queries, gallery, strict=True)
    ]
    ids = {"query_ids": ["x", "y"], "gallery_ids": list("abcde")}
    found = merge_reranked(views, **ids).predictions()
    assert all(sorted(row) == list("abcde") for row in found.values())
    with pytest.raises(ValueError, match="one gallery id per row, found 4 ids for 5 rows"):
        merge_reranked(views, gallery_ids=list("abcd"))
    with pytest.raises(ValueError, match="one tag per row of embeddings, found 5 for 4"):
        merge_reranked([ModelView(queries[0], gallery[0][:4], views[0].votes, views[0].tags)])


@pytest.mark.parametrize(
    ("tables", "weights", "message"),
    [
        ([], None, "at least one model's embeddings, found none"),
        ([np.eye(2), np.ones((3, 2))], None, "2 rows from every model, found 3 from model 2"),
        ([np.eye(2), np.ones(2)], None, r"embeddings of model 2 as an \(N, D\) array"),
        ([np.eye(2)], [1.0, 1.0], "each of the 1 models, found"),
        ([np.eye(2), np.eye(2)], [1.0, 0.0], "leave a model of weight 0 out"),
        ([np.eye(2), np.eye(2)], [1.0, np.nan], "positive weight"),
    ],
)
def test_ensembles_refuse_bad_input(tables, weights, message):
    for join in (concatenate, summed):
        with pytest.raises(ValueError, match=message):
            join(tables, weights)


def test_a_bad_value_in_any_model_is_named():
    rows = [np.eye(3), np.eye(3)]
    rows[1][2, 0] = np.nan
    with pytest.raises(ValueError, match="finite gallery, found a NaN or an infinity in row 2;"):
        search(concatenate([np.eye(3), np.eye(3)]), concatenate(rows), 1)

"""The grid of α and β: every cell is one reranking, and the best cell is chosen on its table."""

import numpy as np
import pandas as pd
import pytest

from lib.reranking.landmark_country import choose, grid, landmark_country_rerank
from lib.reranking.votes import tag_gallery, vote
from lib.retrieval import scoring
from lib.retrieval.embedding_table import Embeddings
from lib.retrieval.knn import search
from tests.numbered import numbered_evaluation

ALPHAS, BETAS = (0.0, 0.5, 2.0), (0.0, 0.1, 0.4, 1.0)


class Scene:
    """Noisy unit rows of an evaluation and of labelled references of the same landmarks."""

    def __init__(self, seed, *, top=3, normalise=True):
        self.generator = np.random.default_rng(seed)
        self.evaluation = numbered_evaluation(queries=24, gallery=60)
        self.centres = self.rows_near(np.eye(3, 8), noise=0.1)
        landmark_of = {"NA": 0, "FR": 1, "JP": 2}
        asked = self.evaluation.queries["country"].map(landmark_of).to_numpy()
        # In another order than the evaluation's, with the ids that say so.
        order = self.generator.permutation(len(asked))
        self.queries = Embeddings(
            self.evaluation.queries["id"].to_numpy(dtype=str)[order],
            self.rows_near(self.centres[asked[order]]),
        )
        self.gallery = Embeddings(
            self.evaluation.gallery["id"].to_numpy(dtype=str),
            self.rows_near(self.centres[self.evaluation.gallery["landmark_id"]]),
        )
        landmarks = self.generator.integers(3, size=40)
        references = self.rows_near(self.centres[landmarks])
        countries = np.array(["NA", "FR", "FR"])[landmarks]
        self.labelled = (references, landmarks, countries)
        self.options = {"top": top, "normalise": normalise}

    def rows_near(self, centres, noise=0.35):
        rows = centres + noise * self.generator.normal(size=centres.shape)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float16)

    def grid(self, alphas=ALPHAS, betas=BETAS):
        votes = vote(self.queries.rows, *self.labelled, **self.options)
        tags = tag_gallery(self.gallery.rows, *self.labelled)
        return grid(
            self.queries, self.gallery, votes, tags, self.evaluation, alphas=alphas, betas=betas
        )

    def naive(self, usage, alpha, beta):
        """One cell, from the rows."""
        ranking = landmark_country_rerank(
            self.queries.rows,
            self.gallery.rows,
            *self.labelled,
            alpha=alpha,
            beta=beta,
            query_ids=self.queries.ids,
            gallery_ids=self.gallery.ids,
            **self.options,
        )
        return scoring.map_of_usage(scoring.score_queries(ranking, self.evaluation), usage)


@pytest.mark.parametrize("options", [{}, {"top": 1, "normalise": False}])
def test_grid_is_one_reranking_per_cell(options):
    scene = Scene(0, **options)
    tables = scene.grid()
    assert set(tables) == {"Public", "Private"}
    for usage, table in tables.items():
        assert table.index.tolist() == list(ALPHAS)
        assert table.columns.tolist() == list(BETAS)
        expected = [[scene.naive(usage, alpha, beta) for beta in BETAS] for alpha in ALPHAS]
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-12)
        assert len(np.unique(table)) > 3  # the weights matter here


def test_grid_at_zero_is_plain_search():
    for seed in range(5):
        scene = Scene(seed)
        tables = scene.grid(alphas=(0.0,), betas=(0.0,))
        plain = search(
            scene.queries.rows,
            scene.gallery.rows,
            100,
            query_ids=scene.queries.ids,
            gallery_ids=scene.gallery.ids,
        )
        scores = scoring.score_queries(plain, scene.evaluation)
        for usage, table in tables.items():
            assert table.loc[0.0, 0.0] == pytest.approx(scoring.map_of_usage(scores, usage))


def test_grid_sorts_its_axes_whatever_order_is_asked_for():
    scene = Scene(1)
    shuffled = scene.grid(alphas=(2, 0, 0.5), betas=(1.0, 0.1, 0.4, 0))
    for usage, table in scene.grid().items():
        pd.testing.assert_frame_equal(shuffled[usage], table)
        assert (table.index.name, table.columns.name) == ("alpha", "beta")


def test_grid_of_one_cell():
    tables = Scene(2).grid(alphas=[0.5], betas=[0.1])
    assert {usage: table.shape for usage, table in tables.items()} == {
        "Public": (1, 1),
        "Private": (1, 1),
    }
    assert choose(tables["Public"]) == (0.5, 0.1)


def test_choose_takes_the_first_of_the_best_for_any_table():
    for seed in range(50):
        generator = np.random.default_rng(seed)
        values = generator.integers(0, 3, (3, 4)) / 3  # many ties
        table = pd.DataFrame(values, index=ALPHAS, columns=BETAS)
        best = [(a, b) for a in ALPHAS for b in BETAS if table.loc[a, b] == values.max()]
        found = choose(table)
        assert found == min(best)
        assert [type(number) for number in found] == [float, float]
        # The order of rows and columns decides nothing.
        assert choose(table.iloc[::-1, generator.permutation(4)]) == min(best)


def test_choose_passes_over_cells_that_are_not_known():
    table = pd.DataFrame([[np.nan, 0.1], [0.2, np.nan]], index=[0, 1], columns=[0, 1])
    assert choose(table) == (1.0, 0.0)

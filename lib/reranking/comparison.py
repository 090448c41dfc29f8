"""Every reranker and the sensible stacks, as rows of plain data for `lib.reranking.comparison`.

A row has a name, a source, what to call on the material, and a small grid of settings whose first
values are the published ones. A new reranker is one function and one row.

Every reranker in one table: settings chosen on Public queries, reported on Private ones.

`lib.reranking.comparison` lists them. A setting has to win on Public queries; the table then shows
Private
ones with bootstrap intervals, the gain over plain search on the same queries, and the continents,
because the data of 2021 was made for fairness."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lib import retrieval
from lib.artifacts import progress, rng
from lib.data import OTHER, Evaluation
from lib.reranking.bridged import bridged_rerank
from lib.reranking.data import RetrievalData
from lib.reranking.ensemble import ModelView, merge_reranked
from lib.reranking.k_reciprocal import Reciprocal
from lib.reranking.kaggle_winners import landmark_product, soft_rerank, sort_and_insert
from lib.reranking.landmark_country import add_votes, apply_votes
from lib.reranking.query_expansion import expanded_search
from lib.retrieval import Ranking, bootstrap_interval

PLAIN = "plain search"
ALPHAS, BETAS = (1.0, 0.5, 0.25, 0.1, 0.05), (0.1, 0.0, 0.05, 0.2)
ZHONG = Reciprocal(60, 20, 6, 0.3)  # as in the paper, among the nearest 60 and theirs
WEIGHTS = {"alpha": ALPHAS, "beta": BETAS}


@dataclass(frozen=True)
class Reranker:
    """One row of the table.

    Attributes:
        name: shown in tables and charts.
        source: who published it.
        rerank: material and settings to a ranking.
        grid: setting to the values tried, the published one first.
        is_ensemble: needs a second model.
    """

    name: str
    source: str
    rerank: Callable[..., Ranking]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    is_ensemble: bool = False


def _plain(material: RetrievalData) -> Ranking:
    return material.plain


def _expanded(material: RetrievalData, **settings: Any) -> Ranking:
    return expanded_search(material.plain, material.queries.rows, material.gallery.rows, **settings)


def _augmented(material: RetrievalData, *, neighbours: int) -> Ranking:
    return material.augmented(neighbours=neighbours).plain


def _reciprocal(material: RetrievalData, *, settings: Reciprocal) -> Ranking:
    return material.reciprocal(settings)


def _landmark_country(
    material: RetrievalData, *, alpha: float, beta: float, votes: int = 3, reciprocal: bool = False
) -> Ranking:
    return apply_votes(
        material.queries.rows,
        material.gallery.rows,
        material.query_votes(votes, reciprocal=reciprocal),
        material.tags,
        k=material.k,
        alpha=alpha,
        beta=beta,
        **material.ids,
    )


def _by_reciprocal_votes(material: RetrievalData, **settings: Any) -> Ranking:
    return _landmark_country(material, reciprocal=True, **settings)


def _soft(material: RetrievalData, **settings: float) -> Ranking:
    votes = material.query_votes(1, normalise=False), material.gallery_votes(1)
    return soft_rerank(
        material.plain, material.queries.rows, material.gallery.rows, *votes, **settings
    )


def _sorted(material: RetrievalData, *, threshold: float, votes: int = 3) -> Ranking:
    both = material.query_votes(votes, normalise=False), material.gallery_votes(votes)
    return sort_and_insert(material.plain, *both, threshold=threshold)


def _product(material: RetrievalData, *, votes: int) -> Ranking:
    both = material.query_votes(votes, normalise=False), material.gallery_votes(votes)
    return landmark_product(material.plain, *both)


def _bridged(material: RetrievalData, *, bonus: float, per_landmark: int = 2) -> Ranking:
    rows = material.queries.rows, material.gallery.rows
    distances = material.distances(per_landmark=per_landmark)
    return bridged_rerank(material.plain, *rows, *distances, bonus=bonus)


def _bridged_augmented(material: RetrievalData, *, neighbours: int, bonus: float) -> Ranking:
    return _bridged(material.augmented(neighbours=neighbours), bonus=bonus)


def _expanded_landmark_country(
    material: RetrievalData, *, neighbours: int, **weights: Any
) -> Ranking:
    return _landmark_country(material.expanded(neighbours=neighbours, alpha=3.0), **weights)


def _augmented_landmark_country(
    material: RetrievalData, *, neighbours: int, **weights: Any
) -> Ranking:
    return _landmark_country(material.augmented(neighbours=neighbours), **weights)


def _augmented_reciprocal(material: RetrievalData, *, neighbours: int) -> Ranking:
    return material.augmented(neighbours=neighbours).reciprocal(ZHONG)


def _reciprocal_landmark_country(material: RetrievalData, **weights: float) -> Ranking:
    votes = material.query_votes(3, reciprocal=True)
    return add_votes(material.reciprocal(ZHONG), votes, material.tags, **weights)


def _everything(material: RetrievalData, *, neighbours: int, **weights: Any) -> Ranking:
    augmented = material.augmented(neighbours=neighbours)
    expanded = augmented.expanded(neighbours=neighbours, alpha=3.0)
    return _landmark_country(expanded, reciprocal=True, **weights)


def _two_models(material: RetrievalData) -> Ranking:
    return material.joined.plain


def _two_models_reciprocal(material: RetrievalData) -> Ranking:
    return material.joined.reciprocal(ZHONG)


def _merged_first(material: RetrievalData, **weights: float) -> Ranking:
    return _landmark_country(material.joined, **weights)


def _merged_last(material: RetrievalData, **weights: float) -> Ranking:
    views = [
        ModelView(one.queries.rows, one.gallery.rows, one.query_votes(3), one.tags)
        for one in (material, material.second)
    ]
    return merge_reranked(views, k=material.k, **weights, **material.ids)


RERANKERS = (
    Reranker(PLAIN, "", _plain),
    Reranker(
        "α-query expansion",
        "Radenović 2018",
        _expanded,
        {"neighbours": (10, 5, 3, 2, 1), "alpha": (3.0, 1.0, 0.0, 6.0)},
    ),
    Reranker(
        "database-side augmentation", "Arandjelović 2012", _augmented, {"neighbours": (10, 5, 3, 2)}
    ),
    Reranker(
        "k-reciprocal",
        "Zhong 2017",
        _reciprocal,
        {
            "settings": (
                ZHONG,
                Reciprocal(30, 10, 3, 0.3),
                Reciprocal(30, 10, 3, 0.5),
            )
        },
    ),
    Reranker("landmark-country", "GLR21", _landmark_country, WEIGHTS | {"votes": (3, 1, 5)}),
    Reranker(
        "landmark-country, reciprocal votes",
        "GLR21",
        _by_reciprocal_votes,
        WEIGHTS | {"votes": (3, 1, 5)},
    ),
    Reranker(
        "soft addition and penalty",
        "2021, 1st",
        _soft,
        {"bonus": (1.0, 0.5, 0.25, 0.1), "penalty": (0.1, 0.0, 0.05, 0.2)},
    ),
    Reranker(
        "sort and insert",
        "2019, 1st",
        _sorted,
        {"threshold": (0.6, 0.9, 1.2, 1.5), "votes": (3, 1, 5)},
    ),
    Reranker("sparse landmark scores", "2021, 13th", _product, {"votes": (5, 3, 1, 10)}),
    Reranker(
        "bridged distance",
        "2021, 5th",
        _bridged,
        {"bonus": (0.5, 0.25, 0.0), "per_landmark": (2, 1, 3)},
    ),
    Reranker(
        "augmentation → bridged distance",
        "2021, 5th",
        _bridged_augmented,
        {"neighbours": (10, 5, 3), "bonus": (0.5, 0.25, 0.0)},
    ),
    Reranker(
        "expansion → landmark-country",
        "stack",
        _expanded_landmark_country,
        {"neighbours": (5, 3, 2)} | WEIGHTS,
    ),
    Reranker(
        "augmentation → landmark-country",
        "stack",
        _augmented_landmark_country,
        {"neighbours": (5, 3, 2)} | WEIGHTS,
    ),
    Reranker("augmentation → k-reciprocal", "stack", _augmented_reciprocal, {"neighbours": (5, 3)}),
    Reranker(
        "k-reciprocal → landmark-country",
        "stack",
        _reciprocal_landmark_country,
        WEIGHTS,
    ),
    Reranker(
        "augmentation → expansion → landmark-country",
        "stack",
        _everything,
        {"neighbours": (5, 3, 2)} | WEIGHTS,
    ),
    Reranker("two models side by side", "GLR20", _two_models, is_ensemble=True),
    Reranker("two models → k-reciprocal", "stack", _two_models_reciprocal, is_ensemble=True),
    Reranker(
        "two models → landmark-country",
        "GLR20, GLR21",
        _merged_first,
        WEIGHTS,
        is_ensemble=True,
    ),
    Reranker("landmark-country of each → sum", "GLR21", _merged_last, WEIGHTS, is_ensemble=True),
)


@dataclass(frozen=True, eq=False)
class Tried:
    """A reranker with the settings that were best on Public queries.

    Attributes:
        reranker: which.
        settings: chosen.
        tried: how many settings there were.
        ranking: what it made of the evaluation's queries.
        scores: the table of `lib.retrieval.score_queries`.
    """

    reranker: Reranker
    settings: Mapping[str, Any]
    tried: int
    ranking: Ranking
    scores: pd.DataFrame

    def precision(self, usage: str) -> pd.Series:
        """Average precision of the queries of one usage, by their id."""
        own = self.scores[self.scores["usage"] == usage]
        return own.set_index("id")["average_precision"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished comparison.

    Attributes:
        table: one row per reranker: reranker, source, settings (chosen on Public), tried (how many
            settings), public, private, low, high (95 % interval of private), gain, gain_low,
            gain_high (paired difference from plain search on Private; NaN for itself).
        continents: one row per continent of Private queries: continent, queries, and the mAP of
            each reranker.
        chosen: reranker to what was tried of it.
    """

    table: pd.DataFrame
    continents: pd.DataFrame
    chosen: Mapping[str, Tried]

    def best(self) -> Tried:
        """What is best on Public queries and needs one model only."""
        alone = [one for one in self.chosen.values() if not one.reranker.is_ensemble]
        return max(alone, key=lambda one: np.nan_to_num(one.precision("Public").mean()))

    def spread(self) -> pd.DataFrame:
        """Best and worst continent of every reranker and what lies between.

        OTHER is no continent: nothing is known of where those landmarks stand, often because
        training never saw them.

        Returns:
            Columns reranker, best, best_map, worst, worst_map, spread; no row without a continent
            of enough queries. The spread is NaN, and a printed sentence says so, where there are
            fewer than two.
        """
        values = self.continents.set_index("continent").drop(columns="queries")
        values = values.drop(index=OTHER, errors="ignore")
        if len(values) < 2:
            found = ", ".join(values.index) or "none"
            print(f"no spread: expected two continents with enough queries, found {found}")
        if values.empty:
            values = values.iloc[:, :0]
        gaps = values.max() - (values.min() if len(values) > 1 else np.nan)
        return pd.DataFrame(
            {
                "reranker": values.columns,
                "best": values.idxmax().to_numpy(),
                "best_map": values.max().to_numpy(),
                "worst": values.idxmin().to_numpy(),
                "worst_map": values.min().to_numpy(),
                "spread": gaps.to_numpy(dtype=float),
            }
        )


def compare(
    material: RetrievalData,
    evaluation: Evaluation,
    *,
    rerankers: Sequence[Reranker] = RERANKERS,
    seed: int = 0,
    fewest: int = 5,
) -> Comparison:
    """Try every reranker, choose its settings on Public queries, and report Private ones.

    Ensembles are left out where the material has no second model. Among equally good settings the
    first of the grid wins, so a published one where it is as good. Where there is no Public query,
    the first settings are taken.

    Args:
        material: of the evaluation's queries and gallery.
        evaluation: the right answers.
        rerankers: rows of the table; the first is what the others are compared with.
        seed: of the bootstrap.
        fewest: Private queries that a continent needs to be shown.

    Raises:
        ValueError: if the evaluation has no Private query.
    """
    wanted = [one for one in rerankers if material.second is not None or not one.is_ensemble]
    rows, chosen = [], {}
    for reranker in progress(wanted, "rerankers"):
        chosen[reranker.name] = _choose(reranker, material, evaluation)
        rows.append(_row(chosen[reranker.name], chosen[wanted[0].name], seed))
    privately = {name: one.scores[one.scores["usage"] == "Private"] for name, one in chosen.items()}
    continents = retrieval.map_by_continent(privately, fewest=fewest)
    return Comparison(pd.DataFrame(rows), continents, chosen)


def _choose(reranker: Reranker, material: RetrievalData, evaluation: Evaluation) -> Tried:
    """The settings that are best on Public; the first where several are, or where none is asked."""
    every = list(itertools.product(*reranker.grid.values()))
    asked = every if evaluation.solution.get("Public") else every[:1]
    best, most = None, -1.0
    for values in asked:
        settings = dict(zip(reranker.grid, values, strict=True))
        ranking = reranker.rerank(material, **settings)
        scores = retrieval.score_queries(ranking, evaluation)
        found = Tried(reranker, settings, len(asked), ranking, scores)
        public = np.nan_to_num(found.precision("Public").mean())
        if public > most:
            best, most = found, public
    return best


def _row(one: Tried, first: Tried, seed: int) -> dict[str, Any]:
    private = one.precision("Private")
    if private.empty:
        raise ValueError(
            "expected Private queries to report, found none; give data of more landmarks or a"
            " solution file"
        )
    interval = bootstrap_interval(private, generator=rng(seed, "interval"))
    before = None if one is first else first.precision("Private")
    gain = retrieval.paired_gain(private, before, generator=rng(seed, "difference"))
    return {
        "reranker": one.reranker.name,
        "source": one.reranker.source,
        "settings": _words(one.settings),
        "tried": one.tried,
        "public": one.precision("Public").mean(),
        "private": interval.mean,
        "low": interval.low,
        "high": interval.high,
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
    }


def _words(settings: Mapping[str, Any]) -> str:
    """Settings as a reader takes them in.

    >>> _words({"alpha": 0.5, "settings": Reciprocal(30, 10, 3, 0.5)})
    'alpha 0.5, candidates 30, k1 10, k2 3, plain 0.5'
    """
    parts = []
    for name, value in settings.items():
        if isinstance(value, Reciprocal):
            parts.append(_words(vars(value)))
        else:
            parts.append(f"{name.replace('_', ' ')} {value:g}")
    return ", ".join(parts)

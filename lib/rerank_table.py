"""Every reranker in one table: settings chosen on Public queries, reported on Private ones.

`lib.rerankers` lists them. A setting has to win on Public queries; the table then shows Private
ones with bootstrap intervals, the gain over plain search on the same queries, and the continents,
because the data of 2021 was made for fairness.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib import scoring
from lib.evaluation import Evaluation
from lib.geography import OTHER
from lib.intervals import bootstrap_interval
from lib.ranking import Ranking
from lib.reciprocal import Reciprocal
from lib.rerank_material import Material
from lib.rerankers import RERANKERS, Reranker
from lib.runs import progress, rng


@dataclass(frozen=True, eq=False)
class Tried:
    """A reranker with the settings that were best on Public queries.

    Attributes:
        reranker: which.
        settings: chosen.
        tried: how many settings there were.
        ranking: what it made of the evaluation's queries.
        scores: the table of `lib.scoring.score`.
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
    material: Material,
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
    continents = scoring.by_continent(privately, fewest=fewest)
    return Comparison(pd.DataFrame(rows), continents, chosen)


def _choose(reranker: Reranker, material: Material, evaluation: Evaluation) -> Tried:
    """The settings that are best on Public; the first where several are, or where none is asked."""
    every = list(itertools.product(*reranker.grid.values()))
    asked = every if evaluation.solution.get("Public") else every[:1]
    best, most = None, -1.0
    for values in asked:
        settings = dict(zip(reranker.grid, values, strict=True))
        ranking = reranker.rerank(material, **settings)
        scores = scoring.score(ranking, evaluation)
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
    gain = scoring.difference(private, before, seed=seed)
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

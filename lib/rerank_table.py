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
class Comparison:
    """The finished comparison.

    Attributes:
        table: one row per reranker: reranker, source, settings (chosen on Public), tried (how many
            settings), public, private, low, high (95 % interval of private), gain, gain_low,
            gain_high (paired difference from plain search on Private; NaN for itself).
        continents: one row per continent of Private queries: continent, queries, and the mAP of
            each reranker.
        scores: reranker to its table of `lib.scoring.score`.
        rankings: reranker to its ranking.
    """

    table: pd.DataFrame
    continents: pd.DataFrame
    scores: Mapping[str, pd.DataFrame]
    rankings: Mapping[str, Ranking]

    def spread(self) -> pd.DataFrame:
        """Best and worst continent of every reranker and what lies between.

        OTHER is no continent: nothing is known of where those landmarks stand, often because
        training never saw them.

        Returns:
            Columns reranker, best, best_map, worst, worst_map, spread; no row without a continent
            of enough queries.
        """
        values = self.continents.set_index("continent").drop(columns="queries")
        values = values.drop(index=OTHER, errors="ignore")
        if values.empty:
            values = values.iloc[:, :0]
        return pd.DataFrame(
            {
                "reranker": values.columns,
                "best": values.idxmax().to_numpy(),
                "best_map": values.max().to_numpy(),
                "worst": values.idxmin().to_numpy(),
                "worst_map": values.min().to_numpy(),
                "spread": (values.max() - values.min()).to_numpy(),
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
    rows, scores, rankings = [], {}, {}
    for reranker in progress(wanted, "rerankers"):
        settings, ranking, scored, tried = _choose(reranker, material, evaluation)
        scores[reranker.name], rankings[reranker.name] = scored, ranking
        private = _precision(scored, "Private")
        if private.empty:
            raise ValueError(
                "expected Private queries to report, found none; give data of more landmarks or a"
                " solution file"
            )
        interval = bootstrap_interval(private, generator=rng(seed, "interval"))
        first = scores[wanted[0].name] if len(scores) > 1 else None
        before = None if first is None else _precision(first, "Private")
        rows.append(
            (
                reranker.name,
                reranker.source,
                _words(settings),
                tried,
                _precision(scored, "Public").mean(),
                interval.mean,
                interval.low,
                interval.high,
                *scoring.difference(private, before, seed=seed),
            )
        )
    columns = ["reranker", "source", "settings", "tried", "public", "private", "low", "high"]
    table = pd.DataFrame(rows, columns=[*columns, "gain", "gain_low", "gain_high"])
    privately = {name: one[one["usage"] == "Private"] for name, one in scores.items()}
    continents = scoring.by_continent(privately, fewest=fewest)
    return Comparison(table, continents, scores, rankings)


def _choose(
    reranker: Reranker, material: Material, evaluation: Evaluation
) -> tuple[dict[str, Any], Ranking, pd.DataFrame, int]:
    """The settings that are best on Public, their ranking and scores, and how many there were."""
    best = None
    every = list(itertools.product(*reranker.grid.values()))
    if not evaluation.solution.get("Public"):
        every = every[:1]
    for values in every:
        settings = dict(zip(reranker.grid, values, strict=True))
        ranking = reranker.rerank(material, **settings)
        scored = scoring.score(ranking, evaluation, k=material.k)
        public = np.nan_to_num(_precision(scored, "Public").mean())
        if best is None or public > best[0]:
            best = public, settings, ranking, scored
    return *best[1:], len(every)


def _precision(scored: pd.DataFrame, usage: str) -> pd.Series:
    return scored[scored["usage"] == usage].set_index("id")["average_precision"]


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

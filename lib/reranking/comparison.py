"""Every reranker in one table: settings chosen on Public queries, reported on Private ones.

`RERANKERS` lists the methods of GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.),
GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), other winners, and stacks.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib import retrieval
from lib.artifacts import progress, rng
from lib.data import OTHER, Evaluation
from lib.reranking import kaggle_winners as winners
from lib.reranking.data import RetrievalData
from lib.reranking.ensemble import join_models, landmark_country_of_each
from lib.reranking.k_reciprocal import ZHONG, ReciprocalSettings, k_reciprocal_rerank
from lib.reranking.landmark_country import k_reciprocal_landmark_country, landmark_country_rerank
from lib.reranking.query_expansion import augment_gallery, expand_queries, query_expansion
from lib.retrieval import Ranking, bootstrap_interval

Rerank = Callable[..., Ranking]


class Reranker(NamedTuple):
    """A row of the table."""

    rerank: Rerank
    source: str  # who published it
    settings: Mapping[str, Sequence[Any]] = {}  # values to choose from, the published ones first
    is_ensemble: bool = False  # needs a second model


def after(rerank: Rerank, *changes: Callable[..., RetrievalData]) -> Rerank:
    """Rerank what `changes` make of the data one after the other, with so many `neighbours`."""

    def run(data: RetrievalData, *, neighbours: int = 0, **settings: Any) -> Ranking:
        for change in changes:
            data = change(data, neighbours=neighbours) if neighbours else change(data)
        return rerank(data, **settings)

    return run


plain_search = attrgetter("plain")
by_reciprocal_votes = partial(landmark_country_rerank, reciprocal=True)
WEIGHTS = {"alpha": (1.0, 0.5, 0.25, 0.1, 0.05), "beta": (0.1, 0.0, 0.05, 0.2)}
VOTING = WEIGHTS | {"top": (3, 1, 5)}
STACKED = {"neighbours": (5, 3, 2)} | WEIGHTS
BONUS = {"bonus": (0.5, 0.25, 0.0)}
EXPANSION = {"neighbours": (10, 5, 3, 2, 1), "alpha": (3.0, 1.0, 0.0, 6.0)}
RECIPROCAL = {"settings": (ZHONG, ReciprocalSettings(plain=0.3), ReciprocalSettings())}
SOFT = {"bonus": (1.0, 0.5, 0.25, 0.1), "penalty": (0.1, 0.0, 0.05, 0.2)}
INSERTION = {"threshold": (0.6, 0.9, 1.2, 1.5), "top": (3, 1, 5)}

RERANKERS: dict[str, Reranker] = {
    "plain search": Reranker(plain_search, ""),
    "α-query expansion": Reranker(query_expansion, "Radenović 2018", EXPANSION),
    "database-side augmentation": Reranker(
        after(plain_search, augment_gallery), "Arandjelović 2012", {"neighbours": (10, 5, 3, 2)}
    ),
    "k-reciprocal": Reranker(k_reciprocal_rerank, "Zhong 2017", RECIPROCAL),
    "landmark-country": Reranker(landmark_country_rerank, "GLR21", VOTING),
    "landmark-country, reciprocal votes": Reranker(by_reciprocal_votes, "GLR21", VOTING),
    "soft addition and penalty": Reranker(winners.soft_rerank, "2021, 1st", SOFT),
    "sort and insert": Reranker(winners.sort_and_insert, "2019, 1st", INSERTION),
    "sparse landmark scores": Reranker(
        winners.landmark_product, "2021, 13th", {"top": (5, 3, 1, 10)}
    ),
    "bridged distance": Reranker(
        winners.bridged_rerank, "2021, 5th", BONUS | {"per_landmark": (2, 1, 3)}
    ),
    "augmentation → bridged distance": Reranker(
        after(winners.bridged_rerank, augment_gallery),
        "2021, 5th",
        {"neighbours": (10, 5, 3)} | BONUS,
    ),
    "expansion → landmark-country": Reranker(
        after(landmark_country_rerank, expand_queries), "stack", STACKED
    ),
    "augmentation → landmark-country": Reranker(
        after(landmark_country_rerank, augment_gallery), "stack", STACKED
    ),
    "augmentation → k-reciprocal": Reranker(
        after(k_reciprocal_rerank, augment_gallery), "stack", {"neighbours": (5, 3)}
    ),
    "k-reciprocal → landmark-country": Reranker(k_reciprocal_landmark_country, "stack", WEIGHTS),
    "augmentation → expansion → landmark-country": Reranker(
        after(by_reciprocal_votes, augment_gallery, expand_queries), "stack", STACKED
    ),
    "two models side by side": Reranker(
        after(plain_search, join_models), "GLR20", is_ensemble=True
    ),
    "two models → k-reciprocal": Reranker(
        after(k_reciprocal_rerank, join_models), "stack", is_ensemble=True
    ),
    "two models → landmark-country": Reranker(
        after(landmark_country_rerank, join_models), "GLR20, GLR21", WEIGHTS, is_ensemble=True
    ),
    "landmark-country of each → sum": Reranker(
        landmark_country_of_each, "GLR21", WEIGHTS, is_ensemble=True
    ),
}


@dataclass(frozen=True, eq=False)
class TunedReranker:
    """A reranker with the settings that were best on Public queries."""

    name: str  # in `RERANKERS`
    settings: Mapping[str, Any]
    tried: int  # how many settings there were
    ranking: Ranking
    scores: pd.DataFrame  # of `lib.retrieval.score_queries`

    def rerank(self, data: RetrievalData) -> Ranking:
        """Rerank other queries or another gallery with these settings."""
        return RERANKERS[self.name].rerank(data, **self.settings)

    def precision(self, usage: str) -> pd.Series:
        """Average precision of the queries of one usage, by their id."""
        return self.scores[self.scores["usage"] == usage].set_index("id")["average_precision"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished comparison."""

    # A row per reranker: reranker, source, settings (chosen on Public), tried (how many), public,
    # private, low, high (95 % interval), gain, gain_low, gain_high (over plain search on Private).
    table: pd.DataFrame
    continents: pd.DataFrame  # one of Private queries a row: continent, queries, mAP by reranker
    chosen: Mapping[str, TunedReranker]  # by name

    def best(self) -> TunedReranker:
        """The reranker of one model that is best on Public queries."""
        alone = [one for one in self.chosen.values() if not RERANKERS[one.name].is_ensemble]
        return max(alone, key=lambda one: np.nan_to_num(one.precision("Public").mean()))

    def spread(self) -> pd.DataFrame:
        """Best and worst continent, without OTHER, of every reranker, and their difference.

        Columns reranker, best, best_map, worst, worst_map, spread; no row without a continent of
        enough queries, and NaN for the spread of fewer than two.
        """
        values = self.continents.set_index("continent")
        values = values.drop(index=OTHER, columns="queries", errors="ignore")
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
    data: RetrievalData,
    evaluation: Evaluation,
    *,
    names: Sequence[str] = (),
    seed: int = 0,
    fewest: int = 5,
) -> Comparison:
    """Try every reranker, choose its settings on Public queries, and report Private ones.

    Ensembles are left out where the data has no second model. Among equally good settings, and
    where there is no Public query, the first (published) ones are taken.

    Args:
        names: of `RERANKERS`, all unless given; the others are compared with the first.
        seed: of the bootstrap.
        fewest: Private queries that a continent needs to be shown.
    """
    names = tuple(names) or tuple(RERANKERS)
    if unknown := [name for name in names if name not in RERANKERS]:
        raise ValueError(f"expected rerankers among {', '.join(RERANKERS)}; found {unknown[0]!r}")
    wanted = [n for n in names if data.second is not None or not RERANKERS[n].is_ensemble]
    rows, chosen = [], {}
    for name in progress(wanted, "rerankers"):
        chosen[name] = _choose_settings(name, data, evaluation)
        rows.append(_row(chosen[name], chosen[wanted[0]], seed))
    private = {name: one.scores[one.scores["usage"] == "Private"] for name, one in chosen.items()}
    continents = retrieval.map_by_continent(private, fewest=fewest)
    return Comparison(pd.DataFrame(rows), continents, chosen)


def _choose_settings(name: str, data: RetrievalData, evaluation: Evaluation) -> TunedReranker:
    rerank, _, values, _ = RERANKERS[name]
    every = [dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())]
    tried = every if evaluation.solution.get("Public") else every[:1]
    best, most = None, -1.0
    for settings in tried:
        ranking = rerank(data, **settings)
        scores = retrieval.score_queries(ranking, evaluation)
        found = TunedReranker(name, settings, len(tried), ranking, scores)
        public = np.nan_to_num(found.precision("Public").mean())
        if public > most:
            best, most = found, public
    return best


def _row(one: TunedReranker, first: TunedReranker, seed: int) -> dict[str, Any]:
    private = one.precision("Private")
    if private.empty:
        raise ValueError(
            "expected Private queries to report, found none; give data of more landmarks or a"
            " solution file"
        )
    interval = bootstrap_interval(private, generator=rng(seed, "interval"))
    plain = None if one is first else first.precision("Private")
    gain = retrieval.paired_gain(private, plain, generator=rng(seed, "difference"))
    return {
        "reranker": one.name,
        "source": RERANKERS[one.name].source,
        "settings": describe_settings(one.settings),
        "tried": one.tried,
        "public": one.precision("Public").mean(),
        "private": interval.mean,
        "low": interval.low,
        "high": interval.high,
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
    }


def describe_settings(settings: Mapping[str, Any]) -> str:
    """Settings as the table shows them: `votes 3, candidates 30, k1 10, k2 3, plain 0.5`."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, ReciprocalSettings):
            parts.append(describe_settings(vars(value)))
        else:
            name = "votes" if name == "top" else name.replace("_", " ")
            parts.append(f"{name} {value:g}")
    return ", ".join(parts)

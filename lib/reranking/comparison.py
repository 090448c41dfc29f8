"""Every reranker in one table: settings chosen on Public queries, reported on Private ones.

`RERANKERS` lists the methods of GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.),
GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), other winners, and stacks.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib import retrieval
from lib.artifacts import progress, rng
from lib.data import OTHER, Evaluation
from lib.reranking import kaggle_winners as winners
from lib.reranking.data import RetrievalData
from lib.reranking.ensemble import concatenate, join_models, landmark_country_of_each
from lib.reranking.geometric import expand_verified, geometric_k_reciprocal, geometric_rerank
from lib.reranking.k_reciprocal import ZHONG, ReciprocalSettings, k_reciprocal_rerank
from lib.reranking.landmark_country import k_reciprocal_landmark_country, landmark_country_rerank
from lib.reranking.neighbours import (
    augment_gallery,
    diffusion_rerank,
    expand_queries,
    query_expansion,
    superglobal_rerank,
)
from lib.retrieval import Ranking, bootstrap_interval, mean_average_precision
from lib.time_limit import TimeUp, within

Rerank = Callable[..., Ranking]
Change = Callable[..., RetrievalData]


class Reranker(NamedTuple):
    """A row of the table."""

    rerank: Rerank
    source: str  # who published it
    settings: Mapping[str, Sequence[Any]] = {}  # values to choose from, the published ones first
    needs: tuple[str, ...] = ()  # what the data must have: second (model), local (features)

    def is_possible(self, data: RetrievalData) -> bool:
        """Whether the data has all that is needed."""
        return all(getattr(data, name) is not None for name in self.needs)


def after(rerank: Rerank, *changes: Change, setting: str = "neighbours") -> Rerank:
    """Rerank what `changes` make of the data one after the other, all with one more setting."""

    def run(data: RetrievalData, **settings: Any) -> Ranking:
        own = {setting: settings.pop(setting)} if setting in settings else {}
        for change in changes:
            data = change(data, **own)
        return rerank(data, **settings)

    return run


plain_search = attrgetter("plain")
by_reciprocal_votes = partial(landmark_country_rerank, reciprocal=True)
geometric_landmark_country = partial(k_reciprocal_landmark_country, base=geometric_k_reciprocal)
after_verified = partial(after, setting="fewest")
SECOND, LOCAL = ("second",), ("local",)
GEOMETRIC, VERIFIED = {"weight": (0.4, 0.8)}, {"fewest": (10, 8)}
WEIGHTS = {"alpha": (1.0, 0.5, 0.25, 0.1, 0.05), "beta": (0.1, 0.0, 0.05, 0.2)}
VOTING = WEIGHTS | {"top": (3, 1, 5)}
STACKED = {"neighbours": (5, 3, 2)} | WEIGHTS
BONUS = {"bonus": (0.5, 0.25, 0.0)}
EXPANSION = {"neighbours": (10, 5, 3, 2, 1), "alpha": (3.0, 1.0, 0.0, 6.0)}
DECAY = {"neighbours": (10, 5), "alpha": (0.0, 3.0)}
RECIPROCAL = {"settings": (ZHONG, ReciprocalSettings(plain=0.3), ReciprocalSettings())}
DIFFUSION = {"neighbours": (50, 20), "started": (10, 3), "alpha": (0.99, 0.9)}
SUPERGLOBAL = {"neighbours": (10, 5), "beta": (0.15, 1.0)}
SOFT = {"bonus": (1.0, 0.5, 0.25, 0.1), "penalty": (0.1, 0.0, 0.05, 0.2)}
INSERTION = {"threshold": (0.6, 0.9, 1.2, 1.5), "top": (3, 1, 5)}
BRIDGED = BONUS | {"per_landmark": (2, 1, 3)}

RERANKERS: dict[str, Reranker] = {
    "plain search": Reranker(plain_search, ""),
    "α-query expansion": Reranker(query_expansion, "Radenović 2018", EXPANSION),
    "query expansion with decay": Reranker(
        partial(query_expansion, decay=True), "Gordo 2020", DECAY
    ),
    "database-side augmentation": Reranker(
        after(plain_search, augment_gallery), "Arandjelović 2012", {"neighbours": (10, 5, 3, 2)}
    ),
    "k-reciprocal": Reranker(k_reciprocal_rerank, "Zhong 2017", RECIPROCAL),
    "diffusion": Reranker(diffusion_rerank, "Iscen 2017", DIFFUSION),
    "SuperGlobal": Reranker(superglobal_rerank, "Shao 2023", SUPERGLOBAL),
    "landmark-country": Reranker(landmark_country_rerank, "GLR21", VOTING),
    "landmark-country, reciprocal votes": Reranker(by_reciprocal_votes, "GLR21", VOTING),
    "soft addition and penalty": Reranker(winners.soft_rerank, "2021, 1st", SOFT),
    "sort and insert": Reranker(winners.sort_and_insert, "2019, 1st", INSERTION),
    "sparse landmark scores": Reranker(
        winners.landmark_product, "2021, 13th", {"top": (5, 3, 1, 10)}
    ),
    "bridged distance": Reranker(winners.bridged_rerank, "2021, 5th", BRIDGED),
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
    "geometric verification": Reranker(geometric_rerank, "Philbin 2007", GEOMETRIC, LOCAL),
    "geometric expansion": Reranker(
        after_verified(plain_search, expand_verified), "Chum 2007", VERIFIED, LOCAL
    ),
    "k-reciprocal → geometric verification": Reranker(
        partial(geometric_rerank, base=k_reciprocal_rerank), "stack", GEOMETRIC, LOCAL
    ),
    "geometric expansion → k-reciprocal": Reranker(
        after_verified(k_reciprocal_rerank, expand_verified), "stack", VERIFIED, LOCAL
    ),
    "geometric k-reciprocal": Reranker(geometric_k_reciprocal, "stack", GEOMETRIC, LOCAL),
    "geometric k-reciprocal → landmark-country": Reranker(
        geometric_landmark_country, "stack", WEIGHTS, LOCAL
    ),
    "two models side by side": Reranker(after(plain_search, join_models), "GLR20", {}, SECOND),
    "two models, similarities added": Reranker(
        partial(landmark_country_of_each, alpha=0.0, beta=0.0), "GLR21", {}, SECOND
    ),
    "two models → k-reciprocal": Reranker(
        after(k_reciprocal_rerank, join_models), "stack", {}, SECOND
    ),
    "two models → geometric k-reciprocal": Reranker(
        after(geometric_k_reciprocal, join_models), "stack", GEOMETRIC, SECOND + LOCAL
    ),
    "two models → geometric k-reciprocal → landmark-country": Reranker(
        after(geometric_landmark_country, join_models), "stack", WEIGHTS, SECOND + LOCAL
    ),
    "two models → landmark-country": Reranker(
        after(landmark_country_rerank, join_models), "GLR20, GLR21", WEIGHTS, SECOND
    ),
    "landmark-country of each → sum": Reranker(landmark_country_of_each, "GLR21", WEIGHTS, SECOND),
}
# What two networks add in both papers, before and after reranking. It never searches the gallery
# for its own neighbours, so that it takes minutes with GLDv2's.
ENSEMBLES = (
    "two models side by side",
    "two models, similarities added",
    "two models → landmark-country",
    "landmark-country of each → sum",
)


@dataclass(frozen=True, eq=False)
class TunedReranker:
    """A reranker with the settings that were best on Public queries."""

    name: str
    function: Rerank
    settings: Mapping[str, Any]
    public: Mapping[tuple[Any, ...], float]  # mAP of every setting tried; NaN without Public ones
    ranking: Ranking
    scores: pd.DataFrame  # of `lib.retrieval.score_queries`

    def rerank(self, data: RetrievalData) -> Ranking:
        """Rerank other queries or another gallery with these settings."""
        return self.function(data, **self.settings)

    def precision(self, usage: str) -> pd.Series:
        """Average precision of the queries of one usage, by their id."""
        return self.scores[self.scores["usage"] == usage].set_index("id")["average_precision"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished comparison."""

    # A row per reranker: reranker, source, settings (chosen on Public), tried (how many), public,
    # private, low, high (95 % interval), gain, gain_low, gain_high (over plain search on Private),
    # and where it is known private_seen, private_unseen (landmarks in training, and others).
    table: pd.DataFrame
    continents: pd.DataFrame  # one of Private queries a row: continent, queries, mAP by reranker
    chosen: Mapping[str, TunedReranker]  # by name

    def best(self) -> TunedReranker:
        """The reranker that is best on Public queries, ensembles included; the first of several."""
        return best_of_tuned(self.chosen.values())

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
        best, worst = values.max().astype(float), values.min().astype(float)
        table = {"best": values.idxmax(), "best_map": best, "worst": values.idxmin()}
        table |= {"worst_map": worst, "spread": best - worst if len(values) > 1 else np.nan}
        return pd.DataFrame(table, values.columns).rename_axis("reranker").reset_index()


def compare(
    data: RetrievalData,
    evaluation: Evaluation,
    *,
    names: Sequence[str] = (),
    seed: int = 0,
    fewest: int = 5,
) -> Comparison:
    """Try every reranker, choose its settings on Public queries, and report Private ones.

    Left out is what needs a second model or local features that the data lacks, and under a time
    limit what comes when half of it has passed.

    Args:
        names: of `RERANKERS`, all unless given; the others are compared with the first.
        seed: of the bootstrap.
        fewest: Private queries that a continent needs to be shown.
    """
    names = tuple(names) or tuple(RERANKERS)
    if unknown := [name for name in names if name not in RERANKERS]:
        raise ValueError(f"expected rerankers among {', '.join(RERANKERS)}; found {unknown[0]!r}")
    wanted = [name for name in names if RERANKERS[name].is_possible(data)]
    rows, chosen = [], {}
    try:
        with within(0.5):
            for name in progress(wanted, "rerankers"):
                rerank, _, values, _ = RERANKERS[name]
                chosen[name] = tune(name, rerank, values, data, evaluation)
                rows.append(_row(chosen[name], chosen[wanted[0]], seed))
    except TimeUp as error:
        if not chosen:
            raise
        print(f"{len(chosen)} of {len(wanted)} rerankers are tried: {error}", flush=True)
    private = {name: one.scores[one.scores["usage"] == "Private"] for name, one in chosen.items()}
    continents = retrieval.map_by_continent(private, fewest=fewest)
    return Comparison(pd.DataFrame(rows), continents, chosen)


def tune(
    name: str,
    function: Rerank,
    values: Mapping[str, Sequence[Any]],
    data: RetrievalData,
    evaluation: Evaluation,
) -> TunedReranker:
    """Choose the settings of largest mAP on Public queries, the first of several.

    Every combination of `values` is tried. Where there is no Public query, the first is taken.
    """
    every = list(dict.fromkeys(itertools.product(*values.values())))
    solution = evaluation.solution.get("Public")
    public, best = {}, None
    for one in every if solution else every[:1]:
        settings = dict(zip(values, one, strict=True))
        ranking = function(data, **settings)
        public[one] = _map_of(ranking, solution) if solution else np.nan
        if best is None or public[one] > public[best[0]]:
            best = one, settings, ranking
    _, settings, ranking = best
    scores = retrieval.score_queries(ranking, evaluation)
    return TunedReranker(name, function, settings, public, ranking, scores)


def _map_of(ranking: Ranking, solution: Mapping[str, set[str]]) -> float:
    """mAP of the queries of a solution, without the table of all queries."""
    found = ranking.predictions()
    return mean_average_precision(
        {query: found[query] for query in solution}, solution, k=ranking.k
    )


def best_of_tuned(tuned: Iterable[TunedReranker]) -> TunedReranker:
    """The one of largest mAP on Public queries, the first of several."""
    return max(tuned, key=lambda one: np.nan_to_num(one.precision("Public").mean()))


def best_second_model(data: RetrievalData, folders: Sequence[Path], evaluation: Evaluation) -> Path:
    """The folder of `query` and `gallery` embeddings that helps Public queries most.

    Compared is plain search with both models side by side; the first of several is taken.
    """
    public = {}
    for folder in folders:
        others = (retrieval.read_embeddings(folder / name).rows for name in ("query", "gallery"))
        own = data.queries, data.gallery
        joined = [concatenate(pair) for pair in zip(own, others, strict=True)]
        ids = {"query_ids": data.query_ids, "gallery_ids": data.gallery_ids}
        scores = retrieval.score_queries(retrieval.search(*joined, data.k, **ids), evaluation)
        public[folder] = np.nan_to_num(retrieval.map_of_usage(scores, "Public"))
    return max(public, key=public.get)


def choose_weights(
    data: RetrievalData,
    evaluation: Evaluation,
    *,
    alphas: Sequence[float],
    betas: Sequence[float],
    **voting: Any,
) -> tuple[TunedReranker, pd.DataFrame]:
    """Choose α and β of landmark-country reranking as `tune` does, and tabulate what was tried.

    The table has the mAP on Public queries for every α (rows) and β (columns).
    """
    rerank = partial(landmark_country_rerank, **voting)
    values = {"alpha": alphas, "beta": betas}
    best = tune("landmark-country", rerank, values, data, evaluation)
    table = pd.Series(best.public).unstack().rename_axis(index="alpha", columns="beta")
    return best, table


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
        "tried": len(one.public),
        "public": one.precision("Public").mean(),
        "private": interval.mean,
        "low": interval.low,
        "high": interval.high,
        **dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True)),
        **retrieval.map_by_seen(one.scores, prefix="private_"),
    }


def describe_settings(settings: Mapping[str, Any]) -> str:
    """Settings as the table shows them: `votes 3, candidates 30, k1 10, k2 3, plain 0.5`."""
    parts = []
    for name, value in settings.items():
        if isinstance(value, ReciprocalSettings):
            parts.append(describe_settings(vars(value)))
        else:
            name = "votes" if name == "top" else name.replace("_", " ")
            parts.append(f"{name} {f'{value:g}' if isinstance(value, float | int) else value}")
    return ", ".join(parts)

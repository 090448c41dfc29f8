"""Every reranker in one table: settings chosen on Public queries, reported on Private ones.

`RERANKERS` lists the methods of GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.),
GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), other winners, and stacks.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib import retrieval
from lib.artifacts import progress
from lib.data import OTHER, Evaluation
from lib.reranking.data import RetrievalData
from lib.reranking.ensemble import concatenate, join_models, landmark_country_of_each
from lib.reranking.geometric import expand_verified, geometric_k_reciprocal, geometric_rerank
from lib.reranking.k_reciprocal import ZHONG, ReciprocalSettings, k_reciprocal_rerank
from lib.reranking.kaggle_winners import (
    bridged_rerank,
    landmark_product,
    soft_rerank,
    sort_and_insert,
)
from lib.reranking.landmark_country import k_reciprocal_landmark_country, landmark_country_rerank
from lib.reranking.neighbours import (
    augment_gallery,
    diffusion_rerank,
    expand_queries,
    query_expansion,
    superglobal_rerank,
)
from lib.retrieval import Ranking, mean_average_precision
from lib.time_limit import TimeUp, within

Rerank = Callable[..., Ranking]
Change = Callable[..., RetrievalData]


class Reranker(NamedTuple):
    """A row of the table."""

    rerank: Rerank
    source: str  # who published it
    settings: Mapping[str, Sequence[Any]] = {}  # values to choose from, the published ones first
    needs: tuple[str, ...] = ()  # what the data must have: second (model), local (features)


def after(changes: Sequence[Change], rerank: Rerank) -> Rerank:
    """Rerank what `changes`, whose settings are `neighbours` or `fewest`, make of the data."""

    def run(data: RetrievalData, **settings: Any) -> Ranking:
        own = {name: settings.pop(name) for name in ("neighbours", "fewest") if name in settings}
        for change in changes:
            data = change(data, **own)
        return rerank(data, **settings)

    return run


plain_search = attrgetter("plain")
augmented = partial(after, [augment_gallery])
expanded = partial(after, [expand_queries])
verified = partial(after, [expand_verified])
joined = partial(after, [join_models])
decayed_expansion = partial(query_expansion, decay=True)
by_reciprocal_votes = partial(landmark_country_rerank, reciprocal=True)
geometric_landmark_country = partial(k_reciprocal_landmark_country, base=geometric_k_reciprocal)
sum_of_similarities = partial(landmark_country_of_each, alpha=0.0, beta=0.0)
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
    "query expansion with decay": Reranker(decayed_expansion, "Gordo 2020", DECAY),
    "database-side augmentation": Reranker(
        augmented(plain_search), "Arandjelović 2012", {"neighbours": (10, 5, 3, 2)}
    ),
    "k-reciprocal": Reranker(k_reciprocal_rerank, "Zhong 2017", RECIPROCAL),
    "diffusion": Reranker(diffusion_rerank, "Iscen 2017", DIFFUSION),
    "SuperGlobal": Reranker(superglobal_rerank, "Shao 2023", SUPERGLOBAL),
    "landmark-country": Reranker(landmark_country_rerank, "GLR21", VOTING),
    "landmark-country, reciprocal votes": Reranker(by_reciprocal_votes, "GLR21", VOTING),
    "soft addition and penalty": Reranker(soft_rerank, "2021, 1st", SOFT),
    "sort and insert": Reranker(sort_and_insert, "2019, 1st", INSERTION),
    "sparse landmark scores": Reranker(landmark_product, "2021, 13th", {"top": (5, 3, 1, 10)}),
    "bridged distance": Reranker(bridged_rerank, "2021, 5th", BRIDGED),
    "augmentation → bridged distance": Reranker(
        augmented(bridged_rerank), "2021, 5th", {"neighbours": (10, 5, 3)} | BONUS
    ),
    "expansion → landmark-country": Reranker(expanded(landmark_country_rerank), "stack", STACKED),
    "augmentation → landmark-country": Reranker(
        augmented(landmark_country_rerank), "stack", STACKED
    ),
    "augmentation → k-reciprocal": Reranker(
        augmented(k_reciprocal_rerank), "stack", {"neighbours": (5, 3)}
    ),
    "k-reciprocal → landmark-country": Reranker(k_reciprocal_landmark_country, "stack", WEIGHTS),
    "augmentation → expansion → landmark-country": Reranker(
        after([augment_gallery, expand_queries], by_reciprocal_votes), "stack", STACKED
    ),
    "geometric verification": Reranker(geometric_rerank, "Philbin 2007", GEOMETRIC, LOCAL),
    "geometric expansion": Reranker(verified(plain_search), "Chum 2007", VERIFIED, LOCAL),
    "k-reciprocal → geometric verification": Reranker(
        partial(geometric_rerank, base=k_reciprocal_rerank), "stack", GEOMETRIC, LOCAL
    ),
    "geometric expansion → k-reciprocal": Reranker(
        verified(k_reciprocal_rerank), "stack", VERIFIED, LOCAL
    ),
    "geometric k-reciprocal": Reranker(geometric_k_reciprocal, "stack", GEOMETRIC, LOCAL),
    "geometric k-reciprocal → landmark-country": Reranker(
        geometric_landmark_country, "stack", WEIGHTS, LOCAL
    ),
    "two models side by side": Reranker(joined(plain_search), "GLR20", {}, SECOND),
    "two models, similarities added": Reranker(sum_of_similarities, "GLR21", {}, SECOND),
    "two models → k-reciprocal": Reranker(joined(k_reciprocal_rerank), "stack", {}, SECOND),
    "two models → geometric k-reciprocal": Reranker(
        joined(geometric_k_reciprocal), "stack", GEOMETRIC, SECOND + LOCAL
    ),
    "two models → geometric k-reciprocal → landmark-country": Reranker(
        joined(geometric_landmark_country), "stack", WEIGHTS, SECOND + LOCAL
    ),
    "two models → landmark-country": Reranker(
        joined(landmark_country_rerank), "GLR20, GLR21", WEIGHTS, SECOND
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
    reranker: Reranker
    settings: Mapping[str, Any]
    public: Mapping[tuple[Any, ...], float]  # mAP of every setting tried; NaN without Public ones
    ranking: Ranking
    scores: pd.DataFrame  # of `lib.retrieval.score_queries`

    def rerank(self, data: RetrievalData) -> Ranking:
        """Rerank other queries or another gallery with these settings."""
        return self.reranker.rerank(data, **self.settings)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The finished comparison."""

    # A row per reranker: reranker, source, settings (chosen on Public), tried (how many), public,
    # private, low, high (95 % interval), gain, gain_low, gain_high (over plain search on Private),
    # and where it is known private_seen, private_unseen (landmarks in training, and others).
    table: pd.DataFrame
    continents: pd.DataFrame  # a row: continent, its Private queries (5 or more), mAP by reranker
    chosen: Mapping[str, TunedReranker]  # by name

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
    data: RetrievalData, evaluation: Evaluation, *, names: Sequence[str] = (), seed: int = 0
) -> Comparison:
    """Try every reranker, choose its settings on Public queries, and report Private ones.

    Left out is what needs a second model or local features that the data lacks, and under a time
    limit what comes when half of it has passed.

    Args:
        names: of `RERANKERS`, all unless given; the others are compared with the first.
        seed: of the bootstrap.
    """
    names = tuple(names) or tuple(RERANKERS)
    if unknown := [name for name in names if name not in RERANKERS]:
        raise ValueError(f"expected rerankers among {', '.join(RERANKERS)}; found {unknown[0]!r}")
    has = {name: getattr(data, name) is not None for name in SECOND + LOCAL}
    wanted = [name for name in names if all(has[need] for need in RERANKERS[name].needs)]
    rows, chosen = [], {}
    try:
        with within(0.5):
            for name in progress(wanted, "rerankers"):
                chosen[name] = tune(name, RERANKERS[name], data, evaluation)
                rows.append(_row(chosen[name], chosen[wanted[0]], seed))
    except TimeUp as error:
        if not chosen:
            raise
        print(f"{len(chosen)} of {len(wanted)} rerankers are tried: {error}", flush=True)
    private = {name: one.scores[one.scores["usage"] == "Private"] for name, one in chosen.items()}
    continents = retrieval.map_by_continent(private, fewest=5)
    return Comparison(pd.DataFrame(rows), continents, chosen)


def tune(
    name: str, reranker: Reranker, data: RetrievalData, evaluation: Evaluation
) -> TunedReranker:
    """Choose the settings of largest mAP on Public queries, the first of several.

    Every combination is tried. Where there is no Public query, the first is taken.
    """
    every = list(dict.fromkeys(itertools.product(*reranker.settings.values())))
    solution = evaluation.solution.get("Public")
    public, best = {}, None
    for one in every if solution else every[:1]:
        settings = dict(zip(reranker.settings, one, strict=True))
        ranking, public[one] = reranker.rerank(data, **settings), np.nan
        if solution:  # scored alone, without the table of all queries
            found = ranking.predictions()
            asked = {query: found[query] for query in solution}
            public[one] = mean_average_precision(asked, solution, k=ranking.k)
        if best is None or public[one] > public[best[0]]:
            best = one, settings, ranking
    _, settings, ranking = best
    scores = retrieval.score_queries(ranking, evaluation)
    return TunedReranker(name, reranker, settings, public, ranking, scores)


def best_of_tuned(tuned: Iterable[TunedReranker]) -> TunedReranker:
    """The one of largest mAP on Public queries, the first of several."""
    return max(tuned, key=lambda one: np.nan_to_num(retrieval.map_of_usage(one.scores, "Public")))


def best_second_model(data: RetrievalData, folders: Sequence[Path], evaluation: Evaluation) -> Path:
    """The folder of `query` and `gallery` embeddings that helps Public queries most.

    Compared is plain search with both models side by side; the first of several is taken.
    """
    own = {"query": data.queries, "gallery": data.gallery}
    public = {}
    for folder in folders:
        queries, gallery = (
            concatenate([rows, retrieval.read_embeddings(folder / name).rows])
            for name, rows in own.items()
        )
        ranking = replace(data, queries=queries, gallery=gallery).plain
        scores = retrieval.score_queries(ranking, evaluation)
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
    weighted = Reranker(rerank, "GLR21", {"alpha": alphas, "beta": betas})
    best = tune("landmark-country", weighted, data, evaluation)
    return best, pd.Series(best.public).unstack().rename_axis(index="alpha", columns="beta")


def _row(one: TunedReranker, first: TunedReranker, seed: int) -> dict[str, Any]:
    steps = {first.name: first.scores, one.name: one.scores}  # one step where it is the first
    scores = retrieval.compare_steps(steps, seed=seed).drop(columns="step").iloc[-1]
    settings = describe_settings(one.settings)
    told = {"reranker": one.name, "source": one.reranker.source, "settings": settings}
    return {**told, "tried": len(one.public), **scores}


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

"""Every reranker and the sensible stacks, as rows of plain data for `lib.rerank_table`.

A row has a name, a source, what to call on the material, and a small grid of settings whose first
values are the published ones. A new reranker is one function and one row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.bridge import bridged_rerank
from lib.ensemble import ModelView, merge_reranked
from lib.expansion import expanded_search
from lib.landmark_product import landmark_product
from lib.ranking import Ranking
from lib.reciprocal import Reciprocal
from lib.rerank import add_votes, apply_votes
from lib.rerank_material import Material
from lib.soft_rerank import soft_rerank
from lib.sort_insert import sort_and_insert

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


def _plain(material: Material) -> Ranking:
    return material.plain


def _expanded(material: Material, **settings: Any) -> Ranking:
    return expanded_search(material.plain, material.queries.rows, material.gallery.rows, **settings)


def _augmented(material: Material, *, neighbours: int) -> Ranking:
    return material.augmented(neighbours=neighbours).plain


def _reciprocal(material: Material, *, settings: Reciprocal) -> Ranking:
    return material.reciprocal(settings)


def _landmark_country(
    material: Material, *, alpha: float, beta: float, votes: int = 3, reciprocal: bool = False
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


def _by_reciprocal_votes(material: Material, **settings: Any) -> Ranking:
    return _landmark_country(material, reciprocal=True, **settings)


def _soft(material: Material, **settings: float) -> Ranking:
    votes = material.query_votes(1, normalise=False), material.gallery_votes(1)
    return soft_rerank(
        material.plain, material.queries.rows, material.gallery.rows, *votes, **settings
    )


def _sorted(material: Material, *, threshold: float, votes: int = 3) -> Ranking:
    both = material.query_votes(votes, normalise=False), material.gallery_votes(votes)
    return sort_and_insert(material.plain, *both, threshold=threshold)


def _product(material: Material, *, votes: int) -> Ranking:
    both = material.query_votes(votes, normalise=False), material.gallery_votes(votes)
    return landmark_product(material.plain, *both)


def _bridged(material: Material, *, bonus: float, per_landmark: int = 2) -> Ranking:
    rows = material.queries.rows, material.gallery.rows
    distances = material.distances(per_landmark=per_landmark)
    return bridged_rerank(material.plain, *rows, *distances, bonus=bonus)


def _bridged_augmented(material: Material, *, neighbours: int, bonus: float) -> Ranking:
    return _bridged(material.augmented(neighbours=neighbours), bonus=bonus)


def _expanded_landmark_country(material: Material, *, neighbours: int, **weights: Any) -> Ranking:
    return _landmark_country(material.expanded(neighbours=neighbours, alpha=3.0), **weights)


def _augmented_landmark_country(material: Material, *, neighbours: int, **weights: Any) -> Ranking:
    return _landmark_country(material.augmented(neighbours=neighbours), **weights)


def _augmented_reciprocal(material: Material, *, neighbours: int) -> Ranking:
    return material.augmented(neighbours=neighbours).reciprocal(ZHONG)


def _reciprocal_landmark_country(material: Material, **weights: float) -> Ranking:
    votes = material.query_votes(3, reciprocal=True)
    return add_votes(material.reciprocal(ZHONG), votes, material.tags, **weights)


def _everything(material: Material, *, neighbours: int, **weights: Any) -> Ranking:
    augmented = material.augmented(neighbours=neighbours)
    expanded = augmented.expanded(neighbours=neighbours, alpha=3.0)
    return _landmark_country(expanded, reciprocal=True, **weights)


def _two_models(material: Material) -> Ranking:
    return material.joined.plain


def _two_models_reciprocal(material: Material) -> Ranking:
    return material.joined.reciprocal(ZHONG)


def _merged_first(material: Material, **weights: float) -> Ranking:
    return _landmark_country(material.joined, **weights)


def _merged_last(material: Material, **weights: float) -> Ranking:
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
    Reranker("landmark-country", "[21]", _landmark_country, WEIGHTS | {"votes": (3, 1, 5)}),
    Reranker(
        "landmark-country, reciprocal votes",
        "[21]",
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
    Reranker("two models side by side", "[20]", _two_models, is_ensemble=True),
    Reranker("two models → k-reciprocal", "stack", _two_models_reciprocal, is_ensemble=True),
    Reranker(
        "two models → landmark-country",
        "[20], [21]",
        _merged_first,
        WEIGHTS,
        is_ensemble=True,
    ),
    Reranker("landmark-country of each → sum", "[21]", _merged_last, WEIGHTS, is_ensemble=True),
)

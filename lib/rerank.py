"""Landmark-country aware reranking: gallery images of the query's landmark and country move up.

[21], slides 6 to 8: sim_final(q, i) = sim(q, i) + α · L_q(landmark of i) + β · C_q(country of i),
a soft addition where earlier winners sorted and inserted. The whole gallery takes part, so an
image that plain search never retrieved can be brought in by its landmark. Votes and gallery tags
come from `lib.votes`; make them once to compare several α and β.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.approximate import ApproximateIndex
from lib.bonus import NO_TAG, SumOfBonuses, TagBonus
from lib.neighbours import nearest
from lib.ranking import Ranking, check_count
from lib.reciprocal import Reciprocal
from lib.rows import BLOCK
from lib.votes import NO_COUNTRY, Tags, Votes, tag_gallery, vote


def landmark_country_rerank(
    queries: np.ndarray,
    gallery: np.ndarray,
    references: np.ndarray,
    reference_landmarks: Sequence[int] | np.ndarray,
    reference_countries: Sequence[str] | np.ndarray,
    *,
    k: int = 100,
    alpha: float = 1.0,
    beta: float = 0.1,
    top: int = 3,
    normalise: bool = True,
    reciprocal: bool | Reciprocal = False,
    query_ids: Sequence[str] | np.ndarray | None = None,
    gallery_ids: Sequence[str] | np.ndarray | None = None,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank the gallery by similarity plus landmark and country votes, best first.

    Exact for the sum over the whole gallery, without ever holding all similarities; ties by
    position. With no labelled reference it is plain search.

    Args:
        queries: (Q, D) unit rows.
        gallery: (N, D) unit rows, may be a memory map.
        references: (R, D) unit rows of labelled training images, may be a memory map.
        reference_landmarks: (R,) integers, -1 where unknown.
        reference_countries: (R,) strings, "" where unknown.
        k: images per query; all of the gallery when it is smaller.
        alpha: weight of the landmark score.
        beta: weight of the country score.
        top: references that vote for a query.
        normalise: scores of a query sum to 1 (published code); False for the slides' raw sums.
        reciprocal: choose the voters by k-reciprocal similarity (`lib.reciprocal`).
        query_ids: (Q,) ids for the ranking.
        gallery_ids: (N,) ids for the ranking.
        index: of the references that have a landmark; finds voters and gallery tags
            approximately and prints its recall. The final scoring stays exact.
        block: gallery or reference rows in memory at a time.

    Raises:
        ValueError: if widths differ, a value is not finite, or tags or ids are out of step.
    """
    labelled = (references, reference_landmarks, reference_countries)
    options = {"index": index, "block": block}
    votes = vote(queries, *labelled, top=top, normalise=normalise, reciprocal=reciprocal, **options)
    return apply_votes(
        queries,
        gallery,
        votes,
        tag_gallery(gallery, *labelled, **options),
        k=k,
        alpha=alpha,
        beta=beta,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        block=block,
    )


def apply_votes(
    queries: np.ndarray,
    gallery: np.ndarray,
    votes: Votes,
    tags: Tags,
    *,
    k: int = 100,
    alpha: float = 1.0,
    beta: float = 0.1,
    query_ids: Sequence[str] | np.ndarray | None = None,
    gallery_ids: Sequence[str] | np.ndarray | None = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank by the final similarity from votes and gallery tags made before.

    Arguments and errors are those of `landmark_country_rerank`; `votes` has a row per query and
    `tags` an entry per gallery image.

    >>> votes = vote(np.eye(2)[:1], np.array([[0.8, 0.6]]), [7], ["CN"])
    >>> gallery = np.array([[0.6, 0.8], [0.28, 0.96]])
    >>> ranking = apply_votes(np.eye(2)[:1], gallery, votes, Tags([9, 7], ["IN", "CN"]))
    >>> ranking.positions.tolist(), [f"{score:.2f}" for score in ranking.scores[0]]
    ([[1, 0]], ['1.38', '0.60'])
    """
    check_votes(votes, tags, len(queries), len(gallery), alpha, beta)
    check_count(query_ids, len(queries), "query")
    check_count(gallery_ids, len(gallery), "gallery")
    bonus = SumOfBonuses(tag_bonuses(votes, tags, alpha, beta))
    scores, positions = nearest(queries, gallery, k, block=block, bonus=bonus)
    return Ranking(scores, positions, query_ids, gallery_ids)


def check_votes(
    votes: Votes, tags: Tags, queries: int, images: int, alpha: float, beta: float
) -> None:
    """Refuse votes or tags of something else, and weights that are no numbers.

    Raises:
        ValueError: naming what is out of step.
    """
    for name, found, rows in (("vote", votes, queries), ("tag", tags, images)):
        if len(found) != rows:
            raise ValueError(
                f"expected one {name} per row of embeddings, found {len(found)} for {rows};"
                " make them from the same embeddings"
            )
    if not np.isfinite([alpha, beta]).all():
        raise ValueError(f"expected finite alpha and beta, found {alpha} and {beta}; give numbers")


def explain(
    ranking: Ranking,
    votes: Votes,
    tags: Tags,
    query: str | int,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
) -> pd.DataFrame:
    """Take the final scores of one query apart; `votes.of(ranking.row(query))` shows who voted.

    Args:
        ranking: from `apply_votes` or `landmark_country_rerank` with the same settings.
        votes: of all queries.
        tags: of the gallery.
        query: id, or row number where the ranking has no ids.
        alpha: as in the reranking.
        beta: as in the reranking.

    Returns:
        A row per ranked image, best first, indexed by rank: raw + landmark + country = final,
        then the image's landmark_id and country_code, its position, and its id where known.

    Raises:
        ValueError: if there is no such query, or votes or tags are not of this ranking.
    """
    row = ranking.row(query)
    table = ranking.of(query)
    positions = table["position"].to_numpy()
    if len(votes) != len(ranking) or (len(positions) and positions.max() >= len(tags)):
        raise ValueError(
            f"expected votes and tags of this ranking, found {len(votes)} votes for"
            f" {len(ranking)} queries and {len(tags)} tags; pass those it was made from"
        )
    parts = tag_bonuses(votes, tags, alpha, beta)
    landmark, country = (part.at(np.array([[row]]), positions[None, :])[0] for part in parts)
    final = table.pop("score").to_numpy(dtype=np.float64)
    explained = pd.DataFrame(
        {
            "raw": final - landmark - country,
            "landmark": landmark,
            "country": country,
            "final": final,
            "landmark_id": tags.landmarks[positions],
            "country_code": tags.countries[positions],
        },
        index=table.index,
    )
    return explained.join(table)


def tag_bonuses(votes: Votes, tags: Tags, alpha: float, beta: float) -> tuple[TagBonus, TagBonus]:
    """What landmark and country add to the similarity of any query and gallery image."""
    codes, _ = pd.factorize(np.append(votes.countries.ravel(), tags.countries))
    names = np.append(votes.countries.ravel(), tags.countries)
    codes = np.where(names == NO_COUNTRY, NO_TAG, codes)
    voted, tagged = np.split(codes, [votes.countries.size])
    return (
        TagBonus(votes.landmarks, alpha * votes.landmark_scores, tags.landmarks),
        TagBonus(voted.reshape(votes.countries.shape), beta * votes.country_scores, tagged),
    )

"""Landmark-country aware reranking: gallery images of the query's landmark and country move up.

GLR21, slides 6 to 8: sim_final(q, i) = sim(q, i) + α · L_q(landmark of i) + β · C_q(country of i),
a soft addition where earlier winners sorted and inserted. The whole gallery takes part, so an
image that plain search never retrieved can be brought in by its landmark. Votes and gallery tags
come from `lib.reranking.votes`; make them once to compare several α and β.

Choosing α and β of landmark-country reranking: a grid of scores, the best taken on Public.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib import retrieval
from lib.data import Evaluation
from lib.reranking.k_reciprocal import Reciprocal
from lib.reranking.votes import NO_COUNTRY, Tags, Votes, tag_gallery, vote
from lib.retrieval import (
    BLOCK,
    NO_TAG,
    ApproximateIndex,
    Embeddings,
    Ranking,
    SumOfTerms,
    TagScores,
    best_of,
    check_count,
    check_rows,
    nearest,
)


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
        reciprocal: choose the voters by k-reciprocal similarity (`lib.reranking.k_reciprocal`).
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
    bonus = SumOfTerms(tag_bonuses(votes, tags, alpha, beta))
    scores, positions = nearest(queries, gallery, k, block=block, term=bonus)
    return Ranking(scores, positions, query_ids, gallery_ids)


def add_votes(
    ranking: Ranking, votes: Votes, tags: Tags, *, alpha: float = 1.0, beta: float = 0.1
) -> Ranking:
    """Add the votes to the scores of any ranking, within its lists: the last link of a stack.

    Where the scores are the similarities of `lib.retrieval.knn` and the lists hold the
    whole gallery this is `apply_votes`; otherwise nothing new can come in. Ties by position.

    Args:
        ranking: from any search or reranker.
        votes: of its queries.
        tags: of its gallery.
        alpha: weight of the landmark score.
        beta: weight of the country score.

    Raises:
        ValueError: if votes or tags are not of this ranking, or a weight is not finite.
    """
    check_rows(ranking, query_votes=votes, tags=tags)
    check_votes(votes, tags, len(ranking), len(tags), alpha, beta)
    bonus = SumOfTerms(tag_bonuses(votes, tags, alpha, beta))
    added = bonus.at(np.arange(len(ranking))[:, None], ranking.positions)
    final = (ranking.scores.astype(np.float64) + added).astype(np.float32)
    return ranking.replace(*best_of(final, ranking.positions, ranking.k))


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
    before: Ranking | None = None,
) -> pd.DataFrame:
    """Take the final scores of one query apart; `votes.of(ranking.row(query))` shows who voted.

    Args:
        ranking: from `apply_votes` or `landmark_country_rerank` with the same settings.
        votes: of all queries.
        tags: of the gallery.
        query: id, or row number where the ranking has no ids.
        alpha: as in the reranking.
        beta: as in the reranking.
        before: the ranking of plain search, to tell where each image came from.

    Returns:
        A row per ranked image, best first, indexed by rank: raw + landmark + country = final,
        then the image's landmark_id and country_code, its position, and its id where known. With
        `before` also rank_before (missing where it was not retrieved) and moved, in words.

    Raises:
        ValueError: if there is no such query, or votes, tags or `before` are not of this ranking.
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
    ).join(table)
    if before is not None:
        listed = before.of(query)["position"]
        known = pd.Series(listed.index, index=listed.to_numpy())
        explained["rank_before"] = known.reindex(positions).astype("Int64").array
        moves = zip(explained.index, explained["rank_before"], strict=True)
        explained["moved"] = [move_in_words(now, then, before.k) for now, then in moves]
    return explained


def move_in_words(now: int, then: int | None, listed: int) -> str:
    """Where an image of rank `now` came from, `then` being its rank in a list of `listed`.

    >>> move_in_words(2, 57, 100), move_in_words(3, None, 100), move_in_words(4, 4, 100)
    ('came from rank 57', 'not among the 100 before', 'stayed')
    >>> move_in_words(7, 5, 100)
    'fell from rank 5'
    """
    if then is None or pd.isna(then):
        return f"not among the {listed} before"
    if now == then:
        return "stayed"
    return f"{'came' if now < then else 'fell'} from rank {int(then)}"


def tag_bonuses(votes: Votes, tags: Tags, alpha: float, beta: float) -> tuple[TagScores, TagScores]:
    """What landmark and country add to the similarity of any query and gallery image."""
    codes, _ = pd.factorize(np.append(votes.countries.ravel(), tags.countries))
    names = np.append(votes.countries.ravel(), tags.countries)
    codes = np.where(names == NO_COUNTRY, NO_TAG, codes)
    voted, tagged = np.split(codes, [votes.countries.size])
    return (
        TagScores(votes.landmarks, alpha * votes.landmark_scores, tags.landmarks),
        TagScores(voted.reshape(votes.countries.shape), beta * votes.country_scores, tagged),
    )


def grid(
    queries: Embeddings,
    gallery: Embeddings,
    votes: Votes,
    tags: Tags,
    evaluation: Evaluation,
    *,
    alphas: Sequence[float],
    betas: Sequence[float],
    k: int = 100,
) -> dict[str, pd.DataFrame]:
    """mAP@k for every α (rows) and β (columns), one table per usage.

    Args:
        queries: of the evaluation, in any order.
        gallery: of the evaluation.
        votes: of the queries.
        tags: of the gallery.
        evaluation: the right answers.
        alphas: weights of the landmark score.
        betas: weights of the country score.
        k: images ranked per query.
    """
    found: dict[str, dict[tuple[float, float], float]] = {}
    for alpha in alphas:
        for beta in betas:
            ranking = apply_votes(
                queries.rows,
                gallery.rows,
                votes,
                tags,
                k=k,
                alpha=alpha,
                beta=beta,
                query_ids=queries.ids,
                gallery_ids=gallery.ids,
            )
            scores = retrieval.score_queries(ranking, evaluation)
            for usage, mean in scores.groupby("usage")["average_precision"].mean().items():
                found.setdefault(usage, {})[alpha, beta] = mean
    return {usage: _table(cells) for usage, cells in found.items()}


def _table(cells: dict[tuple[float, float], float]) -> pd.DataFrame:
    return pd.Series(cells).unstack().rename_axis(index="alpha", columns="beta")


def choose(table: pd.DataFrame) -> tuple[float, float]:
    """The α and β of the best cell; the smallest ones where several are best.

    >>> choose(pd.DataFrame([[0.1, 0.3], [0.3, 0.2]], index=[0.0, 1.0], columns=[0.0, 0.1]))
    (0.0, 0.1)
    """
    alpha, beta = table.stack().sort_index().idxmax()
    return float(alpha), float(beta)

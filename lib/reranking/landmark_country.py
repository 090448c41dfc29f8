"""Landmark-country aware reranking: gallery images of the query's landmark and country move up.

The second half of GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al., slides 6 to 8).
The whole gallery takes part, so an image that plain search never retrieved can be brought in.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lib.reranking.data import RetrievalData, cached
from lib.reranking.k_reciprocal import ReciprocalSettings, k_reciprocal_rerank
from lib.reranking.votes import NO_COUNTRY, query_votes, tag_gallery
from lib.retrieval import NO_TAG, Ranking, TagScores, best_of


def landmark_country_rerank(
    data: RetrievalData,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
    top: int = 3,
    normalise: bool = True,
    reciprocal: bool | ReciprocalSettings = False,
    query: str | int | None = None,
) -> Ranking:
    """Rank the gallery by similarity plus landmark and country votes, best first.

    L is the score that the query's voters give to the landmark of a gallery image, C the one to its
    country. Exact for the sum over the whole gallery; ties by position. Settings of the votes are
    those of `query_votes`; `query` (its id, or row where there are no ids) is ranked alone if
    given.

    >>> query, gallery = np.array([[1, 0]]), np.array([[0.6, 0.8], [0.28, 0.96]])
    >>> references = np.vstack([gallery, [0.8, 0.6]])
    >>> data = RetrievalData(query, gallery, references, [9, 7, 7], ["IN", "CN", "CN"])
    >>> ranking = landmark_country_rerank(data, top=1)
    >>> ranking.positions.tolist(), [f"{score:.2f}" for score in ranking.scores[0]]
    ([[1, 0]], ['1.38', '0.60'])
    """
    L, C = vote_scores(data, top=top, normalise=normalise, reciprocal=reciprocal)
    sim = data.similarity
    return data.rank(sim + alpha * L + beta * C, query)


@cached
def vote_scores(
    data: RetrievalData,
    *,
    top: int = 3,
    normalise: bool = True,
    reciprocal: bool | ReciprocalSettings = False,
) -> tuple[TagScores, TagScores]:
    """L and C: what the voters of `query_votes` give to landmark and country of gallery images."""
    votes = query_votes(data, top=top, normalise=normalise, reciprocal=reciprocal)
    tags = tag_gallery(data)
    names = np.append(votes.countries.ravel(), tags.countries)
    codes = np.where(names == NO_COUNTRY, NO_TAG, pd.factorize(names)[0])
    voted, tagged = np.split(codes, [votes.countries.size])
    return (
        TagScores(votes.landmarks, votes.landmark_scores, tags.landmarks),
        TagScores(voted.reshape(votes.countries.shape), votes.country_scores, tagged),
    )


def k_reciprocal_landmark_country(
    data: RetrievalData,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
    base: Callable[..., Ranking] = k_reciprocal_rerank,
    **settings: Any,
) -> Ranking:
    """Add landmark and country votes to k-reciprocal similarities, within their lists.

    These are the scores of `base(data, **settings)`.
    """
    ranking = base(data, **settings)
    L, C = vote_scores(data, reciprocal=True)
    pairs = np.arange(len(ranking))[:, None], ranking.positions
    sim = ranking.scores.astype(np.float64)
    final = sim + ((alpha * L).at(*pairs) + (beta * C).at(*pairs))
    return ranking.replace(*best_of(final.astype(np.float32), ranking.positions, ranking.k))


def explain(
    data: RetrievalData, query: str | int, *, alpha: float = 1.0, beta: float = 0.1, **voting: Any
) -> pd.DataFrame:
    """Take the final scores of one query apart; settings are those of `landmark_country_rerank`.

    A row per ranked image, best first, indexed by rank: raw + landmark + country = final, then
    landmark_id, country_code, position, id where known, rank_before in plain search (missing where
    it was not retrieved) and moved, in words.
    """
    row, tags = data.plain.row(query), tag_gallery(data)
    ranking = landmark_country_rerank(data, alpha=alpha, beta=beta, query=query, **voting)
    table = ranking.of(query if data.query_ids is not None else 0)
    positions = table["position"].to_numpy()
    L, C = vote_scores(data, **voting)
    pair = np.array([[row]]), positions[None]
    landmark, country = (alpha * L).at(*pair)[0], (beta * C).at(*pair)[0]
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
    listed = data.plain.of(query)["position"]
    known = pd.Series(listed.index, index=listed.to_numpy())
    explained["rank_before"] = known.reindex(positions).astype("Int64").array
    moves = explained["rank_before"].items()
    explained["moved"] = [describe_move(now, then, data.plain.k) for now, then in moves]
    return explained


def describe_move(now: int, then: int | None, listed: int) -> str:
    """Where an image of rank `now` came from: rank `then`, or none, of `listed`."""
    if then is None or pd.isna(then):
        return f"not among the {listed} before"
    if now == then:
        return "stayed"
    return f"{'came' if now < then else 'fell'} from rank {int(then)}"

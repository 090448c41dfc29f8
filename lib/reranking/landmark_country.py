"""Landmark-country aware reranking: gallery images of the query's landmark and country move up.

GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al., slides 6 to 8). Labelled reference
images vote for the query; a gallery image takes both tags from its single nearest reference. The
whole gallery takes part, so an image that plain search never retrieved can be brought in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib import retrieval
from lib.reranking.data import RetrievalData, cached
from lib.reranking.k_reciprocal import (
    ReciprocalSettings,
    k_reciprocal_rerank,
    reciprocal_neighbours,
)
from lib.retrieval import EmbeddingTable, Ranking, TagScores

NO_LANDMARK = -1
NO_COUNTRY = ""


class Tags(NamedTuple):
    """A landmark and a country for each of N images."""

    landmarks: np.ndarray  # (N,) int64, -1 where unknown
    countries: np.ndarray  # (N,) strings such as "CN"; "" where unknown


@dataclass(frozen=True, eq=False)
class Votes:
    """What the references say about every image: at most V landmarks and V countries each.

    Places beyond the distinct tags hold -1 or "" and a score of 0; tags are ordered by score.
    """

    landmarks: np.ndarray  # (Q, V) int64, distinct per image
    landmark_scores: np.ndarray  # (Q, V) float64, never negative
    countries: np.ndarray  # (Q, V) strings, distinct per image
    country_scores: np.ndarray  # (Q, V) float64, never negative
    references: np.ndarray  # (Q, V) positions of the references that voted, nearest first
    similarities: np.ndarray  # (Q, V) float32, theirs
    voter_landmarks: np.ndarray  # (Q, V) int64, theirs
    voter_countries: np.ndarray  # (Q, V) strings, theirs

    def of(self, row: int) -> pd.DataFrame:
        """The voters of this row, nearest first: position, similarity, landmark, country."""
        found = self.references, self.similarities, self.voter_landmarks, self.voter_countries
        names = ("position", "similarity", "landmark", "country")
        return pd.DataFrame({name: one[row] for name, one in zip(names, found, strict=True)})


@cached
def query_votes(
    data: RetrievalData,
    *,
    top: int = 3,
    normalise: bool = True,
    reciprocal: bool | ReciprocalSettings = False,
) -> Votes:
    """Let the `top` nearest references of every query vote for landmark and country.

    The score of a landmark is the sum of the similarities of the voters that show it (score_j = Σ
    sim_i over the voters with tag j, slide 6 of GLR21); countries likewise. A negative similarity
    counts 0, and references without landmark do not vote.

    Args:
        normalise: scores of each query sum to 1 (published code), not the slides' raw sums.
        reciprocal: choose voters by k-reciprocal similarity, True for the settings of GLR21.

    >>> references = np.array([[0.8, 0.6], [0.6, 0.8]])
    >>> data = RetrievalData(np.eye(2)[:1], np.eye(2), references, [7, 9], ["CN", "CN"])
    >>> votes = query_votes(data)
    >>> votes.landmarks.tolist(), votes.countries.tolist()
    ([[7, 9]], [['CN', '']])
    """
    found = nearest_references(data, data.queries, top, "queries", reciprocal=reciprocal)
    return _count(data, *found, normalise)


@cached
def gallery_votes(data: RetrievalData, *, top: int = 3) -> Votes:
    """Let the `top` nearest references of every gallery image vote; scores are raw sums."""
    return _count(data, *nearest_references(data, data.gallery, top), normalise=False)


@cached
def tag_gallery(data: RetrievalData) -> Tags:
    """Give every gallery image the tags of its nearest labelled reference, if there is any."""
    found, count = nearest_references(data, data.gallery, 1)[1], len(data.gallery)
    if not found.size:
        return Tags(np.full(count, NO_LANDMARK), np.full(count, NO_COUNTRY))
    return Tags(*(tags[found[:, 0]] for tags in reference_tags(data)))


@cached
def reference_tags(data: RetrievalData) -> Tags:
    """The tags of all references; a country that is None or NaN is unknown."""
    landmarks = np.asarray(data.reference_landmarks)
    countries = pd.Series(np.asarray(data.reference_countries, dtype=object)).fillna(NO_COUNTRY)
    if not len(landmarks) == len(countries) == len(data.references):
        raise ValueError(
            f"expected a landmark and a country for each of {len(data.references)} references,"
            f" found {len(landmarks)} and {len(countries)}; take both from the table that was"
            " embedded"
        )
    if len(landmarks) and landmarks.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer landmarks, found {landmarks.dtype}; use -1 where unknown"
        )
    return Tags(landmarks.astype(np.int64), np.array(countries.astype(str).to_list(), dtype=str))


def nearest_references(
    data: RetrievalData,
    rows: EmbeddingTable,
    count: int,
    what: str = "gallery images",
    *,
    reciprocal: bool | ReciprocalSettings = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, `count`) similarities and positions of the references nearest to (Q, D) rows.

    References without landmark are left out. `what` the rows are is told in messages.
    """
    positions = np.flatnonzero(reference_tags(data).landmarks != NO_LANDMARK)
    labelled = data.references
    if len(positions) < len(labelled):
        labelled = retrieval.EmbeddingSubset(labelled, positions)
    if reciprocal:
        settings = None if reciprocal is True else reciprocal
        found = reciprocal_neighbours(rows, labelled, count, settings, index=data.index)
    else:
        names = what, "references"
        found = retrieval.nearest(rows, labelled, count, index=data.index, names=names)
    return found[0], positions[found[1]]


def _count(
    data: RetrievalData, similarities: np.ndarray, voters: np.ndarray, normalise: bool
) -> Votes:
    """The votes of the references at (Q, V) positions `voters`."""
    tags = reference_tags(data)
    landmarks, countries = tags.landmarks[voters], tags.countries[voters]
    of_landmarks = _sum_per_tag(landmarks, NO_LANDMARK, similarities, normalise)
    of_countries = _sum_per_tag(countries, NO_COUNTRY, similarities, normalise)
    return Votes(*of_landmarks, *of_countries, voters, similarities, landmarks, countries)


def _sum_per_tag(
    tags: np.ndarray, none: int | str, similarities: np.ndarray, normalise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct tags of (Q, V) voters, which may be `none`, and their scores, ordered by score."""
    similarities = np.maximum(similarities, 0).astype(np.float64)
    same = tags[:, :, None] == tags[:, None, :]
    repeated = np.tril(same, -1).any(axis=2)
    scores = np.where(repeated | (tags == none), 0.0, (same * similarities[:, None, :]).sum(axis=2))
    if normalise:
        total = scores.sum(axis=1, keepdims=True)
        scores = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    return np.where(scores > 0, np.take_along_axis(tags, order, axis=1), none), scores


def landmark_country_rerank(
    data: RetrievalData,
    *,
    alpha: float = 1.0,
    beta: float = 0.1,
    query: str | int | None = None,
    **voting: Any,
) -> Ranking:
    """Rank the gallery by similarity plus landmark and country votes, best first.

    L is the score that the query's voters give to the landmark of a gallery image, C the one to its
    country. Exact for the sum over the whole gallery; ties by position. `voting` are settings of
    `query_votes`; `query` (its id, or row where there are no ids) is ranked alone if given.

    >>> query, gallery = np.array([[1, 0]]), np.array([[0.6, 0.8], [0.28, 0.96]])
    >>> references = np.vstack([gallery, [0.8, 0.6]])
    >>> data = RetrievalData(query, gallery, references, [9, 7, 7], ["IN", "CN", "CN"])
    >>> ranking = landmark_country_rerank(data, top=1)
    >>> ranking.positions.tolist(), [f"{score:.2f}" for score in ranking.scores[0]]
    ([[1, 0]], ['1.38', '0.60'])
    """
    L, C = vote_scores(data, **voting)
    sim = data.similarity
    return data.rank(sim + alpha * L + beta * C, query)


@cached
def vote_scores(data: RetrievalData, **voting: Any) -> tuple[TagScores, TagScores]:
    """L and C: what the voters of `query_votes` give to landmark and country of gallery images."""
    votes, tags = query_votes(data, **voting), tag_gallery(data)
    names = np.append(votes.countries.ravel(), tags.countries)
    codes = np.where(names == NO_COUNTRY, retrieval.NO_TAG, pd.factorize(names)[0])
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
) -> Ranking:
    """Add landmark and country votes to the scores of `base(data)`, in its lists."""
    ranking = base(data)
    L, C = vote_scores(data, reciprocal=True)
    pairs = np.arange(len(ranking))[:, None], ranking.positions
    sim = ranking.scores.astype(np.float64)
    final = sim + ((alpha * L).at(*pairs) + (beta * C).at(*pairs))
    best = retrieval.best_of(final.astype(np.float32), ranking.positions, ranking.k)
    return ranking.replace(*best)


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
    raw = final - landmark - country
    columns = {"raw": raw, "landmark": landmark, "country": country, "final": final}
    columns |= {"landmark_id": tags.landmarks[positions], "country_code": tags.countries[positions]}
    explained = pd.DataFrame(columns, index=table.index).join(table)
    listed = data.plain.k
    before = pd.Series(np.arange(1, listed + 1), index=data.plain.positions[row])
    explained["rank_before"] = before.reindex(positions).astype("Int64").array
    moves = explained["rank_before"].items()
    explained["moved"] = [describe_move(now, then, listed) for now, then in moves]
    return explained


def describe_move(now: int, then: int | None, listed: int) -> str:
    """Where an image of rank `now` came from: rank `then`, or none, of `listed`."""
    if pd.isna(then):
        return f"not among the {listed} before"
    return "stayed" if now == then else f"{'came' if now < then else 'fell'} from rank {then}"

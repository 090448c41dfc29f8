"""Landmark-country aware reranking: gallery images of the query's landmark and country move up.

GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al., slides 6 to 8). Labelled reference
images vote for the query; a gallery image takes both tags from its single nearest reference. The
whole gallery takes part, so an image that plain search never retrieved can be brought in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.reranking.data import RetrievalData, cached
from lib.reranking.k_reciprocal import (
    ReciprocalSettings,
    k_reciprocal_rerank,
    reciprocal_neighbours,
)
from lib.retrieval import (
    NO_TAG,
    EmbeddingSubset,
    EmbeddingTable,
    Ranking,
    TagScores,
    best_of,
    nearest,
)

NO_LANDMARK = -1
NO_COUNTRY = ""


@dataclass(frozen=True, eq=False)
class Tags:
    """A landmark and a country for each of N images."""

    landmarks: np.ndarray  # (N,) integers, -1 where unknown
    countries: np.ndarray  # (N,) strings such as "CN"; "" where unknown (None and NaN become "")

    def __post_init__(self) -> None:
        landmarks = np.asarray(self.landmarks)
        countries = pd.Series(np.asarray(self.countries, dtype=object)).fillna(NO_COUNTRY)
        if landmarks.ndim != 1 or len(landmarks) != len(countries):
            raise ValueError(
                f"expected one landmark and one country per image, found {landmarks.shape} and"
                f" {len(countries)}; take both from the same table"
            )
        if len(landmarks) and landmarks.dtype.kind not in "iu":
            raise ValueError(
                f"expected integer landmarks, found {landmarks.dtype}; use -1 where unknown"
            )
        object.__setattr__(self, "landmarks", landmarks.astype(np.int64))
        object.__setattr__(self, "countries", np.array(countries.astype(str).to_list(), dtype=str))

    def __len__(self) -> int:
        return len(self.landmarks)


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

    def __len__(self) -> int:
        return len(self.landmarks)

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
    labelled, options = labelled_references(data)[0], {"index": data.index}
    if reciprocal:
        settings = None if reciprocal is True else reciprocal
        found = reciprocal_neighbours(data.queries, labelled, top, settings, **options)
    else:
        found = nearest(data.queries, labelled, top, names=("queries", "references"), **options)
    return _count(data, found, normalise=normalise)


@cached
def gallery_votes(data: RetrievalData, *, top: int = 3) -> Votes:
    """Let the `top` nearest references of every gallery image vote; scores are raw sums."""
    labelled, names = labelled_references(data)[0], ("gallery images", "references")
    return _count(data, nearest(data.gallery, labelled, top, index=data.index, names=names))


@cached
def tag_gallery(data: RetrievalData) -> Tags:
    """Give every gallery image the tags of its nearest labelled reference, if there is any."""
    labelled, positions, tags = labelled_references(data)
    names = ("gallery images", "references")
    found = nearest(data.gallery, labelled, 1, index=data.index, names=names)[1]
    if not len(positions):
        return Tags([NO_LANDMARK] * len(data.gallery), [NO_COUNTRY] * len(data.gallery))
    found = positions[found[:, 0]]
    return Tags(tags.landmarks[found], tags.countries[found])


def labelled_references(data: RetrievalData) -> tuple[EmbeddingTable, np.ndarray, Tags]:
    """The references that have a landmark, their positions, and the tags of all."""
    tags = Tags(data.reference_landmarks, data.reference_countries)
    if len(tags) != len(data.references):
        raise ValueError(
            f"expected one landmark and country per reference, found {len(tags)} for"
            f" {len(data.references)} references; pass the tags in the order of the embeddings"
        )
    positions = np.flatnonzero(tags.landmarks != NO_LANDMARK)
    if len(positions) == len(data.references):
        return data.references, positions, tags
    return EmbeddingSubset(data.references, positions), positions, tags


def _count(
    data: RetrievalData, found: tuple[np.ndarray, np.ndarray], *, normalise: bool = False
) -> Votes:
    """The votes of the references `found`: similarities and positions among those labelled."""
    _, positions, tags = labelled_references(data)
    similarities, voters = found[0], positions[found[1]]
    landmarks, countries = tags.landmarks[voters], tags.countries[voters]
    codes, names = pd.factorize(countries.ravel())
    codes = np.where(countries == NO_COUNTRY, -1, codes.reshape(countries.shape))
    of_landmarks = _sum_per_tag(landmarks, similarities, normalise)
    codes_by_score, country_scores = _sum_per_tag(codes, similarities, normalise)
    of_countries = np.append(names, NO_COUNTRY).astype(str)[codes_by_score], country_scores
    return Votes(*of_landmarks, *of_countries, voters, similarities, landmarks, countries)


def _sum_per_tag(
    tags: np.ndarray, similarities: np.ndarray, normalise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct tags of (Q, V) voters, -1 for none, and their scores, ordered by score."""
    similarities = np.maximum(similarities, 0).astype(np.float64)
    same = tags[:, :, None] == tags[:, None, :]
    repeated = np.tril(same, -1).any(axis=2)
    scores = np.where(repeated | (tags == -1), 0.0, (same * similarities[:, None, :]).sum(axis=2))
    if normalise:
        total = scores.sum(axis=1, keepdims=True)
        scores = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    return np.where(scores > 0, np.take_along_axis(tags, order, axis=1), -1), scores


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
    """Add landmark and country votes to the scores of `base(data, **settings)`, in its lists."""
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
    if pd.isna(then):
        return f"not among the {listed} before"
    return "stayed" if now == then else f"{'came' if now < then else 'fell'} from rank {then}"

"""Landmark and country by vote: what labelled reference images say about an unlabelled one.

The first half of landmark-country reranking in GLR21 = 2nd place, Google Landmark Retrieval 2021
(Zhang et al.). A gallery image takes both tags from its single nearest reference.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.reranking.data import RetrievalData, cached
from lib.reranking.k_reciprocal import ReciprocalSettings, reciprocal_neighbours
from lib.retrieval import EmbeddingSubset, EmbeddingTable, nearest

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
        return pd.DataFrame(
            {
                "position": self.references[row],
                "similarity": self.similarities[row],
                "landmark": self.voter_landmarks[row],
                "country": self.voter_countries[row],
            }
        )


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
        normalise: divide the scores of each query by their sum (published code), instead of the
            raw sums of the slides.
        reciprocal: choose voters by k-reciprocal similarity, True for the settings of GLR21.

    >>> references = np.array([[0.8, 0.6], [0.6, 0.8]])
    >>> data = RetrievalData(np.eye(2)[:1], np.eye(2), references, [7, 9], ["CN", "CN"])
    >>> votes = query_votes(data)
    >>> votes.landmarks.tolist(), votes.countries.tolist()
    ([[7, 9]], [['CN', '']])
    """
    return _vote(data, data.queries, top, normalise, reciprocal)


@cached
def gallery_votes(data: RetrievalData, *, top: int = 3) -> Votes:
    """Let the `top` nearest references of every gallery image vote; scores are raw sums."""
    return _vote(data, data.gallery, top, normalise=False, reciprocal=False)


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


def _vote(
    data: RetrievalData,
    rows: EmbeddingTable,
    top: int,
    normalise: bool,
    reciprocal: bool | ReciprocalSettings,
) -> Votes:
    labelled, positions, tags = labelled_references(data)
    if reciprocal:
        settings = reciprocal if isinstance(reciprocal, ReciprocalSettings) else None
        found = reciprocal_neighbours(rows, labelled, top, settings, index=data.index)
    else:
        found = nearest(rows, labelled, top, index=data.index, names=("queries", "references"))
    similarities, voters = found[0], positions[found[1]]
    landmarks, countries = tags.landmarks[voters], tags.countries[voters]
    codes, names = pd.factorize(countries.ravel())
    codes = np.where(countries == NO_COUNTRY, -1, codes.reshape(countries.shape))
    landmarks_by_score, landmark_scores = _sum_per_tag(landmarks, similarities, normalise)
    codes_by_score, country_scores = _sum_per_tag(codes, similarities, normalise)
    countries_by_score = np.append(names, NO_COUNTRY).astype(str)[codes_by_score]
    scores = landmarks_by_score, landmark_scores, countries_by_score, country_scores
    return Votes(*scores, voters, similarities, landmarks, countries)


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

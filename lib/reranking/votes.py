"""Landmark and country by vote: what labelled reference images say about an unlabelled one.

The first half of GLR21's landmark-country reranking. A query asks its nearest references, and each
adds its similarity to the score of its landmark and of its country. A gallery image takes both
tags from its single nearest reference. How the two meet is in `lib.reranking.landmark_country`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from lib.reranking.k_reciprocal import Reciprocal, reciprocal_neighbours
from lib.retrieval import BLOCK, ApproximateIndex, EmbeddingSubset, nearest

NO_LANDMARK = -1
NO_COUNTRY = ""


@dataclass(frozen=True, eq=False)
class Tags:
    """A landmark and a country for each image of a list.

    Attributes:
        landmarks: (N,) int64, -1 where unknown.
        countries: (N,) strings such as "CN"; "" where unknown (None and NaN become ""). "OTHER"
            is a country like any other, as in GLR21.

    Raises:
        ValueError: if the two have different lengths or landmarks are not integers.
    """

    landmarks: np.ndarray
    countries: np.ndarray

    def __post_init__(self) -> None:
        """Bring both to one form."""
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
        """The number of images."""
        return len(self.landmarks)


@dataclass(frozen=True, eq=False)
class Votes:
    """What the references say about every query: at most V landmarks and V countries each.

    Places beyond the distinct tags hold -1 or "" and a score of 0; tags are ordered by score.

    Attributes:
        landmarks: (Q, V) int64 distinct landmarks per query.
        landmark_scores: (Q, V) float64, never negative.
        countries: (Q, V) strings, distinct per query.
        country_scores: (Q, V) float64, never negative.
        references: (Q, V) int64 positions of the references that voted, nearest first.
        similarities: (Q, V) float32, theirs.
        voters: the tags of those references, flat: row q·V + v.
    """

    landmarks: np.ndarray
    landmark_scores: np.ndarray
    countries: np.ndarray
    country_scores: np.ndarray
    references: np.ndarray
    similarities: np.ndarray
    voters: Tags

    def __len__(self) -> int:
        """The number of queries."""
        return len(self.landmarks)

    def only(self, row: int) -> "Votes":
        """The votes about the query in this row alone."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        voters = arrays.pop("voters")
        width = self.references.shape[1]
        theirs = slice(row * width, (row + 1) * width)
        voters = Tags(voters.landmarks[theirs], voters.countries[theirs])
        return Votes(**{name: own[row : row + 1] for name, own in arrays.items()}, voters=voters)

    def nearest(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q,) landmark and similarity of every query's nearest voter; -1 and 0 without one."""
        if not self.references.shape[1]:
            return np.full(len(self), NO_LANDMARK), np.zeros(len(self))
        landmarks = self.voters.landmarks.reshape(self.references.shape)[:, 0]
        return landmarks, self.similarities[:, 0].astype(np.float64)

    def of(self, row: int) -> pd.DataFrame:
        """The references that voted for the query in this row, nearest first.

        Columns: position (among the references), similarity, landmark, country.
        """
        width = self.references.shape[1]
        theirs = slice(row * width, (row + 1) * width)
        return pd.DataFrame(
            {
                "position": self.references[row],
                "similarity": self.similarities[row],
                "landmark": self.voters.landmarks[theirs],
                "country": self.voters.countries[theirs],
            }
        )


def vote(
    queries: np.ndarray,
    references: np.ndarray,
    reference_landmarks: Sequence[int] | np.ndarray,
    reference_countries: Sequence[str] | np.ndarray,
    *,
    top: int = 3,
    normalise: bool = True,
    reciprocal: bool | Reciprocal = False,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> Votes:
    """Let the `top` nearest references of every query vote for landmark and country.

    The score of a landmark is the sum of the similarities of the voters that show it
    (score_j = Σ sim_i over the voters with tag j, slide 6 of GLR21); countries likewise. A voter
    of negative similarity counts 0. References without landmark are left out before the search,
    as in GLR21; one without country votes for its landmark only.

    Args:
        queries: (Q, D) unit rows.
        references: (R, D) unit rows, may be a memory map; none at all makes empty votes.
        reference_landmarks: (R,) integers, -1 where unknown.
        reference_countries: (R,) strings, "" where unknown.
        top: how many references vote.
        normalise: divide the scores of each query by their sum (published code), instead of the
            raw sums of the slides.
        reciprocal: choose voters by k-reciprocal similarity, True for the published settings.
        index: of the references that have a landmark; finds the voters approximately and prints
            its recall.
        block: reference rows in memory at a time.

    Raises:
        ValueError: if tags and references are out of step, widths differ or a value is not finite.

    >>> votes = vote(np.eye(2)[:1], np.array([[0.8, 0.6], [0.6, 0.8]]), [7, 9], ["CN", "CN"])
    >>> votes.landmarks.tolist(), votes.countries.tolist()
    ([[7, 9]], [['CN', '']])
    """
    labelled, positions, tags = labelled_references(
        references, reference_landmarks, reference_countries
    )
    if reciprocal:
        settings = reciprocal if isinstance(reciprocal, Reciprocal) else None
        found = reciprocal_neighbours(queries, labelled, top, settings, index=index, block=block)
    else:
        names = ("queries", "references")
        found = nearest(queries, labelled, top, index=index, names=names, block=block)
    similarities, voters = found[0], positions[found[1]]
    landmarks, countries = tags.landmarks[voters], tags.countries[voters]
    codes, names = pd.factorize(countries.ravel())
    codes = np.where(countries == NO_COUNTRY, -1, codes.reshape(countries.shape))
    landmarks_by_score, landmark_scores = _tally(landmarks, similarities, normalise)
    codes_by_score, country_scores = _tally(codes, similarities, normalise)
    return Votes(
        landmarks=landmarks_by_score,
        landmark_scores=landmark_scores,
        countries=np.append(names, NO_COUNTRY).astype(str)[codes_by_score],
        country_scores=country_scores,
        references=voters,
        similarities=similarities,
        voters=Tags(landmarks.ravel(), countries.ravel()),
    )


def tag_gallery(
    gallery: np.ndarray,
    references: np.ndarray,
    reference_landmarks: Sequence[int] | np.ndarray,
    reference_countries: Sequence[str] | np.ndarray,
    *,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> Tags:
    """Give every gallery image the tags of its single nearest labelled reference.

    No threshold, as in GLR21. Without any labelled reference the tags are unknown. Arguments and
    errors are those of `vote`.
    """
    labelled, positions, tags = labelled_references(
        references, reference_landmarks, reference_countries
    )
    names = ("gallery images", "references")
    found = nearest(gallery, labelled, 1, index=index, names=names, block=block)[1]
    if not len(positions):
        return Tags(np.full(len(gallery), NO_LANDMARK), np.full(len(gallery), NO_COUNTRY))
    nearest_reference = positions[found[:, 0]]
    return Tags(tags.landmarks[nearest_reference], tags.countries[nearest_reference])


def labelled_references(
    references: np.ndarray, landmarks: Sequence[int], countries: Sequence[str]
) -> tuple[np.ndarray | EmbeddingSubset, np.ndarray, Tags]:
    """The references that have a landmark, their positions, and the tags of all."""
    tags = Tags(landmarks, countries)
    if len(tags) != len(references):
        raise ValueError(
            f"expected one landmark and country per reference, found {len(tags)} for"
            f" {len(references)} references; pass the tags in the order of the embeddings"
        )
    positions = np.flatnonzero(tags.landmarks != NO_LANDMARK)
    everyone = len(positions) == len(references)
    return references if everyone else EmbeddingSubset(references, positions), positions, tags


def _tally(
    tags: np.ndarray, similarities: np.ndarray, normalise: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sum (Q, V) similarities per distinct tag; -1 does not count. Ordered by score."""
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

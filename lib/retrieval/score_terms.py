"""What a reranking adds to the similarity of a query and a gallery image, by the image's tag.

A query votes for a few tags, and every gallery image carries one, so the addition is known for any
pair without a query × gallery table. `lib.retrieval.knn.nearest` is exact for similarity plus
bonus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

NO_TAG = -1
Adder = Callable[[np.ndarray, int], None]
"""Adds a bonus in place to a tile: (M, Q) float32 scores of gallery images from a position on."""


class ScoreTerm(Protocol):
    """An addition to the score of every pair of query and gallery image."""

    def at(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """(R, 1) query rows and (R or 1, M) gallery positions to (R, M) float64 additions."""
        ...

    def adder(self, rows: np.ndarray) -> Adder:
        """What adds the bonus of (Q,) query rows to whole tiles."""
        ...


@dataclass(frozen=True, eq=False)
class TagScores:
    """The score that the query gives to the tag of the image.

    Attributes:
        voted: (Q, V) int64 tags, distinct in a row; -1 in empty places.
        scores: (Q, V) float64, what each adds.
        tags: (N,) int64 tag of every gallery image, -1 for none.
        weights: (N,) float64, multiply what an image is given; None for 1.

    >>> bonus = TagScores(np.array([[7, 9]]), np.array([[0.5, 0.2]]), np.array([9, 8, 7, -1]))
    >>> bonus.at(np.array([[0]]), np.arange(4)[None]).tolist()
    [[0.2, 0.0, 0.5, 0.0]]
    """

    voted: np.ndarray
    scores: np.ndarray
    tags: np.ndarray
    weights: np.ndarray | None = None

    def at(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """As `ScoreTerm.at`."""
        tags = self.tags[positions]
        found = np.zeros(np.broadcast_shapes(rows.shape, positions.shape))
        for place in range(self.voted.shape[1]):
            is_same = (tags == self.voted[rows, place]) & (tags != NO_TAG)
            found += is_same * self.scores[rows, place]
        return found if self.weights is None else found * self.weights[positions]

    def adder(self, rows: np.ndarray) -> Adder:
        """As `ScoreTerm.adder`: images of a voted tag get their tag's row of a (tags, Q) table."""
        voted, scores = self.voted[rows], self.scores[rows]
        counts = (voted != NO_TAG) & (scores != 0)
        tags, column = np.unique(voted[counts], return_inverse=True)
        table = np.zeros((len(tags), len(rows)), dtype=np.float32)
        table[column, np.nonzero(counts)[0]] = scores[counts]
        place = np.searchsorted(tags, self.tags)
        is_voted = np.append(tags, NO_TAG)[place] == self.tags
        place = np.where(is_voted & (self.tags != NO_TAG), place, NO_TAG)

        def add(tile: np.ndarray, start: int) -> None:
            own = place[start : start + len(tile)]
            images = np.flatnonzero(own != NO_TAG)
            given = table[own[images]]
            if self.weights is not None:
                given *= self.weights[start + images, None]
            if len(images) == len(tile):
                tile += given
            else:
                tile[images] += given

        return add


@dataclass(frozen=True, eq=False)
class SumOfTerms:
    """Several at once."""

    parts: Sequence[ScoreTerm]

    def at(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """As `ScoreTerm.at`."""
        shape = np.broadcast_shapes(rows.shape, positions.shape)
        return sum((part.at(rows, positions) for part in self.parts), np.zeros(shape))

    def adder(self, rows: np.ndarray) -> Adder:
        """As `ScoreTerm.adder`."""
        adders = [part.adder(rows) for part in self.parts]

        def add(tile: np.ndarray, start: int) -> None:
            for one in adders:
                one(tile, start)

        return add

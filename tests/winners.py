"""Random retrieval cases that the tests of the winners' rerankers share."""

from dataclasses import dataclass

import numpy as np

from lib.reranking.votes import Votes, vote
from lib.retrieval.knn import search
from lib.retrieval.ranking import Ranking


def unit_rows(generator: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Random float32 rows of unit norm."""
    rows = generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows_around_centres(seed, count, *, centres=60, width=24, spread=0.5):
    """Float16 unit rows in groups that are the same for every seed."""
    generator = np.random.default_rng(seed)
    middle = np.random.default_rng(99).standard_normal((centres, width))
    rows = middle[generator.integers(centres, size=count)]
    rows = rows + spread * generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@dataclass
class Case:
    """Queries, gallery and labelled references; few distinct rows where there are to be ties."""

    queries: np.ndarray
    gallery: np.ndarray
    references: np.ndarray
    landmarks: np.ndarray
    countries: np.ndarray
    k: int

    @property
    def labelled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What votes are made from."""
        return self.references, self.landmarks, self.countries

    def ranking(self, **ids: list[str]) -> Ranking:
        """Plain search."""
        return search(self.queries, self.gallery, self.k, **ids)

    def votes(self, top: int) -> tuple[Votes, Votes]:
        """Raw votes of queries and gallery."""
        options = {"top": top, "normalise": False}
        return (
            vote(self.queries, *self.labelled, **options),
            vote(self.gallery, *self.labelled, **options),
        )

    def similarities(self) -> np.ndarray:
        """(Q, N) in double precision."""
        return self.queries.astype(np.float64) @ self.gallery.astype(np.float64).T

    def nearest(self, image: np.ndarray, count: int) -> list[tuple[int, float]]:
        """Labelled references nearest to an image with their similarities, by lists."""
        found = self.references.astype(np.float64) @ image.astype(np.float64)
        found = found.astype(np.float32).astype(np.float64)
        labelled = [i for i in range(len(found)) if self.landmarks[i] != -1]
        return [(i, found[i]) for i in sorted(labelled, key=lambda i: (-found[i], i))[:count]]


def random_case(
    seed: int,
    *,
    queries: int = 9,
    images: int = 260,
    references: int = 120,
    width: int = 6,
    landmarks: int = 20,
    k: int = 40,
    ties: bool = False,
) -> Case:
    """Rows at random, some references without landmark or country."""
    generator = np.random.default_rng(seed)
    sizes = {"queries": queries, "gallery": images, "references": references}
    rows = {name: unit_rows(generator, count, width) for name, count in sizes.items()}
    if ties:  # every row occurs many times
        pool = unit_rows(generator, 12, width)
        rows = {name: pool[generator.integers(12, size=len(own))] for name, own in rows.items()}
    return Case(
        **rows,
        landmarks=generator.integers(-1, landmarks, references),
        countries=generator.choice(["", "CN", "IN", "FR", "OTHER"], references),
        k=k,
    )

"""Random retrieval data, and naive searches of it, for the tests of rerankers."""

import numpy as np

from lib.reranking.data import RetrievalData


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
    **fields: object,
) -> RetrievalData:
    """Rows at random, some references without landmark or country; with ties, few distinct rows."""
    generator = np.random.default_rng(seed)
    sizes = {"queries": queries, "gallery": images, "references": references}
    rows = {name: unit_rows(generator, count, width) for name, count in sizes.items()}
    if ties:  # every row occurs many times
        pool = unit_rows(generator, 12, width)
        rows = {name: pool[generator.integers(12, size=len(own))] for name, own in rows.items()}
    return RetrievalData(
        **rows,
        reference_landmarks=generator.integers(-1, landmarks, references),
        reference_countries=generator.choice(["", "CN", "IN", "FR", "OTHER"], references),
        k=k,
        **fields,
    )


def similarities(data: RetrievalData) -> np.ndarray:
    """(Q, N) in double precision."""
    return data.queries.astype(np.float64) @ data.gallery.astype(np.float64).T


def nearest_references(
    data: RetrievalData, image: np.ndarray, count: int
) -> list[tuple[int, float]]:
    """Labelled references nearest to an image with their similarities, by lists."""
    found = data.references.astype(np.float64) @ image.astype(np.float64)
    found = found.astype(np.float32).astype(np.float64)
    labelled = [i for i in range(len(found)) if data.reference_landmarks[i] != -1]
    return [(i, found[i]) for i in sorted(labelled, key=lambda i: (-found[i], i))[:count]]

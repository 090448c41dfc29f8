"""How far images are from each other, within landmarks and across: a look at a descriptor.

Pairs are drawn at random, so this is quick at any size. `lib.k_distances` has exact distances.
"""

import numpy as np


def sample_distances(
    rows: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    generator: np.random.Generator,
    pairs: int = 20_000,
) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distances of random pairs of images: of one landmark, and of different ones.

    Args:
        rows: (N, D) unit rows, in memory or a memory map.
        landmark_ids: (N,) of the rows.
        generator: draws the pairs.
        pairs: how many of each kind, at most.
    """
    first = generator.integers(len(rows), size=pairs)
    order = np.argsort(landmark_ids, kind="stable")
    place = np.argsort(order)
    start = np.searchsorted(landmark_ids[order], landmark_ids)
    size = np.searchsorted(landmark_ids[order], landmark_ids, side="right") - start
    step = 1 + np.floor(generator.random(pairs) * (size[first] - 1)).astype(int)
    inside = start[first] + (place[first] - start[first] + step) % size[first]
    partner, other = order[inside], generator.integers(len(rows), size=pairs)
    same = size[first] > 1
    apart = landmark_ids[first] != landmark_ids[other]
    return (
        _distances(rows, first[same], partner[same]),
        _distances(rows, first[apart], other[apart]),
    )


def _distances(rows: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    pairs = np.asarray(rows[left], np.float32), np.asarray(rows[right], np.float32)
    return 1 - np.einsum("ij,ij->i", *pairs)

"""Images that look more like other landmarks than like their own: an option beyond [20].

DBSCAN sees one landmark at a time, so two wrong images of the same foreign place rescue each
other. Here every image is compared with all the others, as in the nearest-neighbour votes by which
the 2019 winners cleaned ([17] of [20]): it is a suspect if it is farther from its own landmark than
from its rivals, by more than a margin. The margin comes from images that are moved on purpose, as
in `lib.choose_eps`; `lib.clean.clean` drops the suspects before the first pass.
"""

import numpy as np
from joblib import Parallel, delayed

from lib.choose_eps import best_threshold, measure_moves, sample_landmarks
from lib.dbscan import BLOCK
from lib.groups import check_embeddings, unit_rows
from lib.k_distances import k_distances, smallest

MOVED_COST = 0.3  # own images suspected that outweigh one moved image overlooked


def find_suspects(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    k: int = 3,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> np.ndarray:
    """Find images whose k-th neighbour at home is much farther than their k-th elsewhere.

    Every image is compared with every other: the time grows with N² (2 minutes for 100,000 images
    and D = 512 on two cores), so this is for datasets of that order.

    Args:
        embeddings: (N, D) unit rows as for `lib.clean.cluster_landmarks`.
        landmark_ids: (N,) integers.
        k: neighbours; images of landmarks with at most k images are never suspects.
        generator: moves images; a fixed one by default.
        jobs: threads.

    Returns:
        (N,) bool, for `lib.clean.clean(..., suspects=...)`.

    Raises:
        ValueError: as `cluster_landmarks`; if fewer than two landmarks have more than k images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    generator = np.random.default_rng(0) if generator is None else generator
    own = k_distances(embeddings, landmark_ids, k, jobs=jobs)
    rivals, anyone = rival_distances(embeddings, landmark_ids, k, jobs=jobs)
    positions, ids = sample_landmarks(landmark_ids, k + 1, generator)
    moves = measure_moves(embeddings, positions, ids, k, generator, jobs)
    # Whoever is moved leaves its own landmark behind among its rivals.
    strange = moves.strange - anyone[positions][moves.moved]
    margin = best_threshold(own[positions] - rivals[positions], strange, MOVED_COST)[0]
    return np.isfinite(own) & (own - rivals > margin)


def rival_distances(
    embeddings: np.ndarray, landmark_ids: np.ndarray, k: int, *, jobs: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """Measure how far the k-th nearest image of any other landmark, and of any at all, is.

    Returns:
        Two (N,) float32 arrays of cosine distances; infinite where there are not k such images.

    Raises:
        ValueError: as `cluster_landmarks`.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    positions = np.arange(len(landmark_ids))
    rows = unit_rows(embeddings, positions)[0]
    blocks = [slice(start, start + BLOCK) for start in range(0, len(positions), BLOCK)]
    found = Parallel(n_jobs=jobs, require="sharedmem")(
        delayed(_rival_block)(rows, landmark_ids, block, k) for block in blocks
    )
    if not found:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    others, anyone = zip(*found, strict=True)
    return np.concatenate(others), np.concatenate(anyone)


def _rival_block(
    rows: np.ndarray, landmark_ids: np.ndarray, block: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both distances of the rows in `block`."""
    own = rows[block]
    others = np.full((len(own), k), np.inf, dtype=np.float32)
    anyone = others
    for start in range(0, len(rows), 8 * BLOCK):
        part = slice(start, start + 8 * BLOCK)
        distance = np.subtract(1, own @ rows[part].T)
        self_at = np.arange(block.start, block.start + len(own)) - start
        here = np.flatnonzero((self_at >= 0) & (self_at < distance.shape[1]))
        distance[here, self_at[here]] = np.inf
        anyone = smallest(np.hstack([anyone, distance]), k)
        distance[landmark_ids[block, None] == landmark_ids[part]] = np.inf
        others = smallest(np.hstack([others, distance]), k)
    return others[:, k - 1], anyone[:, k - 1]

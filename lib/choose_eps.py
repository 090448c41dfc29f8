"""Choosing the radius of `lib.clean` without knowing the truth.

[20] keeps its thresholds to itself, and the right ones depend on the descriptor. Here images moved
to another landmark stand in for wrong labels: a good radius gives many images enough neighbours in
their own landmark, and few where they were moved to (`suggest`). A sweep tells what radii around it
would do (`lib.sweep`); the k-distance curve (`lib.k_distances`) is the classical picture.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from lib.dbscan import Rows, check_settings
from lib.groups import check_embeddings, over_groups
from lib.k_distances import kth_nearest
from lib.sweep import sweep

SAMPLE_IMAGES = 50_000  # enough for a suggestion
SAMPLE_LARGEST = 4_096  # images of one landmark that enter the sample
MOVES, ROUNDS = 20_000, 10  # images moved; small datasets take rounds, up to ten
STEPS = np.arange(11, 31) / 20  # the sweep around a suggestion: 0.55 to 1.5 times eps


@dataclass(frozen=True)
class Suggestion:
    """A radius for the first pass, why, and what radii around it would do."""

    eps: float
    reason: str
    sweep: pd.DataFrame


def suggest(
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    min_samples: int = 3,
    without: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
    jobs: int = -1,
) -> Suggestion:
    """Suggest the radius of the first pass from the distances alone.

    With s(eps) the share of images that have `min_samples - 1` others of their landmark within
    eps, and m(eps) the share of images moved to a random other landmark that would have as many
    there, the suggestion maximises s - m (Youden's index).

    Up to 50,000 images of whole landmarks are looked at, of the largest landmarks 4,096 each.

    Args:
        embeddings: (N, D) unit rows as for `lib.clean.cluster_landmarks`.
        landmark_ids: (N,) integers.
        min_samples: of the first pass.
        without: (N,) bool; images to leave out, such as suspects.
        generator: draws landmarks and moves images; a fixed one by default.
        jobs: joblib's `n_jobs`.

    Raises:
        ValueError: as `cluster_landmarks`; if fewer than two landmarks have `min_samples` images.
    """
    embeddings, landmark_ids = check_embeddings(embeddings, landmark_ids)
    check_settings(1, min_samples)
    generator = np.random.default_rng(0) if generator is None else generator
    k = max(min_samples - 1, 1)
    considered = np.arange(len(landmark_ids)) if without is None else np.flatnonzero(~without)
    positions, ids = sample_landmarks(landmark_ids[considered], k + 1, generator)
    positions = considered[positions]
    rounds = min(-(-MOVES // len(positions)), ROUNDS)
    measured = [
        measure_moves(embeddings, positions, ids, k, generator, jobs) for _ in range(rounds)
    ]
    own, strange = measured[0].own, np.concatenate([one.strange for one in measured])
    eps, near, taken = best_threshold(own, strange)
    eps = round(max(eps, 0.001), 3)
    reason = (
        f"within {eps:.3f}, {near:.0%} of the images have {k} others of their landmark, and "
        f"{taken:.0%} would have in another landmark: no radius tells them apart better"
    )
    steps = np.unique(np.minimum(eps * STEPS, 2).round(4))
    rows = np.asarray(embeddings[positions])
    tried = sweep(rows, ids, steps, min_samples=min_samples, jobs=jobs)
    return Suggestion(eps, reason, tried)


def sample_landmarks(
    landmark_ids: np.ndarray, smallest: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and landmark ids of landmarks of at least `smallest` images, one after the other.

    Raises:
        ValueError: if there are fewer than two such landmarks.
    """
    _, inverse, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    order = generator.permutation(np.flatnonzero(counts >= smallest))
    if len(order) < 2:
        raise ValueError(
            f"expected at least two landmarks of {smallest} images or more, found {len(order)}: "
            "give a smaller min_samples, or eps"
        )
    sizes = np.minimum(counts[order], SAMPLE_LARGEST)
    chosen = order[: max(2, np.searchsorted(np.cumsum(sizes), SAMPLE_IMAGES))]
    place = np.full(len(counts), -1)
    place[chosen] = np.arange(len(chosen))
    positions = np.flatnonzero(place[inverse] >= 0)
    positions = positions[np.argsort(place[inverse[positions]], kind="stable")]
    sizes = counts[chosen]
    rank = np.arange(len(positions)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    positions = positions[rank < SAMPLE_LARGEST]
    return positions, landmark_ids[positions]


@dataclass(frozen=True)
class Moves:
    """Distances to the k-th nearest image of a landmark.

    Attributes:
        own: (P,) from each image, in its own landmark.
        strange: (P,) from an image of another landmark that was moved to it.
        moved: (P,) which image that was, as an index into the P.
    """

    own: np.ndarray
    strange: np.ndarray
    moved: np.ndarray


def measure_moves(
    embeddings: np.ndarray,
    positions: np.ndarray,
    ids: np.ndarray,
    k: int,
    generator: np.random.Generator,
    jobs: int,
) -> Moves:
    """Move a random image of another landmark beside every image, and measure both.

    Args:
        embeddings: (N, D) unit rows.
        positions: (P,) rows to look at, those of a landmark together.
        ids: (P,) their landmarks, two or more.
        k: neighbours, fewer than any of the landmarks has images.
        generator: draws the images that are moved.
        jobs: joblib's `n_jobs`.
    """
    _, first, inverse, counts = np.unique(
        ids, return_index=True, return_inverse=True, return_counts=True
    )
    others = len(ids) - counts[inverse]
    moved = (first[inverse] + counts[inverse] + generator.integers(others)) % len(ids)
    both, twice = np.concatenate([positions, positions[moved]]), np.concatenate([ids, ids])
    distances = np.empty(2 * len(ids), dtype=np.float32)
    for at, found in over_groups(
        partial(_move_task, k=k), embeddings, twice, positions=both, jobs=jobs
    ):
        distances[at] = found
    return Moves(distances[: len(ids)], distances[len(ids) :], moved)


def _move_task(rows: Rows, sizes: np.ndarray, k: int) -> np.ndarray:
    """Each landmark's rows are followed by as many that were moved to it."""
    found = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        home, moved = rows[end - size : end - size // 2], rows[end - size // 2 : end]
        found.append(kth_nearest(home, home, k, is_same=True))
        found.append(kth_nearest(moved, home[1:], k))  # as many others as those at home have
    return np.concatenate(found)


def best_threshold(
    own: np.ndarray, strange: np.ndarray, cost: float = 1.0
) -> tuple[float, float, float]:
    """The threshold with the largest s - cost · m: s of `own` and m of `strange` are within it.

    >>> best_threshold(np.array([0.25, 0.5, 0.75, 2.0]), np.array([1.0, 1.5, 1.5, 3.0]))
    (0.75, 0.75, 0.0)
    """
    thresholds = np.sort(own)
    s = np.arange(1, len(own) + 1) / len(own)
    m = np.searchsorted(np.sort(strange), thresholds, side="right") / len(strange)
    best = int(np.argmax(s - cost * m))
    return float(thresholds[best]), float(s[best]), float(m[best])

"""Bridged distance: query and image meet at the landmark that is near to both.

5th place of Google Landmark Retrieval 2021 (repository `5th-Place-Solution-to-Google-Landmark-
Retrieval-2021`). Each image is measured against the landmarks of its nearest training images; a
bridge over a landmark is as long as the longer of its two halves. Direct and bridged confidences
are cubed and added. There it was worth 0.085 to 0.09."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.reranking.tag_index import TagIndex
from lib.reranking.votes import NO_LANDMARK, labelled_references
from lib.retrieval import (
    BLOCK,
    ApproximateIndex,
    EmbeddingTable,
    Ranking,
    best_of,
    check_rows,
    nearest,
    score_pairs,
)

IMAGES_AT_ONCE = 16_384  # with 300 neighbours each: 0.3 GB


@dataclass(frozen=True, eq=False)
class LandmarkDistances:
    """The nearest landmarks of every image, nearest first.

    Attributes:
        landmarks: (N, V) int64, distinct in a row, -1 beyond the last.
        distances: (N, V) float64, infinite beyond the last.
    """

    landmarks: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.landmarks)


def landmark_distances(
    rows: EmbeddingTable,
    references: EmbeddingTable,
    reference_landmarks: Sequence[int] | np.ndarray,
    *,
    neighbours: int = 300,
    per_landmark: int = 2,
    keep: int = 5,
    penalties: np.ndarray | None = None,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> LandmarkDistances:
    """Measure every image's distance to the landmarks around it.

    The distance to a landmark is the mean cosine distance to the nearest `per_landmark` of its
    references among the image's `neighbours` nearest references (to one, where only one is there).

    Args:
        rows: (N, D) unit rows of queries or gallery.
        references: (R, D) unit rows; those without landmark are left out.
        reference_landmarks: (R,) integers, -1 where unknown.
        neighbours: references looked at.
        per_landmark: references averaged.
        keep: landmarks kept per image.
        penalties: (R,) added to the distance of each reference (`likeness_to_strangers`).
        index: of the references that have a landmark; approximate, and prints its recall.
        block: references in memory at a time.

    Raises:
        ValueError: if numbers of rows or widths differ, or a value is not finite.
    """
    none = [""] * len(reference_landmarks)
    labelled, positions, tags = labelled_references(references, reference_landmarks, none)
    if penalties is not None and len(penalties) != len(references):
        raise ValueError(
            f"expected one penalty per reference, found {len(penalties)} for {len(references)};"
            " compute them from the same references"
        )
    extra = np.zeros(len(references)) if penalties is None else np.asarray(penalties, np.float64)
    landmarks = np.full((len(rows), keep), NO_LANDMARK)
    distances = np.full((len(rows), keep), np.inf)
    if not len(positions):
        return LandmarkDistances(landmarks, distances)
    for start in range(0, len(rows), IMAGES_AT_ONCE):
        part = slice(start, min(start + IMAGES_AT_ONCE, len(rows)))
        names = ("images", "references")
        found = nearest(rows[part], labelled, neighbours, index=index, names=names, block=block)
        near = positions[found[1]]
        away = 1 - found[0].astype(np.float64) + extra[near]
        landmarks[part], distances[part] = _per_landmark(
            tags.landmarks[near], away, per_landmark, keep
        )
    return LandmarkDistances(landmarks, distances)


def _per_landmark(
    landmarks: np.ndarray, distances: np.ndarray, per_landmark: int, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `keep` nearest landmarks of (N, K) neighbours, by the mean of their nearest few."""
    order = np.lexsort((distances, landmarks), axis=-1)
    landmarks = np.take_along_axis(landmarks, order, 1)
    distances = np.take_along_axis(distances, order, 1)
    is_first = np.ones(landmarks.shape, dtype=bool)
    is_first[:, 1:] = landmarks[:, 1:] != landmarks[:, :-1]
    columns = np.arange(landmarks.shape[1])
    began = np.maximum.accumulate(np.where(is_first, columns, 0), axis=1)
    counts = columns - began < per_landmark
    starts = np.flatnonzero(is_first)
    total = np.add.reduceat((distances * counts).ravel(), starts)
    means = total / np.add.reduceat(counts.ravel().astype(np.int64), starts)
    # From runs to one row per image: the mean stands where its landmark begins.
    table = np.full(landmarks.shape, np.inf)
    table[is_first] = means
    best = np.lexsort((landmarks, table), axis=-1)[:, :keep]
    found = np.take_along_axis(table, best, 1)
    kept = np.where(np.isfinite(found), np.take_along_axis(landmarks, best, 1), NO_LANDMARK)
    short = ((0, 0), (0, keep - best.shape[1]))
    return (
        np.pad(kept, short, constant_values=NO_LANDMARK),
        np.pad(found, short, constant_values=np.inf),
    )


def likeness_to_strangers(
    references: EmbeddingTable, strangers: EmbeddingTable, *, top: int = 10, block: int = BLOCK
) -> np.ndarray:
    """How much each reference looks like what is no landmark: a penalty of its distance.

    The mean similarity to the `top` nearest of a set of images that show no landmark, as both the
    5th place of 2021 and the 1st of Recognition 2020 subtract it.

    Returns:
        (R,) float64; zeros where there are no strangers.
    """
    if not len(strangers):
        return np.zeros(len(references))
    names = ("references", "strangers")
    found = nearest(references, strangers, top, block=block, names=names)[0]
    return found.astype(np.float64).mean(axis=1)


def bridged_rerank(
    ranking: Ranking,
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    query_distances: LandmarkDistances,
    gallery_distances: LandmarkDistances,
    *,
    bonus: float = 0.5,
    power: int = 3,
) -> Ranking:
    """Rank by direct ** power + bridged ** power, confidences being 1 - distance.

    The bridged distance of q and i is the least over landmarks l of max(d(q, l), d(i, l)); without
    a common landmark, or where it is longer than 1, the bridged confidence is 0. Exact over the
    whole gallery: whoever has no bridge to the query keeps the order of `ranking`.

    Args:
        ranking: of plain search in the same rows.
        queries: (Q, D) unit rows; their cosine is the direct confidence.
        gallery: (N, D) unit rows.
        query_distances: of the queries.
        gallery_distances: of the gallery.
        bonus: taken off the distance of every image's nearest landmark.
        power: an odd number; larger lets the better of the two decide.

    Raises:
        ValueError: if numbers of rows differ, `power` is not odd or `bonus` not finite.
    """
    check_rows(
        ranking,
        queries=queries,
        query_distances=query_distances,
        gallery=gallery,
        gallery_distances=gallery_distances,
    )
    if power < 1 or power % 2 == 0:
        raise ValueError(f"expected an odd power from 1, found {power}; 3 was the winners'")
    if not np.isfinite(bonus):
        raise ValueError(f"expected a finite bonus, found {bonus}; 0.5 was the winners'")
    asked_at, shown_at = (
        np.concatenate([known.distances[:, :1] - bonus, known.distances[:, 1:]], axis=1)
        for known in (query_distances, gallery_distances)
    )
    index = TagIndex(gallery_distances.landmarks)
    scores, positions = np.empty(ranking.scores.shape), np.empty_like(ranking.positions)
    for row in range(len(ranking)):
        asked, images, shown = index.images_with_tags(query_distances.landmarks[row])
        halves = asked_at[row, asked], shown_at[images, shown]
        images, place = np.unique(images, return_inverse=True)
        bridge = np.full(len(images), np.inf)
        np.minimum.at(bridge, place, np.maximum(*halves))
        listed = np.setdiff1d(ranking.positions[row], images)
        candidates = np.concatenate([images, listed])
        query = np.asarray(queries[row : row + 1], dtype=np.float32)
        direct = score_pairs(query, gallery, candidates[None])[0].astype(np.float64)
        bridged = np.append(np.maximum(1 - bridge, 0), np.zeros(len(listed)))
        final = (direct**power + bridged**power).astype(np.float32)
        best = best_of(final[None], candidates[None], ranking.k)
        scores[row], positions[row] = best[0][0], best[1][0]
    return ranking.replace(scores, positions)

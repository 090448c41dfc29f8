"""Rerankers of other winners, all by the labelled training images nearest to query and gallery.

`soft_rerank`: 1st place of Google Landmark Retrieval 2021 (Kaggle discussion 277099).
`sort_and_insert`: 1st place of 2019 (S. Yokoo et al., CVPR Workshops 2020). `landmark_product`:
13th place of 2021 (discussion 275924). `bridged_rerank`: 5th place of 2021.
"""

import numpy as np

from lib.reranking.data import RetrievalData, cached
from lib.reranking.landmark_country import (
    NO_LANDMARK,
    gallery_votes,
    nearest_references,
    query_votes,
    reference_tags,
)
from lib.retrieval import NO_TAG, Ranking, TagScores, score_pairs

FRONT, MIDDLE = 4.0, 1.0  # added to scores of `sort_and_insert`, so that its parts keep their order
IMAGES_AT_ONCE = 16_384  # with 300 neighbours each: 0.3 GB


def soft_rerank(data: RetrievalData, *, bonus: float = 1.0, penalty: float = 0.1) -> Ranking:
    """Rank by cos(q, i) + bonus · cos(i, t) where landmarks agree, cos(q, i) - penalty · cos(i, t)
    where they differ, t being the gallery image's nearest training image.

    Where the landmark of either is not known, the similarity stays; a negative cos(i, t) counts 0.
    """
    voters = query_votes(data, top=1, normalise=False), gallery_votes(data, top=1)
    (query_landmarks, _), (image_landmarks, cos) = (
        _first(votes.voter_landmarks, votes.similarities) for votes in voters
    )
    is_known = [np.where(tags == NO_TAG, NO_TAG, 0) for tags in (query_landmarks, image_landmarks)]
    ones, cos = np.ones((len(query_landmarks), 1)), np.maximum(cos, 0)
    same = TagScores(query_landmarks[:, None], ones, image_landmarks, cos)
    any_landmark = TagScores(is_known[0][:, None], ones, is_known[1], cos)
    # Every image with a landmark gets the penalty; agreement takes it back.
    return data.rank(data.similarity + (bonus + penalty) * same + -penalty * any_landmark)


def sort_and_insert(data: RetrievalData, *, threshold: float = 0.6, top: int = 3) -> Ranking:
    """Bring images of the query's landmark to the front, then insert those not retrieved.

    The landmark of an image is the one of largest vote, and its score that vote divided by the
    `top` voters. An image that was not retrieved is inserted when score_q + score_i > `threshold`,
    by that sum. A query without a landmark keeps its ranking.

    Scores say the part: similarity + 4 in front, score_q + score_i + 1 where inserted, the
    similarity behind.
    """
    ranking, votes = data.plain, query_votes(data, top=top, normalise=False)
    (query_landmarks, query_scores), (image_landmarks, image_scores) = (
        _first(one.landmarks, one.landmark_scores / max(one.references.shape[1], 1))
        for one in (votes, gallery_votes(data, top=top))
    )
    index = TagIndex(image_landmarks)

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        landmark = query_landmarks[row]
        listed, similarity = ranking.positions[row], ranking.scores[row].astype(np.float64)
        is_same = (image_landmarks[listed] == landmark) & (landmark != NO_LANDMARK)
        images = np.setdiff1d(index.images_with_tags(landmark[None])[1], listed)
        sums = query_scores[row] + image_scores[images]
        images, sums = images[sums > threshold], sums[sums > threshold]
        best = np.argsort(-sums, kind="stable")
        order = np.concatenate([listed[is_same], images[best], listed[~is_same]])
        values = [similarity[is_same] + FRONT, sums[best] + MIDDLE, similarity[~is_same]]
        # Similarities of rows without unit norm may overlap the parts; their order decides.
        return np.minimum.accumulate(np.concatenate(values)), order

    return data.rank_each(score)


def landmark_product(data: RetrievalData, *, top: int = 5) -> Ranking:
    """Rank by the inner product of landmark scores, then by similarity where that is 0.

    Scores of the ranking are products, larger than 0; the appended images of plain search have
    their similarity minus 1. Ties are broken by position.
    """
    ranking, votes = data.plain, query_votes(data, top=top, normalise=False)
    image_votes = gallery_votes(data, top=top)
    index = TagIndex(image_votes.landmarks)

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        places, images, columns = index.images_with_tags(votes.landmarks[row])
        parts = votes.landmark_scores[row, places] * image_votes.landmark_scores[images, columns]
        images, place = np.unique(images, return_inverse=True)
        products = np.bincount(place, parts, minlength=len(images)).astype(np.float32)
        images, products = images[products > 0], products[products > 0]
        is_new = ~np.isin(ranking.positions[row], images)
        appended = np.minimum(ranking.scores[row][is_new] - 1, 0)
        order = np.concatenate([images, ranking.positions[row][is_new]])
        return np.concatenate([products, appended]), order

    return data.rank_each(score)


def bridged_rerank(data: RetrievalData, *, bonus: float = 0.5, per_landmark: int = 2) -> Ranking:
    """Rank by direct³ + bridged³, confidences being 1 - distance.

    The bridged distance of q and i is the least over landmarks l of max(d(q, l), d(i, l)), see
    `landmark_distances`; without a common landmark, or where it is longer than 1, the confidence is
    0. `bonus` is taken off the distance of every image's nearest landmark.
    """
    if not np.isfinite(bonus):
        raise ValueError(f"expected a finite bonus, found {bonus}; 0.5 was the winners'")
    ranking = data.plain
    of_queries, of_images = landmark_distances(data, per_landmark=per_landmark)
    query_distances, image_distances = (
        np.concatenate([distances[:, :1] - bonus, distances[:, 1:]], axis=1)
        for _, distances in (of_queries, of_images)
    )
    index = TagIndex(of_images[0])

    def score(row: int) -> tuple[np.ndarray, np.ndarray]:
        places, images, columns = index.images_with_tags(of_queries[0][row])
        halves = query_distances[row, places], image_distances[images, columns]
        candidates = np.union1d(images, ranking.positions[row])
        bridge = np.full(len(candidates), np.inf)
        np.minimum.at(bridge, np.searchsorted(candidates, images), np.maximum(*halves))
        query = np.asarray(data.queries[row : row + 1], dtype=np.float32)
        direct = score_pairs(query, data.gallery, candidates[None])[0].astype(np.float64)
        bridged = np.maximum(1 - bridge, 0)
        return (direct**3 + bridged**3).astype(np.float32), candidates

    return data.rank_each(score)


@cached
def landmark_distances(
    data: RetrievalData, *, per_landmark: int = 2, neighbours: int = 300, keep: int = 5
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Distances of queries, and of gallery images, to the `keep` landmarks nearest to them.

    The distance to a landmark is the mean cosine distance to the nearest `per_landmark` of its
    references among the image's `neighbours` nearest references. Each pair are (N, `keep`) distinct
    landmarks, nearest first, and their distances; -1 at infinity beyond.
    """
    tags, found = reference_tags(data), []
    for rows in (data.queries, data.gallery):
        landmarks = np.full((len(rows), keep), NO_LANDMARK)
        distances = np.full((len(rows), keep), np.inf)
        for start in range(0, len(rows), IMAGES_AT_ONCE):
            part = slice(start, start + IMAGES_AT_ONCE)
            sim, near = nearest_references(data, rows[part], neighbours, "images")
            kept, means = _distance_per_landmark(
                tags.landmarks[near], 1 - sim.astype(np.float64), per_landmark, keep
            )
            landmarks[part, : kept.shape[1]], distances[part, : kept.shape[1]] = kept, means
        found.append((landmarks, distances))
    return found


def _distance_per_landmark(
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
    # From runs to one row per image: the mean stands where its landmark begins.
    table = np.full(landmarks.shape, np.inf)
    table[is_first] = total / np.add.reduceat(counts.ravel().astype(np.int64), starts)
    best = np.lexsort((landmarks, table), axis=-1)[:, :keep]
    found = np.take_along_axis(table, best, 1)
    landmarks = np.take_along_axis(landmarks, best, 1)
    return np.where(np.isfinite(found), landmarks, NO_LANDMARK), found


def _first(landmarks: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of (N, V) landmarks and float64 scores, both (N,); -1 and 0 where V is 0."""
    if not landmarks.shape[1]:
        return np.full(len(landmarks), NO_LANDMARK), np.zeros(len(landmarks))
    return landmarks[:, 0], scores[:, 0].astype(np.float64)


class TagIndex:
    """The tags of a gallery, sorted once, to find the images that carry one of a query's tags.

    >>> index = TagIndex(np.array([[5, 7], [7, -1], [9, 5]]))
    >>> [found.tolist() for found in index.images_with_tags(np.array([7, -1, 5]))]
    [[0, 0, 2, 2], [0, 1, 0, 2], [1, 0, 0, 1]]
    """

    def __init__(self, tags: np.ndarray) -> None:
        """Sort (N, W) or (N,) integer tags; -1 is none."""
        self._width = max(1, tags.shape[1] if tags.ndim == 2 else 1)
        entries = np.argsort(tags.ravel(), kind="stable")
        self._entries = entries[tags.ravel()[entries] != NO_TAG]
        self._tags = tags.ravel()[self._entries]

    def images_with_tags(self, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find images that carry one of (V,) tags: place in `wanted`, image, place in its tags."""
        left = np.searchsorted(self._tags, wanted, side="left")
        counts = np.searchsorted(self._tags, wanted, side="right") - left
        places = np.repeat(np.arange(len(wanted)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        images, columns = np.divmod(self._entries[left[places] + within], self._width)
        return places, images, columns

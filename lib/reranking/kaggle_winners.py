"""Soft addition and penalty: the reranking of the 2021 winner.

Ch. Henkel, 1st place of Google Landmark Retrieval 2021 (Kaggle discussion 277099, repository
`kaggle-landmark-2021-1st-place`). Query and gallery image both take the landmark of their nearest
training image; where the two agree the image moves up by how sure it is of its landmark, where
they differ it moves down a little. GLR21's reranking weighs by the query's sureness instead.

Sort and insert: the discriminative reranking of the 2019 winners.

S. Yokoo et al., "Two-stage Discriminative Re-ranking for Large-scale Landmark Retrieval" (CVPR
Workshops 2020), 1st place of Google Landmark Retrieval 2019, [17] of GLR20 and [2] of the slides of
GLR21, which soften it. Every image is given the landmark of the best-voted of its three nearest
training images; images of the query's landmark are sorted to the front, and those that the search
did not retrieve are inserted after them.

Sparse landmark scores: the reranking of the 13th place of 2021.

Kaggle discussion 275924. Query and gallery image are described by what their nearest five training
images say: a sparse vector of summed similarities per landmark. Images are ranked by the product
of the two vectors, and the list of plain search is appended. There it was worth 0.07."""

import numpy as np

from lib.reranking.tag_index import TagIndex
from lib.reranking.votes import NO_LANDMARK, Votes
from lib.retrieval import (
    BLOCK,
    NO_TAG,
    EmbeddingTable,
    Ranking,
    SumOfTerms,
    TagScores,
    check_rows,
    nearest,
)


def soft_rerank(
    ranking: Ranking,
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    query_votes: Votes,
    gallery_votes: Votes,
    *,
    bonus: float = 1.0,
    penalty: float = 0.1,
    block: int = BLOCK,
) -> Ranking:
    """Rank by cos(q, i) + bonus · cos(i, t) where landmarks agree, cos(q, i) - penalty · cos(i, t)
    where they differ, t being the gallery image's nearest training image.

    The whole gallery takes part, exactly, as in `lib.reranking.landmark_country`. Where the
    landmark of either is not known, the similarity stays as it is; a negative cos(i, t) counts 0.

    Args:
        ranking: of plain search; gives ids and the number of images per query.
        queries: (Q, D) unit rows.
        gallery: (N, D) unit rows.
        query_votes: of the queries (`lib.reranking.votes.vote`); its nearest voter counts.
        gallery_votes: of the gallery; its nearest voter counts.
        bonus: weight where landmarks agree.
        penalty: weight where they differ.
        block: gallery rows in memory at a time.

    Raises:
        ValueError: if numbers of rows differ, or a weight is not finite.
    """
    check_rows(
        ranking,
        queries=queries,
        query_votes=query_votes,
        gallery=gallery,
        gallery_votes=gallery_votes,
    )
    if not np.isfinite([bonus, penalty]).all():
        raise ValueError(
            f"expected a finite bonus and penalty, found {bonus} and {penalty}; give numbers"
        )
    asked, _ = query_votes.nearest()
    shown, similarities = gallery_votes.nearest()
    sureness = np.maximum(similarities, 0)
    agreement = _addition(asked, shown, bonus + penalty, sureness)
    # Everything with a landmark gives the penalty; agreement takes it back.
    is_known = [np.where(tags == NO_TAG, NO_TAG, 0) for tags in (asked, shown)]
    difference = _addition(*is_known, -penalty, sureness)
    found = nearest(
        queries,
        gallery,
        max(ranking.k, 1),
        block=block,
        term=SumOfTerms([agreement, difference]),
    )
    return ranking.replace(*found)


def _addition(asked: np.ndarray, shown: np.ndarray, weight: float, sure: np.ndarray) -> TagScores:
    return TagScores(asked[:, None], np.full((len(asked), 1), weight), shown, sure)


FRONT, MIDDLE = 4.0, 1.0  # added to scores, so that the parts keep their order


def sort_and_insert(
    ranking: Ranking, query_votes: Votes, gallery_votes: Votes, *, threshold: float = 0.6
) -> Ranking:
    """Bring images of the query's landmark to the front, then insert those not retrieved.

    The landmark of an image is the one of largest vote, and its score that vote divided by the
    number of voters (three in the paper). Sorted images keep their order among themselves, so do
    the rest; an image that was not retrieved is inserted when score_q + score_i > `threshold`,
    by that sum. A query without a landmark keeps its ranking.

    Args:
        ranking: of plain search.
        query_votes: of the queries, raw sums (`vote(..., top=3, normalise=False)`).
        gallery_votes: of the gallery, likewise.
        threshold: of the sum of both scores.

    Returns:
        As many images per query as before. Scores say the part: similarity + 4 in front,
        score_q + score_i + 1 where inserted, the similarity behind.

    Raises:
        ValueError: if votes are not of the ranking's queries and gallery.
    """
    check_rows(ranking, query_votes=query_votes, gallery_votes=gallery_votes)
    asked, query_scores = predictions(query_votes)
    shown, image_scores = predictions(gallery_votes)
    index = TagIndex(shown)
    scores, positions = np.empty(ranking.scores.shape), np.empty_like(ranking.positions)
    for row in range(len(ranking)):
        listed, similarity = ranking.positions[row], ranking.scores[row].astype(np.float64)
        is_same = (shown[listed] == asked[row]) & (asked[row] != NO_LANDMARK)
        images = np.setdiff1d(index.images_with_tags(asked[row : row + 1])[1], listed)
        sums = query_scores[row] + image_scores[images]
        images, sums = images[sums > threshold], sums[sums > threshold]
        best = np.argsort(-sums, kind="stable")
        order = np.concatenate([listed[is_same], images[best], listed[~is_same]])
        values = [similarity[is_same] + FRONT, sums[best] + MIDDLE, similarity[~is_same]]
        positions[row] = order[: ranking.k]
        # Similarities of rows without unit norm may overlap the parts; their order decides.
        scores[row] = np.minimum.accumulate(np.concatenate(values))[: ranking.k]
    return ranking.replace(scores, positions)


def predictions(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """(N,) landmark of largest vote, -1 without any, and its share of what was possible."""
    voters = votes.landmarks.shape[1]
    if not voters:
        return np.full(len(votes), NO_LANDMARK), np.zeros(len(votes))
    return votes.landmarks[:, 0], votes.landmark_scores[:, 0] / voters


def landmark_product(ranking: Ranking, query_votes: Votes, gallery_votes: Votes) -> Ranking:
    """Rank by the inner product of landmark scores, then by similarity where that is 0.

    Ties are broken by position. The query by gallery table of products is never held: only
    images that share a landmark with the query are looked at.

    Args:
        ranking: of plain search, appended.
        query_votes: of the queries, raw sums (`vote(..., top=5, normalise=False)`).
        gallery_votes: of the gallery, likewise.

    Returns:
        As many images per query as before. Scores are products, larger than 0; appended images
        have their similarity minus 1.

    Raises:
        ValueError: if votes are not of the ranking's queries and gallery.
    """
    check_rows(ranking, query_votes=query_votes, gallery_votes=gallery_votes)
    index = TagIndex(gallery_votes.landmarks)
    scores, positions = np.empty(ranking.scores.shape), np.empty_like(ranking.positions)
    for row in range(len(ranking)):
        asked, images, shown = index.images_with_tags(query_votes.landmarks[row])
        parts = query_votes.landmark_scores[row, asked]
        parts = parts * gallery_votes.landmark_scores[images, shown]
        images, place = np.unique(images, return_inverse=True)
        products = np.bincount(place, parts, minlength=len(images)).astype(np.float32)
        images, products = images[products > 0], products[products > 0]
        best = np.argsort(-products, kind="stable")
        is_new = ~np.isin(ranking.positions[row], images)
        order = np.concatenate([images[best], ranking.positions[row][is_new]])
        appended = np.minimum(ranking.scores[row][is_new] - 1, 0)
        positions[row] = order[: ranking.k]
        scores[row] = np.concatenate([products[best], appended])[: ranking.k]
    return ranking.replace(scores, positions)

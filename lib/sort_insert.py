"""Sort and insert: the discriminative reranking of the 2019 winners.

S. Yokoo et al., "Two-stage Discriminative Re-ranking for Large-scale Landmark Retrieval" (CVPR
Workshops 2020), 1st place of Google Landmark Retrieval 2019, [17] of [20] and [2] of the slides of
[21], which soften it. Every image is given the landmark of the best-voted of its three nearest
training images; images of the query's landmark are sorted to the front, and those that the search
did not retrieve are inserted after them.
"""

import numpy as np

from lib.ranking import Ranking, check_rows
from lib.shared_tags import TagIndex
from lib.votes import NO_LANDMARK, Votes

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
        images = np.setdiff1d(index.carriers(asked[row : row + 1])[1], listed)
        sums = query_scores[row] + image_scores[images]
        images, sums = images[sums > threshold], sums[sums > threshold]
        best = np.argsort(-sums, kind="stable")
        order = np.concatenate([listed[is_same], images[best], listed[~is_same]])
        values = [similarity[is_same] + FRONT, sums[best] + MIDDLE, similarity[~is_same]]
        positions[row] = order[: ranking.k]
        # Similarities of rows without unit norm may overlap the parts; their order decides.
        scores[row] = np.minimum.accumulate(np.concatenate(values))[: ranking.k]
    return ranking.again(scores, positions)


def predictions(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    """(N,) landmark of largest vote, -1 without any, and its share of what was possible."""
    voters = votes.landmarks.shape[1]
    if not voters:
        return np.full(len(votes), NO_LANDMARK), np.zeros(len(votes))
    return votes.landmarks[:, 0], votes.landmark_scores[:, 0] / voters

"""Sparse landmark scores: the reranking of the 13th place of 2021.

Kaggle discussion 275924. Query and gallery image are described by what their nearest five training
images say: a sparse vector of summed similarities per landmark. Images are ranked by the product
of the two vectors, and the list of plain search is appended. There it was worth 0.07.
"""

import numpy as np

from lib.ranking import Ranking, check_rows
from lib.shared_tags import TagIndex
from lib.votes import Votes


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
        asked, images, shown = index.carriers(query_votes.landmarks[row])
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
    return ranking.again(scores, positions)

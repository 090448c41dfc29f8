"""Soft addition and penalty: the reranking of the 2021 winner.

Ch. Henkel, 1st place of Google Landmark Retrieval 2021 (Kaggle discussion 277099, repository
`kaggle-landmark-2021-1st-place`). Query and gallery image both take the landmark of their nearest
training image; where the two agree the image moves up by how sure it is of its landmark, where
they differ it moves down a little. [21]'s reranking weighs by the query's sureness instead.
"""

import numpy as np

from lib.bonus import NO_TAG, SumOfBonuses, TagBonus
from lib.neighbours import nearest
from lib.ranking import Ranking, check_rows
from lib.rows import BLOCK, Table
from lib.votes import Votes


def soft_rerank(
    ranking: Ranking,
    queries: Table,
    gallery: Table,
    query_votes: Votes,
    gallery_votes: Votes,
    *,
    bonus: float = 1.0,
    penalty: float = 0.1,
    block: int = BLOCK,
) -> Ranking:
    """Rank by cos(q, i) + bonus · cos(i, t) where landmarks agree, cos(q, i) - penalty · cos(i, t)
    where they differ, t being the gallery image's nearest training image.

    The whole gallery takes part, exactly, as in `lib.rerank`. Where the landmark of either is not
    known, the similarity stays as it is; a negative cos(i, t) counts 0.

    Args:
        ranking: of plain search; gives ids and the number of images per query.
        queries: (Q, D) unit rows.
        gallery: (N, D) unit rows.
        query_votes: of the queries (`lib.votes.vote`); its nearest voter counts.
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
        bonus=SumOfBonuses([agreement, difference]),
    )
    return ranking.again(*found)


def _addition(asked: np.ndarray, shown: np.ndarray, weight: float, sure: np.ndarray) -> TagBonus:
    return TagBonus(asked[:, None], np.full((len(asked), 1), weight), shown, sure)

"""Search of a gallery: every query's nearest images by inner product, exact unless told otherwise.

The one place where embeddings become a `Ranking`. The arithmetic is in `lib.retrieval.knn`, an
approximate way in `lib.retrieval.ann_index`; this module gives positions their ids."""

from collections.abc import Sequence

import numpy as np

from lib.retrieval.ann_index import ApproximateIndex, find_nearest
from lib.retrieval.blocks import BLOCK
from lib.retrieval.ranking import Ranking, check_count


def search(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    query_ids: Sequence[str] | np.ndarray | None = None,
    gallery_ids: Sequence[str] | np.ndarray | None = None,
    index: ApproximateIndex | None = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank the `k` gallery images of largest inner product, best first, ties by position.

    With rows of unit norm the score is the cosine similarity. The gallery may be a float16 memory
    map larger than memory; it is searched block by block, on every GPU there is. The
    result does not depend on `block` or device. A gallery smaller than `k` is ranked whole.

    Args:
        queries: (Q, D) embeddings; Q may be 0.
        gallery: (N, D) embeddings; N may be 0.
        k: images per query.
        query_ids: (Q,) ids, for a ranking that can be scored and submitted.
        gallery_ids: (N,) ids.
        index: of the gallery; given, the search is approximate and prints its recall.
        block: gallery rows in memory at a time.

    Raises:
        ValueError: if widths differ, a value is not finite, an array is not two-dimensional, or
            the number of ids is not the number of rows.

    >>> search(np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0]]), k=5).positions.tolist()
    [[1, 0], [0, 1]]
    """
    check_count(query_ids, len(queries), "query")
    check_count(gallery_ids, len(gallery), "gallery")
    scores, positions = find_nearest(queries, gallery, k, index, block=block)
    return Ranking(scores, positions, query_ids, gallery_ids)

"""From a checkpoint to a ranking, its score and a submission file.

Embedding of images, exact and approximate search, the official metric with bootstrap intervals.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lib.data import read_solution
from lib.retrieval.ann_index import ApproximateIndex, find_nearest, index_if_large
from lib.retrieval.blocks import BLOCK, EmbeddingSubset, EmbeddingTable, check_table, open_rows
from lib.retrieval.bootstrap import bootstrap_interval, paired_difference
from lib.retrieval.exact_search import search
from lib.retrieval.knn import best_of, nearest, score_pairs
from lib.retrieval.metrics import evaluate, mean_average_precision
from lib.retrieval.ranking import Ranking, check_count, check_rows, read_ranking, write_ranking
from lib.retrieval.score_terms import NO_TAG, SumOfTerms, TagScores
from lib.retrieval.submission import check_submission, write_submission

if TYPE_CHECKING:
    from lib.retrieval.embedding import (
        Embeddings,
        embed,
        extract_embeddings,
        largest_size,
        read_embeddings,
    )
    from lib.retrieval.scoring import (
        by_continent,
        compare,
        difference,
        embed_evaluation,
        mean_of,
        rank,
        score,
    )

__all__ = [
    "BLOCK",
    "NO_TAG",
    "ApproximateIndex",
    "EmbeddingSubset",
    "EmbeddingTable",
    "Embeddings",
    "Ranking",
    "SumOfTerms",
    "TagScores",
    "best_of",
    "bootstrap_interval",
    "by_continent",
    "check_count",
    "check_rows",
    "check_submission",
    "check_table",
    "compare",
    "difference",
    "embed",
    "embed_evaluation",
    "evaluate",
    "extract_embeddings",
    "find_nearest",
    "index_if_large",
    "largest_size",
    "mean_average_precision",
    "mean_of",
    "nearest",
    "open_rows",
    "paired_difference",
    "rank",
    "read_embeddings",
    "read_ranking",
    "read_solution",
    "score",
    "score_pairs",
    "search",
    "write_ranking",
    "write_submission",
]

_NEED_TORCH = {
    "Embeddings": "lib.retrieval.embedding",
    "extract_embeddings": "lib.retrieval.embedding",
    "embed": "lib.retrieval.embedding",
    "largest_size": "lib.retrieval.embedding",
    "read_embeddings": "lib.retrieval.embedding",
    "by_continent": "lib.retrieval.scoring",
    "compare": "lib.retrieval.scoring",
    "difference": "lib.retrieval.scoring",
    "embed_evaluation": "lib.retrieval.scoring",
    "mean_of": "lib.retrieval.scoring",
    "rank": "lib.retrieval.scoring",
    "score": "lib.retrieval.scoring",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: torch takes seconds to import."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_NEED_TORCH[name]), name)

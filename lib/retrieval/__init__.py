"""From a checkpoint to a ranking, its score and a submission file.

Embedding of images, exact and approximate search, the official metrics with bootstrap intervals.
"""

from lib.data import read_solution
from lib.environment import lazily
from lib.retrieval.ann_index import ApproximateIndex, index_if_large
from lib.retrieval.embedding_table import (
    BLOCK,
    Embeddings,
    EmbeddingSubset,
    EmbeddingTable,
    check_table,
    open_rows,
    read_embeddings,
)
from lib.retrieval.knn import NO_TAG, TagScores, best_of, nearest, score_pairs, search
from lib.retrieval.metrics import evaluate, mean_average_precision
from lib.retrieval.ranking import Ranking, check_count, check_ids
from lib.retrieval.scoring import (
    bootstrap_interval,
    compare_steps,
    map_by_continent,
    map_by_seen,
    map_of_usage,
    most_changed,
    paired_gain,
    score_queries,
    unpaired_gain,
)
from lib.retrieval.submission import write_submission

# With torch, which takes seconds to import.
__getattr__ = lazily(
    __name__,
    {
        "embedding": (
            *("embed", "embed_and_search", "embed_evaluation"),
            *("extract_embeddings", "largest_size", "sizes"),
        ),
        "export": ("Descriptor", "export_descriptor", "read_descriptor"),
        "query": ("Gallery", "Retriever", "inference_of", "load_run", "read_photo"),
    },
)

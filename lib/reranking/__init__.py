"""Better rankings from the same embeddings: every reranker is `rerank(data, **settings)`.

Landmark-country reranking of GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), and
other methods, all of them compared in one table.
"""

from lib.reranking.comparison import (
    ENSEMBLES,
    RERANKERS,
    Reranker,
    TunedReranker,
    best_of_tuned,
    best_second_model,
    choose_weights,
    compare,
    describe_settings,
)
from lib.reranking.data import RetrievalData, read_retrieval_data, read_second_model
from lib.reranking.ensemble import concatenate
from lib.reranking.landmark_country import (
    NO_COUNTRY,
    explain,
    landmark_country_rerank,
    query_votes,
    tag_gallery,
)
from lib.reranking.local_features import (
    FRAME,
    LOCAL_FEATURES,
    LocalSettings,
    PairVerifier,
    open_verifier,
)

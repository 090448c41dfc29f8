"""Better rankings from the same embeddings.

GLR21 = Zhang et al., 2nd place of Google Landmark Retrieval 2021: votes of labelled images for
landmark and
country. Beside it k-reciprocal encoding, query expansion and the rerankers of other winners,
compared in one table."""

from lib.reranking.comparison import RERANKERS, compare
from lib.reranking.data import RetrievalData, read_material, read_second
from lib.reranking.ensemble import concatenate
from lib.reranking.landmark_country import (
    apply_votes,
    choose,
    explain,
    grid,
    landmark_country_rerank,
)
from lib.reranking.votes import NO_COUNTRY, Tags, Votes, vote

__all__ = [
    "NO_COUNTRY",
    "RERANKERS",
    "RetrievalData",
    "Tags",
    "Votes",
    "apply_votes",
    "choose",
    "compare",
    "concatenate",
    "explain",
    "grid",
    "landmark_country_rerank",
    "read_material",
    "read_second",
    "vote",
]

"""From embeddings and noisy labels to a cleaned training list.

GLR20 = Mei et al., 3rd place of Google Landmark Retrieval 2020, §2.1: DBSCAN on every landmark and
a relaxed
second pass for its noise. Beyond the paper: suggested radii, an estimate of label noise, and scores
against the truth where it is known.
"""

from lib.cleaning.dbscan import dbscan_labels
from lib.cleaning.eps import k_distances, knee, sample_distances, suggest
from lib.cleaning.evaluate import (
    is_planted,
    read_truth,
    score_cleaning,
    score_descriptors,
    score_radii,
    true_classes,
    write_true_clusters,
)
from lib.cleaning.label_noise import estimate_label_noise
from lib.cleaning.per_landmark import unit_rows
from lib.cleaning.result import CleaningResult, count_flow
from lib.cleaning.stage import CLUSTERS, clean_files, make_cluster_list
from lib.cleaning.two_pass import clean, cluster_landmarks

__all__ = [
    "CLUSTERS",
    "CleaningResult",
    "clean",
    "clean_files",
    "cluster_landmarks",
    "count_flow",
    "dbscan_labels",
    "estimate_label_noise",
    "is_planted",
    "k_distances",
    "knee",
    "make_cluster_list",
    "read_truth",
    "sample_distances",
    "score_cleaning",
    "score_descriptors",
    "score_radii",
    "suggest",
    "true_classes",
    "unit_rows",
    "write_true_clusters",
]

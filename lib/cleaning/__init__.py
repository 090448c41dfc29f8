"""From embeddings and noisy labels to a cleaned training list.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), §2.1: DBSCAN on every landmark and a
relaxed second pass over its noise; beyond the paper, suggested radii and suspected mislabels.

In all functions `embeddings` are (N, D) unit rows, float16 or float32, in memory or a memory map;
`landmark_ids` are (N,) integers in any order; `jobs` is joblib's `n_jobs`, and
`joblib.parallel_config(backend=...)` chooses where tasks run.
"""

from lib.cleaning.dbscan import cluster_landmarks, dbscan_labels
from lib.cleaning.eps import k_distances, knee, sample_distances
from lib.cleaning.evaluate import (
    is_planted,
    perfect_cluster_list,
    read_truth,
    score_cleaning,
    score_descriptors,
    score_radii,
    true_classes,
)
from lib.cleaning.label_noise import choose_descriptor, estimate_label_noise
from lib.cleaning.per_landmark import unit_rows
from lib.cleaning.stage import CLUSTERS, clean_files, make_cluster_list
from lib.cleaning.two_pass import CleaningResult, clean, count_flow

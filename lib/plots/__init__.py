"""Pictures for the notebooks: contact sheets, charts and interactive explorers.

Draws what other packages computed.
"""

from lib.plots.charts import by_group, class_sizes, forest, heat, history, shares, steps
from lib.plots.cleaning import (
    distances,
    flow,
    k_distance_curve,
    margins,
    radii_against_truth,
    sizes_before_after,
    sweep,
)
from lib.plots.explorers import CleaningExplorer, RerankingExplorer, explore, widget
from lib.plots.reranking import continents, explained
from lib.plots.sheets import (
    NEUTRAL,
    RESCUED,
    RIGHT,
    WRONG,
    ImageRow,
    augmented_rows,
    country_rows,
    landmark_rows,
    mistake_rows,
    noise_rows,
    pixels,
    sheet,
    split_landmarks,
    split_rows,
    status_rows,
    strips,
)

__all__ = [
    "NEUTRAL",
    "RESCUED",
    "RIGHT",
    "WRONG",
    "CleaningExplorer",
    "ImageRow",
    "RerankingExplorer",
    "augmented_rows",
    "by_group",
    "class_sizes",
    "continents",
    "country_rows",
    "distances",
    "explained",
    "explore",
    "flow",
    "forest",
    "heat",
    "history",
    "k_distance_curve",
    "landmark_rows",
    "margins",
    "mistake_rows",
    "noise_rows",
    "pixels",
    "radii_against_truth",
    "shares",
    "sheet",
    "sizes_before_after",
    "split_landmarks",
    "split_rows",
    "status_rows",
    "steps",
    "strips",
    "sweep",
    "widget",
]

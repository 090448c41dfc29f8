"""Where cleaning and the truth disagree: false alarms and misses as rows of `lib.viz`.

No `truth.csv` lists natural noise, so a false alarm is a picture to look at, not yet a mistake.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.images import ImageSource
from lib.sheets import KEPT, pixels
from lib.viz import RIGHT, WRONG, Row


def mistake_rows(
    source: ImageSource,
    images: pd.DataFrame,
    mistaken: np.ndarray,
    *,
    names: Mapping[int, str],
    captions: np.ndarray | None = None,
    rows: int = 6,
    typical: int = 3,
    columns: int = 9,
) -> list[Row]:
    """A row per landmark: a few of its typical images (green), then those mistaken (red).

    Landmarks with the most mistakes come first, and in a row the mistakes in the images' order.

    Args:
        source: reads the images.
        images: the per-image table of cleaning with a path.
        mistaken: (N,) bool in its order.
        names: landmark → what to call it; its number where there is none.
        captions: (N,) words below mistaken images.
        rows: landmarks at most.
        typical: kept and not mistaken images shown first, those nearest to their class's centre.
        columns: most images in a row.
    """
    counts = images.loc[mistaken, "landmark_id"].value_counts(sort=False).sort_index()
    counts = counts.sort_values(ascending=False, kind="stable").head(rows)
    found = []
    for landmark, count in counts.items():
        is_own = (images["landmark_id"] == landmark).to_numpy()
        right = images[is_own & ~mistaken & (images["status"] == KEPT).to_numpy()]
        right = right.nsmallest(typical, "distance")
        at = np.flatnonzero(is_own & mistaken)[: columns - len(right)]
        words = [] if captions is None else [""] * len(right) + [str(captions[i]) for i in at]
        paths = [*right["path"], *images["path"].to_numpy()[at]]
        title = f"{names.get(landmark) or f'landmark {landmark}'}\n{count} of {is_own.sum()} images"
        colours = [RIGHT] * len(right) + [WRONG] * len(at)
        found.append(Row(title, pixels(source, paths), colours, words))
    return found

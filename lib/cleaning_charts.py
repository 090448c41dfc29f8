"""Charts of cleaning: distances, what radii would do, where images went, sizes before and after.

Each function takes finished numbers and returns a figure that no pyplot window owns. Colours and
their meaning are those of `lib.viz`.
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.viz import CLUSTERS, NEUTRAL, RESCUED, RIGHT, WRONG, axes_of


def distances(
    within: np.ndarray, between: np.ndarray, *, marks: Mapping[str, float] | None = None
) -> Figure:
    """Densities of cosine distances inside landmarks and across them, with named thresholds."""
    figure, (axis,) = axes_of(6.4, 3.0)
    every = np.concatenate([within, between, [0.0, 1.0]])
    bins = np.linspace(every.min(), every.max(), 80)
    for values, colour, label in (
        (within, RIGHT, "same landmark label"),
        (between, NEUTRAL, "different landmarks"),
    ):
        is_density = len(values) > 0  # that of nothing is 0 / 0
        axis.hist(values, bins, density=is_density, color=colour, alpha=0.55, label=label)
    for (name, value), colour in zip((marks or {}).items(), cycle(CLUSTERS), strict=False):
        axis.axvline(value, color=colour, linewidth=2, label=f"{name} = {value:.2f}")
    axis.set(xlabel="cosine distance of two images", ylabel="density")
    axis.legend(frameon=False)
    return figure


def sweep(table: pd.DataFrame, panels: Mapping[str, str], *, chosen: float) -> Figure:
    """Columns of an eps sweep over eps, one panel each, with the chosen value marked.

    Args:
        table: one row per `eps`; empty, without the columns, where eps was given by hand.
        panels: column → title.
        chosen: the eps that was taken.
    """
    figure, axes = axes_of(2.9 * len(panels), 2.6, columns=len(panels))
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        if not table.empty:
            axis.plot(table["eps"], table[column], color=CLUSTERS[0], marker="o", markersize=3)
        axis.axvline(chosen, color=RESCUED, linewidth=2)
        axis.set(xlabel="eps")
        axis.set_title(title, loc="left")
    return figure


def flow(counts: Mapping[str, int]) -> Figure:
    """Where every image went in cleaning: one bar cut into named parts."""
    figure, (axis,) = axes_of(6.4, 1.5)
    colours = {"kept": RIGHT, "split": CLUSTERS[0], "rescued": RESCUED, "dropped": WRONG}
    left, total = 0, max(sum(counts.values()), 1)
    for name, count in counts.items():
        axis.barh(0, count, left=left, color=colours.get(name, NEUTRAL), label=name)
        if count / total > 0.04:
            text = f"{name}\n{count:,} ({count / total:.0%})"
            axis.text(left + count / 2, 0, text, ha="center", va="center", color="white", size=8)
        left += count
    axis.set(yticks=[], xlabel="images", xlim=(0, total))
    axis.grid(visible=False)
    if any(count / total <= 0.04 for count in counts.values()):
        axis.legend(frameon=False, ncols=len(counts), loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def sizes_before_after(before: pd.Series, after: pd.Series) -> Figure:
    """Histograms of class sizes before and after cleaning, on logarithmic bins."""
    figure, (axis,) = axes_of(6.4, 3.0)
    top = max(before.max(), after.max())
    bins = np.unique(np.geomspace(1, top + 1, 24).round())
    for sizes, colour, name in ((before, NEUTRAL, "before"), (after, CLUSTERS[0], "after")):
        label = f"{name}: {len(sizes):,} classes, median {sizes.median():.0f} images"
        axis.hist(sizes, bins, color=colour, alpha=0.6, label=label)
    axis.set(xscale="log", xlabel="images in the class", ylabel="classes")
    axis.legend(frameon=False)
    return figure

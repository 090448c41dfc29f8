"""Charts of cleaning: distances, what radii would do, suspects, sizes before and after.

Each function takes finished numbers and returns a figure that no pyplot window owns. Colours and
their meaning are those of `lib.viz`. Where images went is `lib.flow_chart`'s picture.
"""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.viz import CLUSTERS, INK, NEUTRAL, RESCUED, RIGHT, WRONG, axes_of, logarithmic


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


def k_distance_curve(distances: np.ndarray, *, k: int, marks: Mapping[str, float]) -> Figure:
    """Distances to the k-th neighbour in ascending order, with named radii across them.

    Args:
        distances: (N,) from `lib.k_distances`; infinite ones are left out, and counted below.
        k: which neighbour.
        marks: name → radius.
    """
    figure, (axis,) = axes_of(6.4, 3.2)
    curve = np.sort(distances[np.isfinite(distances)])
    share = np.linspace(0, 1, max(len(curve), 1))[: len(curve)]
    axis.plot(share, curve, color=INK, linewidth=2)
    for (name, value), colour in zip(marks.items(), cycle((RESCUED, *CLUSTERS)), strict=False):
        below = np.mean(curve <= value) if len(curve) else 0
        label = f"{name} = {value:.2f}: {below:.0%} are core images"
        axis.axhline(value, color=colour, linewidth=2, label=label)
    alone = len(distances) - len(curve)
    left_out = f"; {alone:,} images have fewer" if alone else ""
    axis.set(xlabel=f"share of images{left_out}", ylabel=f"distance to neighbour {k}")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.legend(frameon=False, loc="upper left")
    return figure


def margins(margins: np.ndarray, moved: np.ndarray, *, wrong: float, threshold: float) -> Figure:
    """How much better another landmark explains images, and images moved on purpose.

    Args:
        margins: (N,) of the images; those that are not known are left out.
        moved: (M,) of images moved to random landmarks, drawn as high as their estimated share.
        wrong: that share.
        threshold: from which on an image is a suspect.
    """
    figure, (axis,) = axes_of(6.4, 3.2)
    known = margins[np.isfinite(margins)]
    bins = np.linspace(*np.quantile(np.concatenate([known, moved, [-1.0, 1.0]]), [0, 1]), 80)
    weight = np.full(len(moved), wrong * len(known) / max(len(moved), 1))
    axis.hist(known, bins, color=NEUTRAL, alpha=0.7, label="the images")
    label = f"wrong ones by estimate ({wrong:.0%})"
    axis.hist(moved, bins, weights=weight, color=WRONG, histtype="step", linewidth=2, label=label)
    if np.isfinite(threshold):
        count = int((known > threshold).sum())
        axis.axvline(threshold, color=INK, linewidth=2, label=f"suspects right of here: {count:,}")
    axis.set(xlabel="support by the best other landmark minus support by its own", ylabel="images")
    axis.legend(frameon=False)
    return figure


def radii_against_truth(table: pd.DataFrame, panels: Mapping[str, str], *, chosen: float) -> Figure:
    """Scores against the truth over eps, one line each, and the eps that was chosen without it.

    Args:
        table: from `lib.cleaning_score.score_radii`.
        panels: column → what it is called.
        chosen: the eps that was taken.
    """
    figure, (axis,) = axes_of(8.2, 3.2)
    for (column, name), colour in zip(panels.items(), cycle(CLUSTERS), strict=False):
        axis.plot(table["eps"], table[column], color=colour, marker="o", markersize=3, label=name)
    best = table.loc[table[next(iter(panels))].idxmax()]
    label = f"best {next(iter(panels.values()))}: eps = {best['eps']:.2f}"
    axis.axvline(best["eps"], color=CLUSTERS[0], linewidth=1, linestyle=":", label=label)
    axis.axvline(chosen, color=RESCUED, linewidth=2, label=f"suggested: eps = {chosen:.2f}")
    axis.set(xlabel="eps")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sizes_before_after(before: pd.Series, after: pd.Series) -> Figure:
    """Histograms of class sizes before and after cleaning, on logarithmic bins."""
    figure, (axis,) = axes_of(6.4, 3.0)
    top = max(before.max(), after.max())
    bins = np.unique(np.geomspace(1, top + 1, 24).round())
    for sizes, colour, name in ((before, NEUTRAL, "before"), (after, CLUSTERS[0], "after")):
        label = f"{name}: {len(sizes):,} classes, median {sizes.median():.0f} images"
        axis.hist(sizes, bins, color=colour, alpha=0.6, label=label)
    logarithmic(axis.xaxis)
    axis.set(xlabel="images in the class", ylabel="classes")
    axis.legend(frameon=False)
    return figure

"""Charts of cleaning: distances, the choice of eps, label noise, and where every image went."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from lib.plots.sheets import (
    CLUSTERS,
    DROPPED,
    INK,
    KEPT,
    NEUTRAL,
    RESCUED,
    SPLIT,
    WRONG,
    axes_of,
    logarithmic,
    shorten,
)

# Lines of named radii: one colour for eps everywhere, dashes for what is no eps of the first pass.
MARKS = {"eps": {"color": INK}, "relaxed eps": {"color": INK, "dashes": (4, 2)}}
OTHER_MARK = {"color": NEUTRAL, "dashes": (2, 2)}


def distances(within: np.ndarray, between: np.ndarray, *, marks: Mapping[str, float]) -> Figure:
    """Densities of cosine distances inside landmarks and across them, with named radii."""
    figure, (axis,) = axes_of(6.4, 3.0)
    every = np.concatenate([within, between, [0.0, 1.0]])
    bins = np.linspace(every.min(), every.max(), 80)
    kinds = {"pairs of one label": (within, CLUSTERS[0]), "pairs of two": (between, NEUTRAL)}
    for label, (values, colour) in kinds.items():
        is_density = len(values) > 0  # that of nothing is 0 / 0
        axis.hist(values, bins, density=is_density, color=colour, alpha=0.55, label=label)
    for name, value in marks.items():
        style = MARKS.get(name, OTHER_MARK)
        axis.axvline(value, linewidth=2, label=f"{name} = {value:.2f}", **style)
    axis.set(xlabel="cosine distance of two images", ylabel="density of pairs")
    axis.set_title("How far apart two images are, and the radius of each pass", loc="left")
    axis.legend(frameon=False)
    return figure


def sweep(table: pd.DataFrame, panels: Mapping[str, str], *, chosen: float) -> Figure:
    """Columns of an eps sweep over eps, one panel each (column → title), and the eps chosen.

    The table is empty, without the columns, where eps was given by hand.
    """
    figure, axes = axes_of(2.9 * len(panels), 2.8, columns=len(panels))
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        if not table.empty:
            axis.plot(table["eps"], table[column], color=CLUSTERS[0], marker="o", markersize=3)
        axis.axvline(chosen, color=INK, linewidth=2, label=f"chosen: eps = {chosen:.2f}")
        axis.set(xlabel="eps (cosine distance)")
        axis.set_title(title, loc="left")
        if column == "agreement":  # or a dip of 0.01 would look like an event
            axis.set_ylim(min(axis.get_ylim()[0], 0.9), 1.005)
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", frameon=False)
    return figure


def k_distance_curve(distances: np.ndarray, *, k: int, marks: Mapping[str, float]) -> Figure:
    """Distances to the k-th neighbour in ascending order, with named radii across them.

    Infinite distances, of images with fewer neighbours, are left out and counted.
    """
    figure, (axis,) = axes_of(6.4, 3.2)
    curve = np.sort(distances[np.isfinite(distances)])
    share = np.linspace(0, 1, max(len(curve), 1))[: len(curve)]
    axis.plot(share, curve, color=CLUSTERS[0], linewidth=2)
    for name, value in marks.items():
        below = np.mean(curve <= value) if len(curve) else 0
        label = f"{name} = {value:.2f}: {below:.0%} are core images"
        axis.axhline(value, linewidth=2, label=label, **MARKS.get(name, OTHER_MARK))
    alone = len(distances) - len(curve)
    left_out = f"; {alone:,} images have fewer neighbours" if alone else ""
    axis.set(xlabel=f"share of images{left_out}", ylabel=f"cosine distance to neighbour {k}")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_title(f"How far every image's neighbour {k} is, the nearest images first", loc="left")
    axis.legend(frameon=False, loc="upper left")
    return figure


def margins(
    margins: np.ndarray,
    moved: np.ndarray,
    *,
    wrong: float,
    threshold: float,
    examples: Sequence[tuple[str, np.ndarray]],
) -> Figure:
    """Histogram of how much better another landmark explains images (N,), unknown ones NaN.

    Beside them (M,) margins of images `moved` to random landmarks, drawn as high as their estimated
    share `wrong`; above the `threshold` an image is a suspected mislabel. `examples` are a typical
    image of the left and one of the right side: label and pixels (H, W, 3) uint8.
    """
    figure, (left, axis, right) = axes_of(8.6, 3.2, columns=3)
    axis.get_gridspec().set_width_ratios([1, 4, 1])
    known = margins[np.isfinite(margins)]
    bins = np.linspace(*np.quantile(np.concatenate([known, moved, [-1.0, 1.0]]), [0, 1]), 80)
    weight = np.full(len(moved), wrong * len(known) / max(len(moved), 1))
    axis.hist(known, bins, color=NEUTRAL, alpha=0.7, label="the images")
    label = f"images moved to a wrong landmark,\nas many as estimated ({wrong:.0%})"
    axis.hist(moved, bins, weights=weight, color=WRONG, histtype="step", linewidth=2, label=label)
    if np.isfinite(threshold):
        count = int((known > threshold).sum())
        label = f"suspected mislabels right of here: {count:,}"
        axis.axvline(threshold, color=INK, linewidth=2, label=label)
    axis.set(xlabel="← like its own landmark · like another landmark →", ylabel="images")
    axis.set_title("How much better another landmark explains an image", loc="left")
    axis.legend(frameon=False, fontsize=8)
    sides = ((left, "like its own label"), (right, "like another label"))
    for (place, side), (name, image) in zip(sides, examples, strict=True):
        place.imshow(image)
        place.set(xticks=[], yticks=[])
        place.grid(visible=False)
        place.spines[:].set_visible(False)
        place.set_title(side, fontsize=8)
        place.set_xlabel(shorten(f"labelled {name}", 20, lines=3), fontsize=7.5)
    return figure


def radii_against_truth(table: pd.DataFrame, panels: Mapping[str, str], *, chosen: float) -> Figure:
    """Columns `panels` of `lib.cleaning.score_radii` over eps, and the eps that was chosen."""
    figure, (axis,) = axes_of(8.2, 3.2)
    for (column, name), colour in zip(panels.items(), CLUSTERS, strict=False):
        axis.plot(table["eps"], table[column], color=colour, marker="o", markersize=3, label=name)
    best = table.loc[table[next(iter(panels))].idxmax()]
    label = f"best {next(iter(panels.values()))}: eps = {best['eps']:.2f}"
    axis.axvline(best["eps"], color=INK, linewidth=1.5, linestyle=":", label=label)
    axis.axvline(chosen, color=INK, linewidth=2, label=f"chosen: eps = {chosen:.2f}")
    axis.set(xlabel="eps (cosine distance)", ylabel="score against the truth, 0 to 1")
    axis.set_title("What the truth says of every eps", loc="left")
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
    axis.set_title("How large the classes are, before and after cleaning", loc="left")
    axis.legend(frameon=False)
    return figure


# What each pass made of images: colour and words.
STATUSES = {
    "kept": (KEPT, "kept: largest cluster"),
    "split": (SPLIT, "split: further clusters"),
    "noise": (NEUTRAL, "noise: in no cluster"),
    "small": (NEUTRAL, "in too small a cluster"),
    "suspected mislabel": (DROPPED, "suspected mislabels:\nlike another landmark"),
    "rescued": (RESCUED, "rescued"),
    "dropped": (DROPPED, "dropped"),
}
GAP, WIDTH = 0.04, 0.035  # between bars and of a bar, in shares of the picture
LINE = 0.055  # height of a line of words


def flow(ways: pd.DataFrame) -> Figure:
    """Where every image went: bars of all images and of both passes, joined by bands.

    `ways` is first, last and images from `lib.cleaning.count_flow`.
    """
    figure, (axis,) = axes_of(8.6, 3.8)
    axis.set_axis_off()
    axis.set(xlim=(-0.02, 1.22), ylim=(1.02 + 4 * GAP, -0.1))
    total = int(ways["images"].sum())
    first = ways.groupby("first", sort=False)["images"].sum()
    last = ways.groupby("last", sort=False)["images"].sum()
    last = last.reindex([name for name in STATUSES if name in last.index])
    columns = {0.0: {"raw": total}, 0.42: first.to_dict(), 0.9: last.to_dict()}
    tops = [_bars(axis, x, counts, max(total, 1)) for x, counts in columns.items()]
    for title, x in zip(("all images", "first pass", "second pass"), columns, strict=True):
        axis.text(x, -0.05, title, weight="bold", size=9)
    raw = ways.assign(last=ways["first"], first="raw")
    _bands(axis, raw, 0.0, 0.42, tops[0], tops[1])
    _bands(axis, ways, 0.42, 0.9, tops[1], tops[2])
    return figure


def _bars(axis: Axes, x: float, counts: dict[str, int], total: int) -> dict[str, float]:
    """Stack one column's bars with their words, and tell where each begins."""
    tops, y, free = {}, 0.0, 0.0
    for name, count in counts.items():
        tops[name], height = y, count / total
        colour, words = STATUSES.get(name, (INK, ""))
        axis.add_patch(Rectangle((x, y), WIDTH, height, color=colour, linewidth=0))
        words = f"{words}\n{count:,} ({count / total:.0%})".strip()
        tall = LINE * (1 + words.count("\n"))
        middle = max(y + height / 2, free + tall / 2)  # words of thin bars move down
        axis.text(x + WIDTH + 0.01, middle, words, va="center", size=7.5, color=INK)
        free = middle + tall / 2
        y += height + GAP
    return tops


def _bands(axis: Axes, ways: pd.DataFrame, start: float, end: float, *tops: dict) -> None:
    """Join two columns of bars by curved bands in the colour of where they end."""
    total, (left, right) = max(int(ways["images"].sum()), 1), map(dict, tops)
    way = np.linspace(0, 1, 40)
    rise = way**2 * (3 - 2 * way)
    x = start + WIDTH + way * (end - start - WIDTH)
    for row in ways.itertuples():
        height, colour = row.images / total, STATUSES[row.last][0]
        upper = left[row.first] + rise * (right[row.last] - left[row.first])
        axis.fill_between(x, upper, upper + height, color=colour, alpha=0.3, linewidth=0)
        left[row.first] += height
        right[row.last] += height

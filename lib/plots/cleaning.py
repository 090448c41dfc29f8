"""Charts of cleaning: distances, what radii would do, suspected mislabels, sizes before and after.

Each function takes finished numbers and returns a figure that no pyplot window owns. Colours and
their meaning are those of `lib.plots.sheets`. Where images went is `lib.plots.cleaning`'s picture.

Where every image went in cleaning, as bands that flow through both passes.

Left all images, in the middle what the first pass made of them, right what became of them. Bars and
bands are as thick as they have images, and keep the colours of `lib.plots.sheets`.

A landmark's embeddings on a plane: near images near each other, coloured by what became of them.

`place` computes (t-SNE, van der Maaten and Hinton 2008, on cosine distances, the same every time),
`draw_map` draws: a dot per image, and thumbnails of a few that lie far from each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from lib.plots.sheets import CLUSTERS, INK, NEUTRAL, RESCUED, RIGHT, WRONG, axes_of, logarithmic


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
        distances: (N,) from `lib.cleaning.k_distances`; infinite ones are only counted.
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
        threshold: margin above which an image is a suspected mislabel.
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
        label = f"suspected mislabels right of here: {count:,}"
        axis.axvline(threshold, color=INK, linewidth=2, label=label)
    axis.set(xlabel="support by the best other landmark minus support by its own", ylabel="images")
    axis.legend(frameon=False)
    return figure


def radii_against_truth(table: pd.DataFrame, panels: Mapping[str, str], *, chosen: float) -> Figure:
    """Scores against the truth over eps, one line each, and the eps that was chosen without it.

    Args:
        table: from `lib.cleaning.score_radii`.
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


COLOURS = {
    "kept": RIGHT,
    "split": CLUSTERS[0],
    "noise": NEUTRAL,
    "small": NEUTRAL,
    "suspected mislabel": CLUSTERS[1],
    "rescued": RESCUED,
    "dropped": WRONG,
}
WORDS = {
    "kept": "kept: largest cluster",
    "split": "split: further clusters",
    "noise": "noise",
    "small": "too small a cluster",
    "suspected mislabel": "suspected mislabels:\nanother landmark explains them",
    "rescued": "rescued",
    "dropped": "dropped",
}
GAP, WIDTH = 0.04, 0.035  # between bars and of a bar, in shares of the picture
LINE = 0.055  # height of a line of words


def flow(ways: pd.DataFrame) -> Figure:
    """Draw the ways of the images through both passes.

    Args:
        ways: `first`, `last` and `images` from `lib.cleaning.count_flow`.
    """
    figure, (axis,) = axes_of(8.6, 3.8)
    axis.set_axis_off()
    axis.set(xlim=(-0.02, 1.22), ylim=(1.02 + 4 * GAP, -0.1))
    total = max(int(ways["images"].sum()), 1)
    raw = {"raw": int(ways["images"].sum())}
    first = ways.groupby("first", sort=False)["images"].sum().to_dict()
    last = ways.groupby("last", sort=False)["images"].sum()
    last = last.reindex([name for name in COLOURS if name in last.index]).to_dict()
    columns = {0.0: raw, 0.42: first, 0.9: last}
    tops = {x: _bars(axis, x, counts, total) for x, counts in columns.items()}
    for title, x in zip(("all images", "first pass", "second pass"), columns, strict=True):
        axis.text(x, -0.05, title, weight="bold", size=9)
    _bands(axis, ways.assign(last=ways["first"], first="raw"), (0.0, 0.42), tops, total)
    _bands(axis, ways, (0.42, 0.9), tops, total)
    return figure


def _bars(axis: Axes, x: float, counts: dict[str, int], total: int) -> dict[str, float]:
    """Stack one column's bars with their words, and tell where each begins."""
    tops, y, free = {}, 0.0, 0.0
    for name, count in counts.items():
        tops[name], height = y, count / total
        colour = COLOURS.get(name, INK)
        axis.add_patch(Rectangle((x, y), WIDTH, height, color=colour, linewidth=0))
        words = f"{WORDS.get(name, '')}\n{count:,} ({count / total:.0%})".strip()
        tall = LINE * (1 + words.count("\n"))
        middle = max(y + height / 2, free + tall / 2)  # words of thin bars move down
        axis.text(x + WIDTH + 0.01, middle, words, va="center", size=7.5, color=INK)
        free = middle + tall / 2
        y += height + GAP
    return tops


def _bands(
    axis: Axes,
    ways: pd.DataFrame,
    between: tuple[float, float],
    tops: dict[float, dict[str, float]],
    total: int,
) -> None:
    """Join two columns of bars by curved bands in the colour of where they end."""
    left, right = (dict(tops[x]) for x in between)
    way = np.linspace(0, 1, 40)
    rise = way**2 * (3 - 2 * way)
    x = between[0] + WIDTH + way * (between[1] - between[0] - WIDTH)
    for row in ways.itertuples():
        height = row.images / total
        upper = left[row.first] + rise * (right[row.last] - left[row.first])
        axis.fill_between(x, upper, upper + height, color=COLOURS[row.last], alpha=0.3, linewidth=0)
        left[row.first] += height
        right[row.last] += height


FEWEST = 8  # images; fewer are placed by their principal components
MOST = 400  # images of a landmark that are placed, evenly spread


@dataclass(frozen=True)
class MapPanel:
    """One landmark on a map.

    Attributes:
        title: above it.
        points: (n, 2) from `place`.
        colours: (n,) of the dots.
        thumbnails: which image → its pixels (H, W, 3) uint8.
    """

    title: str
    points: np.ndarray
    colours: Sequence[str]
    thumbnails: Mapping[int, np.ndarray]


def place(rows: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """(n, D) unit rows to (n, 2) places within the unit square.

    >>> place(np.eye(3)[[0, 0, 1]]).round(2).tolist()
    [[0.0, 0.5], [0.0, 0.5], [1.0, 0.5]]
    """
    flat = _principal(np.asarray(rows, dtype=np.float64))
    if len(rows) >= FEWEST:
        start = 1e-4 * flat / max(np.std(flat[:, 0]), 1e-12)
        perplexity = min(30.0, (len(rows) - 1) / 3)
        model = TSNE(2, perplexity=perplexity, metric="cosine", init=start, random_state=seed)
        with threadpool_limits(1):  # the maps are small: threads would only wait for each other
            flat = model.fit_transform(rows)
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    span[span < 1e-3 * span.max(initial=1e-12)] = 0
    return np.where(span > 0, (flat - low) / np.where(span > 0, span, 1), 0.5)


def _principal(rows: np.ndarray) -> np.ndarray:
    """(n, 2) first principal components, of signs that do not depend on the machine."""
    around = rows - rows.mean(axis=0)
    left, size, right = np.linalg.svd(around, full_matrices=False)
    flat = left[:, :2] * size[:2]
    largest = np.argmax(np.abs(right[:2]), axis=1)
    flat *= np.sign(right[np.arange(len(largest)), largest])
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def far_apart(points: np.ndarray, count: int) -> list[int]:
    """Which points to show: one after the other the one farthest from those before.

    >>> far_apart(np.array([[0, 0], [0.1, 0], [1, 1], [1, 0]]), 3)
    [2, 0, 3]
    """
    if not len(points):
        return []
    chosen = [int(np.argmax(((points - points.mean(axis=0)) ** 2).sum(axis=1)))]
    gap = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        if gap.max() <= 0:  # the rest are copies
            break
        chosen.append(int(np.argmax(gap)))
    return chosen


def draw_map(panels: Sequence[MapPanel], *, title: str = "", legend: Mapping[str, str]) -> Figure:
    """One panel per landmark, side by side.

    Args:
        panels: landmarks, or one landmark at several radii.
        title: one line above all.
        legend: colour → meaning.
    """
    side = 4.2 if len(panels) > 1 else 6.4
    figure, axes = axes_of(side * len(panels), side + 0.7, columns=len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        _panel(axis, panel)
    for colour, meaning in legend.items():
        axes[0].plot([], [], "o", color=colour, label=meaning)
    figure.legend(loc="outside lower center", ncols=len(legend), frameon=False)
    if title:
        figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)
    return figure


def _panel(axis: Axes, panel: MapPanel) -> None:
    axis.set(xlim=(-0.12, 1.12), ylim=(-0.12, 1.12), xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    axis.spines[:].set_color(NEUTRAL)
    axis.set_title(panel.title, loc="left")
    axis.scatter(*panel.points.T, c=list(panel.colours), s=26, linewidths=0.4, edgecolors="white")
    for at, pixels in panel.thumbnails.items():
        image = OffsetImage(pixels, zoom=38 / max(pixels.shape[:2]))
        frame = {"edgecolor": panel.colours[at], "linewidth": 2.5}
        axis.add_artist(AnnotationBbox(image, panel.points[at], pad=0.1, bboxprops=frame, zorder=3))

"""Where every image went in cleaning, as bands that flow through both passes.

Left all images, in the middle what the first pass made of them, right what became of them. Bars and
bands are as thick as they have images, and keep the colours of `lib.viz`.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.viz import CLUSTERS, INK, NEUTRAL, RESCUED, RIGHT, WRONG, axes_of

COLOURS = {
    "kept": RIGHT,
    "split": CLUSTERS[0],
    "noise": NEUTRAL,
    "small": NEUTRAL,
    "suspect": CLUSTERS[1],
    "rescued": RESCUED,
    "dropped": WRONG,
}
WORDS = {
    "kept": "kept: largest cluster",
    "split": "split: further clusters",
    "noise": "noise",
    "small": "too small a cluster",
    "suspect": "suspects: another\nlandmark explains them",
    "rescued": "rescued",
    "dropped": "dropped",
}
GAP, WIDTH = 0.04, 0.035  # between bars and of a bar, in shares of the picture
LINE = 0.055  # height of a line of words


def flow(ways: pd.DataFrame) -> Figure:
    """Draw the ways of the images through both passes.

    Args:
        ways: `first`, `last` and `images` from `lib.cleaning_result.count_flow`.
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

"""Charts of reranking: votes and scores of one query, points that match, continents.

GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), shows under each result its sum:
raw similarity + landmark votes + country votes (slides 6 to 8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lib.data import CONTINENTS, OTHER, Evaluation, ImageSource
from lib.plots.charts import UNKNOWN
from lib.plots.sheets import (
    CLUSTERS,
    INK,
    NEUTRAL,
    RIGHT,
    WRONG,
    TextFigure,
    axes_of,
    shorten,
)
from lib.reranking import FRAME, RetrievalData


@dataclass(frozen=True, eq=False)
class VoteBreakdown:
    """What is drawn of one query."""

    title: str  # one line or two
    query: np.ndarray  # (P, P, 3) uint8
    voters: tuple[str, ...]  # a line per reference that voted, nearest first
    images: list[np.ndarray]  # (P, P, 3) uint8 of the best results
    colours: list[str]  # frame of each, by whether it is right
    sums: pd.DataFrame  # raw, landmark, country, final and moved of each (`lib.reranking.explain`)


PARTS = dict(zip(("raw", "landmark", "country"), CLUSTERS, strict=False))
_WORDS = {"raw": "similarity", "landmark": "+ landmark votes", "country": "+ country votes"}
_LEFT, _CELL, _TALL, _TOP = 2.3, 1.12, 2.15, 0.42  # inches: voters, one image, a row, the title
_WIDE = 7  # images beside the query, from which title and legend share a line
_BAR, _BAR_AT = 0.09, 1.2  # height of the bars, and where they are in a row


def explained(
    breakdowns: Sequence[VoteBreakdown], *, title: str = "", columns: int | None = None
) -> Figure:
    """A row per query: its voters, the query, and its results with their sums.

    With `columns`, the results take several lines of at most as many.
    """
    longest = max((len(one.images) for one in breakdowns), default=0)
    columns = max(1, min(columns or longest, longest))
    tall = _TALL * max(1, -(-longest // columns))
    below = 0.0 if columns >= _WIDE else 0.25  # the legend, where there is no room beside the title
    width, height = _LEFT + _CELL * (columns + 1), _TOP + below + tall * max(len(breakdowns), 1)
    figure = TextFigure(figsize=(width, height), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    _write(axis, 0.06, 0.21, title, size=10.5, weight="bold", va="center")
    used = [part for part in PARTS if any(_is_used(one, part) for one in breakdowns)]
    legend = {"right": RIGHT, "another landmark": WRONG}
    legend |= {_WORDS[part]: PARTS[part] for part in used}
    legend |= {f"no {part} votes": "white" for part in PARTS if part not in used}
    handles = [Patch(color=colour, label=label) for label, colour in legend.items()]
    style = {"frameon": False, "fontsize": 8, "borderaxespad": 0.3, "handlelength": 1.0}
    place = {"loc": "upper right", "bbox_to_anchor": (1, 1 - below / height)}
    axis.legend(handles=handles, ncols=len(handles), **place, **style)
    largest = max([1e-9, *(one.sums["final"].max() for one in breakdowns if len(one.sums))])
    for number, one in enumerate(breakdowns):
        _draw_row(axis, one, _TOP + below + tall * number, largest, columns)
    return figure


def _is_used(one: VoteBreakdown, part: str) -> bool:
    """Whether a part of the sum is drawn; votes of weight 0 are not."""
    return part == "raw" or bool(one.sums[part].any())


def _draw_row(axis: Axes, one: VoteBreakdown, top: float, largest: float, columns: int) -> None:
    _write(axis, 0.06, top + 0.1, one.title, size=8, weight="bold", linespacing=1.3)
    _write(axis, 0.06, top + 0.5, "voters and their similarity:", size=7, color=NEUTRAL)
    for place, line in enumerate(one.voters):
        _write(axis, 0.06, top + 0.67 + 0.16 * place, line, size=7)
    _draw_image(axis, one.query, _LEFT, top, "white")
    _write(axis, _LEFT + 0.5, top + _BAR_AT, "query", size=7.5, ha="center")
    parts = [part for part in PARTS if _is_used(one, part)]
    for place, row in enumerate(one.sums.itertuples()):
        line, column = divmod(place, columns)
        left, above = _LEFT + _CELL * (column + 1), top + _TALL * line
        _draw_image(axis, one.images[place], left, above, one.colours[place])
        start = left + 0.02
        for number, part in enumerate(parts):
            value, colour = getattr(row, part), PARTS[part]
            length = 0.98 * max(value, 0) / largest
            axis.add_patch(Rectangle((start, above + _BAR_AT), length, _BAR, color=colour, lw=0))
            start += length
            text = f"{value:.2f}" if part == "raw" else f"+{value:.2f}"
            _write(axis, left + 0.02 + 0.35 * number, above + 1.36, text, size=7, color=colour)
        _write(axis, left + 0.02, above + 1.53, f"= {row.final:.2f}", size=7.5, weight="bold")
        _write(axis, left + 0.02, above + 1.70, row.moved.replace(" the ", "\nthe "), size=6.3)


def _draw_image(axis: Axes, image: np.ndarray, left: float, top: float, colour: str) -> None:
    left, top, side = left + 0.04, top + 0.12, 1.02
    axis.imshow(image, extent=(left, left + side, top + side, top), aspect="auto")
    frame = {"fill": False, "edgecolor": colour, "linewidth": 2.5}
    axis.add_patch(Rectangle((left, top), side, side, **frame))


def _write(axis: Axes, left: float, top: float, text: str, **style: object) -> None:
    axis.text(left, top, text, **{"va": "top", "color": INK, "linespacing": 1.0} | style)


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """A query, one of its results, and the points that verification found in both."""

    images: Sequence[np.ndarray]  # of the query and of the result, (H, W, 3) uint8 of any size
    points: Sequence[np.ndarray]  # (m, 2) x, y in the pixels of each
    is_right: bool  # whether both show the same landmark


def best_match(
    source: ImageSource, evaluation: Evaluation, data: RetrievalData, query: str, *, first: int = 10
) -> MatchedPair:
    """The one of a query's `first` results in plain search that has most inliers."""
    row = data.plain.row(query)
    listed = data.plain.positions[row, :first]
    best = listed[data.local.of_pairs(np.full(len(listed), row), listed).argmax()]
    found = evaluation.gallery.iloc[best]
    asked = evaluation.queries.set_index("id")["path"][query]
    images = [source.read(path) for path in (asked, found["path"])]
    scales = [max(image.shape[:2]) / FRAME for image in images]
    matched = data.local.matches(row, best)
    points = [xy * scale for xy, scale in zip(matched, scales, strict=True)]
    answers = (part.get(query, ()) for part in evaluation.solution.values())
    return MatchedPair(images, points, any(found["id"] in part for part in answers))


def matches(pairs: Sequence[MatchedPair], *, title: str = "") -> Figure:
    """The pairs side by side: query above, result below, lines between points that match."""
    figure, axes = axes_of(2.9 * max(len(pairs), 1), 4.6, columns=max(len(pairs), 1))
    for axis in axes:
        axis.set_axis_off()
    for axis, pair in zip(axes, pairs, strict=False):
        colour, top = RIGHT if pair.is_right else WRONG, 0.0
        ends = []
        for image, points in zip(pair.images, pair.points, strict=True):
            height, width = image.shape[:2]
            box = (0, 1, top + height / width, top)  # both one unit wide
            axis.imshow(image, extent=box)
            ends.append(points / width + (0, top))
            top += height / width + 0.04
        lines = LineCollection(np.stack(ends, axis=1), colors=CLUSTERS[0], linewidths=0.6)
        axis.add_collection(lines)
        for points in ends:
            style = {"color": "white", "edgecolors": CLUSTERS[0], "linewidths": 0.7, "zorder": 3}
            axis.scatter(*points.T, s=9, **style)
        axis.set(xlim=(-0.01, 1.01), ylim=(top, -0.01), aspect="equal")
        what = "same landmark" if pair.is_right else "another landmark"
        axis.set_title(f"{len(ends[0])} points, {what}", color=colour)
    figure.suptitle(title, x=0.01, ha="left", weight="bold", color=INK)
    return figure


def continents(table: pd.DataFrame, *, title: str, k: int = 100) -> Figure:
    """mAP@k of every continent under every reranker, and the span from worst to best.

    The table has the columns continent, queries, and one per reranker.
    """
    values = table.drop(columns="queries").set_index("continent")
    figure, (axis,) = axes_of(8.6, 1.0 + 0.3 * values.shape[1])
    places = np.arange(values.shape[1])
    known = values.drop(index=OTHER, errors="ignore")
    if len(known):
        span = {"color": NEUTRAL, "linewidth": 3, "alpha": 0.45}
        label = "from the worst to the best" if len(known) > 1 else None
        axis.hlines(places, known.min(), known.max(), label=label, **span)
    looks = dict(zip(CONTINENTS, zip(cycle(CLUSTERS), "osD^vPX", strict=False), strict=False))
    for name, queries in table[["continent", "queries"]].to_numpy():
        colour, marker = looks.get(name, ("none", "o"))
        label = f"{UNKNOWN if name == OTHER else name} ({queries})"
        edge = NEUTRAL if name == OTHER else colour
        style = {"edgecolors": edge, "facecolors": colour, "zorder": 3, "marker": marker}
        axis.scatter(values.loc[name], places, label=label, **style)
    axis.set_yticks(places, [shorten(str(name), 60) for name in values.columns])
    axis.set(xlabel=f"mAP@{k}{'' if len(known) > 1 else ' (a spread needs two continents)'}")
    axis.invert_yaxis()
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="(queries)")
    return figure

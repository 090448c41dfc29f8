"""Contact sheets, and what every picture shares: colours with one meaning, and a plain style.

Pictures draw and compute nothing. Frames keep one meaning everywhere: green right, red wrong or
dropped, orange rescued, blue, violet and teal for the clusters of one landmark, grey for what is
not judged. Charts are in `lib.charts` and `lib.cleaning_charts`.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

RIGHT, WRONG, RESCUED, NEUTRAL = "#2a9d4a", "#d1352b", "#f39c12", "#9aa0a6"
CLUSTERS = ("#1f77d0", "#8e44ad", "#16a085", "#c2185b", "#7f6000")
INK = "#30343b"


@dataclass(frozen=True)
class Row:
    """One line of a sheet: a title on its left, images (H, W, 3) uint8, frames and captions."""

    title: str
    images: Sequence[np.ndarray]
    colours: Sequence[str] = ()
    captions: Sequence[str] = ()


def axes_of(
    width: float, height: float, columns: int = 1, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` times `columns` plain axes, `width` by `height` inches, and the axes."""
    with matplotlib.rc_context(
        {"font.size": 9, "axes.edgecolor": NEUTRAL, "axes.titlesize": 10, "text.color": INK}
    ):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel().tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def sheet(
    rows: Sequence[Row], *, title: str = "", legend: Mapping[str, str] | None = None
) -> Figure:
    """A contact sheet: rows of images with coloured frames, titles on the left.

    Args:
        rows: lines from top to bottom, each as long as it is.
        title: one line above all.
        legend: frame colour → meaning.
    """
    columns = max((len(row.images) for row in rows), default=1)
    has_captions = any(row.captions for row in rows)
    inch, left = 1.0, 1.7
    tall = inch * (1.17 if has_captions else 1.03)
    top = 0.3 * bool(title) + 0.3 * bool(legend) + 0.05
    width, height = left + inch * columns, top + tall * max(len(rows), 1)
    figure = Figure(figsize=(width, height), facecolor="white")
    if title:
        figure.text(0.005, 1 - 0.08 / height, title, fontsize=11, va="top", weight="bold")
    if legend:
        figure.legend(
            handles=[Patch(color=colour, label=text) for colour, text in legend.items()],
            loc="upper left",
            bbox_to_anchor=(0.0, 1 - (top - 0.33) / height),
            ncols=len(legend),
            frameon=False,
            fontsize=8,
            handlelength=1.0,
        )
    for line, row in enumerate(rows):
        bottom = height - top - tall * (line + 1)
        figure.text(
            0.08 / width,
            (bottom + tall * 0.55) / height,
            "\n".join(map(_wrapped, row.title.splitlines())),
            fontsize=8,
            va="center",
        )
        for column, image in enumerate(row.images):
            place = (left + inch * column + 0.02, bottom + tall - inch + 0.02, 0.95, 0.95)
            axis = figure.add_axes(np.divide(place, (width, height, width, height)))
            _thumbnail(axis, image, _at(row.colours, column))
            if caption := _at(row.captions, column):
                axis.set_xlabel(caption, fontsize=6.5, labelpad=2)
    return figure


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 26)


def _at(values: Sequence[str], place: int) -> str:
    return values[place] if place < len(values) else ""


def _thumbnail(axis: Axes, image: np.ndarray, colour: str) -> None:
    axis.imshow(image, aspect="auto")
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set(color=colour or "white", linewidth=3 if colour else 0.5)

"""One query's reranking as a row of pictures: who voted, what came up, and why.

The strip of the slides of GLR21 (slides 6 to 8): under each result stands its sum, raw similarity +
landmark + country, and where the result came from. Here the numbers and pixels are gathered;
`lib.plots.reranking` draws them.

Charts of reranking: the explained strip of a query, and continents under every reranker.

Each function takes finished numbers and returns a figure that no pyplot window owns. Colours and
their meaning are those of `lib.plots.sheets`; the three parts of a final score keep theirs
everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lib.data import CONTINENTS, OTHER, Evaluation, ImageSource
from lib.plots.sheets import (
    CLUSTERS,
    INK,
    NEUTRAL,
    RIGHT,
    WRONG,
    TextFigure,
    axes_of,
    pixels,
    shorten,
)
from lib.reranking import NO_COUNTRY, RetrievalData, explain, query_votes

LONGEST_NAME = 26  # columns


@dataclass(frozen=True, eq=False)
class VoteBreakdown:
    """What is drawn of one query.

    Attributes:
        title: one line or two.
        query: (P, P, 3) uint8.
        voters: a line per reference that voted, nearest first.
        images: (P, P, 3) uint8 of the best results.
        colours: frame of each, by whether it is right.
        sums: raw, landmark, country, final and moved of each
        (`lib.reranking.explain`).
    """

    title: str
    query: np.ndarray
    voters: tuple[str, ...]
    images: list[np.ndarray]
    colours: list[str]
    sums: pd.DataFrame


def vote_breakdown(
    source: ImageSource,
    evaluation: Evaluation,
    data: RetrievalData,
    query: str,
    *,
    alpha: float,
    beta: float,
    voting: Mapping[str, Any] | None = None,
    names: Mapping[int, str] | pd.Series | None = None,
    columns: int = 8,
) -> VoteBreakdown:
    """Gather the strip of one query.

    Args:
        source: reads the images.
        evaluation: tells paths and right answers.
        data: of the evaluation, with ids.
        query: its id.
        alpha: weight of the landmark score.
        beta: weight of the country score.
        voting: top, normalise and reciprocal of `landmark_country_rerank`.
        names: landmark_id to a name; ids where it has none.
        columns: results shown.

    Raises:
        ValueError: if there is no such query.
    """
    voting = voting or {}
    sums = explain(data, query, alpha=alpha, beta=beta, **voting).head(columns)
    answers = {asked: ids for part in evaluation.solution.values() for asked, ids in part.items()}
    right = [image in answers[query] for image in sums["id"]]
    asked = evaluation.queries.set_index("id").loc[query]
    shown = evaluation.gallery.set_index("id")["path"]
    voters = query_votes(data, **voting).of(data.plain.row(query))
    found = pixels(source, [asked["path"], *shown[sums["id"]]])
    return VoteBreakdown(
        title=f"α = {alpha:g}, β = {beta:g}\n{sum(right)} of the first {len(right)} right",
        query=found[0],
        voters=_voters(voters, {} if names is None else names),
        images=found[1:],
        colours=[RIGHT if is_right else WRONG for is_right in right],
        sums=sums[["raw", "landmark", "country", "final", "moved"]],
    )


def _voters(table: pd.DataFrame, names: Mapping[int, str] | pd.Series) -> tuple[str, ...]:
    lines = []
    for voter in table.itertuples():
        name = str(names.get(voter.landmark) or f"landmark {voter.landmark}")
        where = "" if voter.country == NO_COUNTRY else f" · {voter.country}"
        lines.append(f"{voter.similarity:.2f}  {shorten(name, LONGEST_NAME)}{where}")
    return tuple(lines)


PARTS = {"raw": CLUSTERS[0], "landmark": CLUSTERS[1], "country": CLUSTERS[2]}
_FRAMES = {"right": RIGHT, "another landmark": WRONG}
_LEFT, _CELL, _TALL, _TOP = 2.3, 1.12, 2.15, 0.42  # inches: voters, one picture, a strip, the title
_BAR, _BAR_AT = 0.09, 1.2  # height of the bars, and where they are in a strip


def explained(strips: Sequence[VoteBreakdown], *, title: str = "") -> Figure:
    """Strips below each other: voters, the query, and its results with their sums.

    A bar under each result is cut into raw similarity, landmark and country; all bars of a figure
    have one scale.
    """
    columns = max((len(strip.images) for strip in strips), default=0) + 1
    width = _LEFT + _CELL * columns
    height = _TOP + _TALL * max(len(strips), 1)
    figure = TextFigure(figsize=(width, height), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    _write(axis, 0.06, 0.21, title, size=10.5, weight="bold", va="center")
    axis.legend(
        handles=[Patch(color=colour, label=part) for part, colour in (_FRAMES | PARTS).items()],
        loc="upper right",
        ncols=len(_FRAMES | PARTS),
        frameon=False,
        fontsize=8,
        borderaxespad=0.3,
        handlelength=1.0,
    )
    finals = [strip.sums["final"].max() for strip in strips if len(strip.sums)]
    longest = max([1e-9, *finals])
    for number, strip in enumerate(strips):
        _draw_strip(axis, strip, _TOP + _TALL * number, longest)
    return figure


def _draw_strip(axis: Axes, strip: VoteBreakdown, top: float, longest: float) -> None:
    _write(axis, 0.06, top + 0.1, strip.title, size=8, weight="bold", linespacing=1.3)
    _write(axis, 0.06, top + 0.5, "who voted, by similarity:", size=7, color=NEUTRAL)
    for place, line in enumerate(strip.voters):
        _write(axis, 0.06, top + 0.67 + 0.16 * place, line, size=7)
    _picture(axis, strip.query, _LEFT, top, INK)
    _write(axis, _LEFT + 0.5, top + _BAR_AT, "query", size=7.5, ha="center")
    for place, row in enumerate(strip.sums.itertuples()):
        left = _LEFT + _CELL * (place + 1)
        _picture(axis, strip.images[place], left, top, strip.colours[place])
        start = left + 0.02
        for part, colour in PARTS.items():
            length = 0.98 * max(getattr(row, part), 0) / longest
            bar = Rectangle((start, top + _BAR_AT), length, _BAR, color=colour, linewidth=0)
            axis.add_patch(bar)
            start += length
        for column, (part, colour) in enumerate(PARTS.items()):
            sign = "" if column == 0 else "+"
            text = f"{sign}{getattr(row, part):.2f}"
            _write(axis, left + 0.02 + 0.35 * column, top + 1.36, text, size=7, color=colour)
        _write(axis, left + 0.02, top + 1.53, f"= {row.final:.2f}", size=7.5, weight="bold")
        _write(axis, left + 0.02, top + 1.70, row.moved.replace(" the ", "\nthe "), size=6.3)


def _picture(axis: Axes, image: np.ndarray, left: float, top: float, colour: str) -> None:
    box = (left + 0.04, left + 1.06, top + 1.14, top + 0.12)
    axis.imshow(image, extent=box, aspect="auto", interpolation="antialiased", zorder=1)
    frame = Rectangle(
        (box[0], box[3]), 1.02, 1.02, fill=False, edgecolor=colour, linewidth=2.5, zorder=2
    )
    axis.add_patch(frame)


def _write(axis: Axes, left: float, top: float, text: str, **style: object) -> None:
    axis.text(left, top, text, **{"va": "top", "color": INK, "linespacing": 1.0} | style)


def continents(table: pd.DataFrame, *, title: str, k: int = 100) -> Figure:
    """mAP@k of every continent under every reranker, and the span from worst to best.

    Args:
        table: `Comparison.continents` of `lib.reranking.compare`: continent, queries, a column
        each. title: above the rows.
        k: images that count per query.
    """
    values = table.drop(columns="queries").set_index("continent")
    figure, (axis,) = axes_of(8.6, 1.0 + 0.3 * values.shape[1])
    places = np.arange(values.shape[1])
    known = values.drop(index=OTHER, errors="ignore")
    if len(known):
        axis.hlines(places, known.min(), known.max(), color=NEUTRAL, linewidth=3, alpha=0.45)
    colours = dict(zip(CONTINENTS, matplotlib.colormaps["Dark2"].colors, strict=True))
    for row in table.to_dict("records"):
        name = row["continent"]
        hollow = {"facecolors": "white"} if name == OTHER else {}
        axis.scatter(
            values.loc[name],
            places,
            color=NEUTRAL if name == OTHER else colours.get(name, INK),
            label=f"{name} ({row['queries']})",
            zorder=3,
            **hollow,
        )
    axis.set_yticks(places, [shorten(str(name), 60) for name in values.columns])
    axis.set(xlabel=f"mAP@{k}{'' if len(known) > 1 else ' (a spread needs two continents)'}")
    axis.invert_yaxis()
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), title="queries")
    return figure

"""Pictures for the notebooks; everything here draws and nothing computes.

Each function takes finished tables or image arrays and returns a figure that no pyplot window owns.
Frames keep one meaning everywhere: green right, red wrong or dropped, orange rescued, blue, violet
and teal for the clusters of one landmark, grey for what is not judged.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

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


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list]:
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


def class_sizes(lists: Mapping[str, pd.Series]) -> Figure:
    """Images per class over the class's rank, both logarithmic: one line per training list.

    Args:
        lists: name → the class of every image.
    """
    figure, (axis,) = _figure(6.4, 3.4)
    for (name, classes), colour in zip(lists.items(), cycle(CLUSTERS), strict=False):
        sizes = classes.value_counts().to_numpy()
        label = f"{name}: {len(classes):,} images, {len(sizes):,} classes"
        axis.plot(np.arange(1, len(sizes) + 1), sizes, color=colour, label=label, linewidth=2)
    axis.set(xscale="log", yscale="log", xlabel="class, largest first", ylabel="images")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        one.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_title("Few classes have many images, many have few", loc="left")
    axis.legend(frameon=False)
    return figure


def shares(table: pd.DataFrame, *, title: str) -> Figure:
    """Bars of shares: one group per row of `table`, one colour per column (values 0 to 1)."""
    figure, (axis,) = _figure(6.4, 0.9 + 0.32 * len(table))
    height = 0.8 / max(table.shape[1], 1)
    places = np.arange(len(table))
    for i, (name, colour) in enumerate(zip(table.columns, cycle(CLUSTERS), strict=False)):
        axis.barh(places + i * height, table[name], height * 0.9, color=colour, label=name)
    axis.set_yticks(places + height * (table.shape[1] - 1) / 2, table.index)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axis.grid(axis="y", visible=False)
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))  # hides no bar
    return figure


def history(stages: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss and learning rate of stages trained one after the other, a panel for each stage.

    Args:
        stages: name → `history.csv` of `lib.train`.
    """
    figure, axes = _figure(3.4 * len(stages), 2.8, columns=len(stages))
    for axis, (name, table) in zip(axes, stages.items(), strict=True):
        epochs = table["step"] / table["step"].max() * table["epoch"].max()
        axis.plot(epochs, table["loss"], color=CLUSTERS[0], linewidth=1.5)
        axis.set(xlabel="epoch", ylabel="loss")
        axis.set_title(name, loc="left")
        rate = axis.twinx()
        rate.plot(epochs, table["learning_rate"], color=RESCUED, linewidth=1.2, linestyle="--")
        rate.set_ylim(bottom=0)
        rate.set_ylabel("learning rate (dashed)", color=RESCUED)
        rate.spines[["top", "left"]].set_visible(False)
    return figure


def distances(
    within: np.ndarray, between: np.ndarray, *, marks: Mapping[str, float] | None = None
) -> Figure:
    """Densities of cosine distances inside landmarks and across them, with named thresholds."""
    figure, (axis,) = _figure(6.4, 3.0)
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
    figure, axes = _figure(2.9 * len(panels), 2.6, columns=len(panels))
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        if not table.empty:
            axis.plot(table["eps"], table[column], color=CLUSTERS[0], marker="o", markersize=3)
        axis.axvline(chosen, color=RESCUED, linewidth=2)
        axis.set(xlabel="eps")
        axis.set_title(title, loc="left")
    return figure


def flow(counts: Mapping[str, int]) -> Figure:
    """Where every image went in cleaning: one bar cut into named parts."""
    figure, (axis,) = _figure(6.4, 1.5)
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


def steps(table: pd.DataFrame, *, title: str) -> Figure:
    """mAP@100 step by step with intervals, and beside it each step's paired gain.

    Args:
        table: from `lib.scoring.compare`.
        title: of the left panel.
    """
    figure, (left, right) = _figure(9.2, 0.9 + 0.45 * len(table), columns=2)
    places = np.arange(len(table))
    error = [table["private"] - table["low"], table["high"] - table["private"]]
    left.barh(places, table["private"], xerr=error, color=CLUSTERS[0], height=0.6, capsize=3)
    for place, value, high in zip(places, table["private"], table["high"], strict=True):
        beside = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        left.annotate(f"{value:.3f}", (high, place), color=INK, size=8, weight="bold", **beside)
    left.set_yticks(places, table["step"])
    left.set_title(title, loc="left")
    right.axvline(0, color=INK, linewidth=1)
    gains = table[table["gain"].notna()]
    for place, row in gains.iterrows():
        colour = RIGHT if row["gain_low"] > 0 else WRONG if row["gain_high"] < 0 else NEUTRAL
        right.plot([row["gain_low"], row["gain_high"]], [place, place], color=colour, linewidth=3)
        right.plot(row["gain"], place, "o", color=colour)
    right.set(yticks=[], ylim=left.get_ylim())
    right.set_title("gain on the row above (95 %)", loc="left")
    for axis in (left, right):
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    return figure


def by_group(table: pd.DataFrame, group: str, *, title: str) -> Figure:
    """mAP@100 of every group, one colour per step.

    Args:
        table: from `lib.scoring.by_continent`: the column `group`, `queries`, and one per step.
        group: name of the grouping column.
        title: above the bars.
    """
    values = table.drop(columns=["queries"]).set_index(group)
    values.index = [
        f"{name} ({count})" for name, count in zip(table[group], table["queries"], strict=True)
    ]
    figure = shares(values, title=title)
    figure.axes[0].xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    figure.axes[0].set_xlabel("mAP@100")
    return figure


def sizes_before_after(before: pd.Series, after: pd.Series) -> Figure:
    """Histograms of class sizes before and after cleaning, on logarithmic bins."""
    figure, (axis,) = _figure(6.4, 3.0)
    top = max(before.max(), after.max())
    bins = np.unique(np.geomspace(1, top + 1, 24).round())
    for sizes, colour, name in ((before, NEUTRAL, "before"), (after, CLUSTERS[0], "after")):
        label = f"{name}: {len(sizes):,} classes, median {sizes.median():.0f} images"
        axis.hist(sizes, bins, color=colour, alpha=0.6, label=label)
    axis.set(xscale="log", xlabel="images in the class", ylabel="classes")
    axis.legend(frameon=False)
    return figure


def heat(table: pd.DataFrame, *, title: str, label: str) -> Figure:
    """A matrix with its numbers: rows and columns are two settings, cells one score."""
    figure, (axis,) = _figure(1.6 + 0.75 * table.shape[1], 1.2 + 0.4 * table.shape[0])
    axis.grid(visible=False)
    sns.heatmap(table, annot=True, fmt=".3f", cmap="viridis", ax=axis, cbar_kws={"label": label})
    best = np.unravel_index(np.argmax(table.fillna(-np.inf).to_numpy()), table.shape)
    axis.add_patch(Rectangle((best[1], best[0]), 1, 1, fill=False, color=WRONG, linewidth=2))
    axis.set_title(title, loc="left")
    return figure


def forest(table: pd.DataFrame, *, title: str) -> Figure:
    """Differences of ablation rows from their reference, ours with intervals beside the paper's.

    Args:
        table: columns name, against, difference, difference_low, difference_high, and paper (NaN
            where it has none).
        title: above all.
    """
    figure, (axis,) = _figure(8.0, 1.1 + 0.42 * len(table))
    axis.axvline(0, color=INK, linewidth=1)
    places = np.arange(len(table))
    for place, row in zip(places, table.to_dict("records"), strict=True):
        colour = (
            RIGHT if row["difference_low"] > 0 else WRONG if row["difference_high"] < 0 else NEUTRAL
        )
        axis.plot(
            [row["difference_low"], row["difference_high"]],
            [place, place],
            color=colour,
            linewidth=3,
        )
        axis.plot(row["difference"], place, "o", color=colour)
        axis.plot(row["paper"], place + 0.22, "D", color=INK, markersize=4)
    names = [f"{row['name']}\nagainst {row['against']}" for row in table.to_dict("records")]
    axis.set_yticks(places, names)
    axis.plot([], [], "o-", color=NEUTRAL, label="here, 95 % interval")
    axis.plot([], [], "D", color=INK, label="in the paper")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set(xlabel="difference in private mAP@100")
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, loc="best")
    return figure

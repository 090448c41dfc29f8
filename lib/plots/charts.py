"""Charts of finished tables: sizes, shares, training curves, steps, grids, differences."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, ScalarFormatter

from lib.data import OTHER
from lib.plots import sheets
from lib.plots.sheets import CLUSTERS, INK, LEAKED, NEUTRAL, RIGHT, WRONG, axes_of

UNKNOWN = "country unknown"  # in words of figures


def class_sizes(lists: Mapping[str, pd.Series]) -> Figure:
    """Images per class over the class's rank: a line per list (name → class of every image).

    Both axes are logarithmic if there are many classes, and if they differ much.
    """
    figure, (axis,) = axes_of(6.4, 3.4)
    for (name, classes), colour in zip(lists.items(), cycle(CLUSTERS), strict=False):
        sizes = classes.value_counts().to_numpy()
        label = f"{name}: {len(classes):,} images, {len(sizes):,} classes"
        axis.plot(np.arange(1, len(sizes) + 1), sizes, color=colour, label=label, linewidth=2)
    sheets.logarithmic(axis.xaxis, axis.yaxis)
    axis.set(xlabel="rank of the class, largest first", ylabel="images of the class")
    axis.set_title("How many images a class has", loc="left")
    axis.legend(frameon=False)
    return figure


def shares(table: pd.DataFrame, *, title: str, label: str = "") -> Figure:
    """Bars of shares: one group per row of `table`, one colour per column (values 0 to 1)."""
    figure, (axis,) = axes_of(6.4, 0.9 + 0.32 * len(table))
    height = 0.8 / max(table.shape[1], 1)
    places = np.arange(len(table))
    for i, (name, colour) in enumerate(zip(table.columns, cycle(CLUSTERS), strict=False)):
        axis.barh(places + i * height, table[name], height * 0.9, color=colour, label=name)
    names = [sheets.shorten(str(name).replace(OTHER, UNKNOWN), 40) for name in table.index]
    axis.set_yticks(places + height * (table.shape[1] - 1) / 2, names)
    axis.invert_yaxis()
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_xlabel(label)
    axis.grid(axis="y", visible=False)
    axis.set_title(title, loc="left")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))  # hides no bar
    return figure


def history(stages: Mapping[str, pd.DataFrame]) -> Figure:
    """Loss and learning rate, a panel for each stage (name → its `history.csv`)."""
    figure, axes = axes_of(3.4 * len(stages), 2.8, columns=len(stages))
    for axis, (name, table) in zip(axes, stages.items(), strict=True):
        epochs = table["step"] / table["step"].max() * table["epoch"].max()
        axis.plot(epochs, table["loss"], color=CLUSTERS[0], linewidth=1.5)
        axis.set(xlabel="epoch", ylabel="loss")
        axis.set_title(sheets.shorten(name, 34), loc="left")
        rate = axis.twinx()
        rate.plot(epochs, table["learning_rate"], color=CLUSTERS[1], linewidth=1.2, linestyle="--")
        rate.set_ylim(bottom=0)
        rate.set_ylabel("learning rate (dashed)", color=CLUSTERS[1])
        rate.spines[["top", "left"]].set_visible(False)
    return figure


def steps(
    table: pd.DataFrame, *, title: str, gain_title: str = "gain over the row above (95 %)"
) -> Figure:
    """mAP step by step with intervals, and beside it each step's paired gain.

    The table has the columns step, private, low, high, gain, gain_low and gain_high.
    """
    figure, (left, right) = axes_of(9.2, 0.9 + 0.45 * len(table), columns=2)
    places = np.arange(len(table))
    error = [table["private"] - table["low"], table["high"] - table["private"]]
    options = {"color": CLUSTERS[0], "height": 0.6, "capsize": 3}
    bars = left.barh(places, table["private"], xerr=error, **options)
    left.bar_label(bars, fmt="%.3f", padding=5, color=INK, size=8, weight="bold")
    left.set_yticks(places, [sheets.shorten(name, 60) for name in table["step"]])
    left.set_title(title, loc="left")
    right.axvline(0, color=INK, linewidth=1)
    is_leaked = table["step"].str.contains("(leaked)", regex=False)
    is_judged = ~(is_leaked | is_leaked.shift(fill_value=False))  # nor is a step after a leaked one
    for place, row in table[table["gain"].notna()].iterrows():
        _difference(right, place, row["gain"], row["gain_low"], row["gain_high"], is_judged[place])
    right.set(yticks=[], ylim=left.get_ylim())
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set_title(gain_title, loc="left")
    for axis in (left, right):
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
    return figure


def by_group(table: pd.DataFrame, group: str, *, title: str, k: int = 100) -> Figure:
    """mAP@k of every group; the table has the column `group`, `queries`, and one per step."""
    queries = table["queries"].astype(str)
    values = table.drop(columns=["queries", group])
    values = values.set_axis(table[group] + " (" + queries + " queries)")
    figure = shares(values, title=title, label=f"mAP@{k}")
    figure.axes[0].xaxis.set_major_formatter(ScalarFormatter())
    return figure


def heat(table: pd.DataFrame, *, title: str, label: str) -> Figure:
    """A matrix with its numbers, the best framed: rows and columns are two settings."""
    figure, (axis,) = axes_of(1.6 + 0.75 * table.shape[1], 1.2 + 0.4 * table.shape[0])
    axis.grid(visible=False)
    sns.heatmap(table, annot=True, fmt=".3f", cmap="viridis", ax=axis, cbar_kws={"label": label})
    best = np.unravel_index(np.argmax(table.fillna(-np.inf).to_numpy()), table.shape)
    axis.add_patch(Rectangle((best[1], best[0]), 1, 1, fill=False, color=INK, linewidth=3))
    axis.set_title(title, loc="left")
    return figure


def forest(tables: Mapping[str, pd.DataFrame], *, title: str, k: int = 100) -> Figure:
    """Differences of ablation rows from their reference, ours with intervals beside the paper's.

    Tables are those of `lib.ablation.table` by heading. Rows trained on the queries, and those
    compared with them, are not judged.
    """
    tables = {heading: table[table["against"] != ""] for heading, table in tables.items()}
    rows = [max(len(table), 1) for table in tables.values()]
    size = (9.0, 1.4 + 0.36 * sum(rows) + 0.5 * len(rows))
    figure = sheets.TextFigure(figsize=size, layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, weight="bold", color=INK)
    shape = {"nrows": max(len(rows), 1), "height_ratios": rows or None}
    panels = figure.subplots(**shape, sharex=True, squeeze=False)[:, 0]
    for axis, (heading, table) in zip(panels, tables.items(), strict=False):
        _differences(axis, table)
        axis.set_title(heading, loc="left", fontsize=9, color=INK)
    panels[-1].set(xlabel=f"difference in Private mAP@{k}")
    for colour, meaning in ((RIGHT, "better"), (WRONG, "worse"), (NEUTRAL, "no clear difference")):
        panels[0].plot([], [], "o-", color=colour, label=f"here {meaning}, 95 % interval")
    if any(_is_leaked(table).any() for table in tables.values()):
        panels[0].plot([], [], "o-", color=LEAKED, label="leaked: trained on the queries")
    if any(table["paper"].notna().any() for table in tables.values()):
        panels[0].plot([], [], "D", color=INK, markersize=4, label="in the paper")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower right", ncols=4, frameon=False, fontsize=8)
    return figure


def _differences(axis: Axes, table: pd.DataFrame) -> None:
    """One panel of `forest`."""
    axis.axvline(0, color=INK, linewidth=1)
    is_leaked = _is_leaked(table)
    columns = ["difference", "difference_low", "difference_high"]
    values = zip(table[columns].to_numpy(), table["paper"], ~is_leaked, strict=True)
    for place, (difference, paper, is_judged) in enumerate(values):
        _difference(axis, place, *difference, is_judged)
        axis.plot(paper, place + 0.22, "D", color=INK, markersize=4)
    says_so = table["name"].str.contains("(leaked)", regex=False)
    mark = np.where(is_leaked & ~says_so, " (leaked)", "")
    names = zip(table["name"] + mark, "against " + table["against"], strict=True)
    labels = ["\n".join(sheets.shorten(name, 52) for name in pair) for pair in names]
    axis.set_yticks(range(len(table)), labels, fontsize=7.5)
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="x", alpha=0.25)


def _is_leaked(table: pd.DataFrame) -> pd.Series:
    """Whether a row or its reference is trained on the queries."""
    verdicts = table.get("verdict", pd.Series("", table.index))
    leaked = table.loc[verdicts == "leaked", "name"]
    return table["name"].isin(leaked) | table["against"].isin(leaked)


def _difference(
    axis: Axes, place: float, value: float, low: float, high: float, is_judged: bool
) -> None:
    """A difference and its interval, coloured by the side of zero on which all of it lies."""
    colour = RIGHT if low > 0 else WRONG if high < 0 else NEUTRAL
    colour = colour if is_judged else LEAKED
    axis.plot([low, high], [place, place], color=colour, linewidth=3)
    axis.plot(value, place, "o", color=colour)

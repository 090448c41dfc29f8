"""Charts: each shows the numbers it is given, and survives tables with little in them."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from lib.plots import charts
from lib.plots.sheets import INK, LEAKED, NEUTRAL, RIGHT, WRONG
from tests.figures import STRICT, bars, check_picture, legend_of, png_size

pytestmark = STRICT


def history_of(epochs, steps=3):
    count = epochs * steps
    return pd.DataFrame(
        {
            "epoch": np.arange(count) // steps + 1,
            "step": np.arange(1, count + 1),
            "learning_rate": np.linspace(0.1, 0.0, count),
            "loss": np.linspace(5.0, 2.0, count),
        }
    )


def steps_table(*rows):
    """Rows of (step, private, low, high, gain, gain_low, gain_high)."""
    columns = ["step", "private", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=columns)


STEPS = steps_table(
    ("first", 0.30, 0.25, 0.36, np.nan, np.nan, np.nan),
    ("better", 0.40, 0.34, 0.45, 0.10, 0.05, 0.15),
    ("worse", 0.32, 0.28, 0.37, -0.08, -0.12, -0.03),
    ("same", 0.33, 0.27, 0.38, 0.01, -0.02, 0.04),
)


def forest_table(*rows):
    """Rows of (name, against, difference, difference_low, difference_high, paper)."""
    columns = ["name", "against", "difference", "difference_low", "difference_high", "paper"]
    return pd.DataFrame(rows, columns=columns)


FOREST = forest_table(
    ("better", "first", 0.10, 0.05, 0.15, 0.02),
    ("worse", "better", -0.08, -0.12, -0.03, 0.01),
    ("same", "better", 0.01, -0.02, 0.04, np.nan),
    ("not run", "better", np.nan, np.nan, np.nan, 0.03),
)

SHARES = pd.DataFrame({"train": [0.7, 0.3], "test": [0.4, 0.6]}, index=["Europe", "Asia"])

CONTINENTS = pd.DataFrame(
    {"continent": ["Europe", "Asia"], "queries": [9, 4], "before": [0.3, 0.2], "after": [0.5, 0.1]}
)

GRID = pd.DataFrame([[0.1, 0.3], [0.4, 0.2]], index=[0.0, 1.0], columns=[0.0, 0.1])

PICTURES = {
    "class_sizes": lambda: charts.class_sizes({"clean": pd.Series([1, 1, 2])}),
    "class_sizes with an empty list": lambda: charts.class_sizes(
        {"clean": pd.Series([1, 1, 2]), "none": pd.Series([], dtype=int)}
    ),
    "shares": lambda: charts.shares(SHARES, title="t"),
    "shares of one column": lambda: charts.shares(SHARES[["train"]], title="t"),
    "shares without rows": lambda: charts.shares(SHARES.head(0), title="t"),
    "history": lambda: charts.history({"softmax": history_of(2), "arcface": history_of(3)}),
    "history of one step": lambda: charts.history({"tiny": history_of(1, steps=1)}),
    "history without epochs": lambda: charts.history({"untrained": history_of(0)}),
    "steps": lambda: charts.steps(STEPS, title="t"),
    "steps without a gain": lambda: charts.steps(STEPS.head(1), title="t"),
    "steps of nothing": lambda: charts.steps(STEPS.head(0), title="t"),
    "by_group": lambda: charts.by_group(CONTINENTS, "continent", title="t"),
    "by_group of no group": lambda: charts.by_group(CONTINENTS.head(0), "continent", title="t"),
    "heat": lambda: charts.heat(GRID, title="t", label="l"),
    "heat of one column": lambda: charts.heat(GRID[[0.1]], title="t", label="l"),
    "heat with a gap": lambda: charts.heat(GRID.replace(0.1, np.nan), title="t", label="l"),
    "forest": lambda: charts.forest({"one": FOREST, "two": FOREST.head(1)}, title="t"),
    "forest of what was not run": lambda: charts.forest({"one": FOREST.tail(1)}, title="t"),
    "forest of no table": lambda: charts.forest({}, title="t"),
    "forest of nothing": lambda: charts.forest({"one": FOREST.head(0)}, title="t"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


def test_pictures_leave_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    charts.steps(STEPS, title="t")
    charts.heat(GRID, title="t", label="l")
    assert dict(matplotlib.rcParams) == before


def test_class_sizes_draws_the_largest_class_first():
    lists = {"clean": pd.Series([5] * 12 + [7, 7, 7, 9, 9]), "full": pd.Series(range(12))}
    (axis,) = charts.class_sizes(lists).axes
    clean, full = axis.lines
    np.testing.assert_array_equal(clean.get_xydata(), [[1, 12], [2, 3], [3, 2]])
    np.testing.assert_array_equal(full.get_ydata(), np.ones(12))
    assert legend_of(axis) == ["clean: 17 images, 3 classes", "full: 12 images, 12 classes"]
    assert axis.get_xscale() == axis.get_yscale() == "log"


def test_class_sizes_numbers_axes_of_few_classes_that_are_nearly_alike():
    figure = charts.class_sizes({"clean": pd.Series([*range(8)] * 23 + [0, 1])})
    figure.canvas.draw()
    (axis,) = figure.axes
    for side, span in ((axis.xaxis, (1, 8)), (axis.yaxis, (23, 24))):
        ticks = zip(side.get_majorticklocs(), side.get_majorticklabels(), strict=True)
        shown = [label.get_text() for place, label in ticks if span[0] <= place <= span[1]]
        assert len(shown) >= 2
        assert all(text.isdigit() for text in shown)


def test_class_sizes_draws_every_list_of_many():
    (axis,) = charts.class_sizes({str(i): pd.Series([0, 1, 1]) for i in range(8)}).axes
    assert len(axis.lines) == 8


def test_shares_draws_bars_as_wide_as_the_values():
    (axis,) = charts.shares(SHARES, title="two worlds").axes
    found = bars(axis)
    np.testing.assert_allclose(found[:, 2], [0.7, 0.3, 0.4, 0.6])
    np.testing.assert_array_equal(found[:, 0], 0)
    assert axis.get_title("left") == "two worlds"
    assert legend_of(axis) == ["train", "test"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Europe", "Asia"]
    assert axis.yaxis_inverted()
    # A group's tick is at the middle of its bars.
    np.testing.assert_allclose(axis.get_yticks(), found[:, 1].reshape(2, 2).mean(axis=0))


def test_shares_puts_the_legend_beside_the_bars():
    figure = charts.shares(SHARES, title="t")
    png_size(figure)  # places everything
    (axis,) = figure.axes
    box = axis.get_legend().get_window_extent()
    assert axis.get_window_extent().x1 <= box.x0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("columns", [1, 3, 7])
def test_shares_draws_every_column_without_overlap(columns):
    generator = np.random.default_rng(columns)
    table = pd.DataFrame(generator.random((4, columns))).rename(columns=str)
    found = bars(charts.shares(table, title="t").axes[0])
    np.testing.assert_allclose(found[:, 2], table.to_numpy().T.ravel())
    centres = np.sort(found[:, 1])
    assert (np.diff(centres) > found[0, 3]).all()


def test_history_draws_loss_and_rate_over_epochs():
    table = history_of(4)
    figure = charts.history({"softmax": history_of(1), "arcface": table})
    panels, rates = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title("left") for axis in panels] == ["softmax", "arcface"]
    np.testing.assert_array_equal(panels[1].lines[0].get_ydata(), table["loss"])
    np.testing.assert_array_equal(rates[1].lines[0].get_ydata(), table["learning_rate"])
    epochs = panels[1].lines[0].get_xdata()
    np.testing.assert_array_equal(epochs, rates[1].lines[0].get_xdata())
    assert epochs[-1] == 4
    assert (np.diff(epochs) > 0).all()


def test_steps_draws_scores_with_intervals():
    left, _ = charts.steps(STEPS, title="mAP").axes
    np.testing.assert_allclose(bars(left)[:, 2], STEPS["private"])
    (errors,) = (part for part in left.containers if isinstance(part, ErrorbarContainer))
    ends = np.array(errors.lines[2][0].get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, STEPS[["low", "high"]])
    assert [text.get_text() for text in left.texts] == ["0.300", "0.400", "0.320", "0.330"]
    assert [label.get_text() for label in left.get_yticklabels()] == STEPS["step"].tolist()
    assert left.get_title("left") == "mAP"
    _, right = charts.steps(STEPS, title="mAP", gain_title="over plain search").axes
    assert right.get_title("left") == "over plain search"


def test_steps_writes_scores_where_nothing_hides_them():
    low = ("before training", 0.01, 0.0, 0.02, np.nan, np.nan, np.nan)
    table = pd.concat([steps_table(low), STEPS], ignore_index=True)
    figure = charts.steps(table, title="t")
    png_size(figure)  # places everything
    left, right = figure.axes
    ends = left.transData.transform(np.column_stack([table["high"], table.index]))[:, 0]
    boxes = np.array([text.get_window_extent().extents for text in left.texts])
    assert (boxes[:, 0] > ends).all()
    assert (boxes[:, 2] < right.get_window_extent().x0).all()


def test_steps_draws_gains_in_the_colour_of_their_sign_beside_their_step():
    left, right = charts.steps(STEPS, title="t").axes
    _, *drawn = right.lines
    spans, dots = drawn[::2], drawn[1::2]
    gains = STEPS.tail(3)
    np.testing.assert_allclose([s.get_xdata() for s in spans], gains[["gain_low", "gain_high"]])
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], gains["gain"])
    assert [dot.get_ydata()[0] for dot in dots] == [1, 2, 3]
    assert [dot.get_color() for dot in dots] == [RIGHT, WRONG, NEUTRAL]
    assert left.get_ylim() == right.get_ylim()
    assert left.yaxis_inverted()


def test_by_group_draws_every_step_of_every_group():
    (axis,) = charts.by_group(CONTINENTS, "continent", title="where").axes
    np.testing.assert_allclose(bars(axis)[:, 2], [0.3, 0.2, 0.5, 0.1])
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["Europe (9 queries)", "Asia (4 queries)"]
    table = CONTINENTS.replace("Asia", "OTHER")
    (other,) = charts.by_group(table, "continent", title="where").axes
    assert other.get_yticklabels()[1].get_text() == "country unknown (4 queries)"
    assert legend_of(axis) == ["before", "after"]
    assert axis.get_title("left") == "where"


def test_heat_frames_the_cell_that_is_chosen():
    for seed in range(5):
        # Few distinct values, so that several cells are often best.
        values = np.random.default_rng(seed).integers(0, 4, (3, 4)) / 4
        table = pd.DataFrame(values, index=[0.0, 0.5, 1.0], columns=[0.0, 0.1, 0.2, 0.3])
        figure = charts.heat(table, title="t", label="mAP@100")
        axis, bar = figure.axes
        (frame,) = axis.patches
        column, row = frame.get_xy()
        assert (table.index[row], table.columns[column]) == table.stack().sort_index().idxmax()
        assert [float(text.get_text()) for text in axis.texts] == values.ravel().tolist()
        assert bar.get_ylabel() == "mAP@100"


def test_heat_frames_the_best_of_the_cells_that_are_known():
    figure = charts.heat(GRID.replace(0.1, np.nan), title="t", label="l")
    assert figure.axes[0].patches[0].get_xy() == (0, 1)


def test_forest_draws_ours_and_the_papers():
    figure = charts.forest({"GLR20 Table 1": FOREST, "other": FOREST.head(2)}, title="row by row")
    axis, other = figure.axes
    drawn = axis.lines[1 : 1 + 3 * len(FOREST)]
    spans, dots, diamonds = drawn[::3], drawn[1::3], drawn[2::3]
    np.testing.assert_allclose(
        [span.get_xdata() for span in spans], FOREST[["difference_low", "difference_high"]]
    )
    np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], FOREST["difference"])
    np.testing.assert_allclose([mark.get_xdata()[0] for mark in diamonds], FOREST["paper"])
    assert [dot.get_color() for dot in dots] == [RIGHT, WRONG, NEUTRAL, NEUTRAL]
    assert {mark.get_color() for mark in diamonds} == {INK}
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[1] == "worse\nagainst better"
    assert len(other.get_yticks()) == 2
    assert axis.get_xlim() == other.get_xlim()
    assert [dot.get_ydata()[0] for dot in dots] == axis.get_yticks().tolist()
    assert axis.get_title("left") == "GLR20 Table 1"
    assert figure.get_suptitle() == "row by row"
    legend = figure.legends[0]
    meanings = [text.get_text().split(",")[0] for text in legend.get_texts()]
    assert meanings == ["here better", "here worse", "here no clear difference", "in the paper"]
    assert [line.get_color() for line in legend.get_lines()] == [RIGHT, WRONG, NEUTRAL, INK]
    bare = charts.forest({"stages": FOREST.assign(paper=np.nan)}, title="t").legends[0]
    assert len(bare.get_texts()) == 3  # no paper, no mark of it


def test_forest_judges_no_leaked_row_and_none_against_one():
    table = pd.concat([FOREST, FOREST.head(1).assign(name="last", against="worse")])
    table = table.assign(verdict=["agrees", "leaked", "agrees", "not run", "agrees"])
    figure = charts.forest({"one": table}, title="t")
    dots = figure.axes[0].lines[1 : 1 + 3 * len(table)][1::3]
    assert [dot.get_color() for dot in dots] == [RIGHT, LEAKED, NEUTRAL, NEUTRAL, LEAKED]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[1] == "worse (leaked)\nagainst better"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "leaked: trained on the queries" in words
    bare = charts.forest({"one": FOREST}, title="t").legends[0]
    assert not any("leaked" in text.get_text() for text in bare.get_texts())


def test_steps_judges_no_leaked_step_and_none_above_one():
    named = STEPS.assign(step=["first", "better", "worse (leaked)", "same"])
    _, right = charts.steps(named, title="t").axes
    assert [dot.get_color() for dot in right.lines[1:][1::2]] == [RIGHT, LEAKED, LEAKED]

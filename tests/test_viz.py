"""Pictures: each shows the numbers it is given, and survives tables with little in them."""

import io

import matplotlib.colors
import matplotlib.pyplot
import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure

from lib import viz
from lib.rerank_grid import choose
from lib.viz import CLUSTERS, INK, NEUTRAL, RESCUED, RIGHT, WRONG, Row

# What spoils a picture is a warning in matplotlib and numpy: all are errors here.
pytestmark = pytest.mark.filterwarnings("error")


def png_size(figure):
    """Width and height of the figure saved as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, dpi=40)
    assert stream.getvalue().startswith(b"\x89PNG")
    return matplotlib.pyplot.imread(io.BytesIO(stream.getvalue())).shape[1::-1]


def square(value, side=8):
    return np.full((side, side, 3), value, dtype=np.uint8)


def bars(axis):
    """(n, 4): left, centre, width and height of the bars of an axis."""
    found = [
        (bar.get_x(), bar.get_y() + bar.get_height() / 2, bar.get_width(), bar.get_height())
        for container in axis.containers
        if isinstance(container, BarContainer)
        for bar in container
    ]
    return np.array(found)


def colours(artists):
    return [matplotlib.colors.to_hex(artist.get_facecolor()) for artist in artists]


def legend_of(axis):
    return [text.get_text() for text in axis.get_legend().get_texts()]


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
SWEEP = pd.DataFrame({"eps": [0.1, 0.2, 0.3], "kept": [0.2, 0.6, 0.9], "classes": [4, 9, 3]})
GRID = pd.DataFrame([[0.1, 0.3], [0.4, 0.2]], index=[0.0, 1.0], columns=[0.0, 0.1])
SIZES = pd.Series([40, 12, 12, 3, 1])
FLOW = {"kept": 60, "split": 25, "rescued": 13, "dropped": 2}

PICTURES = {
    "sheet": lambda: viz.sheet(
        [Row("two", [square(9), square(99)], [RIGHT, WRONG], ["a", "b"]), Row("one", [square(0)])],
        title="a sheet",
        legend={RIGHT: "right"},
    ),
    "sheet of nothing": lambda: viz.sheet([]),
    "sheet of rows without images": lambda: viz.sheet([Row("empty", []), Row("", [])]),
    "class_sizes": lambda: viz.class_sizes({"clean": pd.Series([1, 1, 2])}),
    "class_sizes with an empty list": lambda: viz.class_sizes(
        {"clean": pd.Series([1, 1, 2]), "none": pd.Series([], dtype=int)}
    ),
    "shares": lambda: viz.shares(SHARES, title="t"),
    "shares of one column": lambda: viz.shares(SHARES[["train"]], title="t"),
    "shares without rows": lambda: viz.shares(SHARES.head(0), title="t"),
    "history": lambda: viz.history({"softmax": history_of(2), "arcface": history_of(3)}),
    "history of one step": lambda: viz.history({"tiny": history_of(1, steps=1)}),
    "history without epochs": lambda: viz.history({"untrained": history_of(0)}),
    "distances": lambda: viz.distances(np.array([0.1, 0.2]), np.array([0.8, 0.9]), marks={"e": 1}),
    "distances of nothing": lambda: viz.distances(np.array([]), np.array([])),
    "distances of single images": lambda: viz.distances(np.array([]), np.array([0.8, 0.9])),
    "distances with six marks": lambda: viz.distances(
        np.array([0.1]), np.array([0.8]), marks={str(i): i / 10 for i in range(6)}
    ),
    "sweep": lambda: viz.sweep(SWEEP, {"kept": "kept", "classes": "classes"}, chosen=0.2),
    "sweep of one panel": lambda: viz.sweep(SWEEP.head(1), {"kept": "kept"}, chosen=0.1),
    "sweep not made": lambda: viz.sweep(
        pd.DataFrame({"eps": []}), {"kept": "kept", "classes": "classes"}, chosen=0.1
    ),
    "flow": lambda: viz.flow(FLOW),
    "flow with zeros": lambda: viz.flow({"kept": 5, "split": 0, "rescued": 0, "dropped": 0}),
    "flow of zeros": lambda: viz.flow(dict.fromkeys(FLOW, 0)),
    "flow of nothing": lambda: viz.flow({}),
    "steps": lambda: viz.steps(STEPS, title="t"),
    "steps without a gain": lambda: viz.steps(STEPS.head(1), title="t"),
    "steps of nothing": lambda: viz.steps(STEPS.head(0), title="t"),
    "by_group": lambda: viz.by_group(CONTINENTS, "continent", title="t"),
    "by_group of no group": lambda: viz.by_group(CONTINENTS.head(0), "continent", title="t"),
    "sizes_before_after": lambda: viz.sizes_before_after(SIZES, SIZES.tail(3)),
    "sizes of one": lambda: viz.sizes_before_after(SIZES.tail(1), SIZES.tail(1)),
    "heat": lambda: viz.heat(GRID, title="t", label="l"),
    "heat of one column": lambda: viz.heat(GRID[[0.1]], title="t", label="l"),
    "heat with a gap": lambda: viz.heat(GRID.replace(0.1, np.nan), title="t", label="l"),
    "forest": lambda: viz.forest(FOREST, title="t"),
    "forest of what was not run": lambda: viz.forest(FOREST.tail(1), title="t"),
    "forest of nothing": lambda: viz.forest(FOREST.head(0), title="t"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    figure = PICTURES[name]()
    assert isinstance(figure, Figure)
    assert min(png_size(figure)) > 20
    assert matplotlib.pyplot.get_fignums() == []


def test_pictures_leave_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    viz.steps(STEPS, title="t")
    viz.heat(GRID, title="t", label="l")
    assert dict(matplotlib.rcParams) == before


def test_sheet_places_images_in_their_rows_and_columns():
    rows = [
        Row("three", [square(value) for value in (10, 20, 30)]),
        Row("none", []),
        Row("two", [square(40), square(50, side=16)]),
    ]
    figure = viz.sheet(rows, title="all of them")
    assert [text.get_text() for text in figure.texts] == ["all of them", "three", "none", "two"]
    shown = [axis.images[0].get_array() for axis in figure.axes]
    for array, image in zip(shown, [image for row in rows for image in row.images], strict=True):
        np.testing.assert_array_equal(array, image)
    boxes = np.array([axis.get_position().extents for axis in figure.axes])
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert (np.diff(boxes[:3, 0]) > 0).all()
    assert np.ptp(boxes[:3, 1]) == np.ptp(boxes[3:, 1]) == 0
    np.testing.assert_allclose(boxes[3:, 0], boxes[:2, 0])
    places = np.array([figure.texts[i].get_position()[1] for i in (1, 2, 3)])
    assert (np.diff(places) < 0).all()
    assert boxes[0, 1] < places[0] < boxes[0, 3]
    assert boxes[3, 1] < places[2] < boxes[3, 3]
    assert boxes[3, 3] < places[1] < boxes[0, 1]


@pytest.mark.parametrize("legend", [None, {RIGHT: "right"}])
@pytest.mark.parametrize("captions", [(), ["0.9"] * 3])
def test_sheet_keeps_images_square_and_apart(legend, captions):
    rows = [Row("r", [square(0, side=side) for side in (8, 16, 24)], (), captions)] * 3
    figure = viz.sheet(rows, title="t", legend=legend)
    boxes = np.array([axis.get_position().extents for axis in figure.axes])
    inches = boxes * np.tile(figure.get_size_inches(), 2)
    np.testing.assert_allclose(inches[:, 2:] - inches[:, :2], 0.95)
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert (np.maximum(a[:2], b[:2]) > np.minimum(a[2:], b[2:]) - 1e-9).any()


def test_sheet_frames_and_captions_as_asked():
    asked = [RIGHT, "", WRONG]
    row = Row("r", [square(0)] * 4, asked, ["query", "0.91"])
    figure = viz.sheet([row], legend={RIGHT: "right", WRONG: "wrong"})
    framed = [
        {matplotlib.colors.to_hex(spine.get_edgecolor()) for spine in axis.spines.values()}
        for axis in figure.axes
    ]
    assert framed == [{RIGHT}, {"#ffffff"}, {WRONG}, {"#ffffff"}]
    assert [axis.get_xlabel() for axis in figure.axes] == ["query", "0.91", "", ""]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["right", "wrong"]
    assert colours(legend.get_patches()) == [RIGHT, WRONG]


def test_class_sizes_draws_the_largest_class_first():
    lists = {"clean": pd.Series([5, 7, 7, 7, 9, 9]), "full": pd.Series(range(12))}
    (axis,) = viz.class_sizes(lists).axes
    clean, full = axis.lines
    np.testing.assert_array_equal(clean.get_xydata(), [[1, 3], [2, 2], [3, 1]])
    np.testing.assert_array_equal(full.get_ydata(), np.ones(12))
    assert legend_of(axis) == ["clean: 6 images, 3 classes", "full: 12 images, 12 classes"]
    assert axis.get_xscale() == axis.get_yscale() == "log"


def test_class_sizes_draws_every_list_of_many():
    (axis,) = viz.class_sizes({str(i): pd.Series([0, 1, 1]) for i in range(8)}).axes
    assert len(axis.lines) == 8


def test_shares_draws_bars_as_wide_as_the_values():
    (axis,) = viz.shares(SHARES, title="two worlds").axes
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
    figure = viz.shares(SHARES, title="t")
    png_size(figure)  # places everything
    (axis,) = figure.axes
    box = axis.get_legend().get_window_extent()
    assert axis.get_window_extent().x1 <= box.x0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("columns", [1, 3, 7])
def test_shares_draws_every_column_without_overlap(columns):
    generator = np.random.default_rng(columns)
    table = pd.DataFrame(generator.random((4, columns))).rename(columns=str)
    found = bars(viz.shares(table, title="t").axes[0])
    np.testing.assert_allclose(found[:, 2], table.to_numpy().T.ravel())
    centres = np.sort(found[:, 1])
    assert (np.diff(centres) > found[0, 3]).all()


def test_history_draws_loss_and_rate_over_epochs():
    table = history_of(4)
    figure = viz.history({"softmax": history_of(1), "arcface": table})
    panels, rates = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title("left") for axis in panels] == ["softmax", "arcface"]
    np.testing.assert_array_equal(panels[1].lines[0].get_ydata(), table["loss"])
    np.testing.assert_array_equal(rates[1].lines[0].get_ydata(), table["learning_rate"])
    epochs = panels[1].lines[0].get_xdata()
    np.testing.assert_array_equal(epochs, rates[1].lines[0].get_xdata())
    assert epochs[-1] == 4
    assert (np.diff(epochs) > 0).all()


def test_distances_leaves_no_distance_out():
    generator = np.random.default_rng(0)
    # Rounding to float16 makes the distance of copies a little negative; opposites are at 2.
    within = np.append(generator.uniform(0, 0.5, 50), [-0.0004] * 25 + [1.6] * 25)
    between = generator.uniform(0.4, 1.1, 100)
    (axis,) = viz.distances(within, between, marks={"eps": 0.25, "relaxed eps": 0.3}).axes
    areas = [
        [bar.get_width() * bar.get_height() for bar in container] for container in axis.containers
    ]
    np.testing.assert_allclose([sum(part) for part in areas], 1)
    first, last = np.array(areas[0])[[0, -1]]
    assert first > 0.24
    assert last == pytest.approx(0.25)
    assert [line.get_xdata()[0] for line in axis.lines] == [0.25, 0.3]
    assert {"eps = 0.25", "relaxed eps = 0.30"} <= set(legend_of(axis))


def test_distances_gives_six_marks_six_places():
    marks = {str(i): i / 10 for i in range(6)}
    (axis,) = viz.distances(np.array([0.1]), np.array([0.8]), marks=marks).axes
    assert [line.get_xdata()[0] for line in axis.lines] == list(marks.values())


def test_sweep_draws_a_panel_per_column_with_the_choice():
    figure = viz.sweep(SWEEP, {"classes": "how many", "kept": "how much"}, chosen=0.2)
    assert [axis.get_title("left") for axis in figure.axes] == ["how many", "how much"]
    for axis, column in zip(figure.axes, ("classes", "kept"), strict=True):
        curve, mark = axis.lines
        np.testing.assert_array_equal(curve.get_xydata(), SWEEP[["eps", column]])
        assert set(mark.get_xdata()) == {0.2}


def test_flow_cuts_one_bar_into_parts():
    (axis,) = viz.flow(FLOW).axes
    found = bars(axis)
    np.testing.assert_array_equal(found[:, 2], [60, 25, 13, 2])
    np.testing.assert_array_equal(found[:, 0], [0, 60, 85, 98])
    assert colours([bar for part in axis.containers for bar in part]) == [
        RIGHT,
        CLUSTERS[0],
        RESCUED,
        WRONG,
    ]
    # The last part is too narrow for words; the legend names it.
    assert [text.get_text() for text in axis.texts] == [
        "kept\n60 (60%)",
        "split\n25 (25%)",
        "rescued\n13 (13%)",
    ]
    assert legend_of(axis) == list(FLOW)
    assert axis.get_xlim() == (0, 100)


def test_flow_needs_no_legend_where_every_part_has_room():
    (axis,) = viz.flow({"kept": 50, "dropped": 50}).axes
    assert axis.get_legend() is None


def test_steps_draws_scores_with_intervals():
    left, _ = viz.steps(STEPS, title="mAP").axes
    np.testing.assert_allclose(bars(left)[:, 2], STEPS["private"])
    (errors,) = (part for part in left.containers if isinstance(part, ErrorbarContainer))
    ends = np.array(errors.lines[2][0].get_segments())[:, :, 0]
    np.testing.assert_allclose(ends, STEPS[["low", "high"]])
    assert [text.get_text() for text in left.texts] == ["0.300", "0.400", "0.320", "0.330"]
    assert [label.get_text() for label in left.get_yticklabels()] == STEPS["step"].tolist()
    assert left.get_title("left") == "mAP"


def test_steps_writes_scores_where_nothing_hides_them():
    low = ("before training", 0.01, 0.0, 0.02, np.nan, np.nan, np.nan)
    table = pd.concat([steps_table(low), STEPS], ignore_index=True)
    figure = viz.steps(table, title="t")
    png_size(figure)  # places everything
    left, right = figure.axes
    ends = left.transData.transform(np.column_stack([table["high"], table.index]))[:, 0]
    boxes = np.array([text.get_window_extent().extents for text in left.texts])
    assert (boxes[:, 0] > ends).all()
    assert (boxes[:, 2] < right.get_window_extent().x0).all()


def test_steps_draws_gains_in_the_colour_of_their_sign_beside_their_step():
    left, right = viz.steps(STEPS, title="t").axes
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
    (axis,) = viz.by_group(CONTINENTS, "continent", title="where").axes
    np.testing.assert_allclose(bars(axis)[:, 2], [0.3, 0.2, 0.5, 0.1])
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["Europe (9)", "Asia (4)"]
    assert legend_of(axis) == ["before", "after"]
    assert axis.get_title("left") == "where"


def test_sizes_before_after_counts_every_class():
    generator = np.random.default_rng(0)
    before, after = (pd.Series(generator.integers(1, top, 300)) for top in (200, 40))
    (axis,) = viz.sizes_before_after(before, after).axes
    heights = [[bar.get_height() for bar in part] for part in axis.containers]
    np.testing.assert_array_equal(np.sum(heights, axis=1), [300, 300])
    assert legend_of(axis)[0] == f"before: 300 classes, median {before.median():.0f} images"


def test_heat_frames_the_cell_that_is_chosen():
    for seed in range(5):
        # Few distinct values, so that several cells are often best.
        values = np.random.default_rng(seed).integers(0, 4, (3, 4)) / 4
        table = pd.DataFrame(values, index=[0.0, 0.5, 1.0], columns=[0.0, 0.1, 0.2, 0.3])
        figure = viz.heat(table, title="t", label="mAP@100")
        axis, bar = figure.axes
        (frame,) = axis.patches
        column, row = frame.get_xy()
        assert (table.index[row], table.columns[column]) == choose(table)
        assert [float(text.get_text()) for text in axis.texts] == values.ravel().tolist()
        assert bar.get_ylabel() == "mAP@100"


def test_heat_frames_the_best_of_the_cells_that_are_known():
    figure = viz.heat(GRID.replace(0.1, np.nan), title="t", label="l")
    assert figure.axes[0].patches[0].get_xy() == (0, 1)


def test_forest_draws_ours_and_the_papers():
    (axis,) = viz.forest(FOREST, title="row against row").axes
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
    assert [dot.get_ydata()[0] for dot in dots] == axis.get_yticks().tolist()
    assert axis.get_title("left") == "row against row"

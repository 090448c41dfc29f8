"""Charts of cleaning: no image and no distance is left out."""

import numpy as np
import pandas as pd
import pytest

from lib import cleaning_charts
from lib.viz import CLUSTERS, RESCUED, RIGHT, WRONG
from tests.figures import bars, check_picture, colours, legend_of

# What spoils a picture is a warning in matplotlib and numpy: all are errors here.
pytestmark = pytest.mark.filterwarnings("error")

SWEEP = pd.DataFrame({"eps": [0.1, 0.2, 0.3], "kept": [0.2, 0.6, 0.9], "classes": [4, 9, 3]})

SIZES = pd.Series([40, 12, 12, 3, 1])

FLOW = {"kept": 60, "split": 25, "rescued": 13, "dropped": 2}

PICTURES = {
    "distances": lambda: cleaning_charts.distances(
        np.array([0.1, 0.2]), np.array([0.8, 0.9]), marks={"e": 1}
    ),
    "distances of nothing": lambda: cleaning_charts.distances(np.array([]), np.array([])),
    "distances of single images": lambda: cleaning_charts.distances(
        np.array([]), np.array([0.8, 0.9])
    ),
    "distances with six marks": lambda: cleaning_charts.distances(
        np.array([0.1]), np.array([0.8]), marks={str(i): i / 10 for i in range(6)}
    ),
    "sweep": lambda: cleaning_charts.sweep(
        SWEEP, {"kept": "kept", "classes": "classes"}, chosen=0.2
    ),
    "sweep of one panel": lambda: cleaning_charts.sweep(
        SWEEP.head(1), {"kept": "kept"}, chosen=0.1
    ),
    "sweep not made": lambda: cleaning_charts.sweep(
        pd.DataFrame({"eps": []}), {"kept": "kept", "classes": "classes"}, chosen=0.1
    ),
    "flow": lambda: cleaning_charts.flow(FLOW),
    "flow with zeros": lambda: cleaning_charts.flow(
        {"kept": 5, "split": 0, "rescued": 0, "dropped": 0}
    ),
    "flow of zeros": lambda: cleaning_charts.flow(dict.fromkeys(FLOW, 0)),
    "flow of nothing": lambda: cleaning_charts.flow({}),
    "sizes_before_after": lambda: cleaning_charts.sizes_before_after(SIZES, SIZES.tail(3)),
    "sizes of one": lambda: cleaning_charts.sizes_before_after(SIZES.tail(1), SIZES.tail(1)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


def test_distances_leaves_no_distance_out():
    generator = np.random.default_rng(0)
    # Rounding to float16 makes the distance of copies a little negative; opposites are at 2.
    within = np.append(generator.uniform(0, 0.5, 50), [-0.0004] * 25 + [1.6] * 25)
    between = generator.uniform(0.4, 1.1, 100)
    (axis,) = cleaning_charts.distances(
        within, between, marks={"eps": 0.25, "relaxed eps": 0.3}
    ).axes
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
    (axis,) = cleaning_charts.distances(np.array([0.1]), np.array([0.8]), marks=marks).axes
    assert [line.get_xdata()[0] for line in axis.lines] == list(marks.values())


def test_sweep_draws_a_panel_per_column_with_the_choice():
    figure = cleaning_charts.sweep(SWEEP, {"classes": "how many", "kept": "how much"}, chosen=0.2)
    assert [axis.get_title("left") for axis in figure.axes] == ["how many", "how much"]
    for axis, column in zip(figure.axes, ("classes", "kept"), strict=True):
        curve, mark = axis.lines
        np.testing.assert_array_equal(curve.get_xydata(), SWEEP[["eps", column]])
        assert set(mark.get_xdata()) == {0.2}


def test_flow_cuts_one_bar_into_parts():
    (axis,) = cleaning_charts.flow(FLOW).axes
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
    (axis,) = cleaning_charts.flow({"kept": 50, "dropped": 50}).axes
    assert axis.get_legend() is None


def test_sizes_before_after_counts_every_class():
    generator = np.random.default_rng(0)
    before, after = (pd.Series(generator.integers(1, top, 300)) for top in (200, 40))
    (axis,) = cleaning_charts.sizes_before_after(before, after).axes
    heights = [[bar.get_height() for bar in part] for part in axis.containers]
    np.testing.assert_array_equal(np.sum(heights, axis=1), [300, 300])
    assert legend_of(axis)[0] == f"before: 300 classes, median {before.median():.0f} images"

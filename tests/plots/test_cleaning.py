"""Charts of cleaning: no image and no distance is left out, and bands are as thick as they have."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from lib.plots import cleaning as charts
from lib.plots.cleaning import STATUSES
from tests.figures import STRICT, check_picture, colours, legend_of

pytestmark = STRICT

SWEEP = pd.DataFrame({"eps": [0.1, 0.2, 0.3], "kept": [0.2, 0.6, 0.9], "classes": [4, 9, 3]})

SIZES = pd.Series([40, 12, 12, 3, 1])

EXAMPLES = [("Own", np.zeros((4, 4, 3), np.uint8)), ("Other", np.ones((4, 4, 3), np.uint8))]

PICTURES = {
    "distances": lambda: charts.distances(
        np.array([0.1, 0.2]), np.array([0.8, 0.9]), marks={"e": 1}
    ),
    "distances of nothing": lambda: charts.distances(np.array([]), np.array([]), marks={}),
    "distances of single images": lambda: charts.distances(
        np.array([]), np.array([0.8, 0.9]), marks={}
    ),
    "distances with six marks": lambda: charts.distances(
        np.array([0.1]), np.array([0.8]), marks={str(i): i / 10 for i in range(6)}
    ),
    "sweep": lambda: charts.sweep(SWEEP, {"kept": "kept", "classes": "classes"}, chosen=0.2),
    "sweep of one panel": lambda: charts.sweep(SWEEP.head(1), {"kept": "kept"}, chosen=0.1),
    "sweep not made": lambda: charts.sweep(
        pd.DataFrame({"eps": []}), {"kept": "kept", "classes": "classes"}, chosen=0.1
    ),
    "k_distance_curve": lambda: charts.k_distance_curve(
        np.array([0.3, 0.1, np.inf]), k=2, marks={"eps": 0.2, "knee": 0.25}
    ),
    "k_distance_curve of single images": lambda: charts.k_distance_curve(
        np.full(3, np.inf), k=1, marks={"eps": 0.2}
    ),
    "margins": lambda: charts.margins(
        np.array([-0.5, 0.3, np.nan]),
        np.array([0.4, 0.5]),
        wrong=0.3,
        threshold=0.1,
        examples=EXAMPLES,
    ),
    "margins of nothing": lambda: charts.margins(
        np.array([np.nan]), np.array([]), wrong=0, threshold=np.inf, examples=EXAMPLES
    ),
    "radii_against_truth": lambda: charts.radii_against_truth(SWEEP, {"kept": "kept"}, chosen=0.25),
    "sizes_before_after": lambda: charts.sizes_before_after(SIZES, SIZES.tail(3)),
    "sizes of one": lambda: charts.sizes_before_after(SIZES.tail(1), SIZES.tail(1)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


def test_distances_leaves_no_distance_out():
    generator = np.random.default_rng(0)
    # Rounding to float16 makes the distance of copies a little negative; opposites are at 2.
    within = np.append(generator.uniform(0, 0.5, 50), [-0.0004] * 25 + [1.6] * 25)
    between = generator.uniform(0.4, 1.1, 100)
    (axis,) = charts.distances(within, between, marks={"eps": 0.25, "relaxed eps": 0.3}).axes
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
    (axis,) = charts.distances(np.array([0.1]), np.array([0.8]), marks=marks).axes
    assert [line.get_xdata()[0] for line in axis.lines] == list(marks.values())


def test_sweep_draws_a_panel_per_column_with_the_choice():
    figure = charts.sweep(SWEEP, {"classes": "how many", "kept": "how much"}, chosen=0.2)
    assert [axis.get_title("left") for axis in figure.axes] == ["how many", "how much"]
    for axis, column in zip(figure.axes, ("classes", "kept"), strict=True):
        curve, mark = axis.lines
        np.testing.assert_array_equal(curve.get_xydata(), SWEEP[["eps", column]])
        assert set(mark.get_xdata()) == {0.2}


def test_sweep_does_not_blow_up_a_small_dip_of_agreement():
    table = SWEEP.assign(agreement=np.linspace(0.99, 0.998, len(SWEEP)))
    (axis,) = charts.sweep(table, {"agreement": "agreement"}, chosen=0.2).axes
    assert axis.get_ylim() == (0.9, 1.005)
    low = table.assign(agreement=np.linspace(0.5, 1.0, len(SWEEP)))
    (axis,) = charts.sweep(low, {"agreement": "agreement"}, chosen=0.2).axes
    assert axis.get_ylim()[0] < 0.5


def test_k_distance_curve_ascends_and_says_how_many_are_core_images():
    distances = np.append(np.random.default_rng(0).permutation(np.arange(1, 11) / 10), np.inf)
    (axis,) = charts.k_distance_curve(distances, k=2, marks={"eps": 0.45, "knee": 2}).axes
    curve, eps, knee = axis.lines
    np.testing.assert_allclose(curve.get_ydata(), np.arange(1, 11) / 10)
    assert set(eps.get_ydata()) == {0.45}
    assert set(knee.get_ydata()) == {2}
    assert legend_of(axis) == [
        "eps = 0.45: 40% are core images",
        "knee = 2.00: 100% are core images",
    ]
    assert "1 images have fewer" in axis.get_xlabel()


def test_margins_draws_wrong_ones_as_high_as_their_share():
    generator = np.random.default_rng(0)
    margins = np.append(generator.normal(-0.5, 0.3, 300), [np.nan] * 7)
    moved = generator.normal(0.7, 0.3, 5000)
    figure = charts.margins(margins, moved, wrong=0.25, threshold=0.1, examples=EXAMPLES)
    _, axis, _ = figure.axes
    images, wrong = axis.containers[0], axis.patches[-1]
    assert sum(bar.get_height() for bar in images) == 300
    edges, heights = wrong.get_xy()[1:-1].T
    assert heights.max() > 0
    assert edges[heights.argmax()] == pytest.approx(0.7, abs=0.25)
    assert axis.lines[0].get_xdata()[0] == 0.1
    assert (
        legend_of(axis)[-1] == f"suspected mislabels right of here: {(margins[:300] > 0.1).sum()}"
    )


def test_margins_puts_the_example_of_each_side_on_that_side():
    left, right = (np.full((4, 4, 3), value, np.uint8) for value in (10, 200))
    options = {"wrong": 0.3, "threshold": 0.1, "examples": [("A", left), ("B", right)]}
    figure = charts.margins(np.array([-0.5, 0.3]), np.array([0.4]), **options)
    first, middle, last = figure.axes
    assert (first.get_xlabel(), last.get_xlabel()) == ("labelled A", "labelled B")
    assert not middle.images
    np.testing.assert_array_equal(first.images[0].get_array(), left)
    np.testing.assert_array_equal(last.images[0].get_array(), right)


def test_radii_against_truth_marks_the_best_and_the_chosen():
    (axis,) = charts.radii_against_truth(
        SWEEP, {"classes": "how many", "kept": "how much"}, chosen=0.25
    ).axes
    classes, kept, best, chosen = axis.lines
    np.testing.assert_array_equal(classes.get_xydata(), SWEEP[["eps", "classes"]])
    np.testing.assert_array_equal(kept.get_xydata(), SWEEP[["eps", "kept"]])
    assert (best.get_xdata()[0], chosen.get_xdata()[0]) == (0.2, 0.25)


def test_sizes_before_after_counts_every_class():
    generator = np.random.default_rng(0)
    before, after = (pd.Series(generator.integers(1, top, 300)) for top in (200, 40))
    (axis,) = charts.sizes_before_after(before, after).axes
    heights = [[bar.get_height() for bar in part] for part in axis.containers]
    np.testing.assert_array_equal(np.sum(heights, axis=1), [300, 300])
    assert legend_of(axis)[0] == f"before: 300 classes, median {before.median():.0f} images"


WAYS = pd.DataFrame(
    [
        ("kept", "kept", 60),
        ("split", "split", 20),
        ("noise", "rescued", 4),
        ("noise", "dropped", 5),
        ("small", "dropped", 1),
        ("suspected mislabel", "dropped", 10),
    ],
    columns=["first", "last", "images"],
)


@pytest.mark.parametrize("ways", [WAYS, WAYS.head(1), WAYS.head(0)])
def test_flow_is_a_picture(ways):
    check_picture(charts.flow(ways))


def test_flow_has_a_bar_for_all_and_for_each_stage_of_the_way():
    (axis,) = charts.flow(WAYS).axes
    rectangles = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    heights = [round(100 * rectangle.get_height()) for rectangle in rectangles]
    assert heights == [100, 60, 20, 9, 1, 10, 60, 20, 4, 16]
    assert colours(rectangles[1:6]) == [
        STATUSES[name][0] for name in ("kept", "split", "noise", "small", "suspected mislabel")
    ]
    assert colours(rectangles[6:]) == [
        STATUSES[name][0] for name in ("kept", "split", "rescued", "dropped")
    ]


def test_flow_names_every_bar_with_its_count():
    (axis,) = charts.flow(WAYS).axes
    words = [text.get_text() for text in axis.texts]
    assert "100 (100%)" in words
    for name, count in (("noise", 9), ("suspected mislabel", 10), ("rescued", 4), ("dropped", 16)):
        assert f"{STATUSES[name][1]}\n{count} ({count}%)" in words


def test_flow_joins_bars_by_bands_that_are_as_thick():
    (axis,) = charts.flow(WAYS).axes
    bands = [band.get_paths()[0].vertices for band in axis.collections]
    assert len(bands) == 2 * len(WAYS)
    for band, images in zip(bands, [*WAYS["images"], *WAYS["images"]], strict=True):
        for x in (band[:, 0].min(), band[:, 0].max()):
            assert np.ptp(band[band[:, 0] == x, 1]) == pytest.approx(images / 100)

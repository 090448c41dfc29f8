"""Contact sheets: every image in its place, in its frame."""

import matplotlib
import numpy as np
import pytest

from lib import viz
from lib.viz import RIGHT, WRONG, Row
from tests.figures import check_picture, colours, square

# What spoils a picture is a warning in matplotlib and numpy: all are errors here.
pytestmark = pytest.mark.filterwarnings("error")


PICTURES = {
    "sheet": lambda: viz.sheet(
        [Row("two", [square(9), square(99)], [RIGHT, WRONG], ["a", "b"]), Row("one", [square(0)])],
        title="a sheet",
        legend={RIGHT: "right"},
    ),
    "sheet of nothing": lambda: viz.sheet([]),
    "sheet of rows without images": lambda: viz.sheet([Row("empty", []), Row("", [])]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


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

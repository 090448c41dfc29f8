"""Contact sheets: every image in its place, in its frame; and text in all figures."""

import io
import logging

import matplotlib
import numpy as np
import pandas as pd
import pytest

from lib.plots import charts
from lib.plots import cleaning as embedding_map
from lib.plots import reranking as rerank_charts
from lib.plots import sheets as viz
from lib.plots.sheets import RIGHT, WRONG, ImageRow, TextFigure, printable, shorten
from tests.figures import check_picture, colours, png_size, square

# What spoils a picture is a warning in matplotlib and numpy: all are errors here.
pytestmark = pytest.mark.filterwarnings("error")


PICTURES = {
    "sheet": lambda: viz.sheet(
        [
            ImageRow("two", [square(9), square(99)], [RIGHT, WRONG], ["a", "b"]),
            ImageRow("one", [square(0)]),
        ],
        title="a sheet",
        legend={RIGHT: "right"},
    ),
    "sheet of nothing": lambda: viz.sheet([]),
    "sheet of rows without images": lambda: viz.sheet([ImageRow("empty", []), ImageRow("", [])]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


def test_sheet_places_images_in_their_rows_and_columns():
    rows = [
        ImageRow("three", [square(value) for value in (10, 20, 30)]),
        ImageRow("none", []),
        ImageRow("two", [square(40), square(50, side=16)]),
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
    rows = [ImageRow("r", [square(0, side=side) for side in (8, 16, 24)], (), captions)] * 3
    figure = viz.sheet(rows, title="t", legend=legend)
    boxes = np.array([axis.get_position().extents for axis in figure.axes])
    inches = boxes * np.tile(figure.get_size_inches(), 2)
    np.testing.assert_allclose(inches[:, 2:] - inches[:, :2], 0.95)
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert (np.maximum(a[:2], b[:2]) > np.minimum(a[2:], b[2:]) - 1e-9).any()


def test_sheet_of_nothing_says_so_in_place_of_the_legend():
    figure = viz.sheet([], title="noise", legend={RIGHT: "right"})
    assert [text.get_text() for text in figure.texts] == ["noise", "no image to show here"]
    assert not figure.legends


def test_sheet_frames_and_captions_as_asked():
    asked = [RIGHT, "", WRONG]
    row = ImageRow("r", [square(0)] * 4, asked, ["query", "0.91"])
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


NAMES = {
    "empty formula": "$$",
    "prices": "Bar $5 # $6",
    "command": r"C$\frac$",
    "open brace": "$x_{1$",
    "latin": "Łódź – Žižkov, Đà Nẵng",
    "japanese": "金閣寺 東京タワー",
    "chinese": "故宫 萬里長城",
    "korean": "경복궁",
    "thai": "วัดพระแก้ว",
    "hindi": "ताज महल",
    "arabic": "المسجد الحرام",
    "hebrew": "הכותל המערבי",
    "bengali and tamil": "ষাট গম্বুজ தஞ்சை",
    "emoji": "🗼🏰⛩️",
    "in no font": "\U00013000\u1824\ue000",
    "control characters": "tab\there\x00\x1b[31m\r\nline",
    "half a character": "\ud800 half",
    "long": "L" * 5000,
    "long in chinese": "故宫" * 2000,
    "many lines": "line\n" * 500,
    "nothing": " \n ",
}


def figures_with(name):
    """Every kind of figure with a name in every place."""
    picture, short = square(9), shorten(name, 40)
    table = pd.DataFrame({"train": [0.5]}, index=[name])
    line = {"name": name, "against": "first", "difference": 0.1, "paper": np.nan}
    line |= {"difference_low": 0.0, "difference_high": 0.2}
    panel = embedding_map.MapPanel(short, np.zeros((1, 2)), [RIGHT], {0: picture})
    yield viz.sheet(
        [ImageRow(name, [picture], [RIGHT], [short])], title=short, legend={RIGHT: f"of {short}"}
    )
    yield charts.shares(table, title=short)
    yield charts.forest({short: pd.DataFrame([line])}, title=short)
    yield embedding_map.draw_map([panel], title=short, legend={RIGHT: f"of {short}"})
    yield rerank_charts.explained([], title=short)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_figures_draw_any_name_without_a_warning(name, caplog):
    for figure in figures_with(name):
        assert isinstance(figure, TextFigure)
        width, height = png_size(figure)
        assert max(width, height) < 1000  # at 40 dots per inch
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def drawn(name):
    """The pixels of a name alone."""
    figure = TextFigure(figsize=(3, 1))
    figure.text(0.02, 0.5, name, fontsize=20)
    stream = io.BytesIO()
    figure.savefig(stream, format="rgba")
    return stream.getvalue()


@pytest.mark.parametrize("script", ["金", "故", "궁", "ว", "त", "ষ", "த", "🗼"])
def test_a_letter_of_any_script_is_drawn_and_is_no_box(script):
    boxes = {drawn("\U00013000"), drawn("\ue000"), drawn(""), drawn(" ")}
    assert drawn(script) not in boxes


def test_a_name_with_dollars_is_drawn_as_it_is():
    assert drawn("Costs $5 and $6") != drawn("Costs 5 and 6")
    figure = TextFigure()
    text = figure.text(0, 0, "Costs $5 and $6")
    png_size(figure)
    assert text.get_text() == "Costs $5 and $6"
    assert not text.get_parse_math()


def test_figures_draw_without_the_packages_of_fonts(monkeypatch):
    viz._more_fonts.cache_clear()
    monkeypatch.setattr(viz, "FONT_PACKAGES", ("no_such_package",))
    assert len(drawn("金閣寺"))
    viz._more_fonts.cache_clear()


def test_figures_of_latin_words_load_no_other_font():
    viz._more_fonts.cache_clear()
    drawn("Łódź, α = 0.5 … β × ½ – é")
    assert viz._more_fonts.cache_info().currsize == 0


def test_shorten_counts_columns_and_not_letters():
    assert shorten("金閣寺" * 9, 9) == "金閣寺金…"
    assert shorten("a\tb\n c", 9) == "a b c"
    assert shorten("one two three four", 9, lines=2) == "one two\nthree…"
    assert shorten("one two", 9, lines=2) == "one two"
    assert printable("a\x00b\ud800\n\u200dc") == "a b \n\u200dc"


def test_sheet_keeps_long_titles_beside_their_row():
    row = ImageRow("故宫" * 300 + "\n3 of 9 images", [square(0)])
    title = viz.sheet([row]).texts[0].get_text().split("\n")
    assert len(title) == 5
    assert title[-1] == "3 of 9 images"
    assert title[-2].endswith("…")

"""Sheets: which images a row shows, in which frames; and text in all figures."""

import io
import logging

import matplotlib
import numpy as np
import pandas as pd
import pytest

from lib.data.images import ImageSource
from lib.plots import charts, explorers, reranking, sheets
from lib.plots.sheets import (
    CLUSTERS,
    DROPPED,
    KEPT,
    NEUTRAL,
    RESCUED,
    RIGHT,
    WRONG,
    ImageRow,
    TextFigure,
    printable,
    shorten,
)
from lib.retrieval.ranking import Ranking
from tests.figures import STRICT, check_picture, colours, png_size, square
from tests.made_up import NumberedSource, numbered_evaluation, shown

pytestmark = STRICT

SOURCE = NumberedSource()


def raw_list(sizes=((7, 6), (9, 3))):
    """Images of landmarks, given as (landmark, count); every third is not clean."""
    rows = [(mark, number) for mark, count in sizes for number in range(count)]
    table = pd.DataFrame(rows, columns=["landmark_id", "number"])
    table["id"] = [f"{mark}-{number}" for mark, number in rows]
    table["path"] = "train/" + table["id"]
    table["is_clean"] = table["number"] % 3 != 2
    return table


def cleaned(*rows):
    """The per-image table of cleaning from (landmark, label, status) of every image."""
    table = pd.DataFrame(rows, columns=["landmark_id", "label", "status"])
    table["id"] = [f"i{number}" for number in range(len(table))]
    table["path"] = "train/" + table["id"]
    # The later in the table, the nearer to the centre of its class; dropped images have none.
    table["distance"] = np.linspace(0.5, 0.1, len(table))
    return table.assign(distance=table["distance"].where(table["label"] >= 0))


def test_pixels_are_squares_in_the_order_of_the_paths(stripes, images):
    source = ImageSource(stripes)
    paths = images["path"].iloc[[5, 0, 40]]
    found = sheets.pixels(source, paths)
    assert {image.shape for image in found} == {(sheets.PIXELS, sheets.PIXELS, 3)}
    for image, path in zip(found, paths, strict=True):
        np.testing.assert_array_equal(image, source.read_resized(path, sheets.PIXELS))


def test_pixels_of_an_unreadable_image_are_grey(stripes):
    with pytest.warns(UserWarning, match="cannot be read"):
        (found,) = sheets.pixels(ImageSource(stripes), ["train/0/0/0/0000000000000bad.jpg"])
    assert np.unique(found).tolist() == [128]


def test_landmark_rows_show_images_of_their_own_landmark_once():
    table = raw_list(((7, 20), (8, 5), (9, 3)))
    for seed in range(20):
        generator = np.random.default_rng(seed)
        rows = sheets.landmark_rows(SOURCE, table, [9, 7], {}, columns=6, generator=generator)
        paths = [shown(row.images, list(table["path"])) for row in rows]
        assert [len(row) for row in paths] == [3, 6]
        assert all(len(set(row)) == len(row) for row in paths)
        marks = [{path.split("/")[1].split("-")[0] for path in row} for row in paths]
        assert marks == [{"9"}, {"7"}]


def test_landmark_rows_repeat_with_their_generator():
    table = raw_list(((7, 30),))
    first, second, other = (
        sheets.landmark_rows(SOURCE, table, [7], {}, generator=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0].images, second[0].images)
    assert (np.array(first[0].images) != np.array(other[0].images)).any()


def test_rows_take_names_as_far_as_there_are_any():
    table, names = raw_list(), {7: "Windhoek"}
    rows = sheets.landmark_rows(SOURCE, table, [7, 9], names, generator=np.random.default_rng(0))
    assert [row.title for row in rows] == ["Windhoek", "landmark 9"]
    rows = sheets.noise_rows(SOURCE, table, [7, 9], names)
    assert [row.title for row in rows] == ["Windhoek", "landmark 9"]
    images = cleaned((7, 0, "kept"), (9, 1, "kept"))
    rows = sheets.split_rows(SOURCE, images, [7, 9], names)
    assert [row.title for row in rows] == ["Windhoek\n1 images", "landmark 9\n1 images"]
    rows = sheets.marked_rows(SOURCE, images, images["status"] == "kept", names)
    assert [row.title for row in rows] == ["Windhoek\n1 of 1 images", "landmark 9\n1 of 1 images"]


def test_no_landmark_and_no_query_are_no_rows():
    table, images = raw_list(), cleaned((7, 0, "kept"))
    evaluation = numbered_evaluation()
    ranking = Ranking(np.empty((0, 0)), np.empty((0, 0), dtype=int), [], [])
    assert sheets.landmark_rows(SOURCE, table, [], {}, generator=np.random.default_rng(0)) == []
    assert sheets.noise_rows(SOURCE, table, [], {}) == []
    assert sheets.split_rows(SOURCE, images, [], {}) == []
    assert sheets.marked_rows(SOURCE, images, images["status"] == "rescued", {}) == []
    assert sheets.strips(SOURCE, evaluation, ranking, []) == []
    assert not sheets.draw([], title="Rescued", legend={RIGHT: "kept"}).axes[0].images


def test_country_rows_show_the_known_country_with_most_landmarks():
    table = raw_list(((7, 6), (8, 3), (9, 4), (10, 9), (11, 9), (12, 9)))
    countries = {7: "FR", 8: "JP", 9: "FR", 10: "OTHER", 11: "OTHER", 12: "OTHER"}
    table["country"] = table["landmark_id"].map(countries)
    table.loc[table["landmark_id"] == 9, "is_clean"] = False  # not in the clean list at all
    names = {mark: f"place {mark}" for mark in countries}
    home, rows = sheets.country_rows(
        SOURCE, table, names, columns=9, generator=np.random.default_rng(0)
    )
    assert (home, [row.title for row in rows]) == ("FR", ["place 7", "place 9"])
    paths = [set(shown(row.images, list(table["path"]))) for row in rows]
    assert paths == [{f"train/7-{n}" for n in (0, 1, 3, 4)}, {f"train/9-{n}" for n in range(4)}]


def test_noise_rows_are_red_only_where_images_are_known_to_be_wrong():
    table = raw_list(((7, 15),))  # 2, 5, 8, 11 and 14 are not clean
    # Image 0 is noise that the clean list kept: its frame still says "clean list".
    planted = [f"7-{number}" for number in (0, 5, 11)]
    (row,) = sheets.noise_rows(SOURCE, table, [7], {}, planted=planted)
    numbers = [path.split("-")[1] for path in shown(row.images, list(table["path"]))]
    assert numbers == ["0", "1", "3", "5", "11", "2", "8", "14"]
    assert row.colours == [*[RIGHT] * 3, WRONG, WRONG, *[NEUTRAL] * 3]


def test_noise_rows_leave_room_for_what_was_left_out_and_is_not_known_to_be_wrong():
    table = raw_list(((7, 40),))
    planted = table.loc[table["number"] < 30, "id"]
    (row,) = sheets.noise_rows(SOURCE, table, [7], {}, planted=planted)
    assert row.colours == [RIGHT] * 3 + [WRONG] * 3 + [NEUTRAL] * 3


@pytest.mark.parametrize("is_clean", [True, False])
def test_noise_rows_of_one_kind_only(is_clean):
    table = raw_list(((7, 12),)).assign(is_clean=is_clean)
    (row,) = sheets.noise_rows(SOURCE, table, [7], {}, columns=6)
    assert row.colours == ([RIGHT] * 2 if is_clean else [NEUTRAL] * 6)
    assert len(row.images) == len(row.colours)


def test_strips_frame_what_the_solution_says():
    evaluation = numbered_evaluation()  # q1 and q4 show landmark 1: g1, g4, g7 and g10
    scores = [[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2]]
    ranking = Ranking(scores, [[1, 0, 4, 2], [3, 10, 5, 7]], ["q1", "q4"], evaluation.gallery["id"])
    rows = sheets.strips(SOURCE, evaluation, ranking, ["q4", "q1"], columns=3, title="before")
    assert [row.colours for row in rows] == [["", WRONG, RIGHT, WRONG], ["", RIGHT, WRONG, RIGHT]]
    assert rows[0].captions == ["query", "0.50", "0.40", "0.30"]
    paths = [*evaluation.queries["path"], *evaluation.gallery["path"]]
    assert shown(rows[0].images, paths) == [
        "test/q4.jpg",
        "index/g3.jpg",
        "index/g10.jpg",
        "index/g5.jpg",
    ]
    assert [row.title for row in rows] == [
        "before\n1 of 3 right\n(4 in the gallery)",
        "before\n2 of 3 right\n(4 in the gallery)",
    ]


def test_strips_without_title_or_results_show_the_query():
    evaluation = numbered_evaluation()
    ranking = Ranking(np.empty((1, 0)), np.empty((1, 0), dtype=int), ["q0"], [])
    (row,) = sheets.strips(SOURCE, evaluation, ranking, ["q0"])
    assert len(row.images) == 1
    assert row.title == "0 of 0 right\n(4 in the gallery)"


def test_split_rows_give_every_class_a_colour_and_the_largest_comes_first():
    images = cleaned(
        *[(7, 0, "kept")] * 4,
        *[(7, 1, "split")] * 6,
        *[(7, 2, "rescued")] * 2,
        *[(7, -1, "dropped")] * 3,
        (9, 3, "kept"),
    )
    (row,) = sheets.split_rows(SOURCE, images, [7], {}, columns=9)
    classes = images.set_index("path")["label"][shown(row.images, list(images["path"]))]
    assert classes.tolist() == [1] * 4 + [0] * 4
    assert row.colours == [CLUSTERS[0]] * 4 + [CLUSTERS[1]] * 4
    assert row.title == "landmark 7\n6 + 4 images"
    # Of each class those nearest to its centre, here the last ones of the table.
    assert classes.index.tolist()[:3] == [f"train/i{number}" for number in (9, 8, 7)]


@pytest.mark.parametrize(("columns", "sizes"), [(3, "9 + 8 + 7"), (9, "9 + 8 + 7 + 6 + 5")])
def test_split_rows_show_as_many_classes_as_have_room_and_colours(columns, sizes):
    rows = [(7, label, "split") for label in range(8) for _ in range(2 + label)]
    images = cleaned(*rows)
    (row,) = sheets.split_rows(SOURCE, images, [7], {}, columns=columns)
    classes = images.set_index("path")["label"][shown(row.images, list(images["path"]))]
    assert classes.tolist() == [7, 6, 5, 4, 3][:columns]
    assert row.colours == list(CLUSTERS)[:columns]
    assert row.title == f"landmark 7\n{sizes} images"


def test_split_rows_of_a_landmark_that_was_lost_show_nothing():
    images = cleaned((7, -1, "dropped"), (7, -1, "dropped"), (9, 0, "kept"))
    lost, kept = sheets.split_rows(SOURCE, images, [7, 9], {})
    assert list(lost.images) == list(lost.colours) == []
    assert lost.title == "landmark 7\nno images"
    assert kept.colours == [CLUSTERS[0]]


@pytest.mark.parametrize(("status", "colour"), [("dropped", DROPPED), ("rescued", RESCUED)])
def test_marked_rows_set_a_status_beside_typical_images(status, colour):
    images = cleaned(*[(7, 0, "kept")] * 5, *[(7, 1, status)] * 4, (7, -1, "other"), (9, 2, status))
    options = {"colour": colour, "landmarks": [7], "columns": 6}
    (row,) = sheets.marked_rows(SOURCE, images, images["status"] == status, {}, **options)
    assert row.colours == [KEPT] * 3 + [colour] * 3
    found = shown(row.images, list(images["path"]))
    assert found[:3] == ["train/i4", "train/i3", "train/i2"]  # nearest to the centre
    assert found[3:] == ["train/i5", "train/i6", "train/i7"]
    assert row.title == "landmark 7\n4 of 10 images"


def test_marked_rows_without_such_images_show_the_typical_ones():
    images = cleaned(*[(7, 0, "kept")] * 5)
    (row,) = sheets.marked_rows(SOURCE, images, np.zeros(5, bool), {}, landmarks=[7])
    assert row.colours == [KEPT] * 3


def test_marked_rows_of_a_lost_landmark_show_what_was_dropped():
    images = cleaned(*[(7, -1, "dropped")] * 4)
    (row,) = sheets.marked_rows(SOURCE, images, images["status"] == "dropped", {})
    assert row.colours == [DROPPED] * 4


def test_marked_rows_begin_with_the_landmark_of_most_marked_images():
    images = cleaned(*[(5, 0, "kept")] * 4, *[(2, 1, "kept")] * 3, *[(9, 2, "kept")] * 3)
    marked = np.isin(np.arange(10), [1, 3, 5])
    rows = sheets.marked_rows(SOURCE, images, marked, {5: "Arch"})
    assert [row.title for row in rows] == ["Arch\n2 of 4 images", "landmark 2\n1 of 3 images"]
    # A marked image is not typical, however near to the centre it is.
    numbers = [shown(row.images, list(images["path"])) for row in rows]
    assert numbers == [
        ["train/i2", "train/i0", "train/i1", "train/i3"],
        ["train/i6", "train/i4", "train/i5"],
    ]


def test_marked_rows_are_six_at_most():
    images = cleaned(*[(landmark, -1, "dropped") for landmark in range(9) for _ in range(2)])
    rows = sheets.marked_rows(SOURCE, images, np.ones(18, bool), {})
    assert [row.title.split("\n")[0] for row in rows] == [f"landmark {i}" for i in range(6)]


PICTURES = {
    "sheet": lambda: sheets.draw(
        [
            ImageRow("two", [square(9), square(99)], [RIGHT, WRONG], ["a", "b"]),
            ImageRow("one", [square(0)]),
        ],
        title="a sheet",
        legend={RIGHT: "right"},
    ),
    "sheet of nothing": lambda: sheets.draw([]),
    "sheet of rows without images": lambda: sheets.draw([ImageRow("empty", []), ImageRow("", [])]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_a_figure_of_its_own_that_can_be_saved(name):
    check_picture(PICTURES[name]())


def boxes_of(figure):
    """Left, bottom, right and top of every image of a sheet, and of its frame, by the figure's."""
    (axes,) = figure.axes
    extents = np.array([image.get_extent() for image in axes.images])[:, [0, 2, 1, 3]]
    frames = np.array([frame.get_bbox().extents for frame in axes.patches])
    np.testing.assert_allclose(frames, extents)
    corners = (axes.transData - figure.transFigure).transform(extents.reshape(-1, 2))
    return corners.reshape(-1, 4).round(9)


def test_sheet_places_images_in_their_rows_and_columns():
    rows = [
        ImageRow("three", [square(value) for value in (10, 20, 30)]),
        ImageRow("none", []),
        ImageRow("two", [square(40), square(50, side=16)]),
    ]
    figure = sheets.draw(rows, title="all of them")
    assert [text.get_text() for text in figure.texts] == ["all of them", "three", "none", "two"]
    shown = [image.get_array() for image in figure.axes[0].images]
    for array, image in zip(shown, [image for row in rows for image in row.images], strict=True):
        np.testing.assert_array_equal(array, image)
    boxes = boxes_of(figure)
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
    figure = sheets.draw(rows, title="t", legend=legend)
    boxes = boxes_of(figure)
    inches = boxes * np.tile(figure.get_size_inches(), 2)
    np.testing.assert_allclose(inches[:, 2:] - inches[:, :2], 0.95)
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert (np.maximum(a[:2], b[:2]) > np.minimum(a[2:], b[2:]) - 1e-9).any()


def test_sheet_of_nothing_says_so_in_place_of_the_legend():
    figure = sheets.draw([], title="noise", legend={RIGHT: "right"})
    assert [text.get_text() for text in figure.texts] == ["noise", "no image to show here"]
    assert not figure.legends


def test_sheet_frames_and_captions_as_asked():
    asked = [RIGHT, "", WRONG]
    row = ImageRow("r", [square(0)] * 4, asked, ["query", "0.91"])
    figure = sheets.draw([row], legend={RIGHT: "right", WRONG: "wrong"})
    (axes,) = figure.axes
    framed = [matplotlib.colors.to_hex(frame.get_edgecolor()) for frame in axes.patches]
    assert framed == [RIGHT, "#ffffff", WRONG, "#ffffff"]
    boxes = boxes_of(figure)
    for text, (left, bottom, right, _) in zip(axes.texts, boxes, strict=False):
        x, y = (axes.transData - figure.transFigure).transform(text.get_position())
        assert left < x < right
        assert bottom - 0.05 < y < bottom
    assert [text.get_text() for text in axes.texts] == ["query", "0.91"]
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
    panel = explorers.MapPanel(short, np.zeros((1, 2)), [RIGHT], {0: picture})
    yield sheets.draw(
        [ImageRow(name, [picture], [RIGHT], [short])], title=short, legend={RIGHT: f"of {short}"}
    )
    yield charts.shares(table, title=short)
    yield charts.forest({short: pd.DataFrame([line])}, title=short)
    yield explorers.draw_map([panel], title=short, legend={RIGHT: f"of {short}"})
    yield reranking.explained([], title=short)


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
    sheets._more_fonts.cache_clear()
    monkeypatch.setattr(sheets, "FONT_PACKAGES", ("no_such_package",))
    assert len(drawn("金閣寺"))
    sheets._more_fonts.cache_clear()


def test_figures_of_latin_words_load_no_other_font():
    sheets._more_fonts.cache_clear()
    drawn("Łódź, α = 0.5 … β × ½ – é")
    assert sheets._more_fonts.cache_info().currsize == 0


def test_shorten_counts_columns_and_not_letters():
    assert shorten("金閣寺" * 9, 9) == "金閣寺金…"
    assert shorten("a\tb\n c", 9) == "a b c"
    assert shorten("one two three four", 9, lines=2) == "one two\nthree…"
    assert shorten("one two", 9, lines=2) == "one two"
    assert printable("a\x00b\ud800\n\u200dc") == "a b \n\u200dc"


def test_sheet_keeps_long_titles_beside_their_row():
    row = ImageRow("故宫" * 300 + "\n3 of 9 images", [square(0)])
    title = sheets.draw([row]).texts[0].get_text().split("\n")
    assert len(title) == 5
    assert title[-1] == "3 of 9 images"
    assert title[-2].endswith("…")

"""Sheets: which images a row shows, in which frames, and that no landmark is no row."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.config import AugmentConfig, StageConfig
from lib.data.images import ImageSource
from lib.plots import sheets
from lib.plots import sheets as viz
from lib.plots.sheets import CLUSTERS, NEUTRAL, RESCUED, RIGHT, WRONG
from lib.retrieval.ranking import Ranking
from tests.numbered import NumberedSource, numbered_evaluation, shown

SOURCE = NumberedSource()
STAGE = StageConfig(size=16, augment=AugmentConfig(flip=0.5, erasing=1.0))


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
        rows = sheets.landmark_rows(SOURCE, table, [9, 7], columns=6, generator=generator)
        paths = [shown(row.images, list(table["path"])) for row in rows]
        assert [len(row) for row in paths] == [3, 6]
        assert all(len(set(row)) == len(row) for row in paths)
        marks = [{path.split("/")[1].split("-")[0] for path in row} for row in paths]
        assert marks == [{"9"}, {"7"}]


def test_landmark_rows_repeat_with_their_generator():
    table = raw_list(((7, 30),))
    first, second, other = (
        sheets.landmark_rows(SOURCE, table, [7], generator=np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0].images, second[0].images)
    assert (np.array(first[0].images) != np.array(other[0].images)).any()


def test_rows_take_titles_as_far_as_there_are_any():
    table, generator = raw_list(), np.random.default_rng(0)
    rows = sheets.landmark_rows(SOURCE, table, [7, 9], titles=["Windhoek"], generator=generator)
    assert [row.title for row in rows] == ["Windhoek", "landmark 9"]
    rows = sheets.noise_rows(SOURCE, table, [7, 9], titles=["Windhoek"])
    assert [row.title for row in rows] == ["Windhoek", "landmark 9"]
    images = cleaned((7, 0, "kept"), (9, 1, "kept"))
    rows = sheets.split_rows(SOURCE, images, [7, 9], titles=["Windhoek"])
    assert [row.title for row in rows] == ["Windhoek\n1 images", "landmark 9\n1 images"]
    rows = sheets.status_rows(SOURCE, images, "dropped", [7, 9], titles=["Windhoek"])
    assert [row.title for row in rows] == ["Windhoek", "landmark 9"]


def test_no_landmark_and_no_query_are_no_rows():
    table, images = raw_list(), cleaned((7, 0, "kept"))
    evaluation = numbered_evaluation()
    ranking = Ranking(np.empty((0, 0)), np.empty((0, 0), dtype=int), [], [])
    assert sheets.landmark_rows(SOURCE, table, [], generator=np.random.default_rng(0)) == []
    assert sheets.noise_rows(SOURCE, table, []) == []
    assert sheets.split_rows(SOURCE, images, []) == []
    assert sheets.status_rows(SOURCE, images, "rescued", []) == []
    assert sheets.strips(SOURCE, evaluation, ranking, []) == []
    assert viz.sheet([], title="Rescued", legend={RIGHT: "kept"}).axes == []


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


def test_noise_rows_are_red_only_where_the_truth_tells_of_noise():
    table = raw_list(((7, 12),))  # 2, 5, 8 and 11 are not clean
    truth = pd.DataFrame({"id": table["id"], "planted": "none"})
    truth.loc[[0, 5, 11], "planted"] = ["junk", "junk", "wrong landmark"]
    (row,) = sheets.noise_rows(SOURCE, table, [7], truth=truth)
    # Image 0 is noise that the clean list kept: its frame still says "clean list".
    numbers = [path.split("-")[1] for path in shown(row.images, list(table["path"]))]
    assert numbers == ["0", "1", "3", "5", "11", "2", "8"]
    assert row.colours == [*[RIGHT] * 3, WRONG, WRONG, NEUTRAL, NEUTRAL]


def test_noise_rows_are_grey_without_truth():
    table = raw_list(((7, 12),))
    (row,) = sheets.noise_rows(SOURCE, table, [7])
    assert row.colours == [RIGHT] * 3 + [NEUTRAL] * 4


@pytest.mark.parametrize("is_clean", [True, False])
def test_noise_rows_of_one_kind_only(is_clean):
    table = raw_list(((7, 12),)).assign(is_clean=is_clean)
    (row,) = sheets.noise_rows(SOURCE, table, [7], columns=6)
    assert row.colours == ([RIGHT] * 2 if is_clean else [NEUTRAL] * 6)
    assert len(row.images) == len(row.colours)


def test_strips_frame_what_the_solution_says():
    evaluation = numbered_evaluation()  # q1 and q4 show landmark 1: g1, g4, g7 and g10
    scores = [[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2]]
    ranking = Ranking(
        scores,
        [[1, 0, 4, 2], [3, 10, 5, 7]],
        ["q1", "q4"],
        evaluation.gallery["id"],
    )
    rows = sheets.strips(SOURCE, evaluation, ranking, ["q4", "q1"], columns=3, title="before")
    assert [row.colours for row in rows] == [
        ["", WRONG, RIGHT, WRONG],
        ["", RIGHT, WRONG, RIGHT],
    ]
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
    (row,) = sheets.split_rows(SOURCE, images, [7], columns=9)
    classes = images.set_index("path")["label"][shown(row.images, list(images["path"]))]
    assert classes.tolist() == [1] * 4 + [0] * 4
    assert row.colours == [CLUSTERS[0]] * 4 + [CLUSTERS[1]] * 4
    assert row.title == "landmark 7\n6 + 4 images"
    # Of each class those nearest to its centre, here the last ones of the table.
    assert classes.index.tolist()[:3] == [f"train/i{number}" for number in (9, 8, 7)]


def test_split_landmarks_put_the_largest_second_class_first():
    images = cleaned(
        *[(7, 0, "kept")] * 9,
        *[(7, 1, "split")] * 2,
        *[(8, 2, "kept")] * 5,
        *[(8, 3, "split")] * 4,
        *[(9, 4, "kept")] * 9,
        *[(9, 5, "rescued")] * 8,
    )
    assert sheets.split_landmarks(images, 6) == [8, 7]
    assert sheets.split_landmarks(images, 1) == [8]
    assert sheets.split_landmarks(cleaned((7, 0, "kept")), 6) == []


@pytest.mark.parametrize(("columns", "sizes"), [(3, "9 + 8 + 7"), (9, "9 + 8 + 7 + 6 + 5")])
def test_split_rows_show_as_many_classes_as_have_room_and_colours(columns, sizes):
    rows = [(7, label, "split") for label in range(8) for _ in range(2 + label)]
    images = cleaned(*rows)
    (row,) = sheets.split_rows(SOURCE, images, [7], columns=columns)
    classes = images.set_index("path")["label"][shown(row.images, list(images["path"]))]
    assert classes.tolist() == [7, 6, 5, 4, 3][:columns]
    assert row.colours == list(CLUSTERS)[:columns]
    assert row.title == f"landmark 7\n{sizes} images"


def test_split_rows_of_a_landmark_that_was_lost_show_nothing():
    images = cleaned((7, -1, "dropped"), (7, -1, "dropped"), (9, 0, "kept"))
    lost, kept = sheets.split_rows(SOURCE, images, [7, 9])
    assert list(lost.images) == list(lost.colours) == []
    assert lost.title == "landmark 7\nno images"
    assert kept.colours == [CLUSTERS[0]]


@pytest.mark.parametrize(
    ("status", "colour"), [("dropped", WRONG), ("rescued", RESCUED), ("split", NEUTRAL)]
)
def test_status_rows_set_a_status_beside_typical_images(status, colour):
    images = cleaned(*[(7, 0, "kept")] * 5, *[(7, 1, status)] * 4, (7, -1, "other"), (9, 2, status))
    (row,) = sheets.status_rows(SOURCE, images, status, [7], typical=2, columns=5)
    assert row.colours == [RIGHT, RIGHT, colour, colour, colour]
    found = shown(row.images, list(images["path"]))
    assert found[:2] == ["train/i4", "train/i3"]  # nearest to the centre
    assert set(found[2:]) < set(images.loc[images["status"] == status, "path"])


def test_status_rows_without_such_images_show_the_typical_ones():
    images = cleaned(*[(7, 0, "kept")] * 5)
    (row,) = sheets.status_rows(SOURCE, images, "rescued", [7])
    assert row.colours == [RIGHT] * 3
    assert len(row.images) == 3


def test_status_rows_of_a_lost_landmark_show_what_was_dropped():
    images = cleaned(*[(7, -1, "dropped")] * 4)
    (row,) = sheets.status_rows(SOURCE, images, "dropped", [7])
    assert row.colours == [WRONG] * 4


def augmented(seed, *, stage=STAGE, columns=5):
    table = raw_list()
    generator = torch.Generator().manual_seed(seed)
    rows = sheets.augmented_rows(SOURCE, table, stage, columns=columns, generator=generator)
    return [np.array(row.images) for row in rows]


def test_augmented_rows_repeat_with_their_generator():
    first, second, other = augmented(1), augmented(1), augmented(2)
    for a, b, c in zip(first, second, other, strict=True):
        assert a.shape == (5, 16, 16, 3)
        assert a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_augmented_rows_without_augmentation_are_the_images_themselves():
    plain = StageConfig(size=16, augment=AugmentConfig(flip=0.0))
    on_disk, trained, mixed = augmented(0, stage=plain)
    np.testing.assert_array_equal(on_disk, trained)
    # Colours tell images apart: a patch of each lies on a corner of the one before.
    own = (mixed == on_disk[:, :1, :1]).all(axis=3)
    neighbours = (mixed == np.roll(on_disk, 1, axis=0)[:, :1, :1]).all(axis=3)
    assert (own ^ neighbours).all()
    assert (own.mean(axis=(1, 2)) > 0.1).all()
    assert (own.mean(axis=(1, 2)) < 0.45).all()
    corners = own[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners.sum(axis=1) == 1).all()


def test_augmented_rows_erase_to_the_mean_colour():
    stage = StageConfig(size=16, augment=AugmentConfig(flip=0.0, erasing=1.0))
    on_disk, trained, _ = augmented(3, stage=stage)
    changed = (on_disk != trained).any(axis=3)
    assert changed.any(axis=(1, 2)).all()
    assert set(np.unique(trained[changed])) <= {127, 128}


def test_augmented_rows_of_a_small_list_show_all_of_it():
    assert [len(images) for images in augmented(0, columns=50)] == [9, 9, 9]

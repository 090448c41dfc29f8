"""Explorers: what a setting does, apart from the widgets, and the widgets by their values."""

import dataclasses
import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from matplotlib.offsetbox import AnnotationBbox
from sklearn.cluster import DBSCAN

from lib.cleaning.two_pass import clean
from lib.config import CleanConfig
from lib.plots import explorers
from lib.plots.explorers import (
    FACTORS,
    CleaningExplorer,
    MapPanel,
    RerankingExplorer,
    cluster_colours,
    describe_sizes,
    draw_map,
    far_apart,
    place,
)
from lib.plots.sheets import CLUSTERS, DROPPED, NEUTRAL, RESCUED, RIGHT, WRONG
from lib.reranking import explain, landmark_country_rerank, query_votes
from tests.figures import check_picture, square
from tests.made_up import NumberedSource, shown, small_data, small_evaluation


@pytest.fixture(scope="module")
def explorer():
    """Three landmarks: one of two groups with strangers, one of a single group, one image."""
    generator = np.random.default_rng(0)
    faces = np.concatenate(
        [np.repeat([0, 1], [12, 8]), np.arange(5, 11), np.repeat([2, 3], [9, 1])]
    )
    ids = np.repeat([40, 7, 3], [26, 9, 1])
    rows = np.eye(16)[faces] + 0.04 * generator.standard_normal((36, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    images = clean(rows, ids, CleanConfig(eps=0.2)).images
    images["path"] = [f"{number}.jpg" for number in range(36)]
    return CleaningExplorer(rows, images, NumberedSource(), 3, {40: "Old Bridge"})


def test_labels_are_scikit_learns_dbscan_at_every_radius(explorer):
    radii = [0.01, 0.1, 0.3, 0.9, 1.5]
    found = explorer.labels(40, radii)
    rows = explorer.rows[explorer.positions(40)].astype(np.float32)
    for eps, labels in zip(radii, found, strict=True):
        expected = DBSCAN(eps=eps, min_samples=3, metric="cosine").fit(rows).labels_
        assert labels.tolist() == expected.tolist()
    assert len({tuple(labels) for labels in found}) > 2  # it does fall apart


def test_positions_thin_large_landmarks_evenly(explorer, monkeypatch):
    monkeypatch.setattr(explorers, "MOST", 5)
    assert explorer.positions(40).tolist() == [0, 6, 12, 18, 25]
    with pytest.raises(ValueError, match="a landmark of this cleaning, found 41"):
        explorer.positions(41)


def test_most_changed_landmarks_were_split_or_lost_images(explorer):
    assert explorer.most_changed(5) == [40, 3, 7]
    assert explorer.most_changed(1) == [40]


def test_cluster_colours_begin_with_the_largest():
    labels = np.array([0, 1, 1, -1, 2, 2, 2])
    expected = [CLUSTERS[2], CLUSTERS[1], CLUSTERS[1], NEUTRAL, *[CLUSTERS[0]] * 3]
    assert cluster_colours(labels) == expected
    assert len(set(cluster_colours(np.arange(9)))) == len(CLUSTERS)


def test_describe_sizes_names_the_largest_and_counts_the_rest():
    assert describe_sizes(np.array([1, 1, 0, -1])) == "2 + 1 images"
    assert describe_sizes(np.repeat(np.arange(6), 2)) == "2 + 2 + 2 + 2 + 2 small images"
    assert describe_sizes(np.array([-1])) == "no images"


def dots(axis) -> list[str]:
    faces = axis.collections[0].get_facecolors()[:, :3]
    return [tuple(np.round(255 * face).astype(int).tolist()) for face in faces]


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_at_eps_colours_what_the_radius_makes(explorer):
    figure = explorer.at_eps(40, 0.2)
    check_picture(figure)
    (axis,) = figure.axes
    expected = [CLUSTERS[0]] * 12 + [CLUSTERS[1]] * 8 + [NEUTRAL] * 6
    assert dots(axis) == [rgb(colour) for colour in expected]
    assert axis.get_title("left") == "eps 0.20: 12 + 8 images, 6 noise"
    assert figure.get_suptitle() == "Old Bridge"


def test_at_eps_keeps_images_in_their_places(explorer):
    figure = explorer.at_eps(40, 0.01, 0.2, 2)
    places = [axis.collections[0].get_offsets() for axis in figure.axes]
    np.testing.assert_array_equal(places[0], places[2])
    assert set(dots(figure.axes[0])) == {rgb(NEUTRAL)}
    assert set(dots(figure.axes[2])) == {rgb(CLUSTERS[0])}


def test_cleaned_shows_what_became_of_each_image(explorer):
    rescued = explorer.images.assign(
        status=["rescued", "rescued", *explorer.images["status"].iloc[2:].astype(str)]
    )
    told = CleaningExplorer(explorer.rows, rescued, explorer.source, 3)
    figure = told.cleaned([40, 3])
    assert dots(figure.axes[0])[:2] == [rgb(RESCUED)] * 2
    assert set(dots(figure.axes[0])[20:]) == {rgb(DROPPED)}
    assert dots(figure.axes[1]) == [rgb(DROPPED)]
    assert "10 + 8 images, 2 rescued, 6 dropped" in figure.axes[0].get_title("left")


def test_cleaning_widget_follows_its_landmark_and_its_radius(explorer):
    box = explorer.widget(0.2)
    (landmark, radius), picture = box.children[0].children, box.children[1]
    assert [name for name, _ in landmark.options] == ["Old Bridge", "landmark 3", "landmark 7"]
    drawn = [bytes(picture.value)]
    for control, value in ((radius, 0.05), (landmark, 7), (radius, 0.3)):
        control.value = value
        drawn.append(bytes(picture.value))
    assert all(value.startswith(b"\x89PNG") for value in drawn)
    assert len(set(drawn)) == 4


class CountingSource(NumberedSource):
    """Counts how often each path is read."""

    def __init__(self):
        self.read = Counter()

    def read_resized(self, path, size):
        self.read[path] += 1
        return super().read_resized(path, size)


def test_widgets_read_each_thumbnail_once(explorer, reranking):
    sources = CountingSource(), CountingSource()
    cleaned = dataclasses.replace(explorer, source=sources[0]).widget(0.2)
    reranked = dataclasses.replace(reranking, source=sources[1]).widget({"q3": 0.0})
    for box in (cleaned, reranked):
        slider = box.children[0].children[1]
        slider.value = 0.1
    assert all(set(source.read.values()) == {1} for source in sources)


@pytest.mark.parametrize("name", ["explorer", "reranking"])
def test_picture_of_a_widget_fits_a_window_in_its_own_shape(name, request):
    made = request.getfixturevalue(name)
    box = made.widget(0.2 if name == "explorer" else {"q3": 0.0})
    picture = box.children[1]
    width, height = imread(io.BytesIO(picture.value)).shape[1::-1]
    assert height <= 0.6 * 800  # shown in its natural size in a window of 1280 × 800
    assert width <= 1280 - 300
    assert picture.layout.max_height == "60vh"
    assert picture.layout.width is picture.layout.height is None
    assert picture.layout.object_fit == "contain"


def test_cleaning_still_shows_the_most_changed_landmark_at_several_radii(explorer):
    figure = explorer.still(0.2)
    check_picture(figure)
    assert figure.get_suptitle() == "Old Bridge"
    radii = [axis.get_title("left").split(":")[0] for axis in figure.axes]
    assert radii == [f"eps {0.2 * factor:.2f}" for factor in FACTORS]


def test_cleaning_widget_begins_within_the_slider_at_any_radius(explorer):
    for eps in (0.002, 0.2, 2.0):
        assert 0 < explorer.widget(eps).children[0].children[1].value <= 2


def test_explorer_works_on_tables_read_back_from_files(explorer):
    text = explorer.images.astype({"status": str})
    again = CleaningExplorer(explorer.rows, pd.DataFrame(text), explorer.source, 3)
    assert again.most_changed(3) == explorer.most_changed(3)


def two_groups(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    group = np.arange(count) % 2
    rows = np.eye(16)[group] + 0.05 * generator.standard_normal((count, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), group


@pytest.mark.parametrize("count", [4, 7, 8, 40])
def test_place_keeps_groups_apart(count: int):
    rows, group = two_groups(np.random.default_rng(0), count)
    points = place(rows)
    assert points.shape == (count, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    centres = [points[group == side].mean(axis=0) for side in (0, 1)]
    nearest = [[np.linalg.norm(point - centre) for centre in centres] for point in points]
    assert np.argmin(nearest, axis=1).tolist() == group.tolist()


@pytest.mark.parametrize("dim", [6, 512])
def test_place_repeats(dim: int):
    rows = np.random.default_rng(1).normal(size=(30, dim))
    np.testing.assert_array_equal(place(rows), place(rows))


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_place_of_copies_is_one_place(count: int):
    points = place(np.tile(np.eye(1, 6), (count, 1)))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()


def test_far_apart_chooses_different_points_that_cover_the_map():
    generator = np.random.default_rng(2)
    for _ in range(20):
        points = generator.random((int(generator.integers(1, 60)), 2))
        chosen = far_apart(points, 8)
        assert len(set(chosen)) == len(chosen) == min(8, len(points))
        gaps = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
        if len(chosen) > 1:
            own = points[chosen]
            between = np.linalg.norm(own[:, None] - own, axis=2) + 9 * np.eye(len(own))
            assert gaps.max() <= between.min() + 1e-9


@pytest.mark.parametrize("count", [1, 5])
def test_far_apart_of_copies_is_one_of_them(count):
    assert len(far_apart(np.zeros((count, 2)), 4)) == 1


def test_draw_map_shows_every_image_in_its_colour_and_thumbnails_where_they_lie():
    points = np.random.default_rng(3).random((6, 2))
    colours = [CLUSTERS[0]] * 4 + [WRONG] * 2
    panel = MapPanel("one", points, colours, {1: square(10), 5: square(200)})
    figure = draw_map([panel, panel], title="two", legend={CLUSTERS[0]: "a", WRONG: "noise"})
    check_picture(figure)
    assert len(figure.axes) == 2
    for axis in figure.axes:
        np.testing.assert_allclose(axis.collections[0].get_offsets(), points)
        boxes = [artist for artist in axis.artists if isinstance(artist, AnnotationBbox)]
        assert [tuple(box.xy) for box in boxes] == [tuple(points[1]), tuple(points[5])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "noise"]


@pytest.fixture(scope="module")
def reranking():
    evaluation = small_evaluation()
    data, names = small_data(evaluation), {0: "Old Gate"}
    return RerankingExplorer(NumberedSource(), evaluation, data, {"top": 3}, names, columns=5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.5, 0.1), (2.0, 1.0)])
def test_explorer_ranks_one_query_as_all_of_them_are_ranked(reranking, alpha, beta):
    every = landmark_country_rerank(reranking.data, alpha=alpha, beta=beta, top=3)
    for query in ("q0", "q17"):
        sums = reranking.breakdown(query, alpha, beta).sums
        row = reranking.data.plain.row(query)
        assert sums["final"].tolist() == pytest.approx(every.scores[row, :5].tolist())


def test_strip_breaks_the_results_into_two_lines(reranking):
    (axis,) = reranking.strip("q3", 0.5, 0.1).axes
    extents = np.array([image.get_extent() for image in axis.images])
    assert len(np.unique(extents[1:4, 0])) == len(extents[1:4])  # three beside the query
    assert extents[4:, 0].tolist() == extents[1:3, 0].tolist()  # two below the first two
    assert (extents[4:, 3] > extents[1, 2]).all()


def test_explorer_draws_one_strip_or_several(reranking):
    still = reranking.still("q3", [(0, 0), (1, 0), (1, 0.2)])
    check_picture(still)
    assert len(still.axes[0].images) == 3 * (1 + 5)
    with pytest.raises(ValueError, match="one of the 30 ranked queries, found 'nobody'"):
        reranking.still("nobody", [(0.5, 0.1)])


def test_reranking_widget_follows_its_menu_and_sliders_at_once(reranking):
    named = dataclasses.replace(reranking, query_names={"q3": "Old Gate"})
    box = named.widget({"q3": 0.25, "q7": -0.1}, alpha=0.5, beta=0.1)
    controls, picture = box.children
    menu, alpha, beta = controls.children
    assert [label for label, _ in menu.options] == ["Old Gate, +0.25 AP", "query q7, -0.10 AP"]
    assert (menu.value, alpha.value, beta.value) == ("q3", 0.5, 0.1)
    drawn = [bytes(picture.value)]
    for control, value in ((alpha, 1.5), (beta, 0.0), (menu, "q7"), (alpha, 0.5)):
        control.value = value
        drawn.append(bytes(picture.value))
    assert all(value.startswith(b"\x89PNG") for value in drawn)
    assert len(set(drawn)) == 5


def test_reranking_widget_needs_a_query(reranking):
    with pytest.raises(ValueError, match="queries to choose from, found none"):
        reranking.widget({})


def breakdown(reranking, names=None, **weights):
    explorer = dataclasses.replace(reranking, names=names or {}, columns=6)
    weights = {"alpha": 0.5, "beta": 0.2} | weights
    sums = explain(reranking.data, "q4", **weights, top=3).head(6)
    voters = query_votes(reranking.data, top=3).of(reranking.data.plain.row("q4"))
    return explorer.breakdown("q4", *weights.values()), sums, voters


def test_breakdown_shows_the_query_and_its_results_in_order(reranking):
    found, sums, _ = breakdown(reranking)
    paths = reranking.evaluation.gallery.set_index("id")["path"]
    assert shown(found.images, list(paths)) == paths[sums["id"]].tolist()
    assert shown([found.query], ["test/q4.jpg", "test/q5.jpg"]) == ["test/q4.jpg"]
    for name in ("raw", "landmark", "country", "final"):
        assert found.sums[name].tolist() == pytest.approx(sums[name].tolist(), abs=1e-6)
    assert found.sums["moved"].tolist() == sums["moved"].tolist()


def test_breakdown_frames_right_and_wrong_and_counts(reranking):
    found, sums, _ = breakdown(reranking, alpha=0.0, beta=0.0)
    evaluation = reranking.evaluation
    usage = evaluation.queries.set_index("id")["usage"]["q4"]
    right = [image in evaluation.solution[usage]["q4"] for image in sums["id"]]
    assert found.colours == [RIGHT if is_right else WRONG for is_right in right]
    assert found.title == f"α = 0, β = 0\n{sum(right)} of 6 right"


def test_breakdown_names_the_voters(reranking):
    found, _, voters = breakdown(reranking, names={0: "Old Gate", 1: "", 2: "A" * 40})
    assert len(found.voters) == 3
    for line, voter in zip(found.voters, voters.itertuples(), strict=True):
        name = {0: "Old Gate", 1: "landmark 1", 2: "A" * 20 + "…"}[voter.landmark]
        country = {"NA": "Namibia", "FR": "France", "JP": "Japan"}[voter.country]
        assert line == f"{voter.similarity:.2f}  {name} · {country}"

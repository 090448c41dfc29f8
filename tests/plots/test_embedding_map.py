"""Maps: near images stay near, places repeat, and every image has its dot."""

import numpy as np
import pytest
from matplotlib.offsetbox import AnnotationBbox

from lib.plots.cleaning import MapPanel, draw_map, far_apart, place
from lib.plots.sheets import CLUSTERS, WRONG
from tests.figures import STRICT, check_picture, square

pytestmark = STRICT


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


def test_place_repeats():
    rows, _ = two_groups(np.random.default_rng(1), 30)
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


@pytest.mark.parametrize("points", [np.empty((0, 2)), np.zeros((5, 2))])
def test_far_apart_of_nothing_and_of_copies(points):
    assert len(far_apart(points, 4)) == min(len(points), 1)


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

"""Exploring: what a radius does, apart from the widgets, and the widgets by their values."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import DBSCAN

from lib.cleaning.two_pass import clean
from lib.config import CleanConfig
from lib.plots import explorers as explore_cleaning
from lib.plots.explorers import (
    FACTORS,
    NOISE,
    cluster_colours,
    explore,
    make_widget,
)
from lib.plots.explorers import (
    CleaningExplorer as Explorer,
)
from lib.plots.sheets import CLUSTERS, RESCUED
from tests.figures import check_picture
from tests.numbered import NumberedSource


@pytest.fixture(scope="module")
def explorer():
    """Three landmarks: one of two groups with strangers, one of a single group, one image."""
    generator = np.random.default_rng(0)
    views = np.concatenate(
        [np.repeat([0, 1], [12, 8]), np.arange(5, 11), np.repeat([2, 3], [9, 1])]
    )
    ids = np.repeat([40, 7, 3], [26, 9, 1])
    rows = np.eye(16)[views] + 0.04 * generator.standard_normal((36, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    images = clean(rows, ids, CleanConfig(eps=0.2)).images
    images["path"] = [f"{number}.jpg" for number in range(36)]
    return Explorer(rows, images, NumberedSource(), 3, {40: "Old Bridge"})


def test_fall_apart_is_scikit_learns_dbscan_at_every_radius(explorer):
    radii = [0.01, 0.1, 0.3, 0.9, 1.5]
    found = explorer.fall_apart(40, radii)
    rows = explorer.rows[explorer.of(40)].astype(np.float32)
    for eps, labels in zip(radii, found, strict=True):
        expected = DBSCAN(eps=eps, min_samples=3, metric="cosine").fit(rows).labels_
        assert labels.tolist() == expected.tolist()
    assert len({tuple(labels) for labels in found}) > 2  # it does fall apart


def test_of_thins_large_landmarks_evenly(explorer, monkeypatch):
    monkeypatch.setattr(explore_cleaning, "MOST", 5)
    assert explorer.of(40).tolist() == [0, 6, 12, 18, 25]
    with pytest.raises(ValueError, match="a landmark of this cleaning, found 41"):
        explorer.of(41)


def test_interesting_landmarks_were_split_or_lost_images(explorer):
    assert explorer.interesting(5) == [40, 3, 7]
    assert explorer.interesting(1) == [40]


def test_cluster_colours_begin_with_the_largest():
    labels = np.array([0, 1, 1, -1, 2, 2, 2])
    expected = [CLUSTERS[2], CLUSTERS[1], CLUSTERS[1], NOISE, *[CLUSTERS[0]] * 3]
    assert cluster_colours(labels) == expected
    assert len(set(cluster_colours(np.arange(9)))) == len(CLUSTERS)


def dots(axis) -> list[str]:
    faces = axis.collections[0].get_facecolors()[:, :3]
    return [tuple(np.round(255 * face).astype(int).tolist()) for face in faces]


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_at_radius_colours_what_the_radius_makes(explorer):
    figure = explorer.at_radius(40, 0.2)
    check_picture(figure)
    (axis,) = figure.axes
    expected = [CLUSTERS[0]] * 12 + [CLUSTERS[1]] * 8 + [NOISE] * 6
    assert dots(axis) == [rgb(colour) for colour in expected]
    assert axis.get_title("left") == "Old Bridge, eps 0.20: 12 + 8 images, 6 noise"


def test_at_radii_keeps_images_in_their_places(explorer):
    figure = explorer.at_radii(40, [0.01, 0.2, 2])
    places = [axis.collections[0].get_offsets() for axis in figure.axes]
    np.testing.assert_array_equal(places[0], places[2])
    assert set(dots(figure.axes[0])) == {rgb(NOISE)}
    assert set(dots(figure.axes[2])) == {rgb(CLUSTERS[0])}


def test_cleaned_shows_what_became_of_each_image(explorer):
    rescued = explorer.images.assign(
        status=["rescued", "rescued", *explorer.images["status"].iloc[2:].astype(str)]
    )
    told = Explorer(explorer.rows, rescued, explorer.source, 3)
    figure = told.cleaned([40, 3])
    assert dots(figure.axes[0])[:2] == [rgb(RESCUED)] * 2
    assert set(dots(figure.axes[0])[20:]) == {rgb(NOISE)}
    assert dots(figure.axes[1]) == [rgb(NOISE)]
    assert "10 + 8 images, 2 rescued, 6 dropped" in figure.axes[0].get_title("left")


def test_widget_follows_its_landmark_and_its_radius(explorer, monkeypatch):
    asked = []
    at_radius = Explorer.at_radius
    monkeypatch.setattr(
        Explorer, "at_radius", lambda own, *given: asked.append(given) or at_radius(own, *given)
    )
    box = make_widget(explorer, 0.2, [40, 7])
    (landmark, radius), picture = box.children[0].children, box.children[1]
    assert [name for name, _ in landmark.options] == ["Old Bridge", "landmark 7"]
    shown = [bytes(picture.value)]
    for control, value in ((radius, 0.05), (landmark, 7), (radius, 0.3)):
        control.value = value
        shown.append(bytes(picture.value))
    assert asked == [(40, 0.2), (40, 0.05), (7, 0.05), (7, 0.3)]
    assert all(value.startswith(b"\x89PNG") for value in shown)
    assert len(set(shown)) == 4


def test_explore_gives_a_widget_to_whom_watches_and_a_picture_to_nobody(explorer, monkeypatch):
    monkeypatch.setattr(explore_cleaning, "is_interactive", lambda: True)
    assert len(explore(explorer, 0.2).children) == 2
    monkeypatch.setattr(explore_cleaning, "is_interactive", lambda: False)
    shown = []
    figure = explore(explorer, 0.2, show=lambda figure: shown.append(figure) or figure)
    assert shown == [figure]
    assert len(figure.axes) == len(FACTORS)


def test_explore_begins_within_the_slider_at_any_radius(explorer, monkeypatch):
    monkeypatch.setattr(explore_cleaning, "is_interactive", lambda: True)
    for eps in (0.002, 0.2, 2.0):
        box = explore(explorer, eps)
        assert 0 < box.children[0].children[1].value <= 2


def test_explorer_works_on_tables_read_back_from_files(explorer):
    text = explorer.images.astype({"status": str})
    again = Explorer(explorer.rows, pd.DataFrame(text), explorer.source, 3)
    assert again.interesting(3) == explorer.interesting(3)

"""The miniature world's photographs: repeatable, varied, and of the place they should show."""

import numpy as np
import pytest

from lib.miniworld.countries import COUNTRIES
from lib.miniworld.junk import JUNK, draw_junk
from lib.miniworld.landmarks import KINDS
from lib.miniworld.photograph import photograph
from lib.miniworld.surroundings import GROUNDS, TREES, make_place
from lib.miniworld.textures import colour


def _rng(*words: int) -> np.random.Generator:
    return np.random.default_rng(words)


@pytest.mark.parametrize("kind", KINDS)
def test_make_place_builds_every_kind_in_some_country(kind):
    homes = [code for code, style in COUNTRIES.items() if kind in style.kinds.split()]
    assert homes
    place = make_place(homes[0], kind, "", _rng(1))
    low, high = place.models["front"].bounds()
    assert np.isfinite([low, high]).all()
    assert high[2] > 3
    pixels = photograph(place, "front", 32, _rng(2))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 5


def test_countries_name_only_what_can_be_drawn():
    for style in COUNTRIES.values():
        assert set(style.kinds.split()) <= set(KINDS)
        assert set(style.trees.split()) - {"none"} <= set(TREES)
        assert set(style.grounds.split()) <= set(GROUNDS)
        assert len(style.epithets.split()) == 6
        for words in (style.walls, style.roofs, style.accents, style.trims):
            assert all(colour(word).shape == (3,) for word in words.split())


def test_photograph_repeats_itself_and_varies():
    first, again = (make_place("FR", "palace", "interior", _rng(3)) for _ in range(2))
    for view in ("front", "interior", "detail"):
        pixels = photograph(first, view, 48, _rng(4))
        np.testing.assert_array_equal(pixels, photograph(again, view, 48, _rng(4)))
        other = photograph(first, view, 48, _rng(5))
        assert np.abs(pixels.astype(int) - other).mean() > 8


def test_photograph_tells_places_apart_by_their_layout():
    """A nearest neighbour among blurred pictures already finds the place more often than chance."""
    homes = {"church": "FR", "mosque": "TR", "pagoda": "CN", "highrise": "US", "beacon": "GB"}
    homes |= {"temple": "GR", "pyramid": "MX", "mountain": "NA"}
    places = [make_place(home, kind, "", _rng(6)) for kind, home in homes.items()]
    rows, labels = [], []
    for label, place in enumerate(places):
        for number in range(8):
            pixels = photograph(place, "front", 32, _rng(7, label, number), hard=0.2)
            rows.append(pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).ravel())
            labels.append(label)
    table, labels = np.array(rows), np.array(labels)
    distances = np.linalg.norm(table[:, None] - table[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    found = labels[distances.argmin(axis=1)] == labels
    assert found.mean() > 2.5 / len(places)


def test_photograph_shows_an_interior_unlike_the_outside():
    place = make_place("IT", "church", "interior", _rng(8))
    fronts = [photograph(place, "front", 24, _rng(9, i)) for i in range(12)]
    rooms = [photograph(place, "interior", 24, _rng(9, i)) for i in range(12)]
    fronts, rooms = (np.stack(part).astype(float) for part in (fronts, rooms))
    within = np.abs(rooms[::2] - rooms[1::2]).mean()
    between = np.abs(rooms - fronts).mean()
    assert between > within


@pytest.mark.parametrize("kind", JUNK)
def test_draw_junk_repeats_itself_and_varies(kind):
    pixels = draw_junk(kind, 40, _rng(10))
    assert pixels.shape == (40, 40, 3)
    np.testing.assert_array_equal(pixels, draw_junk(kind, 40, _rng(10)))
    assert np.abs(pixels.astype(int) - draw_junk(kind, 40, _rng(11))).mean() > 5

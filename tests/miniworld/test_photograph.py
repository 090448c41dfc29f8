"""The miniature world's photographs: repeatable, varied, and of the place they should show."""

import numpy as np

from lib.miniworld.photograph import take_photograph
from lib.miniworld.surroundings import make_place


def _rng(*words: int) -> np.random.Generator:
    return np.random.default_rng(words)


def test_take_photograph_repeats_itself_and_varies():
    first, again = (make_place("FR", "palace", "interior", _rng(3)) for _ in range(2))
    for view in ("front", "interior", "detail"):
        pixels = take_photograph(first, view, 48, _rng(4))
        np.testing.assert_array_equal(pixels, take_photograph(again, view, 48, _rng(4)))
        other = take_photograph(first, view, 48, _rng(5))
        assert np.abs(pixels.astype(int) - other).mean() > 8


def test_take_photograph_tells_places_apart_by_their_layout():
    """A nearest neighbour among blurred pictures already finds the place more often than chance."""
    homes = {"church": "FR", "mosque": "TR", "pagoda": "CN", "highrise": "US", "beacon": "GB"}
    homes |= {"temple": "GR", "pyramid": "MX", "mountain": "NA"}
    places = [make_place(home, kind, "", _rng(6)) for kind, home in homes.items()]
    rows, labels = [], []
    for label, place in enumerate(places):
        for number in range(8):
            pixels = take_photograph(place, "front", 32, _rng(7, label, number), difficulty=0.2)
            rows.append(pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).ravel())
            labels.append(label)
    table, labels = np.array(rows), np.array(labels)
    distances = np.linalg.norm(table[:, None] - table[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    found = labels[distances.argmin(axis=1)] == labels
    assert found.mean() > 2.5 / len(places)


def test_take_photograph_shows_an_interior_unlike_the_outside():
    place = make_place("IT", "church", "interior", _rng(8))
    fronts = [take_photograph(place, "front", 24, _rng(9, i)) for i in range(12)]
    rooms = [take_photograph(place, "interior", 24, _rng(9, i)) for i in range(12)]
    fronts, rooms = (np.stack(part).astype(float) for part in (fronts, rooms))
    within = np.abs(rooms[::2] - rooms[1::2]).mean()
    between = np.abs(rooms - fronts).mean()
    assert between > within

"""Places: every kind of landmark can be built, and photographed."""

import numpy as np
import pytest

from lib.miniworld.countries import COUNTRIES
from lib.miniworld.landmarks import KINDS
from lib.miniworld.photograph import take_photograph
from lib.miniworld.surroundings import make_place


@pytest.mark.parametrize("kind", KINDS)
def test_make_place_builds_every_kind_in_some_country(kind):
    homes = [code for code, style in COUNTRIES.items() if kind in style.kinds.split()]
    assert homes
    place = make_place(homes[0], kind, "", np.random.default_rng(1))
    low, high = place.models["front"].bounds()
    assert np.isfinite([low, high]).all()
    assert high[2] > 3
    pixels = take_photograph(place, "front", 32, np.random.default_rng(2))
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 5

"""Photographs without a landmark: repeatable and varied."""

import numpy as np
import pytest

from lib.miniworld.junk import JUNK, draw_junk


@pytest.mark.parametrize("kind", JUNK)
def test_draw_junk_repeats_itself_and_varies(kind):
    pixels = draw_junk(kind, 40, np.random.default_rng(10))
    assert pixels.shape == (40, 40, 3)
    np.testing.assert_array_equal(pixels, draw_junk(kind, 40, np.random.default_rng(10)))
    assert np.abs(pixels.astype(int) - draw_junk(kind, 40, np.random.default_rng(11))).mean() > 5

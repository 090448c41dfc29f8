"""The flow of images: bars and bands are as thick as they have images."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from lib.plots.cleaning import COLOURS, WORDS, flow
from tests.figures import STRICT, check_picture, colours

pytestmark = STRICT

WAYS = pd.DataFrame(
    [
        ("kept", "kept", 60),
        ("split", "split", 20),
        ("noise", "rescued", 4),
        ("noise", "dropped", 5),
        ("small", "dropped", 1),
        ("suspected mislabel", "dropped", 10),
    ],
    columns=["first", "last", "images"],
)


@pytest.mark.parametrize("ways", [WAYS, WAYS.head(1), WAYS.head(0)])
def test_flow_is_a_picture(ways):
    check_picture(flow(ways))


def test_flow_has_a_bar_for_all_and_for_each_stage_of_the_way():
    (axis,) = flow(WAYS).axes
    rectangles = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    heights = [round(100 * rectangle.get_height()) for rectangle in rectangles]
    assert heights == [100, 60, 20, 9, 1, 10, 60, 20, 4, 16]
    assert colours(rectangles[1:6]) == [
        COLOURS[name] for name in ("kept", "split", "noise", "small", "suspected mislabel")
    ]
    assert colours(rectangles[6:]) == [
        COLOURS[name] for name in ("kept", "split", "rescued", "dropped")
    ]


def test_flow_names_every_bar_with_its_count():
    (axis,) = flow(WAYS).axes
    words = [text.get_text() for text in axis.texts]
    assert "100 (100%)" in words
    for name, count in (("noise", 9), ("suspected mislabel", 10), ("rescued", 4), ("dropped", 16)):
        assert f"{WORDS[name]}\n{count} ({count}%)" in words


def test_flow_joins_bars_by_bands_that_are_as_thick():
    (axis,) = flow(WAYS).axes
    bands = [band.get_paths()[0].vertices for band in axis.collections]
    assert len(bands) == 2 * len(WAYS)
    for band, images in zip(bands, [*WAYS["images"], *WAYS["images"]], strict=True):
        for x in (band[:, 0].min(), band[:, 0].max()):
            assert np.ptp(band[band[:, 0] == x, 1]) == pytest.approx(images / 100)

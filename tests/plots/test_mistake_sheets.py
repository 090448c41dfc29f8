"""Sheets of mistakes: which landmarks, which images, in which frames."""

import numpy as np
import pandas as pd

from lib.plots.sheets import RIGHT, WRONG, mistake_rows
from tests.numbered import NumberedSource, shown

IMAGES = pd.DataFrame(
    {
        "landmark_id": [5] * 6 + [2] * 4 + [9] * 3,
        "status": ["kept", "kept", "dropped", "kept", "dropped", "dropped"]
        + ["kept", "dropped", "split", "dropped"]
        + ["kept"] * 3,
        "distance": [
            0.3,
            0.1,
            np.nan,
            0.2,
            np.nan,
            np.nan,
            0.1,
            np.nan,
            0.4,
            np.nan,
            0.1,
            0.2,
            0.3,
        ],
        "path": [f"{number}.jpg" for number in range(13)],
    }
)


def paths_of(rows):
    return [[int(path[:-4]) for path in shown(row.images, IMAGES["path"].tolist())] for row in rows]


def test_mistake_rows_show_typical_images_then_mistakes_of_the_worst_landmarks():
    mistaken = np.isin(np.arange(13), [2, 4, 7])
    rows = mistake_rows(NumberedSource(), IMAGES, mistaken, names={5: "Arch"}, typical=2)
    assert paths_of(rows) == [[1, 3, 2, 4], [6, 7]]
    assert [list(row.colours) for row in rows] == [
        [RIGHT, RIGHT, WRONG, WRONG],
        [RIGHT, WRONG],
    ]
    assert [row.title for row in rows] == ["Arch\n2 of 6 images", "landmark 2\n1 of 4 images"]


def test_mistake_rows_do_not_call_a_mistake_typical():
    # given that planted noise was kept nearest to the centre
    mistaken = np.isin(np.arange(13), [1, 10])
    rows = mistake_rows(NumberedSource(), IMAGES, mistaken, names={}, typical=3)
    assert paths_of(rows) == [[3, 0, 1], [11, 12, 10]]


def test_mistake_rows_are_as_many_and_as_long_as_asked_for():
    mistaken = (IMAGES["status"] == "dropped").to_numpy()
    words = np.array([f"shows {number}" for number in range(13)])
    (row,) = mistake_rows(
        NumberedSource(), IMAGES, mistaken, names={}, captions=words, rows=1, columns=4
    )
    assert paths_of([row]) == [[1, 3, 0, 2]]
    assert list(row.captions) == ["", "", "", "shows 2"]


def test_mistake_rows_of_no_mistake_are_none():
    assert mistake_rows(NumberedSource(), IMAGES, np.zeros(13, bool), names={}) == []

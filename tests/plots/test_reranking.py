import dataclasses

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from lib.plots.reranking import (
    PARTS,
    MatchedPair,
    VoteBreakdown,
    best_match,
    continents,
    explained,
    matches,
)
from lib.plots.sheets import RIGHT, WRONG
from tests.figures import check_picture, legend_of, square
from tests.made_up import NumberedSource, shown, small_data, small_evaluation

LABELS = ["similarity", "+ landmark votes", "+ country votes"]


def strip(count=3, title="α = 1, β = 0"):
    sums = pd.DataFrame(
        {
            "raw": [0.7, 0.1, 0.6][:count],
            "landmark": [0.7, 0.7, 0.0][:count],
            "country": [0.09, 0.09, 0.0][:count],
            "final": [1.49, 0.89, 0.6][:count],
            "moved": ["stayed", "not among the 100 before", "fell from rank 2"][:count],
        }
    )
    colours = [RIGHT, RIGHT, WRONG][:count]
    voters = ("0.70  Chenghuangmiao · CN",)
    return VoteBreakdown(title, square(9), voters, [square(50)] * count, colours, sums)


def texts(axis):
    return [text.get_text() for text in axis.texts]


def patches_of(axis, colour):
    return [
        patch
        for patch in axis.patches
        if patch.get_fill() and matplotlib.colors.to_hex(patch.get_facecolor()) == colour
    ]


def test_explained_writes_the_sum_under_every_result():
    figure = explained([strip()], title="the slides")
    check_picture(figure)
    (axis,) = figure.axes
    written = texts(axis)
    for text in ("the slides", "0.70  Chenghuangmiao · CN", "0.70", "+0.70", "+0.09", "= 1.49"):
        assert text in written
    assert "fell from rank 2" in written
    assert "not among\nthe 100 before" in written
    assert legend_of(axis) == ["right", "another landmark", *LABELS]


def test_explained_cuts_bars_into_their_parts_on_one_scale():
    (axis,) = explained([strip(), strip(1)]).axes
    lengths = {
        part: [patch.get_width() for patch in patches_of(axis, colour)]
        for part, colour in PARTS.items()
    }
    scale = lengths["raw"][0] / 0.7
    assert lengths["raw"] == pytest.approx([scale * v for v in (0.7, 0.1, 0.6, 0.7)])
    assert lengths["landmark"] == pytest.approx([scale * v for v in (0.7, 0.7, 0.0, 0.7)])
    assert lengths["country"] == pytest.approx([scale * v for v in (0.09, 0.09, 0.0, 0.09)])
    assert len(axis.images) == (1 + 3) + (1 + 1)


def test_explained_writes_no_part_that_has_no_weight():
    plain = strip()
    plain.sums["country"] = 0.0
    (axis,) = explained([plain]).axes
    assert "+0.70" in texts(axis)
    assert texts(axis).count("+0.00") == 1  # the landmark votes of the last result
    assert not patches_of(axis, PARTS["country"])
    assert legend_of(axis)[2:] == ["similarity", "+ landmark votes", "no country votes"]


@pytest.mark.parametrize("strips", [[], [strip(0)]])
def test_explained_draws_nothing_where_there_is_nothing(strips):
    check_picture(explained(strips))


def test_explained_takes_a_negative_similarity():
    odd = strip()
    odd.sums.loc[2, ["raw", "final"]] = -0.2
    check_picture(explained([odd]))


def test_matches_join_the_same_point_of_both_images():
    tall, wide = np.zeros((40, 20, 3), np.uint8), np.zeros((10, 50, 3), np.uint8)
    points, others = np.array([[0.0, 0.0], [20, 40]]), np.array([[50.0, 0.0], [25, 10]])
    figure = matches([MatchedPair([tall, wide], [points, others], True)] * 2, title="points")
    check_picture(figure)
    axis = figure.axes[1]
    assert [image.get_extent() for image in axis.images] == [[0, 1, 2, 0], [0, 1, 2.24, 2.04]]
    (first, second) = axis.collections[0].get_segments()
    np.testing.assert_allclose(first, [[0, 0], [1, 2.04]])
    np.testing.assert_allclose(second, [[1, 2], [0.5, 2.24]])
    assert axis.get_title() == "2 points, same landmark"


def test_matches_draw_a_pair_without_points_and_no_pair():
    nothing = np.empty((0, 2))
    check_picture(matches([MatchedPair([square(9)] * 2, [nothing] * 2, False)]))
    check_picture(matches([]))


class Counted:
    """Stands in for `PairVerifier`: image n of the gallery has n matching points."""

    def of_pairs(self, rows, positions):
        return positions

    def matches(self, row, position):
        points = np.full((position, 2), 256.0)
        return points, points + 128


class Wide(NumberedSource):
    def read(self, path):
        return self.read_resized(path, 64)


def test_best_match_is_the_result_of_most_points_in_pixels():
    evaluation = small_evaluation()
    data = dataclasses.replace(small_data(evaluation), local=Counted())
    found = best_match(Wide(), evaluation, data, "q3", first=5)
    most = data.plain.positions[3, :5].max()
    assert list(map(len, found.points)) == [most, most]
    paths = evaluation.gallery["path"].tolist()
    assert shown([found.images[1]], paths) == [paths[most]]
    np.testing.assert_allclose([one[0] for one in found.points], ([32, 32], [48, 48]))
    assert found.is_right == (most % 3 == 3 % 3)


def test_continents_span_from_worst_to_best_without_other():
    table = pd.DataFrame(
        {
            "continent": ["Asia", "OTHER", "Africa"],
            "queries": [42, 8, 13],
            "plain search": [0.8, 0.1, 0.6],
            "reranked": [0.9, 0.2, 0.7],
        }
    )
    figure = continents(table, title="by continent")
    check_picture(figure)
    (axis,) = figure.axes
    assert legend_of(axis) == [
        "from the worst to the best",
        "Asia (42)",
        "country unknown (8)",
        "Africa (13)",
    ]
    spans = axis.collections[0].get_segments()
    assert [(s[0][0], s[1][0]) for s in spans] == [(0.6, 0.8), (0.7, 0.9)]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["plain search", "reranked"]
    assert axis.get_xlabel() == "mAP@100"
    for few in ([0, 1], [1]):
        lonely = continents(table.iloc[few], title="too few")
        check_picture(lonely)
        assert lonely.axes[0].get_xlabel() == "mAP@100 (a spread needs two continents)"

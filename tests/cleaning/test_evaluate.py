"""Scores of a cleaning by hand and at their limits, and the list of a perfect one."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from lib.cleaning.evaluate import (
    perfect_cluster_list,
    read_truth,
    score_cleaning,
    score_descriptors,
    score_radii,
    true_classes,
)
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig


def images(labels) -> pd.DataFrame:
    return pd.DataFrame({"label": labels})


def test_score_cleaning_of_the_truth_itself_is_perfect():
    truth = np.array([0, 0, 0, 1, 1, -1, -1, 2])
    scores = score_cleaning(images(truth), truth)
    assert scores.pop("kept") == 6 / 8
    assert set(scores.values()) == {1.0}


def test_score_cleaning_counts_by_hand():
    # given class 0 with three of true class 4 and a noise image, class 1 of two true classes,
    # one true image and two noise images dropped
    labels = [0, 0, 0, 0, 1, 1, 1, -1, -1, -1]
    truth = [4, 4, 4, -1, 4, 7, 7, 7, -1, -1]
    scores = score_cleaning(images(labels), np.array(truth))
    assert scores["purity"] == 5 / 7
    assert scores["noise_precision"] == scores["noise_recall"] == 2 / 3
    alone = [0, 0, 0, 0, 1, 1, 1, 10, 11, 12], [4, 4, 4, 20, 4, 7, 7, 7, 21, 22]
    assert scores["ari"] == pytest.approx(adjusted_rand_score(*alone))


def test_score_cleaning_ignores_the_names_of_classes():
    generator = np.random.default_rng(0)
    for _ in range(20):
        labels, truth = generator.integers(-1, 5, (2, 60))
        renamed = np.where(truth < 0, -1, 100 - 3 * truth)
        plain, other = (score_cleaning(images(labels), values) for values in (truth, renamed))
        assert plain == pytest.approx(other)
        assert all(-1 <= score <= 1 for score in plain.values())


def test_score_cleaning_of_nothing_dropped_has_no_precision():
    scores = score_cleaning(images([0, 0, 1]), np.array([0, 0, 1]))
    assert math.isnan(scores["noise_precision"])
    assert math.isnan(scores["noise_recall"])
    assert scores["purity"] == scores["kept"] == 1


def test_score_cleaning_refuses_a_truth_of_another_length():
    with pytest.raises(ValueError, match="each of the 3 images"):
        score_cleaning(images([0, 0, 1]), np.array([0, 0]))


def test_true_classes_are_views_of_a_landmark_and_noise_is_none():
    images = pd.DataFrame({"id": list("abcdefg"), "landmark_id": [1, 1, 1, 1, 2, 2, 1]})
    truth = pd.DataFrame(
        {
            "id": list("gfedcbaz"),
            "planted": ["none", "junk", "none", "none", "wrong", "none", "none", "none"],
            "view": ["detail", "", "front", "back", "front", "front", "front", "front"],
        }
    )
    found = true_classes(images, truth)
    assert found[[2, 5]].tolist() == [-1, -1]
    a, b, d, e, g = found[[0, 1, 3, 4, 6]]
    assert a == b == g  # a detail is a part of the front
    assert len({a, d, e}) == 3  # another view, another landmark
    assert min(a, d, e) >= 0


def test_true_classes_are_landmarks_where_views_are_not_known():
    images = pd.DataFrame({"id": list("abcd"), "landmark_id": [8, 3, 8, 3]})
    truth = pd.DataFrame({"id": list("abcd"), "planted": ["none", "none", "none", "junk"]})
    a, b, c, d = true_classes(images, truth)
    assert a == c != b
    assert d == -1


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"id": list("ab"), "shows": ["", ""]}, "column planted in truth.csv .* found id, shows"),
        ({"id": ["a"], "planted": ["none"]}, r"found none of 1 of them \(b\)"),
    ],
)
def test_true_classes_refuse_a_truth_that_does_not_tell(truth, message):
    images = pd.DataFrame({"id": list("ab"), "landmark_id": [1, 1]})
    with pytest.raises(ValueError, match=message):
        true_classes(images, pd.DataFrame(truth))


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"image,planted\na,none\n", b"id\na\na\n", b'id\n"a']
)
def test_read_truth_names_a_file_that_is_none(tmp_path, content):
    (tmp_path / "truth.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"truth\.csv; mend it") as caught:
        read_truth(tmp_path)
    assert "\n" not in str(caught.value)


def noisy_landmarks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, landmark ids of which some are wrong, and the truth."""
    generator = np.random.default_rng(0)
    truth = np.repeat(np.arange(12), 15)
    rows = generator.standard_normal((12, 32))[truth] + 0.7 * generator.standard_normal((180, 32))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    ids = np.where(generator.random(180) < 0.15, (truth + 5) % 12, truth)
    return rows, ids, np.where(ids == truth, truth, -1)


def test_score_radii_are_cleanings_one_after_the_other():
    rows, ids, truth = noisy_landmarks()
    for config in (
        CleanConfig(relaxation=1.5),
        CleanConfig(drop_suspected_mislabels=True, split=False),
    ):
        table = score_radii(rows, ids, truth, config, [0.2, 0.5])
        alone = [clean(rows, ids, dataclasses.replace(config, eps=eps)) for eps in (0.2, 0.5)]
        expected = [score_cleaning(one.images, truth) for one in alone]
        pd.testing.assert_frame_equal(table.drop(columns="eps"), pd.DataFrame(expected))


def test_score_descriptors_are_cleanings_of_each():
    rows, ids, truth = noisy_landmarks()
    cleanings = {"plain": CleanConfig(), "sure": CleanConfig(drop_suspected_mislabels=True)}
    blind = np.roll(rows, 1, axis=0)
    table = score_descriptors({"seeing": rows, "blind": blind}, ids, truth, cleanings)
    assert table["descriptor"].tolist() == ["seeing", "seeing", "blind", "blind"]
    assert table["cleaning"].tolist() == ["plain", "sure"] * 2
    expected = score_cleaning(clean(blind, ids, cleanings["sure"]).images, truth)
    assert table.iloc[3][list(expected)].to_dict() == expected
    assert score_descriptors({}, ids, truth, cleanings).empty


def test_score_radii_of_no_radius_is_an_empty_table():
    table = score_radii(np.eye(2), np.zeros(2, int), np.zeros(2, int), CleanConfig(), [])
    assert table.empty
    assert list(table)[:2] == ["eps", "ari"]


def write_truth(folder, rows, columns):
    pd.DataFrame(rows, columns=columns).to_csv(folder / "truth.csv", index=False)


def test_perfect_cluster_list_drops_noise_and_parts_views(tmp_path):
    raw = pd.DataFrame({"id": list("abcdefgh"), "landmark_id": [7, 7, 7, 7, 7, 7, 9, 9]})
    planted = ["none", "none", "wrong", "none", "none", "none", "none", "junk"]
    view = ["front", "detail", "front", "interior", "interior", "back", "front", "junk"]
    rows = list(zip(raw["id"], planted, view, strict=True))
    write_truth(tmp_path, rows[::-1], ["id", "planted", "view"])
    found = pd.read_csv(perfect_cluster_list(raw, tmp_path, tmp_path / "x" / "clusters.csv"))
    # The back and landmark 9 have one image each, which is no class.
    assert found.to_numpy().tolist() == [[0, 7, "a b"], [1, 7, "d e"]]
    assert found.columns.tolist() == ["cluster_id", "landmark_id", "images"]
    whole = perfect_cluster_list(raw, tmp_path, tmp_path / "whole.csv", split=False)
    assert pd.read_csv(whole).to_numpy().tolist() == [[0, 7, "a b d e f"]]


def test_perfect_cluster_list_needs_no_views(tmp_path):
    raw = pd.DataFrame({"id": list("abc"), "landmark_id": [7, 7, 7]})
    write_truth(tmp_path, [("a", "none"), ("b", "wrong"), ("c", "none")], ["id", "planted"])
    found = pd.read_csv(perfect_cluster_list(raw, tmp_path, tmp_path / "clusters.csv"))
    assert found["images"].tolist() == ["a c"]


def test_perfect_cluster_list_refuses_data_without_truth(tmp_path):
    raw = pd.DataFrame({"id": ["a"], "landmark_id": [7]})
    with pytest.raises(ValueError, match=r"expected truth\.csv in .* found none; leave that row"):
        perfect_cluster_list(raw, tmp_path, tmp_path / "clusters.csv")
    assert not (tmp_path / "clusters.csv").exists()

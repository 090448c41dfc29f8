"""The list of perfect cleaning: planted noise gone, views apart."""

import pandas as pd
import pytest

from lib.cleaning.evaluate import write_true_clusters


def write_truth(folder, rows, columns):
    pd.DataFrame(rows, columns=columns).to_csv(folder / "truth.csv", index=False)


def test_write_true_clusters_drops_noise_and_parts_views(tmp_path):
    raw = pd.DataFrame({"id": list("abcdefgh"), "landmark_id": [7, 7, 7, 7, 7, 7, 9, 9]})
    planted = ["none", "none", "wrong", "none", "none", "none", "none", "junk"]
    view = ["front", "detail", "front", "interior", "interior", "back", "front", "junk"]
    rows = list(zip(raw["id"], planted, view, strict=True))
    write_truth(tmp_path, rows[::-1], ["id", "planted", "view"])
    found = pd.read_csv(write_true_clusters(raw, tmp_path, tmp_path / "x" / "clusters.csv"))
    # The back and landmark 9 have one image each, which is no class.
    assert found.to_numpy().tolist() == [[0, 7, "a b"], [1, 7, "d e"]]
    assert found.columns.tolist() == ["cluster_id", "landmark_id", "images"]
    whole = write_true_clusters(raw, tmp_path, tmp_path / "whole.csv", split=False)
    assert pd.read_csv(whole).to_numpy().tolist() == [[0, 7, "a b d e f"]]


def test_write_true_clusters_needs_no_views(tmp_path):
    raw = pd.DataFrame({"id": list("abc"), "landmark_id": [7, 7, 7]})
    write_truth(tmp_path, [("a", "none"), ("b", "wrong"), ("c", "none")], ["id", "planted"])
    found = pd.read_csv(write_true_clusters(raw, tmp_path, tmp_path / "clusters.csv"))
    assert found["images"].tolist() == ["a c"]


def test_write_true_clusters_refuses_data_without_truth(tmp_path):
    raw = pd.DataFrame({"id": ["a"], "landmark_id": [7]})
    with pytest.raises(ValueError, match=r"expected truth\.csv in .* found none; leave that row"):
        write_true_clusters(raw, tmp_path, tmp_path / "clusters.csv")
    assert not (tmp_path / "clusters.csv").exists()

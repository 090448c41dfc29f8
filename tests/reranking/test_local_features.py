import dataclasses
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib.reranking import local_features
from lib.reranking.local_features import (
    FRAME,
    LOCAL_FEATURES,
    LocalFeatures,
    LocalSettings,
    detect,
    extract_local_features,
    match,
    open_verifier,
    root_sift,
    verify,
)
from tests.made_up import unit_rows

SETTINGS = LocalSettings(most=300)


def scene(seed, side=160):
    """An image of random dark and light boxes, (side, side, 3) uint8."""
    generator = np.random.default_rng(seed)
    image = np.full((side, side, 3), 128, dtype=np.uint8)
    for _ in range(60):
        x, y, wide, tall = (
            generator.integers(0, side, 2).tolist() + generator.integers(4, 30, 2).tolist()
        )
        cv2.rectangle(
            image, (x, y), (x + wide, y + tall), generator.integers(0, 256, 3).tolist(), -1
        )
    return image


def turned(image, degrees=12, zoom=0.9):
    """The same scene from another place, and the (2, 3) map of its points."""
    side = image.shape[0]
    view = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, zoom)
    return cv2.warpAffine(image, view, (side, side), borderValue=(128, 128, 128)), view


@pytest.fixture
def photos(tmp_path):
    """Two scenes, a turned view of each, and an image without any feature."""
    images = [
        scene(1),
        scene(2),
        turned(scene(1))[0],
        turned(scene(2))[0],
        np.full_like(scene(1), 9),
    ]
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    return pd.DataFrame({"id": list("abcde"), "path": [f"{n}.png" for n in range(5)]})


def test_root_sift_is_the_root_of_sift_of_unit_length():
    points, rows = root_sift(scene(3), 200)
    assert len(points) == len(rows) <= 200
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    grey = cv2.cvtColor(scene(3), cv2.COLOR_RGB2GRAY)
    plain = cv2.SIFT_create(nfeatures=200, contrastThreshold=0.02).detectAndCompute(grey, None)[1]
    ratios = rows[0] ** 2 / np.maximum(plain[0], 1e-9)
    assert np.ptp(ratios[plain[0] > 0]) < 1e-5  # proportional


def test_detect_gives_points_in_a_frame_of_one_size():
    for side in (64, 160, 700):
        points, _ = detect(scene(4, side), SETTINGS)
        assert points.min() >= 0
        assert FRAME / 2 < points.max() <= FRAME
    assert len(detect(np.full((40, 60, 3), 7, np.uint8), SETTINGS)[0]) == 0


def naive_match(rows, others, ratio):
    """Distances pair by pair."""
    found = []
    distances = np.array([[np.linalg.norm(one - other) for other in others] for one in rows])
    for i, row in enumerate(distances):
        first, second = np.argsort(row)[:2]
        if row[first] < ratio * row[second] and np.argmin(distances[:, first]) == i:
            found.append((i, int(first)))
    return found


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0])
def test_match_agrees_with_naive_reference(ratio):
    generator = np.random.default_rng(5)
    rows, others = unit_rows(generator, 40, 4), unit_rows(generator, 50, 4)
    points, image = (np.arange(2 * n, dtype=np.float32).reshape(n, 2) for n in (40, 50))
    found = match((points, rows), (image, others), ratio)
    expected = naive_match(rows.astype(np.float64), others.astype(np.float64), ratio)
    assert len(expected) > 0
    assert [(int(a[0]) // 2, int(b[0]) // 2) for a, b in zip(*found, strict=True)] == expected


def test_match_of_images_with_hardly_a_feature_is_empty():
    rows = unit_rows(np.random.default_rng(0), 5, 4)
    for few in (0, 1):
        found = match((np.ones((few, 2)), rows[:few]), (np.ones((5, 2)), rows), 0.8)
        assert [one.shape for one in found] == [(0, 2), (0, 2)]


def test_verify_finds_the_points_that_one_affine_map_moves():
    generator = np.random.default_rng(6)
    points = generator.uniform(0, FRAME, (60, 2)).astype(np.float32)
    moved = points @ np.array([[0.9, -0.1], [0.2, 1.1]], np.float32) + np.float32([20, 5])
    moved[40:] = generator.uniform(0, FRAME, (20, 2))
    is_inlier = verify(points, moved, 4.0)
    assert is_inlier[:40].all()
    assert is_inlier[40:].sum() <= 2
    assert not verify(points[:4], moved[:4], 4.0).any()
    assert verify(np.ones((9, 2), np.float32), np.ones((9, 2), np.float32), 4.0).shape == (9,)


def test_extracted_features_are_those_of_the_images(photos, tmp_path):
    folder = extract_local_features(photos, tmp_path, tmp_path / "out" / "query", SETTINGS)
    found = LocalFeatures(folder)
    assert len(found) == 5
    points, rows = detect(scene(2), SETTINGS)
    own, descriptors = found.of(1)
    np.testing.assert_allclose(own, points, atol=0.25)
    np.testing.assert_allclose(descriptors, rows, atol=0.5 / 254 + 1e-6)
    assert [len(one) for one in found.of(4)] == [0, 0]
    assert not (folder / "partial").exists()


def test_extraction_goes_on_where_it_was_killed(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(local_features, "SHARD", 2)
    whole = extract_local_features(photos, tmp_path, tmp_path / "whole", SETTINGS)
    calls = []

    def dying(image, settings):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return detect(image, settings)

    monkeypatch.setattr(local_features, "cores", lambda: 1)
    with monkeypatch.context() as patched:
        patched.setattr(local_features, "detect", dying)
        with pytest.raises(KeyboardInterrupt):
            extract_local_features(photos, tmp_path, tmp_path / "cut", SETTINGS)
        calls.clear()
        patched.setattr(local_features, "detect", lambda *given: calls.append(1) or detect(*given))
        cut = extract_local_features(photos, tmp_path, tmp_path / "cut", SETTINGS)
        assert len(calls) == 3
        extract_local_features(photos, tmp_path, tmp_path / "cut", SETTINGS)
        assert len(calls) == 3
    for name in ("keypoints.npy", "descriptors.npy", "starts.npy"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_verifier_counts_inliers_of_the_same_scene_alone(photos, tmp_path):
    tables = {"query": photos.iloc[:2], "gallery": photos.iloc[2:]}
    verifier = open_verifier(tmp_path, tmp_path / "out", tables, SETTINGS)
    inliers = verifier.inliers(np.array([[0, 1, 2], [0, 1, 2]]))
    assert min(inliers[0, 0], inliers[1, 1]) > 30
    assert max(inliers[0, 1], inliers[1, 0], inliers[0, 2]) < 12
    points, others = verifier.matches(0, 0)
    assert len(points) == inliers[0, 0]
    view = turned(scene(1))[1]
    scale = FRAME / 160
    expected = (points / scale) @ view[:, :2].T + view[:, 2]
    assert np.median(np.abs(expected - others / scale)) < 2


def test_verifier_keeps_pairs_for_the_next_run(photos, tmp_path, monkeypatch):
    tables = {"query": photos.iloc[:2], "gallery": photos.iloc[2:]}
    first = open_verifier(tmp_path, tmp_path / "out", tables, SETTINGS)
    some = first.inliers(np.array([[0, 2], [1, 0]]))
    counted = []
    monkeypatch.setattr(
        local_features, "verify", lambda *given: counted.append(1) or verify(*given)
    )
    again = open_verifier(tmp_path, tmp_path / "out", tables, SETTINGS)
    every = again.inliers(np.array([[0, 1, 2], [1, 0, 2]]))
    assert len(counted) == 2
    assert every[0, [0, 2]].tolist() == some[0].tolist()
    assert every[1, :2].tolist() == some[1].tolist()
    other = dataclasses.replace(SETTINGS, ratio=0.7)
    open_verifier(tmp_path, tmp_path / "out", tables, other).inliers(np.array([[0], [1]]))
    assert len(counted) == 4
    with pytest.raises(ValueError, match="positions for 2 queries, found 1"):
        again.inliers(np.array([[0]]))


def test_settings_and_missing_results_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="among rootsift, disk; found 'orb'"):
        LocalSettings(features="orb")
    for wrong in ({"most": 2}, {"ratio": 0.0}, {"tolerance": 0.0}):
        with pytest.raises(ValueError, match="a ratio up to 1"):
            LocalSettings(**wrong)
    with pytest.raises(ValueError, match="expected finished local features"):
        LocalFeatures(tmp_path)
    monkeypatch.setitem(sys.modules, "kornia", None)
    monkeypatch.setitem(sys.modules, "kornia.feature", None)
    with pytest.raises(ValueError, match=r"expected the package kornia .* pip install kornia"):
        LOCAL_FEATURES["disk"](scene(0), 10)


def test_learned_features_come_through_the_same_door(monkeypatch):
    """A stand-in for kornia's DISK: two points of the image it is given."""

    class Network:
        @classmethod
        def from_pretrained(cls, weights):
            assert weights == "depth"
            return cls()

        def eval(self):
            return self

        def __call__(self, pixels, n, pad_if_not_divisible):
            assert pixels.shape == (1, 3, 512, 256)
            assert pixels.max() <= 1
            rows = torch.eye(2, 128)
            points = torch.tensor([[0.0, 0.0], [255.0, 511.0]])
            return [SimpleNamespace(keypoints=points, descriptors=rows)]

    monkeypatch.setitem(sys.modules, "kornia", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "kornia.feature", SimpleNamespace(DISK=Network))
    local_features._disk_network.cache_clear()
    points, rows = detect(np.full((256, 128, 3), 255, np.uint8), LocalSettings(features="disk"))
    assert points.tolist() == [[0, 0], [255, 511]]
    assert rows.shape == (2, 128)
    local_features._disk_network.cache_clear()

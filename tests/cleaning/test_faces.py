"""Faces: the cheap silhouette is scikit-learn's, and only what shows two things is cut."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

import lib.cleaning.two_view_split
from lib.cleaning.two_pass import clean
from lib.cleaning.two_view_split import split_faces, two_faces, two_part_silhouette
from lib.config import CleanConfig


def around(generator: np.random.Generator, centre: np.ndarray, count: int) -> np.ndarray:
    rows = centre + 0.04 * generator.standard_normal((count, len(centre)))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_two_part_silhouette_equals_scikit_learn():
    generator = np.random.default_rng(0)
    for _ in range(40):
        rows = around(generator, generator.standard_normal(5), int(generator.integers(3, 40)))
        part = generator.random(len(rows)) < generator.uniform(0.1, 0.9)
        part[:2] = [False, True]
        expected = silhouette_samples(rows, part, metric="cosine")
        np.testing.assert_allclose(two_part_silhouette(rows, part), expected, atol=1e-3)


def test_two_faces_tells_two_directions_apart_and_leaves_one_alone():
    generator = np.random.default_rng(1)
    for _ in range(20):
        front, inside = np.linalg.qr(generator.standard_normal((64, 2)))[0].T
        sizes = generator.integers(4, 30, 2)
        is_inside = generator.permutation(np.repeat([False, True], sizes))
        rows = np.empty((sizes.sum(), 64), dtype=np.float32)
        rows[~is_inside], rows[is_inside] = (
            around(generator, face, size) for face, size in zip((front, inside), sizes, strict=True)
        )
        found = two_faces(rows, 3)
        assert found.tolist() == (is_inside != is_inside[0]).tolist()
        assert two_faces(rows[is_inside], 2) is None


def test_two_faces_are_cut_apart_although_a_few_odd_rows_lie_further_out():
    generator, axes = np.random.default_rng(4), np.eye(64)
    front, inside = axes[0], 0.8 * axes[0] + 0.6 * axes[1]
    odd = 0.4 * front + axes[2]  # farther from both than they are from each other
    counts = {40: front, 30: inside, 2: odd}
    rows = np.concatenate([around(generator, face, count) for count, face in counts.items()])
    found = two_faces(rows, 3)
    assert not found[:40].any()
    assert found[40:70].all()


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((6, 3)), np.eye(3), [[1, 0], [-1, 0]]])
def test_two_faces_of_copies_or_of_strangers_are_one(rows):
    rows = np.asarray(rows, dtype=np.float32)
    assert two_faces(rows / np.linalg.norm(rows, axis=1, keepdims=True), 2) is None


def test_split_faces_cuts_again_and_numbers_within_the_landmark():
    # given landmarks of three faces (two of them alike), of one, and of two that are told apart
    generator, axes = np.random.default_rng(2), np.eye(64)
    faces = [axes[0], axes[1], axes[1] + 0.8 * axes[2], axes[3], axes[4], axes[5]]
    counts = [6, 7, 8, 9, 5, 5]
    rows = [around(generator, face, count) for face, count in zip(faces, counts, strict=True)]
    rows = np.concatenate(rows)
    sizes = np.array([21, 9, 10])
    cluster = np.repeat([0, 0, 0, 1], [21, 9, 5, 5])
    found = split_faces(rows, sizes, cluster, 3)
    counts = [sorted(np.unique(part, return_counts=True)[1]) for part in np.split(found, [21, 30])]
    assert counts == [[6, 7, 8], [9], [5, 5]]
    assert set(found[:21]) == {0, 1, 2}
    assert found[21:].tolist() == cluster[21:].tolist()
    assert cluster[:21].tolist() == [0] * 21  # the given clusters are left as they are


def test_split_faces_invariants_hold_on_random_clusters():
    generator = np.random.default_rng(3)
    for _ in range(30):
        sizes = np.sort(generator.integers(1, 25, 6))[::-1]
        rows = around(generator, generator.standard_normal(4), sizes.sum())
        cluster = generator.integers(-1, 2, sizes.sum())
        smallest = int(generator.integers(1, 5))
        found = split_faces(rows, sizes, cluster, smallest)
        assert ((found < 0) == (cluster < 0)).all()
        owner = np.repeat(np.arange(6), sizes)
        before = {(o, c) for o, c in zip(owner, cluster, strict=True) if c >= 0}
        after = {(o, f): [] for o, f in zip(owner, found, strict=True) if f >= 0}
        for o, c, f in zip(owner, cluster, found, strict=True):
            if f >= 0:
                after[o, f].append(c)
        assert all(len(set(old)) == 1 for old in after.values())  # parts of one cluster each
        assert len(after) >= len(before)
        new = [old for part, old in after.items() if part not in before]
        assert all(len(old) >= smallest for old in new)


def test_split_faces_leaves_huge_clusters_whole(monkeypatch):
    generator, axes = np.random.default_rng(4), np.eye(64)
    rows = np.concatenate([around(generator, axes[face], 20) for face in (0, 1)])
    cluster = np.zeros(40, dtype=int)
    assert split_faces(rows, np.array([40]), cluster, 3).max() == 1
    monkeypatch.setattr(lib.cleaning.two_view_split, "WHOLE", 39)
    assert split_faces(rows, np.array([40]), cluster, 3).max() == 0


def test_clean_makes_a_class_of_each_face_where_it_is_asked_to():
    # given two faces that a chain of few images joins
    generator, axes = np.random.default_rng(5), np.eye(64)
    bridge = np.linspace(0, 1, 9)[:, None] * (axes[1] - axes[0]) + axes[0]
    rows = [around(generator, axes[face], 30) for face in (0, 1)]
    rows = np.concatenate([*rows, bridge / np.linalg.norm(bridge, axis=1, keepdims=True)])
    config, ids = CleanConfig(eps=0.5, min_samples=2), np.zeros(69, dtype=int)
    assert clean(rows, ids, config).summary()["classes"] == 1
    told = clean(rows, ids, dataclasses.replace(config, faces=True))
    label = told.images["label"]
    assert len(set(label[:30])) == len(set(label[30:60])) == 1
    assert label[0] != label[30]

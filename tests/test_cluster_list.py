"""The cleaning stage: the files it leaves, when it works again, and what it refuses."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib import cluster_list
from lib.clean import clean
from lib.cluster_list import (
    make_cluster_list,
    read_cluster_list,
    sample_distances,
    true_classes,
)
from lib.config import CleanConfig
from lib.embed import IDS, ROWS
from lib.runs import fingerprint, mark_done, read_json

CONFIG = CleanConfig(eps=0.1, relaxed_eps=0.3, min_samples=3)
DIM = 16


def grouped_rows(seed=0):
    """Landmark 5: two tight groups, a loose pair and a stranger; 2: one group; 9: strangers."""
    generator = np.random.default_rng(seed)
    axes = np.eye(DIM)
    pair = axes[[2, 2]] + 0.4 * axes[[10, 11]]  # at a distance of 0.14
    groups = [
        (5, np.repeat(axes[:1], 5, axis=0)),
        (5, np.repeat(axes[1:2], 4, axis=0)),
        (5, pair),
        (5, axes[3:4]),
        (2, np.repeat(axes[4:5], 6, axis=0)),
        (9, axes[5:8]),
    ]
    landmark_ids = np.concatenate([np.full(len(rows), mark) for mark, rows in groups])
    rows = np.concatenate([rows for _, rows in groups])
    rows = rows + 0.01 * generator.normal(size=rows.shape)
    order = generator.permutation(len(rows))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[order].astype(np.float16), landmark_ids[order]


def write_embeddings(folder, ids, rows):
    """A finished embedding folder, as `lib.embed` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ROWS, rows)
    pd.DataFrame({"id": ids}).to_csv(folder / IDS, index=False)
    mark_done(folder, fingerprint(ids, rows))
    return folder


@pytest.fixture
def table():
    _, landmark_ids = grouped_rows()
    ids = [f"{number:016x}" for number in range(len(landmark_ids))]
    paths = [f"train/{name}.jpg" for name in ids]
    return pd.DataFrame({"id": ids, "landmark_id": landmark_ids, "path": paths})


@pytest.fixture
def embeddings(table, tmp_path):
    return write_embeddings(tmp_path / "raw", table["id"].tolist(), grouped_rows()[0])


@pytest.fixture
def cleanings(monkeypatch):
    """The settings of every cleaning that was really made."""
    made = []

    def counted(rows, landmark_ids, config, **options):
        made.append(config)
        return clean(rows, landmark_ids, config, **options)

    monkeypatch.setattr(cluster_list, "clean", counted)
    return made


@dataclasses.dataclass
class Advice:
    eps: float = 0.1
    relaxed_eps: float = 0.3
    reason: str = "because the test says so"
    sweep: pd.DataFrame = dataclasses.field(
        default_factory=lambda: pd.DataFrame({"eps": [0.1, 0.2], "kept": [0.5, 0.75]})
    )


@pytest.fixture
def advised(monkeypatch):
    """How often the radii were suggested."""
    asked = []

    def suggest(rows, landmark_ids, *, min_samples):
        asked.append(min_samples)
        return Advice()

    monkeypatch.setattr(cluster_list, "suggest", suggest)
    return asked


def test_make_cluster_list_writes_what_cleaning_found(table, embeddings, tmp_path):
    found = make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    rows, landmark_ids = grouped_rows()
    expected = clean(rows, landmark_ids, CONFIG, ids=table["id"].to_numpy())
    assert found.path == tmp_path / "cleaning" / "train_cluster.csv"
    pd.testing.assert_frame_equal(
        pd.read_csv(found.path), expected.train_cluster(), check_dtype=False
    )
    pd.testing.assert_frame_equal(
        found.images,
        expected.images.assign(status=expected.images["status"].astype(str), path=table["path"]),
        check_dtype=False,
    )
    pd.testing.assert_frame_equal(found.landmarks, expected.landmarks, check_dtype=False)
    assert found.sweep.empty
    assert (found.eps, found.relaxed_eps, found.reason) == (0.1, 0.3, "set by hand")


def test_make_cluster_list_splits_rescues_and_drops_as_drawn(table, embeddings, tmp_path):
    found = make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    assert found.landmarks.to_numpy().tolist() == [
        # landmark, images, clusters, kept, split, rescued, dropped
        [2, 6, 1, 6, 0, 0, 0],
        [5, 12, 3, 5, 4, 2, 1],
        [9, 3, 0, 0, 0, 0, 3],
    ]
    lines = pd.read_csv(found.path)
    assert lines["landmark_id"].tolist() == [2, 5, 5, 5]
    assert sorted(lines["images"].str.split().str.len()) == [2, 4, 5, 6]
    listed = set(" ".join(lines["images"]).split())
    assert listed == set(found.images.loc[found.images["status"] != "dropped", "id"])
    manifest = read_json(tmp_path / "cleaning" / "manifest.json")
    counts = {name: manifest[name] for name in ("images", "classes", "dropped", "landmarks_lost")}
    assert counts == {"images": 21, "classes": 4, "dropped": 4, "landmarks_lost": 1}


def test_make_cluster_list_does_nothing_the_second_time(
    table, embeddings, tmp_path, cleanings, advised
):
    config = CleanConfig(min_samples=3)
    first = make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    stamps = {path: path.stat().st_mtime_ns for path in first.path.parent.iterdir()}
    second = make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    assert len(cleanings) == len(advised) == 1
    assert {path: path.stat().st_mtime_ns for path in first.path.parent.iterdir()} == stamps
    for name in ("images", "landmarks", "sweep"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))
    assert (first.eps, first.relaxed_eps, first.reason) == (
        second.eps,
        second.relaxed_eps,
        second.reason,
    )


@pytest.mark.parametrize(
    "changes", [{"eps": 0.2}, {"relaxed_eps": 0.1}, {"min_samples": 5}, {"split": False}]
)
def test_make_cluster_list_works_again_with_other_settings(
    table, embeddings, tmp_path, cleanings, changes
):
    make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    other = dataclasses.replace(CONFIG, **changes)
    found = make_cluster_list(embeddings, table, other, tmp_path / "cleaning")
    assert cleanings == [CONFIG, other]
    fresh = make_cluster_list(embeddings, table, other, tmp_path / "fresh")
    for name in ("images", "landmarks", "sweep"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(fresh, name))
    assert found.path.read_bytes() == fresh.path.read_bytes()


def test_make_cluster_list_works_again_for_other_embeddings_or_labels(
    table, embeddings, tmp_path, cleanings
):
    make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    relabelled = table.assign(landmark_id=table["landmark_id"].replace(9, 2))
    make_cluster_list(embeddings, relabelled, CONFIG, tmp_path / "cleaning")
    write_embeddings(embeddings, table["id"].tolist(), grouped_rows(seed=0)[0][::-1])
    make_cluster_list(embeddings, relabelled, CONFIG, tmp_path / "cleaning")
    moved = relabelled.assign(path="elsewhere/" + relabelled["path"])
    found = make_cluster_list(embeddings, moved, CONFIG, tmp_path / "cleaning")
    assert len(cleanings) == 3  # where images lie decides nothing
    assert found.images["path"].str.startswith("elsewhere/").all()


def test_make_cluster_list_takes_no_half_of_one_cleaning_for_a_whole_of_another(
    table, embeddings, tmp_path, monkeypatch
):
    def killed(*_, **__):
        raise KeyboardInterrupt

    folder = tmp_path / "cleaning"
    first = make_cluster_list(embeddings, table, CONFIG, folder)
    with monkeypatch.context() as patch:
        patch.setattr(cluster_list, "mark_done", killed)
        with pytest.raises(KeyboardInterrupt):
            make_cluster_list(embeddings, table, dataclasses.replace(CONFIG, rescue=False), folder)
    with pytest.raises(ValueError, match="expected a finished cleaning"):
        read_cluster_list(folder, table)
    again = make_cluster_list(embeddings, table, CONFIG, folder)
    pd.testing.assert_frame_equal(again.images, first.images)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, (0.1, 0.12)),
        ({"tighten": 0.5, "relaxation": 4.0}, (0.05, 0.2)),
        ({"relaxed_eps": 0.25}, (0.1, 0.25)),
        # A radius that is given is taken as it is, and the second follows the one that is used.
        ({"eps": 0.2, "tighten": 0.5}, (0.2, 0.24)),
        ({"eps": 1.9}, (1.9, 2.0)),
    ],
)
def test_make_cluster_list_takes_suggestions_where_no_radius_is_given(
    table, embeddings, tmp_path, advised, cleanings, given, used
):
    config = CleanConfig(min_samples=3, **given)
    found = make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    assert (found.eps, found.relaxed_eps) == used
    assert (cleanings[0].eps, cleanings[0].relaxed_eps) == used
    assert found.reason == Advice().reason
    pd.testing.assert_frame_equal(found.sweep, Advice().sweep)
    assert advised == [3]


def test_make_cluster_list_asks_for_no_suggestion_where_both_radii_are_given(
    table, embeddings, tmp_path, advised
):
    make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    assert advised == []


def test_make_cluster_list_suggests_radii_that_separate_the_groups(tmp_path):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(12, DIM))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    landmark_ids = np.repeat(np.arange(12), 20)
    rows = centres[landmark_ids] + 0.05 * generator.normal(size=(240, DIM))
    strangers = np.arange(0, 240, 10)
    rows[strangers] = generator.normal(size=(len(strangers), DIM))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"{number:03d}" for number in range(240)]
    table = pd.DataFrame({"id": ids, "landmark_id": landmark_ids, "path": ids})
    folder = write_embeddings(tmp_path / "raw", ids, rows.astype(np.float16))
    found = make_cluster_list(folder, table, CleanConfig(rescue=False), tmp_path / "cleaning")
    is_kept = (found.images["label"] >= 0).to_numpy()
    is_stranger = np.isin(np.arange(240), strangers)
    assert is_kept[~is_stranger].mean() > 0.95
    assert is_kept[is_stranger].mean() < 0.3
    assert 0 < found.eps <= found.relaxed_eps
    assert {"eps", "kept", "classes", "agreement"} <= set(found.sweep.columns)
    assert found.reason


@pytest.mark.parametrize("is_asked", [False, True])
def test_make_cluster_list_drops_suspects_where_it_is_asked_to(
    table, embeddings, tmp_path, monkeypatch, is_asked
):
    suspects = (table["landmark_id"] == 2).to_numpy()
    monkeypatch.setattr("lib.clean.find_suspects", lambda rows, landmark_ids, jobs: suspects)
    config = dataclasses.replace(CONFIG, suspects=is_asked)
    images = make_cluster_list(embeddings, table, config, tmp_path / "cleaning").images
    assert (images.loc[suspects, "status"] == ("dropped" if is_asked else "kept")).all()
    assert (images.loc[~suspects, "status"] == "dropped").sum() == 4  # as without suspects


def test_make_cluster_list_refuses_embeddings_of_other_images(table, embeddings, tmp_path):
    swapped = table.iloc[[1, 0, *range(2, len(table))]]
    for other in (swapped, table.head(5), table.assign(id=table["id"].str.upper() + "x")):
        with pytest.raises(ValueError, match=r"embeddings of the .* images to be cleaned"):
            make_cluster_list(embeddings, other, CONFIG, tmp_path / "cleaning")
    assert not list((tmp_path / "cleaning").glob("*.csv"))


def test_make_cluster_list_refuses_unfinished_embeddings(table, embeddings, tmp_path):
    (embeddings / "manifest.json").unlink()
    with pytest.raises(ValueError, match="expected finished embeddings"):
        make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")


def test_make_cluster_list_says_when_nothing_is_left(table, embeddings, tmp_path):
    config = dataclasses.replace(CONFIG, smallest=50)
    with pytest.raises(ValueError, match=r"expected clusters at eps 0\.10, found none"):
        make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    with pytest.raises(ValueError, match="expected a finished cleaning"):
        read_cluster_list(tmp_path / "cleaning", table)


def test_make_cluster_list_refuses_a_second_radius_below_the_first(table, embeddings, tmp_path):
    config = dataclasses.replace(CONFIG, eps=0.3, relaxed_eps=0.1)
    with pytest.raises(ValueError, match="relaxed_eps"):
        make_cluster_list(embeddings, table, config, tmp_path / "cleaning")


def test_read_cluster_list_refuses_a_folder_without_cleaning(table, tmp_path):
    with pytest.raises(ValueError, match=r"expected a finished cleaning in .*nowhere"):
        read_cluster_list(tmp_path / "nowhere", table)


def test_read_cluster_list_keeps_distances_missing_where_images_were_dropped(
    table, embeddings, tmp_path
):
    found = make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning").images
    assert found["distance"].dtype.kind == "f"
    np.testing.assert_array_equal(found["distance"].isna(), found["status"] == "dropped")
    assert found["id"].tolist() == table["id"].tolist()


def naive_distances(rows, landmark_ids):
    """Cosine distances of all pairs of one landmark, and of all pairs of two."""
    rows = rows.astype(np.float64)
    within, between = [], []
    for i in range(len(rows)):
        for j in range(i):
            same = landmark_ids[i] == landmark_ids[j]
            (within if same else between).append(1 - rows[i] @ rows[j])
    return np.array(within), np.array(between)


@pytest.fixture
def scattered(tmp_path):
    """Landmarks of 1, 2, 3 and 4 images in disorder, all distances different."""
    generator = np.random.default_rng(3)
    landmark_ids = generator.permutation(np.repeat([40, 7, 12, 3], [1, 2, 3, 4]))
    rows = generator.normal(size=(10, 4))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    folder = write_embeddings(tmp_path / "raw", [str(i) for i in range(10)], rows)
    return folder, rows, landmark_ids


def which(found, expected):
    """For every found distance the place of the expected one, which must be there."""
    gaps = np.abs(found[:, None] - expected[None, :])
    assert gaps.min(axis=1).max() < 1e-5
    return gaps.argmin(axis=1)


def test_sample_distances_draws_every_pair_and_no_other(scattered):
    folder, rows, landmark_ids = scattered
    found = sample_distances(folder, landmark_ids, generator=np.random.default_rng(0), pairs=4000)
    expected = naive_distances(rows, landmark_ids)
    for sample, pairs in zip(found, expected, strict=True):
        assert np.diff(np.sort(pairs)).min() > 1e-4
        assert set(which(sample, pairs)) == set(range(len(pairs)))


def test_sample_distances_draws_images_and_partners_evenly(scattered):
    folder, rows, landmark_ids = scattered
    within, between = sample_distances(
        folder, landmark_ids, generator=np.random.default_rng(1), pairs=20_000
    )
    pairs_within, pairs_between = naive_distances(rows, landmark_ids)
    # Nine of ten images have a partner; a pair {i, j} of a landmark of n images is drawn as often
    # as one of its two images, times 1 / (n - 1). Pairs of two landmarks are all alike.
    sizes = pd.Series(landmark_ids).map(pd.Series(landmark_ids).value_counts()).to_numpy()
    weights = [
        2 / (sizes[i] - 1)
        for i in range(10)
        for j in range(i)
        if landmark_ids[i] == landmark_ids[j]
    ]
    assert len(within) == pytest.approx(20_000 * 0.9, rel=0.05)
    unlike = 2 * len(pairs_between) / 100
    assert len(between) == pytest.approx(20_000 * unlike, rel=0.05)
    for sample, pairs, share in (
        (within, pairs_within, np.array(weights) / np.sum(weights)),
        (between, pairs_between, np.full(len(pairs_between), 1 / len(pairs_between))),
    ):
        counts = np.bincount(which(sample, pairs), minlength=len(pairs))
        assert stats.chisquare(counts, share * len(sample)).pvalue > 1e-3


def test_sample_distances_of_one_landmark_or_of_single_images(scattered):
    folder, _, _ = scattered
    generator = np.random.default_rng(2)
    within, between = sample_distances(folder, np.full(10, 5), generator=generator, pairs=50)
    assert (len(within), len(between)) == (50, 0)
    within, between = sample_distances(folder, np.arange(10), generator=generator, pairs=50)
    assert len(within) == 0
    assert 0 < len(between) <= 50


def test_sample_distances_repeats_with_its_generator(scattered):
    folder, _, landmark_ids = scattered
    first, second, other = (
        sample_distances(folder, landmark_ids, generator=np.random.default_rng(seed), pairs=100)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


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

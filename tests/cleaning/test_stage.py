"""The cleaning stage: the files it leaves, when it works again, and what it refuses."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import artifacts
from lib.artifacts import fingerprint, mark_complete, read_json, write_json
from lib.cleaning import stage
from lib.cleaning.eps import Suggestion
from lib.cleaning.label_noise import LabelNoise
from lib.cleaning.stage import make_cluster_list, read_cluster_list
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig
from lib.retrieval.embedding_table import IDS, ROWS

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
    """A finished embedding folder, as `lib.retrieval.embedding` leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / ROWS, rows)
    pd.DataFrame({"id": ids}).to_csv(folder / IDS, index=False)
    mark_complete(folder, fingerprint(ids, rows))
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

    monkeypatch.setattr(stage, "clean", counted)
    return made


@pytest.fixture
def advised(monkeypatch):
    """A fixed suggestion; which settings of the first pass it was asked for."""
    asked = []

    def suggest_eps(rows, landmark_ids, *, min_samples, without, jobs):
        asked.append(min_samples)
        tried = pd.DataFrame({"eps": [0.1, 0.2], "kept": [0.5, 0.75]})
        return Suggestion(0.1, "because the test says so", tried)

    monkeypatch.setattr("lib.cleaning.two_pass.suggest_eps", suggest_eps)
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
        expected.images.astype({"status": str, "dropped_as": str}).assign(path=table["path"]),
        check_dtype=False,
    )
    pd.testing.assert_frame_equal(found.landmarks, expected.landmarks, check_dtype=False)
    assert found.sweep.empty
    assert (found.eps, found.relaxed_eps, found.reason) == (0.1, 0.3, "eps was given")


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
        patch.setattr(artifacts, "mark_complete", killed)
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
        ({"relaxation": 4.0}, (0.1, 0.4)),
        ({"relaxed_eps": 0.25}, (0.1, 0.25)),
        # A radius that is given is taken as it is, and the second follows the one that is used.
        ({"eps": 0.2}, (0.2, 0.24)),
        ({"eps": 1.9}, (1.9, 2.0)),
    ],
)
def test_make_cluster_list_takes_suggestions_where_no_radius_is_given(
    table, embeddings, tmp_path, advised, cleanings, given, used
):
    config = CleanConfig(min_samples=3, **given)
    found = make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    assert (found.eps, found.relaxed_eps) == used
    is_advised = "eps" not in given
    assert found.reason == ("because the test says so" if is_advised else "eps was given")
    assert found.sweep["eps"].tolist() == ([0.1, 0.2] if is_advised else [])
    assert advised == [3] * is_advised


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
def test_make_cluster_list_drops_suspected_mislabels_where_asked_to(
    table, embeddings, tmp_path, monkeypatch, is_asked
):
    suspected = (table["landmark_id"] == 2).to_numpy()
    noise = LabelNoise(suspected.astype(np.float32), np.empty(0, np.float32), 0.3, 0.5)
    monkeypatch.setattr(
        "lib.cleaning.two_pass.estimate_label_noise", lambda *given, **options: noise
    )
    config = dataclasses.replace(CONFIG, drop_suspected_mislabels=is_asked)
    images = make_cluster_list(embeddings, table, config, tmp_path / "cleaning").images
    assert (images.loc[suspected, "status"] == ("dropped" if is_asked else "kept")).all()
    assert (images.loc[~suspected, "status"] == "dropped").sum() == 4  # as without it


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
    config = dataclasses.replace(CONFIG, min_cluster_size=50)
    with pytest.raises(ValueError, match=r"expected clusters at eps 0\.10, found none"):
        make_cluster_list(embeddings, table, config, tmp_path / "cleaning")
    with pytest.raises(ValueError, match="expected a finished cleaning"):
        read_cluster_list(tmp_path / "cleaning", table)


def test_make_cluster_list_refuses_a_second_radius_below_the_first(table, embeddings, tmp_path):
    config = dataclasses.replace(CONFIG, eps=0.3, relaxed_eps=0.1)
    with pytest.raises(ValueError, match="relaxed_eps"):
        make_cluster_list(embeddings, table, config, tmp_path / "cleaning")


def test_read_cluster_list_refuses_a_manifest_of_something_else(table, embeddings, tmp_path):
    make_cluster_list(embeddings, table, CONFIG, tmp_path / "cleaning")
    write_json({"key": "0" * 16, "eps": 0.1}, tmp_path / "cleaning" / "manifest.json")
    with pytest.raises(ValueError, match="expected a finished cleaning"):
        read_cluster_list(tmp_path / "cleaning", table)


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

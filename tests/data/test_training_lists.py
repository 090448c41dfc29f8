"""The training lists and their nested classes."""

import dataclasses
import os

import numpy as np
import pandas as pd
import pytest

from lib.data.evaluation_set import evaluation
from lib.data.gldv2 import read
from lib.data.training_lists import (
    is_leaked,
    pack_list,
    refuse_leak,
    training_list,
    unpack_list,
)
from tests.dataset import LANDMARK_OF, ids, image_id, write_gldv2, write_table

LABEL_OF = {7: 0, 50: 1, 3: 2, 9: 3}  # clean file first, then first appearance in train.csv


@pytest.fixture
def dataset(tmp_path):
    return read(write_gldv2(tmp_path))


def write_clusters(root, *rows):
    path = root / "train_cluster.csv"
    path.write_text("\n".join(["cluster_id,landmark_id,images", *rows]))
    return path


def test_training_list_full_has_every_row_with_its_tags(dataset):
    images = training_list(dataset, "full")
    assert images["id"].tolist() == [image_id(number) for number in LANDMARK_OF]
    assert images["label"].tolist() == [LABEL_OF[mark] for mark in LANDMARK_OF.values()]
    assert images.loc[images["is_clean"], "id"].tolist() == ids(1, 2, 3, 5).split()
    first = images.iloc[0]
    assert (first["country"], first["continent"]) == ("SE", "Europe")
    assert first["path"] == f"train/0/0/1/{image_id(1)}.jpg"
    assert (dataset.root / first["path"]).is_file()


def test_training_lists_are_nested(dataset):
    clean, c2x, full = (training_list(dataset, name) for name in ("clean", "c2x", "full"))
    assert [images["label"].max() + 1 for images in (clean, c2x, full)] == [2, 2, 4]
    assert c2x["id"].tolist() == ids(1, 2, 3, 5, 9, 10, 11, 12).split()
    for smaller, larger in ((clean, c2x), (c2x, full)):
        common = larger.set_index("id").loc[smaller["id"]]
        assert common["label"].tolist() == smaller["label"].tolist()
        assert smaller.columns.tolist() == larger.columns.tolist()


def test_training_list_full_index_adds_labelled_index_images_and_no_query(dataset, tmp_path):
    full, images = training_list(dataset, "full"), training_list(dataset, "full+index")
    assert images.columns.tolist() == full.columns.tolist()
    assert images["id"].tolist() == full["id"].tolist() + ids(101, 102, 103).split()
    assert images["landmark_id"].tolist()[12:] == [50, 50, 7]
    assert images["label"].tolist()[12:] == [1, 1, 0]
    assert images["path"].iloc[-1] == f"index/0/6/7/{image_id(103)}.jpg"
    assert training_list(dataset, "full").equals(full)
    (dataset.root / "index_image_to_landmark.csv").unlink()
    assert training_list(read(dataset.root), "full+index")["id"].tolist() == full["id"].tolist()


def test_training_list_full_index_leaves_held_out_landmarks_out(dataset):
    held = dataclasses.replace(evaluation(dataset), held_out=np.array([50]))
    images = training_list(dataset, "full+index", without=held)
    assert 50 not in set(images["landmark_id"])
    assert images["id"].tolist()[-1] == image_id(103)


def test_training_list_all_adds_index_images_and_queries_once_per_class(dataset):
    images = training_list(dataset, "all")
    added = images.iloc[12:]
    expected = [(101, 1), (102, 1), (103, 0), (201, 1), (201, 0), (202, 1)]
    assert list(zip(added["id"], added["label"], strict=True)) == [
        (image_id(number), label) for number, label in expected
    ]
    assert added["is_clean"].all()
    assert added["landmark_id"].tolist() == [50, 50, 7, 50, 7, 50]
    assert all((dataset.root / path).is_file() for path in added["path"])
    assert added.notna().all(axis=None)
    assert images["landmark_id"].dtype == images["label"].dtype == np.int64


def test_training_list_all_needs_index_labels(dataset):
    (dataset.root / "index_label_to_category.csv").unlink()
    with pytest.raises(ValueError, match=r"'all' needs .*index_image_to_landmark"):
        training_list(read(dataset.root), "all")


def test_training_list_cluster_takes_its_classes_from_the_file(dataset):
    rows = (f"0,50,{ids(1, 10)}", f"2,50,{ids(3)}", f"1,7,{ids(11, 2)}")
    path = write_clusters(dataset.root, *rows)
    images = training_list(dataset, "cluster", clusters=path)
    labels = dict(zip(images["id"], images["label"], strict=True))
    assert labels == dict(zip(ids(1, 2, 3, 10, 11).split(), (0, 1, 2, 0, 1), strict=True))
    assert images["is_clean"].tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"0,7,{ids(1)}", "another landmark"),
        (f"0,50,{ids(99)}", "made from another dataset"),
        (f"0,50,{ids(1, 1)}", "more than once"),
        ("x,50,", "cluster_id 'x'"),
    ],
)
def test_training_list_cluster_refuses_a_file_that_does_not_fit(dataset, row, message):
    path = write_clusters(dataset.root, row)
    with pytest.raises(ValueError, match=rf"train_cluster\.csv.*{message}"):
        training_list(dataset, "cluster", clusters=path)


def test_training_list_refuses_unknown_names_and_missing_clusters(dataset):
    with pytest.raises(ValueError, match="no training list 'dirty': choose one of clean, c2x"):
        training_list(dataset, "dirty")
    with pytest.raises(ValueError, match="clusters="):
        training_list(dataset, "cluster")
    with pytest.raises(ValueError, match="clusters="):
        training_list(dataset, "full", clusters=dataset.root / "train_cluster.csv")


def test_refuse_leak_looks_at_the_images_themselves(dataset):
    validation = evaluation(dataset)
    leaking = training_list(dataset, "all")
    leaking.attrs = {}
    assert not refuse_leak(training_list(dataset, "full"), validation)
    assert refuse_leak(leaking, validation, allow=True)
    with pytest.raises(ValueError, match="allow=True"):
        refuse_leak(leaking, validation)


def without_solution(root):
    """The folder with a fifth, larger landmark and no solution."""
    rows = [f"{image_id(number)},{mark}" for number, mark in LANDMARK_OF.items()]
    rows += [f"{image_id(number)},60" for number in range(20, 40)]
    for path in root.glob("*.csv"):
        path.unlink()
    (root / "train.csv").write_text("\n".join(["id,landmark_id", *rows]))
    return read(root)


def test_training_list_without_held_out_landmarks_keeps_classes_contiguous(dataset):
    dataset = without_solution(dataset.root)
    validation = evaluation(dataset, share=0.4)
    whole = training_list(dataset, "full")
    kept = training_list(dataset, "full", without=validation)
    left = [mark for mark in (50, 7, 3, 9, 60) if mark not in validation.held_out]
    assert len(left) == 3
    assert kept.groupby("landmark_id")["label"].first().to_dict() == {
        mark: place for place, mark in enumerate(left)
    }
    assert is_leaked(whole, validation)
    assert not is_leaked(kept, validation)


def test_kaggle_lists_are_all_the_clean_set(dataset):
    dataset = without_solution(dataset.root)
    clean = training_list(dataset, "clean")
    assert clean["is_clean"].all()
    assert clean.equals(training_list(dataset, "c2x"))
    assert clean.equals(training_list(dataset, "full"))


def test_a_clean_landmark_whose_images_are_gone_keeps_its_class(dataset):
    rows = [f"9,{ids(99)}", f"7,{ids(2, 5)}", f"50,{ids(1, 3)}"]
    write_table(dataset.root, "train_clean.csv", rows)
    images = training_list(read(dataset.root), "clean")
    assert sorted(set(zip(images["landmark_id"], images["label"], strict=True))) == [
        (7, 1),
        (50, 2),
    ]


def test_unpack_list_gives_back_what_pack_list_was_given(dataset):
    images = training_list(dataset, "full")
    rows, words = pack_list(images)
    assert [path.decode() for path in rows["path"]] == images["path"].tolist()
    found = unpack_list(rows, words)
    assert set(words) == {"country", "continent"}
    expected = images.drop(columns=["id", "path"])
    pd.testing.assert_frame_equal(found[expected.columns].astype(expected.dtypes), expected)


def test_pack_list_takes_lists_without_some_columns_and_further_ones():
    table = pd.DataFrame({"path": ["ä", "bcd"], "label": [1, 0], "mood": ["y", "x"], "w": [0.5, 1]})
    rows, words = pack_list(table)
    assert [os.fsdecode(path) for path in rows["path"]] == ["ä", "bcd"]
    assert unpack_list(rows, words).to_dict("list") == table.drop(columns="path").to_dict("list")

"""Queries, gallery and truth, from the solution or held out."""

import numpy as np
import pandas as pd
import pytest

from lib.data.evaluation_set import evaluation, query_names
from lib.data.gldv2 import read
from tests.dataset import default_rows, ids, image_id, write_gldv2, write_table


@pytest.fixture
def root(tmp_path):
    return write_gldv2(tmp_path)


def write_kaggle(root, sizes, seed=0):
    """A train.csv with landmarks of the given numbers of images, in random order."""
    marks = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = [f"{image_id(place)},{mark}" for place, mark in enumerate(marks)]
    (root / "train.csv").write_text("\n".join(["id,landmark_id", *rows]))
    return read(root)


def test_evaluation_uses_the_solution(root):
    found = evaluation(read(root))
    assert found.source == "solution"
    assert found.held_out.size == 0
    assert found.solution == {
        "Public": {image_id(201): set(ids(101, 103).split()), image_id(204): {image_id(104)}},
        "Private": {image_id(202): {image_id(102)}},
    }
    assert found.queries["id"].tolist() == ids(201, 202, 204).split()
    assert found.queries["usage"].tolist() == ["Public", "Private", "Public"]
    assert found.gallery["landmark_id"].tolist() == [0, 0, 1, 2, -1]
    for table in (found.queries, found.gallery):
        assert all((root / path).is_file() for path in table["path"])


def test_evaluation_gives_a_query_the_place_of_its_answers(root):
    found = evaluation(read(root))
    assert found.queries["country"].tolist() == ["SE", "SE", "OTHER"]
    assert found.gallery["continent"].tolist() == ["Europe", "Europe", "Africa", "OTHER", "OTHER"]


def test_evaluation_leaves_out_answers_that_the_gallery_lacks(root):
    rows = default_rows()["index.csv"]
    write_table(root, "index.csv", rows[1:2] + rows[4:])
    found = evaluation(read(root))
    assert found.solution == {"Private": {image_id(202): {image_id(102)}}}


def test_evaluation_refuses_a_solution_without_queries(root):
    write_table(root, "retrieval_solution_v2.1.csv", [f"{image_id(203)},None,Ignored"])
    with pytest.raises(ValueError, match="no Public or Private query"):
        evaluation(read(root))


def test_query_names_are_those_of_the_answers(root):
    church = "Marbäcks kyrka, Småland"
    expected = {image_id(201): church, image_id(204): "Unseen", image_id(202): f"{church} (2)"}
    assert query_names(evaluation(read(root))) == expected


def test_query_names_are_ids_where_answers_have_no_name(root):
    write_table(root, "index_label_to_category.csv", [])
    found = query_names(evaluation(read(root)))
    assert found == {name: f"query {name}" for name in ids(201, 204, 202).split()}


def test_query_names_of_held_out_landmarks_are_theirs(tmp_path):
    dataset = write_kaggle(tmp_path, [4, 9, 5])
    dataset.landmarks["category"] = [
        f"Old_Gate_{mark}" for mark in dataset.landmarks["landmark_id"]
    ]
    found = evaluation(dataset)
    shown = dict(zip(dataset.train["id"], dataset.train["landmark_id"], strict=True))
    names = query_names(found)
    assert set(names) == set(found.queries["id"])
    assert all(name.startswith(f"Old Gate {shown[query]}") for query, name in names.items())


@pytest.mark.parametrize("seed", range(8))
def test_held_out_evaluation_keeps_its_promises(tmp_path, seed):
    sizes = np.random.default_rng(seed).integers(1, 14, 60)
    dataset = write_kaggle(tmp_path, sizes, seed)
    found = evaluation(dataset, seed=seed)
    mark_of = dataset.train.set_index("id")["landmark_id"]
    truth = {query: ids for queries in found.solution.values() for query, ids in queries.items()}
    assert found.source == "held_out"
    assert len(found.held_out) == 6
    assert sizes[found.held_out].min() >= 4
    assert not set(found.queries["id"]) & set(found.gallery["id"])
    asked = found.queries["id"].map(mark_of).value_counts()
    for mark in found.held_out:
        assert asked[mark] == (2 if sizes[mark] >= 8 else 1)
    for query, answers in truth.items():
        same = set(found.gallery.loc[found.gallery["landmark_id"] == mark_of[query], "id"])
        assert answers == same
        assert len(answers) == sizes[mark_of[query]] - asked[mark_of[query]]
    is_distractor = ~found.gallery["landmark_id"].isin(found.held_out)
    assert is_distractor.sum() == (~is_distractor).sum()
    assert set(found.solution) == {"Public", "Private"}


def test_held_out_evaluation_depends_on_the_seed_only(tmp_path):
    dataset = write_kaggle(tmp_path, [6] * 40)
    once, again, other = (evaluation(dataset, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(once.gallery, again.gallery)
    assert once.solution == again.solution
    assert once.held_out.tolist() != other.held_out.tolist()


def test_held_out_evaluation_is_bounded(tmp_path):
    dataset = write_kaggle(tmp_path, [6] * 40)
    assert len(evaluation(dataset, share=0.5, most=7).held_out) == 7
    assert len(evaluation(write_kaggle(tmp_path, [5, 1, 1]), share=1).held_out) == 1


@pytest.mark.parametrize(
    ("sizes", "usages"),
    [([6, 6], {"Private"}), ([6, 6, 6], {"Private"}), ([6] * 6, {"Private", "Public"})],
)
def test_held_out_evaluation_of_few_landmarks_has_private_queries(tmp_path, sizes, usages):
    found = evaluation(write_kaggle(tmp_path, sizes))
    assert set(found.queries["usage"]) == usages
    assert len(found.held_out) < len(sizes)


def test_held_out_evaluation_leaves_a_landmark_to_train_on(tmp_path):
    with pytest.raises(ValueError, match="no landmark with four images to hold out beside another"):
        evaluation(write_kaggle(tmp_path, [9]))


def test_held_out_evaluation_needs_landmarks_of_four_images(tmp_path):
    with pytest.raises(ValueError, match="no landmark with four images"):
        evaluation(write_kaggle(tmp_path, [3, 2, 1]))


def test_evaluation_marks_queries_whose_landmark_training_shows_by_its_category(root):
    dataset = read(root)
    found = evaluation(dataset)
    trained = set(dataset.landmarks["category"])
    category = dataset.index.set_index("id")["category"]
    expected = {
        query: any(category[image] in trained and category[image] != "" for image in images)
        for part in found.solution.values()
        for query, images in part.items()
    }
    assert found.queries.set_index("id")["is_seen"].to_dict() == expected
    assert set(expected.values()) == {True, False}


def test_evaluation_marks_held_out_queries_as_unseen_and_others_if_it_knows(root, tmp_path):
    (root / "index_label_to_category.csv").unlink()
    assert "is_seen" not in evaluation(read(root)).queries
    (tmp_path / "kaggle").mkdir()
    found = evaluation(write_kaggle(tmp_path / "kaggle", [5, 6, 7, 8])).queries
    assert len(found) > 0
    assert not found["is_seen"].any()

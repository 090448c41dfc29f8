import numpy as np
import pytest

from lib.embed import IDS, ROWS, read_embeddings
from lib.rank_folders import labels_of, rank_folders
from lib.rerank import landmark_country_rerank
from lib.search import search
from tests.folders import write_folder
from tests.winners import unit_rows


@pytest.fixture
def folders(tmp_path, dataset):
    generator = np.random.default_rng(0)
    ids = {
        "query": dataset.test.tolist(),
        "gallery": dataset.index["id"].tolist(),
        "references": [*dataset.train["id"].iloc[::-1], "fff0000000000000"],
    }
    return {
        name: write_folder(tmp_path / name, own, unit_rows(generator, len(own), 8))
        for name, own in ids.items()
    }


def test_rank_folders_without_references_is_search(folders):
    queries, gallery = (read_embeddings(folders[name]) for name in ("query", "gallery"))
    found = rank_folders(folders["query"], folders["gallery"], k=7)
    ids = {"query_ids": queries.ids, "gallery_ids": gallery.ids}
    expected = search(queries.rows, gallery.rows, 7, **ids)
    assert found.predictions() == expected.predictions()


def test_rank_folders_reranks_by_the_labels_of_the_dataset(folders, dataset):
    parts = [read_embeddings(folders[name]) for name in ("query", "gallery", "references")]
    found = rank_folders(**_named(folders), data=dataset.root, k=9, alpha=0.7, beta=0.3, top=5)
    labels = labels_of(parts[2], dataset)
    expected = landmark_country_rerank(
        *(part.rows for part in parts),
        labels["landmark_id"],
        labels["country"],
        k=9,
        alpha=0.7,
        beta=0.3,
        top=5,
    )
    np.testing.assert_array_equal(found.positions, expected.positions)
    np.testing.assert_array_equal(found.scores, expected.scores)


def _named(folders):
    return {
        "queries": folders["query"],
        "gallery": folders["gallery"],
        "references": folders["references"],
    }


def test_labels_of_follow_the_order_of_the_embeddings(folders, dataset):
    labels = labels_of(read_embeddings(folders["references"]), dataset)
    assert labels["landmark_id"].iloc[:-1].tolist() == dataset.train["landmark_id"].tolist()[::-1]
    assert labels.iloc[-1].tolist() == [-1, "OTHER"]
    countries = dict(zip(labels["landmark_id"], labels["country"], strict=True))
    expected = dataset.landmarks.set_index("landmark_id")["country"].to_dict()
    assert countries == expected | {-1: "OTHER"}


def test_rank_folders_refuses_what_does_not_fit(folders, dataset, tmp_path):
    query, gallery = folders["query"], folders["gallery"]
    with pytest.raises(ValueError, match="a dataset folder beside the references, found none"):
        rank_folders(query, gallery, references=folders["references"])
    with pytest.raises(ValueError, match=r"embeddings of the training images of .*, found 12"):
        rank_folders(query, gallery, references=query, data=dataset.root)
    with pytest.raises(ValueError, match=r"finished embeddings in .*nowhere, found none"):
        rank_folders(tmp_path / "nowhere", gallery)
    narrow = write_folder(tmp_path / "narrow", ["a"], np.ones((1, 3)))
    with pytest.raises(ValueError, match="one width, found 8 and 3"):
        rank_folders(query, narrow)


def test_read_embeddings_refuses_ids_out_of_step_with_rows(tmp_path):
    folder = write_folder(tmp_path / "odd", ["a", "b", "c"], np.eye(3))
    np.save(folder / ROWS, np.eye(2, dtype=np.float16))
    with pytest.raises(ValueError, match=r"each of the 3 ids in .*odd, found .* shape \(2, 2\)"):
        read_embeddings(folder)


def test_read_embeddings_keep_ids_apart_that_look_like_numbers(tmp_path):
    ids = ["0012", "12", "1e5", "NA"]
    assert read_embeddings(write_folder(tmp_path / "x", ids, np.eye(4))).ids.tolist() == ids


@pytest.mark.parametrize("name", [IDS, ROWS])
@pytest.mark.parametrize("content", [b"", b"nothing\n1\n", b"\xff\xfe", b"id\nfff0000000000000\n"])
def test_rank_folders_names_a_damaged_file(folders, name, content):
    (folders["query"] / name).write_bytes(content)
    with pytest.raises(ValueError, match="expected") as caught:
        rank_folders(folders["query"], folders["gallery"])
    assert str(folders["query"]) in str(caught.value)
    assert "\n" not in str(caught.value)

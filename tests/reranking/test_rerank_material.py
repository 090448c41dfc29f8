import numpy as np
import pandas as pd
import pytest

from lib.reranking import data as rerank_material
from lib.reranking.bridged import landmark_distances
from lib.reranking.data import read_material, read_second
from lib.reranking.ensemble import concatenate
from lib.reranking.query_expansion import augmented_search, expanded_search
from lib.reranking.votes import vote
from lib.retrieval.knn import search
from tests.folders import write_folder
from tests.material import small_evaluation, small_material


@pytest.fixture
def material():
    return small_material(small_evaluation())


def test_material_makes_what_its_parts_make(material):
    rows = material.queries.rows, material.gallery.rows
    plain = search(*rows, 20, **material.ids)
    assert material.plain.predictions() == plain.predictions()
    votes = vote(rows[0], *material.labelled, top=5, reciprocal=True)
    found = material.query_votes(5, reciprocal=True)
    np.testing.assert_array_equal(found.landmark_scores, votes.landmark_scores)
    raw = vote(rows[1], *material.labelled, top=3, normalise=False)
    np.testing.assert_array_equal(material.gallery_votes(3).landmark_scores, raw.landmark_scores)
    distances = landmark_distances(rows[1], *material.labelled[:2], per_landmark=3)
    np.testing.assert_array_equal(
        material.distances(per_landmark=3)[1].distances, distances.distances
    )


def test_material_of_a_stack_searches_the_changed_rows(material):
    rows = material.queries.rows, material.gallery.rows
    expected = expanded_search(material.plain, *rows, neighbours=3, alpha=1.0)
    found = material.expanded(neighbours=3, alpha=1.0)
    np.testing.assert_array_equal(found.plain.positions, expected.positions)
    expected = augmented_search(material.plain, *rows, neighbours=4)
    found = material.augmented(neighbours=4)
    np.testing.assert_array_equal(found.plain.positions, expected.positions)
    assert found.plain.predictions().keys() == material.plain.predictions().keys()


def test_material_of_two_models_joins_all_their_rows(material):
    joined = material.joined
    for name in ("queries", "gallery"):
        both = [getattr(one, name).rows for one in (material, material.second)]
        np.testing.assert_array_equal(getattr(joined, name).rows[:], concatenate(both)[:])
    assert joined.references.shape == (60, 16)
    assert len(joined.query_votes(3)) == 30
    with pytest.raises(ValueError, match="expected a second model for an ensemble, found none"):
        material.second.joined  # noqa: B018


def test_material_makes_everything_once(material, monkeypatch):
    calls = []

    def counted(*rows, **options):
        calls.append(options)
        return vote(*rows, **options)

    monkeypatch.setattr(rerank_material, "vote", counted)
    for _ in range(3):
        material.query_votes(3)
        material.query_votes(3, reciprocal=True)
        material.gallery_votes(3)
    assert len(calls) == 3
    assert material.augmented(neighbours=3) is material.augmented(neighbours=3)
    assert material.expanded(neighbours=3, alpha=1) is not material.expanded(neighbours=2, alpha=1)


def test_read_material_takes_references_by_id_from_a_larger_folder(tmp_path):
    generator = np.random.default_rng(0)
    names = {"query": ["q0", "q1"], "gallery": ["g0", "g1", "g2"], "raw": list("abcde")}
    rows = {name: generator.normal(size=(len(ids), 4)) for name, ids in names.items()}
    for name, ids in names.items():
        write_folder(tmp_path / name, ids, rows[name])
    labelled = pd.DataFrame({"id": ["d", "a"], "landmark_id": [7, 9], "country": ["NA", "FR"]})
    found = read_material(tmp_path, labelled, references="raw", k=2)
    expected = rows["raw"][[3, 0]].astype(np.float16)
    np.testing.assert_array_equal(found.references[:], expected)
    assert found.labelled[1].tolist() == [7, 9]
    assert found.labelled[2].tolist() == ["NA", "FR"]
    assert found.plain.positions.shape == (2, 2)
    with pytest.raises(ValueError, match=r"embeddings of all 3 images in .*raw, found none of z"):
        read_material(
            tmp_path,
            pd.concat([labelled, labelled.head(1).assign(id="z")]),
            references="raw",
        )


def test_read_second_is_for_a_model_that_embedded_the_raw_images(tmp_path):
    generator = np.random.default_rng(0)
    for name, count in (("query", 2), ("gallery", 3)):
        ids = [f"{name}{i}" for i in range(count)]
        write_folder(tmp_path / name, ids, generator.normal(size=(count, 4)))
    labelled = pd.DataFrame({"id": ["b"], "landmark_id": [7], "country": ["NA"]})
    assert read_second(tmp_path, labelled) is None
    rows = generator.normal(size=(2, 4)).astype(np.float16)
    write_folder(tmp_path / "raw", ["a", "b"], rows)
    found = read_second(tmp_path, labelled, k=2)
    np.testing.assert_array_equal(found.references[:], rows[1:])
    assert found.plain.k == 2

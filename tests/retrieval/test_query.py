"""Single-photo query: the run that is opened, what its network is tested with, what it finds."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib import artifacts, models, retrieval
from lib.config import InferenceConfig
from lib.data import image_paths
from lib.recipes import profile
from lib.retrieval.embedding_table import IDS, ROWS
from lib.retrieval.query import Gallery, inference_of, load_run
from tests.made_up import unit_rows

SMALL = InferenceConfig(size=32, flip=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model, stripes, evaluation):
    """A run folder with one trained stage, and its gallery embedded."""
    folder = tmp_path_factory.mktemp("outputs") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.build_model(tiny_model)
    checkpoint = models.save(folder / "arcface" / "model.safetensors", model)
    artifacts.mark_complete(checkpoint.parent, "key")
    artifacts.write_json({"arcface": "arcface"}, folder / "kept.json")
    embeddings = checkpoint.parent / "embeddings"
    retrieval.embed_and_search(checkpoint, evaluation, stripes, embeddings, SMALL)
    return folder


@pytest.fixture
def model(run):
    return load_run(run)


@pytest.fixture
def photo(stripes, evaluation):
    return stripes / evaluation.queries["path"].iloc[0]


def test_query_scores_images_as_the_search_over_all_queries(run, model, stripes, evaluation):
    folder = run / "arcface" / "embeddings"
    expected = retrieval.embed_and_search(
        run / "arcface" / "model.safetensors", evaluation, stripes, folder, SMALL
    )
    known = evaluation.gallery.set_index("id")
    for query, path in zip(evaluation.queries["id"], evaluation.queries["path"], strict=True):
        found = model.query(stripes / path, k=1000)
        assert found.index.tolist() == list(range(1, len(known) + 1))
        scores = expected.of(query).set_index("id")["score"]
        np.testing.assert_allclose(found["score"], scores[found["id"]], atol=5e-3)
        assert found["landmark_id"].tolist() == known["landmark_id"][found["id"]].tolist()
        names = known["category"][found["id"]].str.replace("_", " ")
        assert found["landmark"].tolist() == names.tolist()


def test_query_takes_a_path_bytes_pixels_and_a_pillow_image(model, photo):
    kinds = str(photo), photo, photo.read_bytes(), np.array(Image.open(photo)), Image.open(photo)
    first, *others = (model.query(kind, k=3) for kind in kinds)
    for other in others:
        pd.testing.assert_frame_equal(first, other)


def test_query_refuses_what_is_no_photograph(model, tmp_path):
    (tmp_path / "note.jpg").write_text("not a photograph")
    wrong = tmp_path / "note.jpg", tmp_path / "none.jpg", b"\xff\xd8", np.zeros((4, 4), np.uint8)
    for photo in wrong:
        with pytest.raises(ValueError, match=r"^expected .*found"):
            model.query(photo)


def test_image_is_what_the_gallery_shows(model, stripes):
    image = model.gallery.images["id"].iloc[3]
    expected = np.array(Image.open(stripes / image_paths("index", [image])[0]))
    np.testing.assert_array_equal(model.image(image), expected)
    with pytest.raises(ValueError, match=r"found 'nothing'"):
        model.image("nothing")


def test_load_run_takes_a_stage_and_a_checkpoint_and_names_what_is_missing(run, tmp_path):
    for place in (run / "arcface", run / "arcface" / "model.safetensors"):
        assert load_run(place).checkpoint == run / "arcface" / "model.safetensors"
    assert load_run(run, stage="arcface").inference == SMALL
    with pytest.raises(ValueError, match=r"expected a finished run in .*nowhere"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"expected finished embeddings in .*nothing"):
        load_run(run, gallery=tmp_path / "nothing")
    shutil.copytree(run / "arcface", tmp_path / "bare", ignore=lambda *_: ["embeddings"])
    with pytest.raises(ValueError, match=r"expected an embedded gallery in .*bare"):
        load_run(tmp_path / "bare")
    artifacts.mark_complete(tmp_path / "bare", "another key")
    with pytest.raises(ValueError, match="found one of another network"):
        load_run(tmp_path / "bare", gallery=run / "arcface" / "embeddings" / "gallery")


def test_inference_of_a_checkpoint_is_what_it_tells_or_else_its_profiles(run, tiny_model, tmp_path):
    told = InferenceConfig(size=160, flip=True, scales=(1.0, 1.5))
    path = tmp_path / "mini" / "stage" / "model.safetensors"
    model = models.build_model(tiny_model)
    models.save(path, model, inference=dataclasses.asdict(told))
    assert inference_of(path) == told
    assert inference_of(path, {"inference": dataclasses.asdict(SMALL)}) == SMALL
    models.save(path, model)
    with pytest.raises(ValueError, match=r"expected .* to tell its test size"):
        inference_of(path)
    usual = {"PROFILE": "photos", "DATA_DIR": "/data", "RECIPE": ""}
    (tmp_path / "mini" / "notebooks").mkdir()
    for number, given in (("02", usual), ("06", usual | {"TEST_SIZE": 96})):
        notebook = {"cells": [], "metadata": {"papermill": {"parameters": given}}}
        place = tmp_path / "mini" / "notebooks" / f"{number}.ipynb"
        place.write_text(json.dumps(notebook))
    assert inference_of(path) == dataclasses.replace(profile("photos").inference, size=96)
    assert inference_of(path, {"size": 64}).size == 64


def write_part(folder, rows, names=None):
    """A signed folder of embeddings whose ids are `names`, a newline among the categories."""
    folder.mkdir()
    np.save(folder / ROWS, rows.astype(np.float16))
    names = names or [f"{folder.name}{i}" for i in range(len(rows))]
    table = pd.DataFrame({"id": names, "path": [f"{name}.jpg" for name in names]})
    table["landmark_id"] = np.arange(len(rows)) % 3 - 1
    table["category"] = [("", 'An_arch,_"old"', "")[i % 3] for i in range(len(rows))]
    artifacts.write_csv(table, folder / IDS)
    artifacts.mark_complete(folder, folder.name, files=(ROWS, IDS), root=str(folder))
    return folder


@pytest.mark.parametrize("counts", [(700,), (300, 1, 60)])
def test_gallery_searches_all_its_parts_exactly(tmp_path, counts, monkeypatch):
    generator = np.random.default_rng(3)
    monkeypatch.setattr("lib.retrieval.query.BLOCK", 64)
    monkeypatch.setattr("lib.retrieval.query.cores", lambda: 3)
    rows = [unit_rows(generator, count, 8) for count in counts]
    folders = [write_part(tmp_path / f"part{i}", own) for i, own in enumerate(rows)]
    gallery, queries = Gallery(folders), unit_rows(generator, 5, 8)
    every = np.vstack(rows).astype(np.float16).astype(np.float64)
    exact = (queries @ every.T).astype(np.float32)
    expected = np.argsort(-exact, axis=1, kind="stable")
    for k in (1, 20, 10_000):
        scores, positions = gallery.search(queries, k)
        assert positions.tolist() == expected[:, :k].tolist()
        np.testing.assert_allclose(scores, np.take_along_axis(exact, positions, 1))


def test_gallery_at_reads_single_rows_as_in_the_whole_table(tmp_path):
    rows = unit_rows(np.random.default_rng(0), 9, 8)
    broken = write_part(tmp_path / "b", rows)
    table = pd.read_csv(broken / IDS, keep_default_na=False)
    table.loc[4, "category"] = "two\nlines"
    artifacts.write_csv(table, broken / IDS)
    artifacts.mark_complete(broken, "b", files=(ROWS, IDS), root=str(broken))
    gallery = Gallery([write_part(tmp_path / "a", rows), broken])
    where = [17, 0, 13, 1, 2, 9]
    found = gallery.at(where)
    expected = gallery.images.iloc[where].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.drop(columns="root"), expected)
    assert expected["landmark"].tolist()[3:5] == ['An arch, "old"', "landmark 1"]

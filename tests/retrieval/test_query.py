"""Single-photo query: the run that is opened, what its network is tested with, what it finds."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lib import artifacts, models, retrieval
from lib.config import InferenceConfig
from lib.data import image_paths, training_list
from lib.retrieval import embedding
from lib.retrieval.__main__ import main
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
        model = models.build_model(tiny_model).train()
        for _ in range(5):  # for BatchNorm, so that rows differ
            model(torch.randn(16, 3, 32, 32))
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
        np.testing.assert_allclose(found["score"], scores[found["id"]], atol=0.02)
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


def test_inference_of_a_checkpoint_is_what_it_or_its_embeddings_tell(tiny_model, tmp_path):
    told = InferenceConfig(size=160, flip=True, scales=(1.0, 1.5))
    path = tmp_path / "mini" / "stage" / "model.safetensors"
    model = models.build_model(tiny_model)
    models.save(path, model, inference=dataclasses.asdict(told))
    assert inference_of(path) == told
    assert inference_of(path, {"inference": dataclasses.asdict(SMALL)}) == SMALL
    models.save(path, model)
    with pytest.raises(ValueError, match=r"expected .* to tell its test size"):
        inference_of(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"expected .* to tell its test size"):
        inference_of(path)


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


@pytest.fixture
def photographs(tmp_path, stripes, evaluation):
    """Files outside the data folder: four photographs, one of them twice, and a text."""
    folder = tmp_path / "Fotos é"
    folder.mkdir()
    paths = [folder / f"my photo {i}.jpg" for i in range(6)]
    for path, query in zip(paths, evaluation.queries["path"], strict=False):
        shutil.copy(stripes / query, path)
    shutil.copy(paths[0], paths[4])
    paths[5].write_text("not a photograph")
    return paths


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(run, tmp_path / "own")


def test_add_puts_photographs_into_the_gallery_for_good(own_run, photographs):
    model = load_run(own_run)
    before = model.gallery.images
    name = before["landmark"].iloc[0]
    statuses = model.add(photographs, landmark=name)["status"].tolist()
    assert statuses[:5] == ["added"] * 4 + ["known"]
    assert statuses[5].startswith("unreadable")
    model.add(photographs[1:2], landmark="elsewhere")
    for opened in (model, load_run(own_run)):
        assert len(opened.gallery) == len(before) + 4
        found = opened.query(photographs[0], k=1).iloc[0]
        assert found["score"] == pytest.approx(1, abs=2e-3)
        assert (found["landmark"], found["landmark_id"]) == (name, before["landmark_id"].iloc[0])
        np.testing.assert_array_equal(
            opened.image(found["id"]), np.array(Image.open(photographs[0]))
        )
    assert opened.add(photographs[:5])["status"].eq("known").all()


def test_add_that_was_killed_goes_on(own_run, photographs, monkeypatch):
    original, calls = embedding._note_unreadable, []  # of each block

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(embedding, "BLOCK", 1)
    monkeypatch.setattr(embedding, "_note_unreadable", killed)
    model = load_run(own_run)
    with pytest.raises(KeyboardInterrupt):
        model.add(photographs[:4])
    count = len(load_run(own_run).gallery)
    assert count == len(model.gallery)
    load_run(own_run).add(photographs[:4])
    assert len(calls) == 5  # two blocks before, the third again, and the fourth
    assert len(load_run(own_run).gallery) == count + 4


def test_load_run_leaves_photographs_out_that_another_network_embedded(
    own_run, photographs, capsys
):
    load_run(own_run).add(photographs[:2])
    artifacts.mark_complete(own_run / "arcface", "trained again")
    gallery = own_run / "arcface" / "embeddings" / "gallery"
    manifest = artifacts.read_manifest(gallery)
    key, files = manifest.pop("key"), manifest.pop("files")
    told = manifest | {"checkpoint": "trained again"}
    artifacts.mark_complete(gallery, key, files=files, **told)
    model = load_run(own_run)
    assert "2 photographs added under another network are left out" in capsys.readouterr().out
    model.add(photographs[:2])
    assert len(load_run(own_run).gallery) == len(model.gallery)
    assert capsys.readouterr().out == ""


def test_main_prints_the_nearest_images_draws_them_and_adds(
    own_run, photographs, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    place = ["--run", str(own_run)]
    main(["add", *map(str, photographs[:2]), "--landmark", "Ein Turm", *place])
    assert "2 photographs added, 0 known before" in capsys.readouterr().out
    main(["query", str(photographs[0]), "-k", "3", *place])
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].split()[0] == "1"
    assert printed[2].endswith("Ein Turm")
    assert len(printed) == 6
    with Image.open("my photo 0_nearest.png") as image:
        assert image.width > 4 * 90
    for wrong in (["query", "nothing.jpg", *place], ["query", "x.jpg", "--run", "nowhere"]):
        with pytest.raises(SystemExit, match=r"^error: expected"):
            main(wrong)


def test_main_embeds_a_list_of_a_data_folder_as_a_gallery(
    own_run, stripes, dataset, photo, tmp_path, capsys
):
    start = ["embed", str(own_run / "arcface"), str(stripes), "--size", "32"]
    for name, ids in (
        ("index", dataset.index["id"]),
        ("test", dataset.test),
        ("clean", training_list(dataset, "clean")["id"]),
        ("train", training_list(dataset, "full")["id"]),
    ):
        main([*start, "--list", name, "--out", str(tmp_path / name)])
        assert f"{len(ids)} images embedded in" in capsys.readouterr().out
        model = load_run(own_run, gallery=tmp_path / name)
        assert model.gallery.images["id"].tolist() == ids.tolist()
        named = model.gallery.images["landmark"].str.fullmatch(r"Place \d+").all()
        assert named == (name != "test")
    assert load_run(own_run, gallery=tmp_path / "test").query(photo, k=1)["score"].item() > 0.99
    for wrong, message in (
        ([*start, "--list", "indx"], "expected a list among index, test, .*found 'indx'"),
        (["embed", "nowhere", str(stripes)], "expected a finished run in .*nowhere"),
    ):
        with pytest.raises(SystemExit, match=f"error: {message}"):
            main(wrong)

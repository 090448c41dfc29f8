"""Cleaning as a command: what it reads, writes, prints and refuses."""

import dataclasses
import pickle
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from lib.artifacts import fingerprint, mark_complete
from lib.cleaning import clean_files, stage
from lib.cleaning.__main__ import HELP, main, parse
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig
from lib.recipes import CLEAN
from lib.retrieval.embedding_table import IDS, ROWS

CONFIG = CleanConfig(eps=0.2, min_samples=2)


@pytest.fixture
def rows():
    generator = np.random.default_rng(0)
    rows = np.eye(8)[np.repeat([0, 1, 2, 3], 6)] + 0.05 * generator.normal(size=(24, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def labels(tmp_path):
    """Two landmarks of two groups each, as train.csv lists them."""
    table = pd.DataFrame(
        {
            "id": [f"{number:016x}" for number in range(24)],
            "url": "",
            "landmark_id": np.repeat([7, 3], 12),
        }
    )
    table.to_csv(tmp_path / "train.csv", index=False)
    return tmp_path / "train.csv"


@pytest.fixture
def npy(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path / "rows.npy"


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_main_writes_what_cleaning_finds_and_prints_it(rows, labels, npy, tmp_path, capsys):
    plain = ["--no-drop-suspected-mislabels", "--no-split-two-views", "--relaxation", 1.2]
    settings = ["--eps", 0.2, "--min-samples", 2, *plain]
    assert run(npy, labels, "--out", tmp_path / "out", *settings) == 0
    table = pd.read_csv(labels, dtype={"id": str})
    expected = clean(rows, table["landmark_id"].to_numpy(), CONFIG, ids=table["id"].to_numpy())
    clusters = pd.read_csv(tmp_path / "out" / "train_cluster.csv")
    pd.testing.assert_frame_equal(clusters, expected.train_cluster(), check_dtype=False)
    images = pd.read_csv(tmp_path / "out" / "images.csv", dtype={"id": str})
    assert images["id"].tolist() == table["id"].tolist()
    landmarks = pd.read_csv(tmp_path / "out" / "landmarks.csv")
    assert landmarks["clusters"].tolist() == [2, 2]
    printed = capsys.readouterr().out
    assert "24 images in 2 landmarks became 24 images in 4 classes (0 landmarks lost)" in printed
    assert "eps 0.200, relaxed eps 0.240: eps was given" in printed


def test_main_reads_an_embedding_folder_in_whatever_order(rows, labels, npy, tmp_path):
    # given embeddings in another order than the labels, and labels of more images
    table = pd.read_csv(labels, dtype={"id": str})
    order = np.random.default_rng(1).permutation(24)[:20]
    folder = tmp_path / "raw"
    folder.mkdir()
    np.save(folder / ROWS, rows[order])
    table["id"].iloc[order].to_frame().to_csv(folder / IDS, index=False)
    mark_complete(folder, fingerprint("raw"))
    assert run(folder, labels, "--out", tmp_path / "out", "--eps", 0.2) == 0
    images = pd.read_csv(tmp_path / "out" / "images.csv", dtype={"id": str})
    assert images["id"].tolist() == table["id"].iloc[order].tolist()
    assert images["landmark_id"].tolist() == table["landmark_id"].iloc[order].tolist()


def test_main_does_the_same_work_once(labels, npy, tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(
        stage, "clean", lambda *args, **options: made.append(1) or clean(*args, **options)
    )
    arguments = npy, labels, "--out", tmp_path / "out", "--eps", 0.2
    assert run(*arguments) == 0
    first = capsys.readouterr().out
    assert run(*arguments) == 0
    assert capsys.readouterr().out == first
    assert len(made) == 1
    assert run(*arguments, "--no-rescue") == 0
    assert len(made) == 2


def test_parse_has_an_option_for_every_setting():
    assert set(HELP) == {field.name for field in dataclasses.fields(CleanConfig)}
    default = parse(["a", "b", "--out", "c"])
    for field in dataclasses.fields(CleanConfig):
        assert getattr(default, field.name) == getattr(CLEAN, field.name)
    flags = ["--no-rescue", "--no-split", "--no-drop-suspected-mislabels", "--no-split-two-views"]
    numbers = ["--eps", "0.3", "--min-cluster-size", "4", "--jobs", "1"]
    given = parse(["a", "b", "--out", "c", *flags, *numbers])
    assert (given.eps, given.min_cluster_size, given.jobs) == (0.3, 4, 1)
    assert (given.rescue, given.split) == (False, False)
    assert (given.drop_suspected_mislabels, given.split_two_views) == (False, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda npy, labels: npy.unlink(), "a folder of embeddings or a .npy file"),
        (lambda npy, labels: labels.unlink(), "is missing"),
        (lambda npy, labels: labels.write_text("id,place\nabc,1\n"), "landmark_id"),
        (lambda npy, labels: labels.write_text("id,landmark_id\nabc,1\n"), "as many rows"),
        (
            lambda npy, labels: np.save(npy, np.zeros((24, 8), np.float32)),
            "is zero: drop such images",
        ),
        (lambda npy, labels: np.save(npy, np.zeros((24, 8), int)), "floating-point"),
        (lambda npy, labels: npy.write_bytes(b"nothing"), "wrote in"),
        (lambda npy, labels: npy.write_bytes(b""), "wrote in"),
        (lambda npy, labels: npy.write_bytes(npy.read_bytes()[:150]), "cut file"),
        (lambda npy, labels: npy.write_bytes(pickle.dumps([1, 2])), "wrote in"),
        (lambda npy, labels: np.save(npy, np.array([{}] * 24)), "wrote in"),
        (lambda npy, labels: np.savez(npy.open("wb"), a=np.eye(3)), "found many"),
        (lambda npy, labels: np.save(npy, np.float32(1)), "of shape ()"),
        (lambda npy, labels: np.save(npy, np.ones(24, np.float32)), "of shape (24,)"),
        (lambda npy, labels: np.save(npy, np.ones((24, 2, 2), np.float32)), "of shape (24, 2, 2)"),
        (lambda npy, labels: np.save(npy, np.ones((24, 0), np.float32)), "(24, 0)"),
        (lambda npy, labels: np.save(npy, np.full((24, 8), "a")), "<U1"),
        (lambda npy, labels: np.save(npy, np.full((24, 8), np.nan, np.float32)), "holds NaN"),
        (lambda npy, labels: labels.write_bytes(b"\xff\xfe\x00"), "train.csv"),
        (lambda npy, labels: labels.write_bytes(b""), "is empty"),
        (lambda npy, labels: labels.write_text("id,landmark_id\na,1\nb,\n"), "a text in every row"),
        (lambda npy, labels: labels.write_text("id,label\na b,x\na b,y\n"), "every id once"),
        (lambda npy, labels: labels.write_text("id,landmark_id\na,1\nb,-1\n"), "number from 0"),
    ],
)
def test_main_refuses_in_one_sentence(labels, npy, tmp_path, capsys, change, message: str):
    change(npy, labels)
    assert run(npy, labels, "--out", tmp_path / "out", "--eps", 0.2) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert "rows.npy" in said.err or "train.csv" in said.err
    assert not said.out
    assert not (tmp_path / "out").exists()


def test_main_refuses_embeddings_without_labels(rows, labels, tmp_path, capsys):
    folder = tmp_path / "raw"
    folder.mkdir()
    np.save(folder / ROWS, rows[:2])
    pd.DataFrame({"id": ["strange", f"{0:016x}"]}).to_csv(folder / IDS, index=False)
    mark_complete(folder, fingerprint("raw"))
    assert run(folder, labels, "--out", tmp_path / "out") == 1
    assert "a label for each of the 2 embedded images" in capsys.readouterr().err


def test_clean_files_takes_any_ids_and_text_labels(rows, labels, npy, tmp_path):
    # given the same images twice: as GLDv2 numbers them, and named as people name files
    table = pd.read_csv(labels, dtype={"id": str})
    names = [f"Été/photo {number}, (1).jpg" for number in range(23)] + ["NA"]
    places = table["landmark_id"].map({3: "NA", 7: "Théâtre, Orange"})
    pd.DataFrame({"label": places, "id": names}).to_csv(tmp_path / "texts.csv", index=False)
    config = dataclasses.replace(CLEAN, eps=0.2, min_samples=2)
    numbered = clean_files(npy, labels, tmp_path / "a", config)
    with pytest.warns(UserWarning, match="23 ids have spaces"):
        named = clean_files(npy, tmp_path / "texts.csv", tmp_path / "b", config)
    assert named.images["id"].tolist() == names
    assert named.images["landmark_id"].tolist() == places.tolist()
    same = ["position", "cluster", "label", "status", "dropped_as", "distance"]
    pd.testing.assert_frame_equal(named.images[same], numbered.images[same])
    assert named.landmarks["landmark_id"].tolist() == ["NA", "Théâtre, Orange"]
    clusters = pd.read_csv(named.path, keep_default_na=False)
    listed = [unquote(name) for images in clusters["images"] for name in images.split()]
    assert sorted(listed) == sorted(named.images.loc[named.images["label"] >= 0, "id"])


def test_main_warns_of_rows_that_are_not_of_unit_length(rows, labels, npy, tmp_path, capsys):
    np.save(npy, 3 * rows)
    assert run(npy, labels, "--out", tmp_path / "out", "--eps", 0.2) == 0
    warning = "warning: 24 of 24 rows were not of unit length and were normalised"
    assert capsys.readouterr().err.startswith(warning)


def test_parse_refuses_no_jobs(capsys):
    with pytest.raises(SystemExit):
        parse(["a", "b", "--out", "c", "--jobs", "0"])
    assert "expected one job or more" in capsys.readouterr().err

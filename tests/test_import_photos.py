"""Folders of photographs become a dataset that the reader takes without a warning but one."""

import cv2
import numpy as np
import pytest

from lib import gldv2
from lib.import_photos import import_photos, main


def photograph(path, value, *, side=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (side, side, 3), dtype=np.uint8)
    cv2.imwrite(str(path), pixels)


@pytest.fixture
def folders(tmp_path):
    """Two landmarks with three and two photographs, and what one finds in such folders."""
    root = tmp_path / "my photos"
    for place, name in enumerate(("a.jpg", "b 2.JPG", "below/c.png")):
        photograph(root / "Qutub Minar, Delhi" / name, place)
    for place, name in enumerate(("1.jpeg", "2.webp")):
        photograph(root / "Théâtre" / name, 10 + place)
    (root / "Théâtre" / "notes.txt").write_text("not a photograph")
    (root / "Théâtre" / "cut.jpg").write_bytes(b"\xff\xd8 not a photograph")
    (root / "Théâtre" / ".hidden.jpg").write_bytes(b"")
    (root / "loose.jpg").write_bytes(b"")
    same = root / "Qutub Minar, Delhi" / "a.jpg"
    (root / "Théâtre" / "copy.jpg").write_bytes(same.read_bytes())
    return root


def test_import_photos_writes_what_the_reader_reads(folders, tmp_path):
    table = import_photos(folders, tmp_path / "data")
    dataset = gldv2.read(tmp_path / "data")
    assert dataset.kind == "gldv2"
    assert dataset.train["landmark_id"].value_counts().to_dict() == {0: 3, 1: 2}
    assert dataset.landmarks["category"].tolist() == ["Qutub_Minar,_Delhi", "Théâtre"]
    assert len(dataset.clean) == 5
    assert len(gldv2.training_list(dataset, "clean")) == 5
    assert [note for note in dataset.warnings if "country" not in note] == []
    assert len(table) == 8


def test_import_photos_keeps_the_bytes_and_the_source(folders, tmp_path):
    before = {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()}
    import_photos(folders, tmp_path / "data")
    assert {path: path.read_bytes() for path in folders.rglob("*") if path.is_file()} == before
    copies = {path.read_bytes() for path in (tmp_path / "data" / "train").rglob("*.jpg")}
    assert len(copies) == 5
    assert copies <= set(before.values())


def test_import_photos_tells_what_it_left_out(folders, tmp_path):
    table = import_photos(folders, tmp_path / "data").set_index("path")["problem"]
    assert table["Théâtre/notes.txt"] == "no image by its name"
    assert table["Théâtre/cut.jpg"].startswith("unreadable (")
    assert table["Théâtre/copy.jpg"] == "the same photograph as Qutub Minar, Delhi/a.jpg"
    assert (table == "").sum() == 5


def test_import_photos_gives_the_same_ids_again(folders, tmp_path):
    first, second = (import_photos(folders, tmp_path / name)["id"] for name in ("a", "b"))
    assert first.tolist() == second.tolist()


@pytest.mark.parametrize("content", ["nothing", "only files", "no images"])
def test_import_photos_refuses_folders_without_images(tmp_path, content):
    root = tmp_path / "folders"
    root.mkdir()
    if content == "only files":
        photograph(root / "a.jpg", 0)
    if content == "no images":
        (root / "Place").mkdir()
        (root / "Place" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="no readable image; give a folder that holds one folder"):
        import_photos(root, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_import_photos_refuses_a_folder_that_is_taken(folders, tmp_path):
    with pytest.raises(ValueError, match="expected a folder of landmark folders, found none at"):
        import_photos(tmp_path / "missing", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="expected a new folder to write into"):
        import_photos(folders, tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


def test_main_takes_the_callers_paths(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    main(["my photos", "data"])
    out = capsys.readouterr()
    assert "5 images of 2 landmarks" in out.out
    assert "left out 3 of 8 files" in out.err
    with pytest.raises(SystemExit, match="error: expected a new folder"):
        main(["my photos", "data"])

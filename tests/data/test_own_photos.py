"""Folders of photographs become a dataset that the reader takes without a warning but one."""

import errno
import os

import cv2
import numpy as np
import pytest

from lib import data as gldv2
from lib.artifacts import locked
from lib.data import images
from lib.data import own_photos as import_photos_module
from lib.data.own_photos import import_photos, main


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
    assert dataset.train["landmark_id"].value_counts().to_dict() == {0: 3, 1: 2}
    assert dataset.landmarks["category"].tolist() == ["Qutub_Minar,_Delhi", "Théâtre"]
    assert len(dataset.clean) == 5
    assert len(gldv2.training_list(dataset, "clean")) == 5
    assert [note for note in dataset.warnings if "country" not in note] == []
    assert len(table) == 9


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
    assert table["loose.jpg"] == "beside the landmark folders"
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


def test_import_photos_refuses_a_folder_that_another_import_writes(folders, tmp_path):
    with locked(tmp_path / "data"), pytest.raises(ValueError, match=r"another run .* in .*data"):
        import_photos(folders, tmp_path / "data")
    assert len(import_photos(folders, tmp_path / "data"))


def test_import_photos_refuses_a_folder_that_is_taken(folders, tmp_path):
    with pytest.raises(ValueError, match="expected a folder of landmark folders, found none at"):
        import_photos(tmp_path / "missing", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(ValueError, match="expected a new folder to write into"):
        import_photos(folders, tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize("name", ["data", "sub/data"])
def test_import_photos_refuses_a_place_among_the_photographs(folders, name):
    before = sorted(folders.rglob("*"))
    with pytest.raises(ValueError, match="expected a data folder outside"):
        import_photos(folders, folders / name)
    assert sorted(folders.rglob("*")) == before


def test_import_photos_names_a_file_in_the_way(folders, tmp_path):
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(ValueError, match=r"note\.txt is a file"):
        import_photos(folders, tmp_path / "note.txt" / "data")


def test_main_takes_the_callers_paths(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    main(["my photos", "my data"])
    out = capsys.readouterr()
    assert "5 images of 2 landmarks" in out.out
    assert out.out.endswith("next: ./run_all.sh photos --data-dir 'my data'\n")
    assert "left out 4 of 9 files" in out.err
    with pytest.raises(SystemExit, match="error: expected a new folder"):
        main(["my photos", "my data"])


def test_import_photos_follows_links_but_not_in_circles(folders, tmp_path):
    for name, value in (("1.jpg", 20), ("deep/2.jpg", 21)):
        photograph(tmp_path / "disk" / name, value)
    (tmp_path / "disk" / "deep" / "circle").symlink_to(tmp_path / "disk")
    (folders / "Eiffel").mkdir()
    (folders / "Eiffel" / "2019").symlink_to(tmp_path / "disk")
    (folders / "Eiffel" / "all").symlink_to(folders)
    photograph(tmp_path / "other" / "3.jpg", 22)
    (folders / "Louvre").symlink_to(tmp_path / "other")
    (folders / "A").symlink_to(folders)
    table = import_photos(folders, tmp_path / "data")
    taken = table[table["id"] != ""].groupby("landmark").size().to_dict()
    assert taken == {"Qutub Minar, Delhi": 3, "Théâtre": 2, "Eiffel": 2, "Louvre": 1}
    assert table.set_index("path").loc["A", "problem"] == "no file in this folder"


def test_import_photos_lists_what_it_cannot_name_read_or_trust(folders, tmp_path, monkeypatch):
    os.mkfifo(folders / "Théâtre" / "pipe.jpg")
    (folders / "Théâtre" / "gone.jpg").symlink_to("nowhere")
    (folders / "Empty").mkdir()
    (folders / "caf\udce9").mkdir()  # as Python reads a name that is no UTF-8
    monkeypatch.setattr(images, "MOST_PIXELS", 1600)
    photograph(folders / "Large" / "a.png", 31, side=41)
    problems = import_photos(folders, tmp_path / "data").set_index("path")["problem"].to_dict()
    assert problems["Théâtre/pipe.jpg"].endswith("is no regular file)")
    assert problems["Théâtre/gone.jpg"] == "unreadable (No such file or directory)"
    assert problems["Empty"] == "no file in this folder"
    assert problems["caf\\xe9"] == "the folder's name is no UTF-8"
    assert problems["Large/a.png"] == "unreadable (41 x 41 pixels, more than 1,600)"


def test_import_photos_goes_on_where_reading_is_forbidden(folders, tmp_path, monkeypatch):
    forbidden = PermissionError(errno.EACCES, "Permission denied", str(folders / "Théâtre"))
    read, walk = import_photos_module.read_file, os.walk

    def read_but_one(path):
        if path.name == "a.jpg":
            raise forbidden
        return read(path)

    def walk_but_one(top, **options):
        if top.name == "Théâtre":
            options["onerror"](forbidden)
            return iter(())
        return walk(top, **options)

    monkeypatch.setattr(import_photos_module, "read_file", read_but_one)
    monkeypatch.setattr(os, "walk", walk_but_one)
    problems = import_photos(folders, tmp_path / "data").set_index("path")["problem"].to_dict()
    assert problems["Théâtre"] == "unreadable (Permission denied)"
    assert problems["Qutub Minar, Delhi/a.jpg"] == "unreadable (Permission denied)"


def test_import_photos_writes_names_in_one_form_and_any_characters(folders, tmp_path):
    for value, name in enumerate(("e\u0301glise", "\u00e9glise", "$$", "C$\\frac$ %41"), 40):
        photograph(folders / name / "a.jpg", value)
    import_photos(folders, tmp_path / "data")
    categories = gldv2.read(tmp_path / "data").landmarks["category"].tolist()
    assert categories[:2] == ["$$", "C$\\frac$_%41"]
    assert categories.count("église") == 1


def test_main_names_the_landmarks_that_are_left_out(folders, tmp_path, capsys):
    (folders / "Empty").mkdir()
    main([str(folders), str(tmp_path / "data")])
    assert "left out 1 landmarks: Empty" in capsys.readouterr().err

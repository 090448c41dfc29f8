"""The images of a stage: missing ones are refused or told, changed ones are noticed."""

import re

import pytest
from PIL import Image

from lib.artifacts import read_fingerprint, read_manifest
from lib.data.stage_images import check_readable, check_there, images_key, sign, work_left
from lib.data.tar_images import ImageStore


def names(count):
    return [f"train/0/0/0/{number:016x}.jpg" for number in range(count)]


def put(root, paths, colour="red"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(root / path)


@pytest.mark.parametrize(
    ("count", "missing", "is_refused"),
    [
        (4, 4, True),
        (16, 8, False),
        (30, 10, False),
        (30, 11, True),
        (400, 20, False),
        (400, 21, True),
    ],
)
def test_check_there_puts_up_with_a_few_missing_images(
    tmp_path, capsys, count, missing, is_refused
):
    paths = names(count)
    put(tmp_path, paths[missing:])
    if is_refused:
        expected = f"images of it in {tmp_path}, found {missing} of {count} looked for missing, "
        with pytest.raises(ValueError, match=f"{re.escape(expected)}the first {paths[0]}; check"):
            check_there("it", ImageStore(tmp_path), paths)
    else:
        check_there("it", ImageStore(tmp_path), paths)
        told = f"it: {missing} of {count} images looked for are missing and count as grey ("
        assert capsys.readouterr().out.startswith(told)


def test_check_there_is_silent_when_all_are_there(tmp_path, capsys):
    put(tmp_path, names(3))
    check_there("it", ImageStore(tmp_path), names(3))
    check_there("it", ImageStore(tmp_path), [])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("count", "unreadable", "is_refused"),
    [(5, 5, True), (5, 4, False), (40, 11, True), (400, 20, False), (400, 21, True), (0, 0, False)],
)
def test_check_readable_draws_the_same_line(tmp_path, count, unreadable, is_refused):
    if not is_refused:
        check_readable("it", tmp_path, names(unreadable), count)
        return
    with pytest.raises(ValueError, match=f"at least {unreadable} that are not, the first train/"):
        check_readable("it", tmp_path, names(unreadable), count)


def work(folder, root, paths, settings="s"):
    return work_left("it", folder, settings, ImageStore(root), paths)


def finish(folder, root, paths, unreadable=()):
    (folder / "result").write_text("result")
    sign(folder, work(folder, root, paths), "s", unreadable, files=["result"], steps=3)


@pytest.mark.parametrize("change", ["other pixels", "gone", "none", "other settings", "no result"])
def test_work_left_tells_what_changed_since(tmp_path, capsys, change):
    root, folder, paths = tmp_path / "data", tmp_path, names(3)
    put(root, paths)
    finish(folder, root, paths)
    if change == "other pixels":
        put(root, paths[:1], "blue")
    elif change == "gone":
        (root / paths[0]).unlink()
    elif change == "no result":
        (folder / "result").unlink()
    left = work(folder, root, paths, "t" if change == "other settings" else "s")
    assert bool(left) == (change != "none")
    is_told = "it: images changed since 2" in capsys.readouterr().out
    assert is_told == (change in ("other pixels", "gone"))


def test_images_key_tells_two_folders_of_the_same_ids_apart(tmp_path):
    keys = set()
    for name, colour in (("one", "red"), ("two", "white")):
        put(tmp_path / name, names(2), colour)
        keys.add(images_key("s", ImageStore(tmp_path / name), names(2)))
    assert len(keys) == 2


def test_work_left_asks_again_when_an_image_can_be_read_by_now(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageStore, "state", lambda *_: "a sample that does not hold it")
    root, paths = tmp_path / "data", names(30)
    put(root, paths[1:])
    finish(tmp_path, root, paths, unreadable=paths[:1])
    manifest, key = read_manifest(tmp_path), read_fingerprint(tmp_path)
    assert (manifest["unreadable"], manifest["unreadable_images"]) == (1, paths[:1])
    assert work(tmp_path, root, paths) == ""
    (root / paths[0]).write_bytes(b"half a photograph")
    assert work(tmp_path, root, paths) == ""
    put(root, paths[:1])
    assert work(tmp_path, root, paths)
    finish(tmp_path, root, paths)
    assert read_fingerprint(tmp_path) != key  # so whatever follows is done again too


def test_sign_keeps_the_names_of_some_unreadable_images(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.data.stage_images.KEPT", 2)
    sign(tmp_path, "k", "s", {"c", "b", "a"}, files=())
    manifest = read_manifest(tmp_path)
    assert (manifest["unreadable"], manifest["unreadable_images"]) == (3, ["a", "b"])
    assert manifest["settings"] == "s"

"""Bytes of images from files and from tar archives."""

import io
import multiprocessing
import os
import pickle
import tarfile

import numpy as np
import pytest

from lib import storage
from lib.images import ImageSource
from lib.storage import ImageStore, index_archives


def write_archive(path, contents, prefix=""):
    """A tar of `a/b/c/ID.jpg` members; `contents` maps id to bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for image_id, data in contents.items():
            name = f"{prefix}{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def random_contents(seed, count):
    generator = np.random.default_rng(seed)
    numbers = generator.choice(2**62, count, replace=False)
    return {f"{n:016x}": generator.bytes(int(generator.integers(0, 3000))) for n in numbers}


def path_of(image_id):
    return f"train/{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"


@pytest.fixture
def packed(tmp_path):
    """A packed split in three archives, one with ./ before its names, and what is in it."""
    contents = {}
    for number, prefix in enumerate(("", "./", "")):
        part = random_contents(number, 40)
        write_archive(tmp_path / "train" / f"images_{number:03d}.tar", part, prefix)
        contents |= part
    return tmp_path, contents


def test_store_reads_every_image_of_every_archive(packed):
    root, contents = packed
    store = ImageStore(root)
    assert store.is_packed("train")
    assert store.ids("train") == sorted(contents)
    for image_id, data in contents.items():
        assert store.read(path_of(image_id)) == data


@pytest.mark.parametrize("image_id", ["0" * 16, "f" * 16, "abc", "f" * 40])
def test_store_raises_for_an_image_no_archive_has(packed, image_id):
    with pytest.raises(FileNotFoundError, match=image_id):
        ImageStore(packed[0]).read(path_of(image_id))


def test_store_reads_the_kept_index_and_not_the_archives_again(packed, monkeypatch):
    root, contents = packed
    ImageStore(root).prepare([path_of(next(iter(contents)))])
    monkeypatch.setattr(tarfile, "open", lambda *_: pytest.fail("an archive was walked again"))
    assert ImageStore(root).ids("train") == sorted(contents)


def test_index_is_built_again_when_archives_change(packed):
    root, _ = packed
    before = ImageStore(root).ids("train")
    more = random_contents(9, 5)
    write_archive(root / "train" / "images_003.tar", more)
    assert ImageStore(root).ids("train") == sorted([*before, *more])


def test_index_goes_to_the_given_cache(packed, tmp_path):
    root, contents = packed
    store = ImageStore(root, cache=tmp_path / "cache")
    store.prepare([path_of(next(iter(contents)))])
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["tar_index_train"]
    assert not (root / "train" / "tar_index").exists()


def test_index_lives_in_memory_where_nothing_can_be_written(packed):
    root, contents = packed
    (root / "taken").write_text("a file, so no folder can be made in it")
    store = ImageStore(root, cache=root / "taken")
    assert store.ids("train") == sorted(contents)
    assert store.read(path_of(max(contents))) == contents[max(contents)]


def test_store_goes_through_pickle_and_into_worker_processes(packed):
    root, contents = packed
    store = ImageStore(root)
    store.prepare([path_of(next(iter(contents)))])
    paths = [path_of(image_id) for image_id in contents]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(store.read, paths) == list(contents.values())
    assert pickle.loads(pickle.dumps(store)).read(paths[0]) == contents[next(iter(contents))]


def test_index_keeps_the_whole_images_of_an_archive_cut_short(tmp_path):
    contents = {f"{n:016x}": b"x" * 2000 for n in range(8)}
    path = write_archive(tmp_path / "train" / "images_000.tar", contents)
    os.truncate(path, 5 * 2560 + 1000)  # a member is a header of 512 and 2048 bytes of data
    with pytest.warns(UserWarning, match=r"images_000\.tar is damaged or cut short: 5 images"):
        index = index_archives(path.parent)
    assert [image_id.decode() for image_id in index.ids] == list(contents)[:5]
    assert index.read(list(contents)[4]) == b"x" * 2000
    assert index.read(list(contents)[5]) is None


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 100])
def test_index_goes_on_without_an_archive_that_is_none(packed, content):
    root, contents = packed
    (root / "train" / "images_007.tar").write_bytes(content)
    with pytest.warns(UserWarning, match=r"images_007\.tar is damaged"):
        assert ImageStore(root).ids("train") == sorted(contents)


def test_index_takes_the_first_of_two_equal_ids_and_only_images(tmp_path):
    folder = tmp_path / "train"
    write_archive(folder / "images_000.tar", {"abc1": b"first"})
    write_archive(folder / "images_001.tar", {"abc1": b"second", "abc2": b"other"})
    with tarfile.open(folder / "images_001.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("README.txt"))
    store = ImageStore(tmp_path)
    assert store.ids("train") == ["abc1", "abc2"]
    assert store.read("train/a/b/c/abc1.jpg") == b"first"


def test_store_reads_files_and_prefers_them_to_archives_beside_them(tmp_path):
    write_archive(tmp_path / "train" / "images_000.tar", {"abc1": b"packed"})
    path = tmp_path / "train" / "a" / "b" / "c" / "abc1.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"unpacked")
    store = ImageStore(tmp_path)
    assert not store.is_packed("train")
    assert store.read("train/a/b/c/abc1.jpg") == store.read(path) == b"unpacked"
    assert store.ids("train") == ["abc1"]
    assert store.ids("index") == []


def test_missing_names_what_neither_files_nor_archives_have(packed):
    root, contents = packed
    image = root / "index" / "a" / "b" / "c" / "abc1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    (root / "index" / "a" / "b" / "c" / "abc2.jpg").mkdir()  # a folder is no image
    gone = [path_of("0" * 16), "index/a/b/c/abc2.jpg", "index/d/e/f/def1.jpg"]
    paths = [*map(path_of, contents), "index/a/b/c/abc1.jpg", *gone]
    for source in (ImageStore(root), ImageSource(root)):
        assert sorted(source.missing(paths)) == sorted(gone)
        assert source.missing([]) == []


def test_state_changes_when_an_image_comes_changes_or_goes(tmp_path):
    paths = [path_of(image_id) for image_id in ("abc1", "def2")]
    states = [ImageStore(tmp_path).state(paths)]
    for path, content in ((0, b"x"), (1, b"x"), (1, b"xy"), (1, b"yx"), (0, None)):
        image = tmp_path / paths[path]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.unlink() if content is None else image.write_bytes(content)
        if content == b"yx":
            os.utime(image, ns=(0, 0))
        states.append(ImageSource(tmp_path).state(paths))
    assert len(set(states)) == 6
    assert ImageStore(tmp_path).state(paths) == states[-1]


def test_state_of_a_packed_split_is_that_of_its_archives(packed):
    root, contents = packed
    before = ImageStore(root).state([path_of(next(iter(contents)))])
    assert ImageStore(root).state([path_of(image_id) for image_id in contents]) == before
    os.utime(root / "train" / "images_002.tar", ns=(0, 0))
    assert ImageStore(root).state([path_of(next(iter(contents)))]) != before


def test_state_looks_at_a_spread_sample_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_SAMPLE", 3)
    paths = [path_of(f"abc{n}") for n in range(9)]
    (tmp_path / paths[0]).parent.mkdir(parents=True)
    before = ImageStore(tmp_path).state(paths)
    (tmp_path / paths[1]).write_bytes(b"x")
    assert ImageStore(tmp_path).state(paths) == before
    for seen in (0, 4, 8):
        (tmp_path / paths[seen]).write_bytes(b"x")
        before, now = ImageStore(tmp_path).state(paths), before
        assert now != before


def test_read_file_refuses_what_is_no_regular_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "endless.jpg", "."):
        with pytest.raises(OSError, match="is no regular file"):
            ImageStore(tmp_path).read(name)
    (tmp_path / "large.jpg").write_bytes(b"12345")
    monkeypatch.setattr(storage, "MOST_BYTES", 4)
    with pytest.raises(OSError, match=r"large\.jpg has 5 bytes, more than 4"):
        ImageStore(tmp_path).read("large.jpg")

"""Bytes of images from files and from tar archives."""

import io
import multiprocessing
import os
import pickle
import tarfile
import warnings

import numpy as np
import pytest

from lib.data import tar_images
from lib.data.tar_images import ImageStore, index_archives


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
    monkeypatch.setattr(tar_images, "_walk", lambda *_: pytest.fail("an archive was walked again"))
    assert ImageStore(root).ids("train") == sorted(contents)


def test_index_is_built_again_when_archives_change(packed):
    root, _ = packed
    before = ImageStore(root).ids("train")
    more = random_contents(9, 5)
    write_archive(root / "train" / "images_003.tar", more)
    assert ImageStore(root).ids("train") == sorted([*before, *more])


def test_index_goes_to_the_runs_where_the_data_folder_is_read_only(packed, outputs, monkeypatch):
    root, contents = packed
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        assert ImageStore(root).ids("train") == sorted(contents)
        patch.setattr(tar_images, "_walk", lambda *_: pytest.fail("an archive was walked again"))
        assert ImageStore(root).ids("train") == sorted(contents)
    assert not (root / "train" / "tar_index").exists()
    assert [path.name[:6] for path in (outputs / "tar_index").iterdir()] == ["train-"]


def test_prepare_indexes_the_packed_splits_of_paths_alone(packed, monkeypatch):
    root, contents = packed
    write_archive(root / "index" / "images_000.tar", contents)
    indexed = []
    monkeypatch.setattr(ImageStore, "_index", lambda self, split: indexed.append(split))
    for paths in (["test/a.jpg"], [], np.array([b"test/a.jpg", b"index/b.jpg"])):
        ImageStore(root).prepare(paths)
    assert indexed == ["index"]


def test_index_lives_in_memory_where_nothing_can_be_written(packed):
    root, contents = packed
    (root / "train" / "tar_index").write_text("a file, so no folder can be made of that name")
    store = ImageStore(root)
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


def member(name, data=b"x" * 700, *, size=None, layout=tarfile.PAX_FORMAT, pax=(), **fields):
    """The bytes of a member of an archive, with another size in its header where one is given."""
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = len(data), dict(pax)
    for key, value in fields.items():
        setattr(info, key, value)
    header = info.tobuf(layout, errors="surrogateescape")
    if size is not None:
        header = header[:124] + size + header[136:148] + b" " * 8 + header[156:]
        header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + data + b"\0" * (-len(data) % 512)


def good(number):
    return member(f"a/b/c/abc{number}.jpg")


END = b"\0" * 1024
DEEP = "d" * 150 + "/xyz2.jpg"


@pytest.mark.parametrize(
    ("middle", "more"),
    [
        (b"", ""),
        (member("README.txt"), ""),
        (member("xyz2.jpg/", b"", type=tarfile.DIRTYPE), ""),
        (member("../../../xyz2.jpg"), "xyz2"),  # its bytes are read in the archive, nowhere else
        (member("xyz2.jpg", pax={"comment": "é" * 200}), "xyz2"),
        (member(DEEP), "xyz2"),
        (member(DEEP, layout=tarfile.GNU_FORMAT), "xyz2"),
        (member("xyz2.jpg", layout=tarfile.GNU_FORMAT, linkname=DEEP), "xyz2"),
    ],
)
def test_index_reads_sound_archives_of_every_kind(tmp_path, middle, more):
    (tmp_path / "images_000.tar").write_bytes(good(0) + middle + good(1) + END)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = index_archives(tmp_path)
    assert index.ids.tolist() == [b"abc0", b"abc1", *more.encode().split()]
    assert {index.read(image_id.decode()) for image_id in index.ids} == {b"x" * 700}


def test_index_names_archives_that_are_no_files(tmp_path):
    (tmp_path / "images_000.tar").write_bytes(good(0) + END)
    (tmp_path / "images_001.tar").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "images_002.tar")
    with pytest.warns(UserWarning, match=r"2 archives .* no regular files: images_001\.tar, im"):
        assert index_archives(tmp_path).ids.tolist() == [b"abc0"]


@pytest.mark.parametrize(
    ("middle", "lost"),
    [
        (member("x.jpg", size=b"\xff" * 10 + b"\xfe\0"), ""),  # -512
        (member("x.jpg", size=b"\x80\0\1" + b"\0" * 9), ""),  # 2**72
        (member("x.jpg", size=b"not a number"), ""),
        (member("x.jpg", size=b"%011o\0" % 2**31), ""),
        (member("x.jpg", size=b"%011o\0" % 2000), ""),  # ends inside the next
        (member("xyz2.jpg", pax={"size": "-512"}), ""),
        (bytes(range(256)) * 4, ""),
        (b"\0" * 512, ""),
        (b"\0" * 5120, ""),
        (good(7)[512:], ""),  # only its image
        (good(7)[:-512], "abc8"),  # whose header is taken for the end of the image before
    ],
)
def test_index_loses_one_member_to_one_damage(tmp_path, middle, lost):
    (tmp_path / "images_000.tar").write_bytes(good(0) + middle + good(8) + good(9) + END)
    with pytest.warns(UserWarning, match="images of it are used") as told:
        index = index_archives(tmp_path)
    assert len(told) == 1
    assert f": {len(index.ids)} images" in str(told[0].message)
    assert {b"abc0", b"abc8", b"abc9"} - {lost.encode()} <= set(index.ids.tolist())


@pytest.mark.parametrize(
    "odd",
    [
        member("a/b/c/\udcff\udcfe.jpg", layout=tarfile.GNU_FORMAT),
        member("abc 1.jpg"),
        member("._abc1.jpg"),
        member("ab.jpg"),
        member("x" * 129 + ".jpg"),
        member("xyz1.jpg", type=tarfile.GNUTYPE_SPARSE),
        member("xyz1.jpg", pax={"GNU.sparse.major": "1"}),
        *(
            member("xyz1.jpg", b"", type=kind, linkname="/etc/passwd")
            for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
        ),
    ],
)
def test_index_leaves_out_members_that_are_no_image_called_by_an_id(tmp_path, odd):
    (tmp_path / "images_000.tar").write_bytes(good(0) + odd + good(1) + END)
    with pytest.warns(UserWarning, match=r"^1 members of .*images_000\.tar are left out, because"):
        assert index_archives(tmp_path).ids.tolist() == [b"abc0", b"abc1"]


@pytest.mark.parametrize("length", [0, 512, 1536, 1700, 2048 + 300, 3072])
def test_index_tells_that_an_archive_ends_too_soon(tmp_path, length):
    whole = good(0) + good(1)
    assert len(whole) == 3072
    (tmp_path / "images_000.tar").write_bytes(whole[:length])
    with pytest.warns(UserWarning, match=rf"cut short: {length // 1536} images of it"):
        index = index_archives(tmp_path)
    assert len(index.ids) == length // 1536


@pytest.mark.parametrize("name", ["ids", "archive", "offset", "size"])
@pytest.mark.parametrize("content", [b"", b"cut", b"other"])
def test_index_builds_a_damaged_index_again(packed, name, content):
    root, contents = packed
    assert ImageStore(root).ids("train") == sorted(contents)
    path = root / "train" / "tar_index" / f"{name}.npy"
    if content == b"other":
        np.save(path, np.arange(5.0))
    else:
        path.write_bytes(content and path.read_bytes()[:-9])
    assert ImageStore(root).ids("train") == sorted(contents)
    assert len(np.load(path)) == len(contents)


def test_index_is_built_again_for_another_archive_of_the_same_size(tmp_path):
    path = write_archive(tmp_path / "train" / "images_000.tar", {"abc1": b"1"})
    assert ImageStore(tmp_path).ids("train") == ["abc1"]
    write_archive(path, {"abc2": b"1"})
    os.utime(path, ns=(0, 0))
    assert ImageStore(tmp_path).ids("train") == ["abc2"]


def test_index_takes_the_first_of_two_equal_ids_and_only_images(tmp_path):
    folder = tmp_path / "train"
    write_archive(folder / "images_000.tar", {"abc1": b"first"})
    write_archive(folder / "images_001.tar", {"abc1": b"second", "abc2": b"other"})
    with tarfile.open(folder / "images_001.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("README.txt"))
    store = ImageStore(tmp_path)
    for _ in range(2):  # when it is built, and when it is read again
        with pytest.warns(UserWarning, match="1 images are more than once in .*train, .*: abc1"):
            assert ImageStore(tmp_path).ids("train") == ["abc1", "abc2"]
    with pytest.warns(UserWarning, match="more than once"):
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
    assert sorted(ImageStore(root).missing(paths)) == sorted(gone)
    assert ImageStore(root).missing([]) == []


def test_state_changes_when_an_image_comes_changes_or_goes(tmp_path):
    paths = [path_of(image_id) for image_id in ("abc1", "def2")]
    states = [ImageStore(tmp_path).state(paths)]
    for path, content in ((0, b"x"), (1, b"x"), (1, b"xy"), (1, b"yx"), (0, None)):
        image = tmp_path / paths[path]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.unlink() if content is None else image.write_bytes(content)
        if content == b"yx":
            os.utime(image, ns=(0, 0))
        states.append(ImageStore(tmp_path).state(paths))
    assert len(set(states)) == 6
    assert ImageStore(tmp_path).state(paths) == states[-1]


def test_state_of_a_packed_split_is_that_of_its_archives(packed):
    root, contents = packed
    before = ImageStore(root).state([path_of(next(iter(contents)))])
    assert ImageStore(root).state([path_of(image_id) for image_id in contents]) == before
    os.utime(root / "train" / "images_002.tar", ns=(0, 0))
    assert ImageStore(root).state([path_of(next(iter(contents)))]) != before


def test_state_looks_at_a_spread_sample_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr(tar_images, "_SAMPLE", 3)
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
    monkeypatch.setattr(tar_images, "MOST_BYTES", 4)
    with pytest.raises(OSError, match=r"large\.jpg has 5 bytes, more than 4"):
        ImageStore(tmp_path).read("large.jpg")


HEX = "abcdef0123456789"


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("a/b/c/abc-_9.jpg", True),
        *((f"a/b/c/{name}.jpg", True) for name in ("abc1_2", "abc1-tower")),  # beside abc1.jpg
        *((f"a/b/c/{HEX}{addition}.jpg", False) for addition in ("_1", " (1)", "-copy", ".jpg")),
        *(
            (f"a/b/c/{other}", False)
            for other in (
                "x.jpg",
                "ab.jpg",
                "ab 1.jpg",
                "xyz1.jpg",
                "abc2.png",
                "abc2.JPG",
                "é.jpg",
            )
        ),
        *(
            (f"a/b/c/{other}", False)
            for other in ("abc1.jpg.json", "._abc1.jpg", "abc1_thumb.jpg", ".DS_Store", "Thumbs.db")
        ),
        *((other, False) for other in ("abc2.jpg", "images_000/a/b/c/abc2.jpg", "a/b/abc2.jpg")),
        ("a/b/c/d/abcd1.jpg", False),
    ],
)
def test_ids_are_taken_from_files_in_their_place_only(tmp_path, name, is_id):
    for path in ("a/b/c/abc1.jpg", f"a/b/c/{HEX}.jpg", "train.csv", name):
        (tmp_path / "index" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "index" / path).write_bytes(b"x")
    notes = []
    stem = name.rpartition("/")[2].removesuffix(".jpg")
    expected = ["abc1", HEX] + [stem] * is_id
    assert ImageStore(tmp_path).ids("index", notes.append) == sorted(expected)
    assert len(notes) == (not is_id)
    assert is_id or notes[0].startswith("1 files of index are left out, because they are no file")


def test_ids_leave_out_what_is_no_regular_file(tmp_path):
    folder = tmp_path / "index/a/b/c"
    (folder / "abc0.jpg").mkdir(parents=True)
    (folder / "abc1.jpg").write_bytes(b"x")
    for name, target in (("abc2", "abc1.jpg"), ("abc3", "/dev/zero"), ("abc4", "/none")):
        (folder / f"{name}.jpg").symlink_to(target)
    (folder / "abc5.jpg").symlink_to("abc5.jpg")
    os.mkfifo(folder / "abc6.jpg")
    notes = []
    assert ImageStore(tmp_path).ids("index", notes.append) == ["abc1", "abc2"]
    assert notes[0].startswith("4 files of index are left out")


def test_ids_follow_linked_folders_once(tmp_path):
    (tmp_path / "disk" / "b" / "c").mkdir(parents=True)
    (tmp_path / "disk" / "b" / "c" / "abc1.jpg").write_bytes(b"x")
    (tmp_path / "disk" / "b" / "circle").symlink_to(tmp_path / "index")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "a").symlink_to(tmp_path / "disk")
    assert ImageStore(tmp_path).ids("index", pytest.fail) == ["abc1"]

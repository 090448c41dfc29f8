"""Decoding, unreadable images, batches, and what a stage checks about its images."""

import io
import os
import re
import shutil
import struct
import tarfile
import time
import warnings
from contextlib import nullcontext

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch.utils.data import DataLoader

from lib.artifacts import read_fingerprint, read_manifest
from lib.data import images as images_module
from lib.data.images import (
    GREY,
    ImageSource,
    SquareImages,
    check_readable,
    decode,
    images_key,
    load_batches,
    mark_stage_complete,
    report_unreadable,
    stretch,
    work_left,
)
from lib.data.tar_images import ImageStore

EXIF_ORIENTATION = 0x0112


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height=40, width=60, seed=0):
    """A smooth picture that JPEG keeps nearly as it is."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def flat(mode, colour):
    return Image.new(mode, (5, 3), colour)


def with_palette(transparency=None):
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    return image if transparency is None else encode(image, transparency=transparency)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (encode(flat("L", 77)), (77, 77, 77)),
        (encode(flat("1", 1)), (255, 255, 255)),
        (encode(flat("RGBA", (0, 100, 200, 0))), (255, 255, 255)),
        (encode(flat("RGBA", (0, 100, 200, 255))), (0, 100, 200)),
        (encode(flat("LA", (0, 51))), (204, 204, 204)),
        (encode(with_palette()), (10, 200, 30)),
        (with_palette(transparency=1), (255, 255, 255)),
        (encode(flat("RGB", (9, 8, 7)), transparency=(9, 8, 7)), (255, 255, 255)),
        (encode(flat("I;16", 257 * 130)), (130, 130, 130)),
        (encode(flat("I", 257 * 130), "TIFF"), (130, 130, 130)),
        (encode(flat("CMYK", (0, 255, 255, 0)), "TIFF"), (255, 0, 0)),
    ],
)
def test_decode_gives_rgb_whatever_the_mode(data, colour):
    pixels = decode(data)
    assert pixels.shape == (3, 5, 3)
    assert pixels.dtype == np.uint8
    assert (np.abs(pixels.astype(int) - colour) <= 1).all()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_decode_reads_every_kind_of_jpeg(mode, options):
    image = Image.fromarray(photo()).convert(mode)
    data = encode(image, "JPEG", quality=95, **options)
    difference = decode(data).astype(int) - np.asarray(image.convert("RGB"))
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_images_upright(orientation, kind, size):
    # How the camera held a picture is undone by these numpy operations (TIFF 6, tag 274).
    undo = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, 1),
    }
    stored = photo()
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    pixels = decode(encode(Image.fromarray(stored), kind, quality=98, exif=exif), size)
    expected = undo[orientation](stored)
    difference = stretch(pixels, 8).astype(int) - stretch(np.ascontiguousarray(expected), 8)
    assert np.abs(difference).mean() < 6


RAMP = np.tile(np.linspace(0, 1, 64), (4, 1))


def tiff(values, *tags, order="<"):
    """A grey TIFF written by hand, so that Pillow's writer decides nothing."""
    bits, kind = 8 * values.dtype.itemsize, "uif".index(values.dtype.kind) + 1
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    (height, width), entries = values.shape, dict(tags)
    entries = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1} | entries
    entries |= {278: height, 279: len(data), 339: kind}
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(data))
    rows = [struct.pack(f"{order}HHII", tag, 4, 1, entries[tag]) for tag in sorted(entries)]
    return head + data + struct.pack(f"{order}H", len(rows)) + b"".join(rows) + b"\0" * 4


@pytest.mark.parametrize(
    "data",
    [
        *(tiff((RAMP * end).astype(np.float32)) for end in (1, 1.04, 255, 4095, 65535, 1e9)),
        tiff((RAMP * 2 - 1).astype(np.float32), order=">"),
        *(tiff((RAMP * end).astype(np.uint16)) for end in (255, 4095, 65535)),
        *(tiff((RAMP * end).astype(np.uint16), order=">") for end in (4095, 65535)),
        *(tiff((RAMP * end).astype(np.int16)) for end in (4095, 32767)),
        *(tiff(((RAMP * 2 - 1) * end).astype(np.int16)) for end in (300, 32767)),
        *(tiff((RAMP * end).astype(np.uint32)) for end in (255, 65535, 2**24, 2**32 - 1)),
        *(tiff((RAMP * end).astype(np.int32), order=">") for end in (4095, 2**31 - 1)),
        tiff(((RAMP * 2 - 1) * (2**31 - 1)).astype(np.int32)),
        tiff(((1 - RAMP) * 65535).astype(np.uint16), (262, 0)),
        *(encode(Image.fromarray((RAMP * end).astype(np.uint16))) for end in (4095, 65535)),
        *(b"P5 64 4 %d\n" % end + (RAMP * end).astype(">u2").tobytes() for end in (4095, 65535)),
        b"P5 64 4 255\n" + (RAMP * 255).astype(np.uint8).tobytes(),
        *(
            cv2.imencode(kind, np.dstack([(RAMP * end).astype(np.uint16)] * 3))[1].tobytes()
            for kind in (".png", ".tiff")
            for end in (4095, 65535)
        ),
    ],
)
def test_decode_shows_a_ramp_of_any_depth_as_a_ramp(data):
    difference = decode(data).astype(int) - (RAMP * 255)[..., None]
    assert np.abs(difference).max() <= 17  # of 12 bits in colour, four are left


def test_decode_keeps_dark_images_dark():
    assert decode(tiff(np.full((2, 2), 0.01, dtype=np.float32))).max() == 3
    assert decode(tiff(np.full((2, 2), 5000, dtype=np.uint16))).max() == 19


def test_decode_shows_values_that_are_no_number_as_black_and_infinity_as_white():
    values = RAMP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels = decode(tiff(values))
    assert pixels[0, :3, 0].tolist() == [0, 255, 0]
    assert abs(pixels[1:].mean() - 127.5) < 1
    with pytest.raises(ValueError, match="no pixel has a finite value"):
        decode(tiff(values * np.nan))


def test_decode_reads_a_tiff_whose_xmp_is_a_number():
    data = tiff((RAMP * 65535).astype(np.uint16), (700, 3), (EXIF_ORIENTATION, 6))
    assert decode(data).shape == (64, 4, 3)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PCX", "TGA", "ICO"])
def test_decode_opens_the_formats_of_photographs_only(kind):
    with pytest.raises(OSError, match=r"cannot identify it as JPEG, .*TIFF"):
        decode(encode(flat("RGB", 0), kind))


def test_decode_refuses_more_pixels_than_it_may_hold(monkeypatch):
    monkeypatch.setattr(images_module, "MOST_PIXELS", 14)
    with pytest.raises(ValueError, match="5 x 3 pixels, more than 14"):
        decode(encode(flat("L", 0)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif", [b"MM\0*\0\0\0\x08\0\xff\x01\x12\0\x03\0\0", b"no TIFF header", b""]
)
def test_decode_reads_images_with_damaged_exif(exif):
    exif = b"Exif\0\0" + exif
    data = encode(Image.fromarray(photo()), "JPEG", quality=95)
    damaged = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert (decode(damaged) == decode(data)).all()


def test_decode_reads_png_whose_exif_text_is_no_hexadecimal():
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n4\nnot hexadecimal")
    assert (decode(encode(Image.fromarray(photo()), pnginfo=text)) == photo()).all()


def test_decode_draws_large_jpegs_small_but_never_below_the_size():
    data = encode(Image.fromarray(photo(400, 640)), "JPEG", quality=95)
    assert decode(data).shape == (400, 640, 3)
    assert decode(data, 100).shape == (100, 160, 3)
    assert decode(data, 101).shape == (200, 320, 3)
    whole, fast = stretch(decode(data), 100), stretch(decode(data, 100), 100)
    assert np.abs(whole.astype(int) - fast).mean() < 2


def test_stretch_averages_when_it_shrinks():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    means = pixels.reshape(4, 3, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(stretch(pixels, 4) - means).max() <= 0.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (16, 16), (3, 40), (40, 3)])
def test_stretch_keeps_a_flat_colour_at_every_shape(shape):
    pixels = np.full((*shape, 3), (10, 120, 250), dtype=np.uint8)
    assert (stretch(pixels, 16) == (10, 120, 250)).all()
    assert stretch(pixels, 16).shape == (16, 16, 3)


def put(root, name, data):
    path = root / "train" / name[0] / name[1] / name[2] / f"{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path.relative_to(root).as_posix()


@pytest.fixture
def folder(tmp_path):
    """Nine good images and three bad ones; returns root, good paths, bad paths."""
    good = [
        put(tmp_path, f"a{n}c", encode(Image.fromarray(photo(seed=n)), "PNG")) for n in range(9)
    ]
    jpeg = encode(Image.fromarray(photo()), "JPEG")
    bad = [put(tmp_path, "bad1", jpeg[: len(jpeg) // 2]), put(tmp_path, "bad2", b"")]
    return tmp_path, good, [*bad, "train/b/a/d/bad3.jpg"]


def test_source_reads_png_under_a_jpg_name(folder):
    root, good, _ = folder
    source = ImageSource(root)
    assert (source.read(good[3]) == photo(seed=3)).all()
    assert (source.read(root / good[3]) == photo(seed=3)).all()
    assert source.unreadable == {}


@pytest.mark.parametrize(
    ("which", "reason"), [(0, "[Tt]runcated"), (1, "cannot identify"), (2, "No such file")]
)
def test_source_reports_a_bad_image_once_and_gives_grey(folder, which, reason):
    root, _, bad = folder
    source = ImageSource(root)
    with pytest.warns(UserWarning, match=f"{bad[which]} cannot be read .*{reason}"):
        pixels = source.read_resized(bad[which], 32)
    assert pixels.shape == (32, 32, 3)
    assert (pixels == GREY).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (source.read(bad[which]) == GREY).all()
    assert list(source.unreadable) == [bad[which]]
    assert re.search(reason, source.unreadable[bad[which]])


@pytest.mark.filterwarnings("ignore:.*cannot be read")
def test_square_images_in_memory_are_those_read_one_by_one(folder):
    root, good, bad = folder
    source = ImageSource(root)
    paths = [*good[:5], *bad, *good[5:], good[0]]
    pixels = SquareImages(source, paths, 24).pixels
    assert pixels.shape == (13, 3, 24, 24)
    for image, path in zip(pixels, paths, strict=True):
        assert (image.transpose(1, 2, 0) == source.read_resized(path, 24)).all()
    assert sorted(source.unreadable) == sorted(bad)
    assert SquareImages(source, [], 24).pixels.shape == (0, 3, 24, 24)


def test_source_reads_a_packed_split_as_it_reads_files(folder):
    root, good, _ = folder
    expected = [ImageSource(root).read(path) for path in good]
    (root / "packed" / "train").mkdir(parents=True)
    with tarfile.open(root / "packed" / "train" / "images_000.tar", "w") as archive:
        for path in good:
            archive.add(root / path, path.removeprefix("train/"))
    source = ImageSource(root / "packed")
    for path, pixels in zip(good, expected, strict=True):
        assert (source.read(path) == pixels).all()
    assert source.unreadable == {}


BATCHES = [[5, 0, 5], [40, 41, 42, 47], [1]]


def collect(source, paths, size=16):
    return list(load_batches(SquareImages(source, paths, size), BATCHES))


def test_load_batches_yields_each_batch_as_it_was_asked_for(stripes, images):
    source = ImageSource(stripes)
    found = collect(source, images["path"].tolist())
    assert len(found) == len(BATCHES)
    for (pixels, positions), wanted in zip(found, BATCHES, strict=True):
        assert positions.tolist() == wanted
        assert positions.dtype == torch.int64
        assert pixels.shape == (len(wanted), 3, 16, 16)
        assert pixels.dtype == torch.uint8
        for row, place in zip(pixels, wanted, strict=True):
            expected = source.read_resized(images["path"][place], 16)
            np.testing.assert_array_equal(row.permute(1, 2, 0), expected)


@pytest.mark.parametrize("free", [10**9, 0])
def test_load_batches_reads_the_same_with_worker_processes(stripes, images, monkeypatch, free):
    usage = shutil.disk_usage("/")._replace(free=free)  # of shared memory
    monkeypatch.setattr(images_module.shutil, "disk_usage", lambda _: usage)
    paths = images["path"].tolist()
    kept = collect(ImageSource(stripes), paths)
    monkeypatch.setattr(images_module, "IN_MEMORY", 0)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    square = SquareImages(ImageSource(stripes), paths, 16)
    assert square.pixels is None
    loaders = []
    monkeypatch.setattr(
        DataLoader, "check_worker_number_rationality", lambda self: loaders.append(self)
    )
    told = pytest.warns(UserWarning, match="/dev/shm has 0.00 GiB for .* --shm-size=8g gives more")
    with nullcontext() if free else told:
        read = list(load_batches(square, BATCHES))
    for (pixels, positions), (other, places) in zip(kept, read, strict=True):
        assert torch.equal(pixels, other)
        assert torch.equal(positions, places)
    (loader,) = set(loaders)
    assert loader.num_workers == 1
    assert (loader.collate_fn is tuple) == (free == 0)


def test_load_batches_changes_pixels_where_images_are_read(stripes, images):
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 16)

    def change(pixels, number):
        changed = np.full_like(pixels, 100 + number)
        changed[:, 0, 0, 0] = os.getpid() == here
        return changed

    here = os.getpid()
    found = list(load_batches(square, BATCHES, change))
    assert [positions.tolist() for _, positions in found] == BATCHES
    assert [int(pixels[0, 1, 0, 0]) for pixels, _ in found] == [100, 101, 102][: len(BATCHES)]
    assert not any(pixels[:, 0, 0, 0].any() for pixels, _ in found)  # not in this process


def test_load_batches_says_that_its_workers_were_killed(stripes, images, monkeypatch):
    monkeypatch.setattr(images_module, "IN_MEMORY", 0)
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 16)
    monkeypatch.setattr(SquareImages, "__getitem__", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(OSError, match=r"images stopped, .*DataLoader worker .*--shm-size"):
        list(load_batches(square, BATCHES))


def test_load_batches_does_not_wait_for_ever(stripes, images, monkeypatch):
    monkeypatch.setattr(images_module, "IN_MEMORY", 0)
    monkeypatch.setattr(images_module, "TIMEOUT", 1)
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 16)
    monkeypatch.setattr(SquareImages, "__getitem__", lambda *_: time.sleep(2))
    with pytest.raises(OSError, match="timed out after 1 seconds"):
        list(load_batches(square, BATCHES))


def test_square_images_keeps_only_what_fits_into_memory(stripes, images, monkeypatch):
    paths = images["path"].tolist()
    needed = len(paths) * 3 * 16 * 16
    for allowance, keep, is_kept in (
        (needed, True, True),
        (needed - 1, True, False),
        (needed, False, False),
    ):
        monkeypatch.setattr(images_module, "IN_MEMORY", allowance)
        square = SquareImages(ImageSource(stripes), paths, 16, keep=keep)
        assert (square.pixels is not None) == is_kept
        assert len(square) == 48


def test_load_batches_hands_out_copies(stripes, images):
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 8)
    first, *_ = square[[0, 1]]
    first[:] = 0
    assert square[[0, 1]][0].any()


@pytest.mark.parametrize("allowance", [2**31, 0])
def test_report_unreadable_names_what_turned_grey(stripes, monkeypatch, capsys, allowance):
    monkeypatch.setattr(images_module, "IN_MEMORY", allowance)
    source = ImageSource(stripes)
    report_unreadable(source.unreadable)
    assert capsys.readouterr().out == ""
    paths = ["train/0/0/0/nowhere.jpg", "train/0/0/0/gone.jpg"]
    with pytest.warns(UserWarning, match="cannot be read") if allowance else nullcontext():
        (pixels, _), *_ = load_batches(SquareImages(source, paths, 8), [[0, 1]])
    assert (pixels == 128).all()
    report_unreadable(source.unreadable)
    assert capsys.readouterr().out.startswith("2 images could not be read and were replaced by ")


def names(count):
    return [f"train/0/0/0/{number:016x}.jpg" for number in range(count)]


def put_images(root, paths, colour="red"):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(root / path)


def look(root, paths):
    work_left("it", root / "stage", "s", ImageStore(root), paths)


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
def test_work_left_puts_up_with_a_few_missing_images(tmp_path, capsys, count, missing, is_refused):
    paths = names(count)
    put_images(tmp_path, paths[missing:])
    if is_refused:
        expected = f"images of it in {tmp_path}, found {missing} of {count} looked for missing, "
        with pytest.raises(ValueError, match=f"{re.escape(expected)}the first {paths[0]}; check"):
            look(tmp_path, paths)
    else:
        look(tmp_path, paths)
        told = f"it: {missing} of {count} images looked for are missing and are replaced by grey ("
        assert capsys.readouterr().out.startswith(told)


def test_work_left_is_silent_when_all_are_there(tmp_path, capsys):
    put_images(tmp_path, names(3))
    look(tmp_path, names(3))
    look(tmp_path, [])
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
    key, facts = work(folder, root, paths), {"files": ["result"], "steps": 3}
    mark_stage_complete(folder, key, "s", unreadable, **facts)


@pytest.mark.parametrize("change", ["other pixels", "gone", "none", "other settings", "no result"])
def test_work_left_tells_what_changed_since(tmp_path, capsys, change):
    root, folder, paths = tmp_path / "data", tmp_path, names(3)
    put_images(root, paths)
    finish(folder, root, paths)
    if change == "other pixels":
        put_images(root, paths[:1], "blue")
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
        put_images(tmp_path / name, names(2), colour)
        keys.add(images_key("s", ImageStore(tmp_path / name), names(2)))
    assert len(keys) == 2


def test_work_left_asks_again_when_an_image_can_be_read_by_now(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageStore, "state", lambda *_: "a sample that does not hold it")
    root, paths = tmp_path / "data", names(30)
    put_images(root, paths[1:])
    finish(tmp_path, root, paths, unreadable=paths[:1])
    manifest, key = read_manifest(tmp_path), read_fingerprint(tmp_path)
    assert (manifest["unreadable"], manifest["unreadable_images"]) == (1, paths[:1])
    assert work(tmp_path, root, paths) == ""
    (root / paths[0]).write_bytes(b"half a photograph")
    assert work(tmp_path, root, paths) == ""
    put_images(root, paths[:1])
    assert work(tmp_path, root, paths)
    finish(tmp_path, root, paths)
    assert read_fingerprint(tmp_path) != key  # so whatever follows is done again too


def test_mark_stage_complete_keeps_the_names_of_some_unreadable_images(tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "KEPT", 2)
    mark_stage_complete(tmp_path, "k", "s", {"c", "b", "a"}, files=())
    manifest = read_manifest(tmp_path)
    assert (manifest["unreadable"], manifest["unreadable_images"]) == (3, ["a", "b"])
    assert manifest["settings"] == "s"


def test_source_names_a_few_bad_images_and_counts_the_rest(tmp_path):
    source, paths = ImageSource(tmp_path), [f"train/{number}.jpg" for number in range(9)]
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        assert all((source.read_resized(path, 32) == GREY).all() for path in paths)
    assert list(source.unreadable) == paths
    told = [str(warning.message) for warning in caught]
    assert len(told) == 3
    assert told[-1].endswith("replaced by grey; further ones are only counted.")

"""One loader whether pixels are kept in memory or read by worker processes."""

import os
import shutil
import time
from contextlib import nullcontext as nothing

import numpy as np
import pytest
import torch

from lib.data import batches
from lib.data.batches import SquareImages, loader, report_bad
from lib.data.images import ImageSource

BATCHES = [[5, 0, 5], [40, 41, 42, 47], [1]]


def collect(source, paths, size=16):
    return list(loader(SquareImages(source, paths, size), BATCHES))


def test_loader_yields_each_batch_as_it_was_asked_for(stripes, images):
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
def test_loader_reads_the_same_with_worker_processes(stripes, images, monkeypatch, free):
    usage = shutil.disk_usage("/")._replace(free=free)  # of shared memory
    monkeypatch.setattr(batches.shutil, "disk_usage", lambda _: usage)
    paths = images["path"].tolist()
    kept = collect(ImageSource(stripes), paths)
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    monkeypatch.setattr(batches.joblib, "cpu_count", lambda: 2)
    square = SquareImages(ImageSource(stripes), paths, 16)
    assert square.pixels is None
    assert loader(square, BATCHES).num_workers == 1
    for (pixels, positions), (other, places) in zip(kept, loader(square, BATCHES), strict=True):
        assert torch.equal(pixels, other)
        assert torch.equal(positions, places)
    is_piped = loader(square, BATCHES).collate_fn is batches._as_arrays
    assert is_piped == (free == 0)


def test_loader_says_that_its_workers_were_killed(stripes, images, monkeypatch):
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 16)
    monkeypatch.setattr(SquareImages, "__getitem__", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(OSError, match=r"images stopped, .*DataLoader worker .*--shm-size"):
        list(loader(square, BATCHES))


def test_loader_does_not_wait_for_ever(stripes, images, monkeypatch):
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    monkeypatch.setattr(batches, "TIMEOUT", 1)
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 16)
    monkeypatch.setattr(SquareImages, "__getitem__", lambda *_: time.sleep(2))
    with pytest.raises(OSError, match="timed out after 1 seconds"):
        list(loader(square, BATCHES))


def test_square_images_keeps_only_what_fits_into_memory(stripes, images, monkeypatch):
    paths = images["path"].tolist()
    needed = len(paths) * 3 * 16 * 16
    for allowance, is_kept in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(batches, "IN_MEMORY", allowance)
        square = SquareImages(ImageSource(stripes), paths, 16)
        assert (square.pixels is not None) == is_kept
        assert len(square) == 48


def test_loader_hands_out_copies(stripes, images):
    square = SquareImages(ImageSource(stripes), images["path"].tolist(), 8)
    first, _ = square[[0, 1]]
    first.zero_()
    assert square[[0, 1]][0].any()


@pytest.mark.parametrize("allowance", [2**31, 0])
def test_report_bad_names_what_turned_grey(stripes, monkeypatch, capsys, allowance):
    monkeypatch.setattr(batches, "IN_MEMORY", allowance)
    source = ImageSource(stripes)
    report_bad(source.bad)
    assert capsys.readouterr().out == ""
    paths = ["train/0/0/0/nowhere.jpg", "train/0/0/0/gone.jpg"]
    with pytest.warns(UserWarning, match="cannot be read") if allowance else nothing():
        (pixels, _), *_ = loader(SquareImages(source, paths, 8), [[0, 1]])
    assert (pixels == 128).all()
    report_bad(source.bad)
    assert capsys.readouterr().out.startswith("2 images could not be read and count as grey, ")

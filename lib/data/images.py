"""Bytes to pixels: the one place where an image is read.

Photographs of the web come rotated by EXIF, grey, with a palette, 12 or 16 bits, as floats, CMYK
inks or transparent, as PNG under a .jpg name, cut short or empty. All become (H, W, 3) uint8 RGB.
An image that cannot be read is reported once and replaced by mid-grey, so training never stops."""

import contextlib
import fcntl
import io
import json
import multiprocessing
import os
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np
from PIL import Image, UnidentifiedImageError

from lib.artifacts import progress
from lib.data.tar_images import ImageStore

GREY = 128
SMALLEST = 32  # pixels at which an image is decoded only to see whether it can be
# What photographs come as. Others of Pillow's formats start programs (EPS runs Ghostscript) or
# are parsers that nobody needs here.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
MOST_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte of RGB
_WHITES = (255, 4095, 65535)  # of 8, 12 and 16 bits
# TIFF tags, and what they hold
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2
_ORIENTATION = 0x0112  # the EXIF tag; its values and what undoes them
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageSource:
    """Reads the images of a dataset folder, from files or from GLDv2's tar archives."""

    def __init__(self, root: str | Path, *, cache: str | Path | None = None) -> None:
        """Open a dataset folder; `cache` is where the index of packed splits is kept."""
        cv2.setNumThreads(0)  # workers and threads are ours; OpenCV's own do not survive a fork
        self.store = ImageStore(root, cache=cache)
        self._reports = _Reports()

    def prepare(self, paths: Sequence[str]) -> None:
        """Index the packed splits that `paths` come from, once, before workers start reading."""
        self.store.prepare(paths)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of `paths` that are not there; reads no image."""
        return self.store.missing(paths)

    def state(self, paths: Sequence[str]) -> str:
        """A digest of what lies at `paths`, as `ImageStore.state` makes it; reads no image."""
        return self.store.state(paths)

    @property
    def bad(self) -> dict[str, str]:
        """Path and reason of each unreadable image met so far, in worker processes too."""
        return dict(self._reports.read())

    def read(self, path: str | Path) -> np.ndarray:
        """The (H, W, 3) uint8 RGB pixels at `path`, upright; (256, 256, 3) grey if unreadable."""
        pixels = self._decode(path, None)
        return np.full((256, 256, 3), GREY, dtype=np.uint8) if pixels is None else pixels

    def read_resized(self, path: str | Path, size: int) -> np.ndarray:
        """The image stretched to (size, size, 3); its aspect ratio is not kept, as in GLR21."""
        pixels = self._decode(path, size)
        if pixels is None:
            return np.full((size, size, 3), GREY, dtype=np.uint8)
        return stretch(pixels, size)

    def _decode(self, path: str | Path, size: int | None) -> np.ndarray | None:
        try:
            return decode(self.store.read(path), size)
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
            reason = f"{type(error).__name__}: {error}"
            if self._reports.add(str(path), reason):
                message = f"{path} cannot be read ({reason}); grey takes its place."
                warnings.warn(message, stacklevel=3)
            return None


class _Reports:
    """Path and reason of what could not be read, by this process and those it starts.

    They are lines in a file without a name, which processes share by its descriptor: in memory on
    Linux, so no clean-up and no full disk can reach it.
    """

    def __init__(self) -> None:
        self._share(_nameless_file())

    def _share(self, descriptor: int) -> None:
        self._descriptor, self._offset = descriptor, 0
        self._found: dict[str, str] = {}
        weakref.finalize(self, os.close, descriptor)

    def __getstate__(self) -> Any:
        """What a process started by spawning needs; a copy made otherwise has its own reports."""
        spawning = multiprocessing.context.get_spawning_popen() is not None
        return (reduction.DupFd(self._descriptor) if spawning else None,)

    def __setstate__(self, state: Any) -> None:
        self._share(_nameless_file() if state[0] is None else state[0].detach())

    def add(self, path: str, reason: str) -> bool:
        """Keep a report; False when `path` has one."""
        if path in self.read():
            return False
        self._found[path] = reason
        # A report that finds no room is lost to other processes, never a reason to stop.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, (json.dumps([path, reason]) + "\n").encode())
        return True

    def read(self) -> dict[str, str]:
        """All reports, path to reason; only what is new is read.

        Without a lock, which a fork could leave held: threads may read a line twice, no more.
        """
        offset = self._offset
        while lines := self._lines(offset):
            offset += len(lines)
            for line in lines.splitlines():
                with contextlib.suppress(ValueError):  # one that found room in part
                    path, reason = json.loads(line)
                    self._found[path] = reason
        self._offset = offset
        return self._found

    def _lines(self, offset: int) -> bytes:
        new = os.pread(self._descriptor, 2**20, offset)
        return new[: new.rfind(b"\n") + 1]


def _nameless_file() -> int:
    """The descriptor of a file that has no name and is written at its end."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("unreadable_images")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)
    return descriptor


def decode(data: bytes, size: int | None = None) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 RGB, upright, on white where it is transparent.

    With `size`, a JPEG may be decoded at a half, quarter or eighth of its resolution while both
    sides stay at least `size`, which is several times faster.

    Raises:
        ValueError: The image has more than `MOST_PIXELS`, or no value that can be shown.
        OSError: It is of none of `FORMATS`, cut short or damaged; decoders raise others, too.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise OSError(f"cannot identify it as {', '.join(FORMATS)}") from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
    if size is not None:
        image.draft(None, (size, size))
    depth = str(image.tile[0].args) if image.tile else ""  # Pillow's name, such as RGB;16B
    image = _turn_upright(image)
    if image.mode.startswith(("I", "F")):
        return np.repeat(_grey(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    # Of 16 bits a colour Pillow keeps the upper eight, which is four where only 12 are used.
    return pixels * 17 if ";16" in depth and pixels.max(initial=0) <= 15 else pixels


def _turn_upright(image: Image.Image) -> Image.Image:
    """Undo how the camera was held; damaged EXIF data, which are common, count as none."""
    if not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]  # a damaged TIFF tag that Pillow would search
    image.load()  # which turns a TIFF, and takes the tag away
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # ValueError, struct.error, ...: the picture itself may be sound
        turn = None
    return image if turn is None else image.transpose(turn)


def _grey(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of an image of floats, or of integers of more than 8 bits.

    White is the end of the range that the values are in: as the file says where a value has 9 to
    15 bits, otherwise the smallest of `_WHITES` that none exceeds. Values of no such range are
    stretched from the lowest, or 0, to the highest.
    """
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits, kind = tags.get(_BITS, (0,))[0], tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
    if image.mode == "I" and (bits, kind) == (32, _UNSIGNED):
        values = values.view(np.uint32)  # Pillow reads these as signed
    values = values.astype(np.float32)
    known = np.isfinite(values) if image.mode == "F" else True
    if not np.any(known):
        raise ValueError("no pixel has a finite value")
    low, high = float(values.min(where=known, initial=0)), float(values.max(where=known, initial=0))
    whites, slack = _WHITES, 0.0
    if image.mode == "F":
        whites, slack = (1, *_WHITES), 0.1  # resizing overshoots
    elif 8 < bits < 16:
        whites = (2**bits - 1,)
    elif (bits, kind) == (16, _SIGNED):
        whites = (255, 4095, 32767)
    white = next((end for end in whites if high <= end * (1 + slack)), None)
    if white is not None and low >= -slack * high:
        low, high = 0, white
    np.nan_to_num(values, copy=False, nan=low, posinf=high, neginf=low)
    values -= low  # in place, because such images can be large
    values *= 255 / max(high - low, 1e-30)
    grey = np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def stretch(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) to (size, size, 3): averaging where it shrinks, linear where it grows."""
    height, width = min(pixels.shape[0], size), min(pixels.shape[1], size)
    # Two steps, because OpenCV averages only if both sides shrink.
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if (height, width) != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    return pixels


def load_pixels(
    source: ImageSource, paths: Sequence[str], size: int, *, jobs: int | None = None
) -> np.ndarray:
    """Read images stretched to `size`, as (N, 3, size, size) uint8 in the order of `paths`.

    Args:
        source: Where they are read.
        paths: Relative to the source's root.
        size: Side in pixels.
        jobs: Threads; all processors when None.
    """
    source.prepare(paths)
    pixels = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def load(position: int) -> None:
        image = source.read_resized(paths[position], size)
        pixels[position] = image.transpose(2, 0, 1)

    with ThreadPoolExecutor(jobs or joblib.cpu_count()) as threads:
        for _ in progress(threads.map(load, range(len(paths))), "reading images", len(paths)):
            pass
    return pixels

"""Bytes to pixels: the one place where an image is read.

Photographs of the web come rotated by EXIF, grey, with a palette, 16 bits, CMYK inks or
transparent, as PNG under a .jpg name, cut short or empty. All become (H, W, 3) uint8 RGB. An
image that cannot be read is reported once and replaced by mid-grey, so training never stops.
"""

import io
import os
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from lib.runs import progress
from lib.storage import ImageStore

GREY = 128
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
        return self._reports.read()

    def read(self, path: str | Path) -> np.ndarray:
        """The (H, W, 3) uint8 RGB pixels at `path`, upright; (256, 256, 3) grey if unreadable."""
        pixels = self._decode(path, None)
        return np.full((256, 256, 3), GREY, dtype=np.uint8) if pixels is None else pixels

    def read_resized(self, path: str | Path, size: int) -> np.ndarray:
        """The image stretched to (size, size, 3); its aspect ratio is not kept, as in [21]."""
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
    """Reports kept in a temporary file, because a worker process shares no memory with us."""

    def __init__(self) -> None:
        handle, self._path = tempfile.mkstemp(prefix="unreadable_images_")
        os.close(handle)
        weakref.finalize(self, _remove_own, self._path, os.getpid())

    def add(self, path: str, reason: str) -> bool:
        """Keep a report; False when `path` has one."""
        if path in self.read():
            return False
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(f"{path}\t{' '.join(reason.split())}\n")
        return True

    def read(self) -> dict[str, str]:
        """All reports, path to reason."""
        with open(self._path, encoding="utf-8") as file:
            return dict(line.rstrip("\n").split("\t", 1) for line in file)


def _remove_own(path: str, process: int) -> None:
    """Remove a file, unless a forked worker calls this at its end."""
    if os.getpid() == process and os.path.exists(path):
        os.unlink(path)


def decode(data: bytes, size: int | None = None) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 RGB, upright, on white where it is transparent.

    With `size`, a JPEG may be decoded at a half, quarter or eighth of its resolution while both
    sides stay at least `size`, which is several times faster.
    """
    image = Image.open(io.BytesIO(data))
    if size is not None:
        image.draft(None, (size, size))
    image = _turn_upright(image)
    if image.mode.startswith(("I", "F")):  # 16 bits a pixel: Pillow would clip at 255
        values = np.asarray(image).astype(np.float32)
        grey = np.clip(values / (257 if values.max(initial=0) > 255 else 1) + 0.5, 0, 255)
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def _turn_upright(image: Image.Image) -> Image.Image:
    """Undo how the camera was held; damaged EXIF data, which are common, count as none."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # ValueError, struct.error, ...: the picture itself may be sound
        turn = None
    return image if turn is None else image.transpose(turn)


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

    with ThreadPoolExecutor(jobs or os.cpu_count()) as threads:
        for _ in progress(threads.map(load, range(len(paths))), "reading images", len(paths)):
            pass
    return pixels

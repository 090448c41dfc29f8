"""Images of a dataset as pixels and batches, and what a stage checks about the images it reads.

An image that cannot be read is reported and replaced by grey, so training never stops. A stage
refuses its images when more than a few per cent are missing or unreadable, and is done again when
they changed. GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

import contextlib
import functools
import io
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from lib.artifacts import MANIFEST, fingerprint, mark_complete, progress, read_manifest
from lib.data.tar_images import ImageStore, as_bytes, evenly_spread
from lib.environment import cores, local_processes

if TYPE_CHECKING:
    import torch

GREY = 128
SMALLEST = 32  # pixels at which an image is decoded only to see whether it can be
WARNINGS = 3  # unreadable images that a source names one by one
# Formats of photographs. Others of Pillow's start programs (EPS runs Ghostscript) or are parsers
# that nobody needs here.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
HEIC = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # brands in its first bytes
MOST_PIXELS = 178_956_970  # Pillow's own limit: half a gigabyte of RGB
_WHITES = (255, 4095, 65535)  # of 8, 12 and 16 bits
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2  # values of TIFF tags
IN_MEMORY = 2 * 2**30  # bytes of pixels that are decoded once and kept
PREFETCHED = 2  # batches that a worker process reads ahead
TIMEOUT = 1800  # seconds to wait for a batch
SHARED_MEMORY = Path("/dev/shm")  # through which workers hand tensors over, on Linux
TOLERATED_SHARE, TOLERATED = 0.05, 10  # missing or unreadable images: this share, or so many
SAMPLE = 2000  # images looked for before work starts
KEPT = 1000  # names of unreadable images that a manifest holds


Change = Callable[[np.ndarray, int], np.ndarray]
"""Pixels (B, 3, S, S) of a batch and its number to pixels."""


class ImageSource:
    """Pixels of the images of a dataset folder, from files or from GLDv2's tar archives.

    `unreadable` has path and reason of each unreadable image met so far, by worker processes too.
    """

    def __init__(self, root: str | Path) -> None:
        cv2.setNumThreads(0)  # OpenCV's own threads do not survive a fork
        self.store = ImageStore(root)
        self.unreadable: dict[str, str] = {}

    def read(self, path: str | Path, size: int | None = None) -> np.ndarray:
        """`decode` the image at `path` to (H, W, 3); (256, 256, 3) grey if it is unreadable."""
        try:
            return decode(self.store.read(path), size)
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
            if str(path) not in self.unreadable:
                reason = self.unreadable[str(path)] = f"{type(error).__name__}: {error}"
                if len(self.unreadable) <= WARNINGS:
                    more = "; further ones are only counted" * (len(self.unreadable) == WARNINGS)
                    message = f"{path} cannot be read ({reason}); it is replaced by grey{more}."
                    warnings.warn(message, stacklevel=2)
            return np.full((256, 256, 3), GREY, dtype=np.uint8)

    def read_resized(self, path: str | Path, size: int) -> np.ndarray:
        """The image stretched to (size, size, 3); its aspect ratio is not kept, as in GLR21."""
        return stretch(self.read(path, size), size)


def decode(data: bytes, size: int | None = None) -> np.ndarray:
    """Decode an image file to (H, W, 3) uint8 RGB, upright, on white where it is transparent.

    With `size`, a JPEG may be decoded at a half, quarter or eighth of its resolution while both
    sides stay at least `size`, which is several times faster.

    Raises:
        ValueError: The image has more than `MOST_PIXELS`, or no finite value.
        OSError: It is of none of `FORMATS`, cut short or damaged; decoders raise others, too.
    """
    is_heic = data[4:8] == b"ftyp" and data[8:12] in HEIC and b"avif" not in data[:64]
    try:
        image = Image.open(io.BytesIO(data), formats=_heif() if is_heic else FORMATS)
    except UnidentifiedImageError:
        raise OSError(f"cannot identify it as {', '.join(FORMATS)}") from None
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS:,}")
    if size is not None:
        image.draft(None, (size, size))
    depth = str(image.tile[0].args) if image.tile else ""  # Pillow's name, such as RGB;16B
    if not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]  # a damaged TIFF tag, which Pillow would search for an orientation
    image.load()
    with contextlib.suppress(Exception):  # ValueError, struct.error, ... of damaged EXIF data
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith(("I", "F")):
        return np.repeat(_grey(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    # Of 16 bits a colour Pillow keeps the upper eight, which is four where only 12 are used.
    return pixels * 17 if ";16" in depth and pixels.max(initial=0) <= 15 else pixels


@functools.cache
def _heif() -> tuple[str, ...]:
    """The name of the format that pillow-heif adds to Pillow."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise OSError("HEIC, which needs another package: pip install pillow-heif") from None
    register_heif_opener()
    return ("HEIF",)


def _grey(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of an image of floats, or of integers of more than 8 bits."""
    # White is the smallest end of a range that no value exceeds. Values of none of these ranges
    # are stretched from the lowest, or 0, to the highest.
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits, kind = tags.get(BITSPERSAMPLE, (0,))[0], tags.get(SAMPLEFORMAT, (_UNSIGNED,))[0]
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
    return 255 - grey if tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO else grey


def stretch(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) to (size, size, 3): averaging where it shrinks, linear where it grows."""
    height, width = min(pixels.shape[0], size), min(pixels.shape[1], size)
    # Two steps, because OpenCV averages only if both sides shrink.
    if (height, width) != pixels.shape[:2]:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if (height, width) != (size, size):
        pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    return pixels


class SquareImages:
    """The images at `paths`, stretched to squares of `size` pixels; indexed by whole batches.

    A small set is read at once and kept in memory; with `keep=False`, for images used once, a batch
    is read when it is asked for.
    """

    def __init__(
        self,
        source: ImageSource,
        paths: Sequence[str] | np.ndarray,
        size: int,
        *,
        keep: bool = True,
    ) -> None:
        self.source, self.size, self.pixels = source, size, None
        self.paths = as_bytes(paths)  # one block, which forks do not copy
        source.store.prepare(self.paths)
        count = len(paths)
        if keep and count * 3 * size * size <= IN_MEMORY:
            pixels = np.empty((count, 3, size, size), dtype=np.uint8)

            def load(row: int) -> None:
                pixels[row] = self[[row]][0]

            with ThreadPoolExecutor(cores()) as threads:
                for _ in progress(threads.map(load, range(count)), "reading images", count):
                    pass
            self.pixels = pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(
        self, positions: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
        """Pixels (B, 3, S, S) uint8, positions (B,) int64, and unreadable images by path."""
        where = np.asarray(positions, dtype=np.int64)
        if self.pixels is not None:
            return self.pixels[where], where, {}
        paths = [os.fsdecode(self.paths[i]) for i in where]
        pixels = np.stack([self.source.read_resized(path, self.size) for path in paths])
        found = self.source.unreadable
        unreadable = {path: found[path] for path in paths if path in found}
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), where, unreadable


class _Batches:
    """What a `DataLoader` asks for: number and positions of a batch give its changed pixels."""

    def __init__(self, images: SquareImages, change: Change | None) -> None:
        self.images, self.change = images, change

    def __getitem__(
        self, batch: tuple[int, Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
        number, positions = batch
        pixels, where, unreadable = self.images[positions]
        return self.change(pixels, number) if self.change else pixels, where, unreadable


def load_batches(
    images: SquareImages, batches: Sequence[Sequence[int]], change: Change | None = None
) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    """Pixels (B, 3, S, S) uint8 and positions (B,) int64 of each of the `batches` of positions.

    `change` makes other pixels of those of a batch and its number, where the images are read.
    """
    import torch
    from torch.utils.data import DataLoader

    is_quick = images.pixels is not None and change is None
    workers = 0 if is_quick else min(8, max(1, cores() - 1))
    has_room = True
    if workers and SHARED_MEMORY.is_dir():
        largest = max(map(len, batches), default=0) * 3 * images.size**2
        needed = largest * workers * PREFETCHED * local_processes()
        free = 0.8 * shutil.disk_usage(SHARED_MEMORY).free
        has_room = needed < free
        if not has_room:
            warnings.warn(
                f"{SHARED_MEMORY} has {free / 2**30:.2f} GiB for batches of {needed / 2**30:.2f} "
                "GiB, so they go through pipes, which is slower; docker run --shm-size=8g gives "
                "more",
                stacklevel=2,
            )
    loader = DataLoader(
        _Batches(images, change),
        sampler=[*enumerate(batches)],
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        # Tensors travel through shared memory, arrays through a pipe.
        collate_fn=None if has_room else tuple,
        timeout=TIMEOUT if workers else 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or it draws its workers' seeds from the global one
    )
    try:
        for pixels, positions, unreadable in loader:
            images.source.unreadable.update(unreadable)
            yield torch.as_tensor(pixels), torch.as_tensor(positions)
    except RuntimeError as error:
        signs = "timed out|shared memory|killed by signal|exited unexpectedly"
        if not re.search(signs, str(error)):
            raise
        raise OSError(
            "the processes that read images stopped, or gave no batch for "
            f"{TIMEOUT // 60} minutes ({str(error).splitlines()[0]}); look for a full /dev/shm "
            "(docker run --shm-size=8g), too little memory, or a disk that does not answer"
        ) from error


def images_key(settings: str, store: ImageStore, paths: Sequence[str]) -> str:
    """The fingerprint of a stage's settings together with the images that it reads."""
    return fingerprint(settings, store.state(paths))


def work_left(
    what: str, folder: str | Path, settings: str, store: ImageStore, paths: Sequence[str]
) -> str:
    """The key (`images_key`) to finish `folder` with; "" if that is done already.

    A finished stage is done again when its images changed, which is printed, or when one that was
    replaced by grey has become readable. `settings` is the fingerprint of everything else that
    decides the result; `what` names the stage in messages.
    """
    key, manifest = images_key(settings, store, paths), read_manifest(folder) or {}
    unreadable = manifest.get("unreadable_images", [])
    is_same = manifest.get("key") == _signature(key, unreadable)
    if is_same and not any(_is_readable(store, path) for path in unreadable):
        return ""
    if manifest.get("settings") == settings:
        signed = time.localtime((Path(folder) / MANIFEST).stat().st_mtime)
        then = time.strftime("%Y-%m-%d %H:%M", signed)
        print(f"{what}: images changed since {then}, so it is done again", flush=True)
    _check_present(what, store, paths)
    return key


def _is_readable(store: ImageStore, path: str) -> bool:
    try:
        decode(store.read(path), SMALLEST)
    except Exception:  # decoders raise OSError, SyntaxError, struct.error, ...
        return False
    return True


def _check_present(what: str, store: ImageStore, paths: Sequence[str]) -> None:
    chosen = [paths[i] for i in evenly_spread(len(paths), SAMPLE)]
    missing = store.missing(chosen)
    if _are_too_many(missing, len(chosen)):
        raise ValueError(
            f"expected the images of {what} in {store.root}, found {len(missing):,} of "
            f"{len(chosen):,} looked for missing, the first {missing[0]}; check the data folder, "
            "and where its images were unpacked (data/README.md)"
        )
    if missing:
        print(
            f"{what}: {len(missing):,} of {len(chosen):,} images looked for are missing and are "
            f"replaced by grey ({len(missing) / len(chosen):.1%}), first {missing[0]}",
            flush=True,
        )


def check_readable(what: str, root: str | Path, unreadable: Collection[str], count: int) -> None:
    """Refuse (ValueError) more than a few per cent of unreadable images among `count`."""
    if _are_too_many(unreadable, count):
        raise ValueError(
            f"expected the {count:,} images of {what} in {root} to be readable, found at least "
            f"{len(unreadable):,} that are not, the first {next(iter(unreadable))}; download them "
            "again"
        )


def _are_too_many(lost: Collection[str], count: int) -> bool:
    most = max(TOLERATED, int(TOLERATED_SHARE * count))
    return bool(lost) and (len(lost) == count or len(lost) > most)


def report_unreadable(unreadable: Collection[str]) -> None:
    """Print how many images were replaced by grey because they could not be read."""
    if unreadable:
        text = "images could not be read and were replaced by grey, first"
        print(f"{len(unreadable):,} {text} {min(unreadable)}", flush=True)


def mark_stage_complete(
    folder: str | Path,
    key: str,
    settings: str,
    unreadable: Collection[str],
    *,
    files: Sequence[str],
    **facts: Any,
) -> None:
    """`mark_complete` with what `work_left` compares: settings, images, unreadable ones by name."""
    names = sorted(unreadable)[:KEPT]
    facts |= {"settings": settings, "unreadable": len(unreadable)}
    facts |= {"unreadable_images": names} if names else {}
    mark_complete(folder, _signature(key, names), files=files, **facts)


def _signature(key: str, unreadable: Sequence[str]) -> str:
    """Another key where images were grey, so that later stages are done again once they are not."""
    return fingerprint(key, list(unreadable)) if unreadable else key

"""Find the bytes of an image: in a file SPLIT/a/b/c/ID.jpg, or inside SPLIT/images_NNN.tar.

GLDv2 comes in 620 tar archives with 5 million images. They are read where they are: each split's
headers are walked once, ids and offsets are kept sorted in a few arrays, and an image is one
binary search and one read. The arrays are memory-mapped files, so worker processes share them,
and no file stays open, so forks and threads cannot disturb each other.
"""

import os
import stat
import tarfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.runs import atomic_path, fingerprint, is_done, mark_done, progress

MOST_BYTES = 2**28  # of one image; photographs have a hundredth of it
SPLITS = ("train", "index", "test")
_SUFFIXES = (".jpg", ".jpeg", ".png")
_SAMPLE = 20_000  # images whose files `ImageStore.state` looks at


def read_file(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        OSError: It is missing, larger than `MOST_BYTES`, or a folder, pipe or device, of which
            reading might never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no regular file")
    if status.st_size > MOST_BYTES:
        raise OSError(f"{path} has {status.st_size:,} bytes, more than {MOST_BYTES:,}")
    return path.read_bytes()


@dataclass(frozen=True, eq=False)
class TarIndex:
    """Where each image of a split lies in its archives; rows are sorted by id."""

    archives: tuple[Path, ...]
    ids: np.ndarray  # (N,) bytes of one width
    archive: np.ndarray  # (N,) position in `archives`
    offset: np.ndarray  # (N,) first byte in the archive
    size: np.ndarray  # (N,) bytes

    def read(self, image_id: str) -> bytes | None:
        """The bytes of an image, or None when no archive has it."""
        key = np.array([image_id.encode()])
        if key.dtype.itemsize > self.ids.dtype.itemsize:
            return None
        # Of the same width, or searchsorted would copy millions of ids to widen them.
        row = int(np.searchsorted(self.ids, key.astype(self.ids.dtype))[0])
        if row == len(self.ids) or self.ids[row] != key[0]:
            return None
        with open(self.archives[self.archive[row]], "rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.size[row]), int(self.offset[row]))

    def has(self, image_ids: Sequence[str]) -> np.ndarray:
        """Whether an archive has each of these images, as (len(image_ids),) booleans."""
        return np.isin(np.array([i.encode() for i in image_ids], dtype=np.bytes_), self.ids)


class ImageStore:
    """The images of a dataset folder, as bytes."""

    def __init__(self, root: str | Path, *, cache: str | Path | None = None) -> None:
        """Open a folder without reading anything yet.

        Args:
            root: The folder that has `train`, `index` and `test`, or any folder of images.
            cache: Where the index of packed splits is kept; beside the archives when None. If
                that is not writable, the index lives in memory only.
        """
        self.root = Path(root)
        self.cache = None if cache is None else Path(cache)
        self._indexes: dict[str, TarIndex | None] = {}

    def read(self, path: str | Path) -> bytes:
        """The bytes of the image at `path`, relative to the root or absolute.

        Raises:
            OSError: Neither a file nor an archive has it, or it is no regular file or larger than
                `MOST_BYTES`.
        """
        path = Path(path)
        split = "".join(path.parts[:1])
        index = self._index(split) if self.is_packed(split) else None
        data = None if index is None else index.read(path.stem)
        return read_file(self.root / path) if data is None else data

    def is_packed(self, split: str) -> bool:
        """Whether a split is still in its archives; unpacked files beside them win."""
        if split not in self._indexes:
            folder = self.root / split
            archives = split in SPLITS and folder.is_dir() and not _letters(folder)
            if not (archives and _archives(folder)):
                self._indexes[split] = None
        return self._indexes.get(split, True) is not None

    def prepare(self, paths: Sequence[str]) -> None:
        """Index the packed splits that occur in `paths`, before worker processes start."""
        for split in sorted(_by_split(paths)):
            if self.is_packed(split):
                self._index(split)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of `paths` that neither a file nor an archive has; reads no image."""
        absent = []
        for split, part in _by_split(paths).items():
            if self.is_packed(split):
                there = self._index(split).has([Path(path).stem for path in part])
                part = [path for path, found in zip(part, there, strict=True) if not found]
            absent += [path for path in part if not (self.root / path).is_file()]
        return absent

    def state(self, paths: Sequence[str]) -> str:
        """A digest of what lies at `paths`, which changes when images come, go or change.

        Of unpacked images it takes path, size and time of change of at most 20,000, evenly spread
        over `paths`; of packed splits, name, size and time of every archive. No image is read.
        """
        stamps: list[Any] = []
        chosen = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _SAMPLE)).astype(int))
        for split, part in _by_split([paths[i] for i in chosen]).items():
            if self.is_packed(split):
                part = [f"{split}/{path.name}" for path in _archives(self.root / split)]
            stamps += [(path, *_stamp(self.root / path)) for path in part]
        return fingerprint(stamps)

    def ids(self, split: str) -> list[str]:
        """All ids that a split has an image for, sorted; reads folders or the index, no image."""
        if self.is_packed(split):
            return [image_id.decode() for image_id in self._index(split).ids]
        found = (self.root / split).glob("?/?/?/*") if (self.root / split).is_dir() else ()
        return sorted(path.stem for path in found if path.suffix.lower() in _SUFFIXES)

    def _index(self, split: str) -> TarIndex:
        index = self._indexes.get(split)
        if index is None:
            kept = None if self.cache is None else self.cache / f"tar_index_{split}"
            index = self._indexes[split] = index_archives(self.root / split, kept)
        return index


def index_archives(folder: Path, cache: Path | None = None) -> TarIndex:
    """The index of all `images_*.tar` in a folder: from its cache, or built and cached.

    An archive that is cut short or no archive at all gives what it has, and a warning: one failed
    download of 620 should not stop a night of work. A cache made for archives of other names or
    sizes is replaced.
    """
    archives = _archives(folder)
    cache = folder / "tar_index" if cache is None else cache
    key = fingerprint([[path.name, path.stat().st_size] for path in archives])
    if not is_done(cache, key):
        arrays = _build(archives)
        try:
            with atomic_path(cache) as temporary:
                temporary.mkdir()
                for name, values in arrays.items():
                    np.save(temporary / f"{name}.npy", values)
                mark_done(temporary, key, images=len(arrays["ids"]))
        except OSError:  # a read-only dataset folder: keep the index in memory
            return TarIndex(tuple(archives), **arrays)
    names = ("ids", "archive", "offset", "size")
    # Plain arrays over the mapped files: element access on np.memmap itself is slow.
    arrays = {name: np.asarray(np.load(cache / f"{name}.npy", mmap_mode="r")) for name in names}
    return TarIndex(tuple(archives), **arrays)


def _build(archives: list[Path]) -> dict[str, np.ndarray]:
    with ThreadPoolExecutor(8) as threads:
        walked = threads.map(_walk, archives)
        what = f"indexing {archives[0].parent.name} archives"
        parts = list(progress(walked, what, len(archives)))
    ids = np.concatenate([part[0] for part in parts])
    order = np.argsort(ids, kind="stable")
    order = order[np.append(True, ids[order][1:] != ids[order][:-1])[: len(order)]]  # first wins
    counts = [len(part[0]) for part in parts]
    return {
        "ids": ids[order],
        "archive": np.repeat(np.arange(len(parts), dtype=np.uint16), counts)[order],
        "offset": np.concatenate([part[1] for part in parts])[order],
        "size": np.concatenate([part[2] for part in parts])[order],
    }


def _walk(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, offsets and sizes of the whole images in one archive."""
    rows: list[tuple[bytes, int, int]] = []
    length = path.stat().st_size
    cut = False
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, suffix = os.path.splitext(os.path.basename(member.name))
                whole = member.offset_data + member.size <= length
                cut |= not whole
                if member.isfile() and whole and suffix.lower() in _SUFFIXES:
                    rows.append((stem.encode(), member.offset_data, member.size))
    except (tarfile.TarError, OSError):
        cut = True
    if cut:
        warnings.warn(
            f"{path} is damaged or cut short: {len(rows):,} images of it are used; download it "
            "again.",
            stacklevel=2,
        )
    ids, offsets, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    return (
        np.array(ids, dtype=None if rows else "S1"),
        np.array(offsets, dtype=np.int64),
        np.array(sizes, dtype=np.int64),
    )


def _by_split(paths: Sequence[str]) -> dict[str, list[str]]:
    """The paths of each split, in their order."""
    parts: dict[str, list[str]] = {}
    for path in paths:
        parts.setdefault(path.split("/", 1)[0], []).append(path)
    return parts


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change of a file; (-1, -1) where there is none."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _archives(folder: Path) -> list[Path]:
    return sorted(folder.glob("images_*.tar"))


def _letters(folder: Path) -> bool:
    """Whether a split has the one-letter folders of unpacked images."""
    with os.scandir(folder) as entries:
        return any(len(entry.name) == 1 and entry.is_dir() for entry in entries)

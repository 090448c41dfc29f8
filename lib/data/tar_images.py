"""Find the bytes of an image: in a file SPLIT/a/b/c/ID.jpg, or inside SPLIT/images_NNN.tar.

The headers of GLDv2's 620 archives are walked once; then an image is one binary search and one
read. The index is memory-mapped, so worker processes share it, and no file stays open across forks
and threads. `tarfile` only decodes headers: it ends silently at the first damaged one.
"""

import contextlib
import hashlib
import os
import re
import stat
import tarfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib import artifacts
from lib.data.tables import ID_PATTERN, first_of

SPLITS = ("train", "index", "test")
MOST_BYTES = 2**28  # of one image; photographs have a hundredth of it
_SUFFIXES = (".jpg", ".jpeg", ".png")
_LONGEST_ID = 128  # the index has one width for all
_ARRAYS = {"ids": "S", "archive": "u", "offset": "i", "size": "i"}  # of the index: dtype kinds
_BLOCK, _MAGIC = 512, 257  # a tar's unit, and where its headers say "ustar"
_CHUNK = 2**20
_LONGEST_HEADER = 2**20  # bytes of a member's extended header
_ID = re.compile(ID_PATTERN)
# Names of another image with an addition: any to GLDv2's own ids; to others, which people choose,
# what tools add.
_ADDITIONS = "(?i:(thumb(nail)?|copy|small|preview|mask|orig(inal)?|resized|edited|\\d+x\\d+)s?)"
_COMPANIONS = ("([0-9a-f]{16})[_-].*", f"(.+)[_-]{_ADDITIONS}")
_SAMPLE = 20_000  # images whose files `ImageStore.state` looks at


def evenly_spread(count: int, most: int) -> np.ndarray:
    """At most `most` of the positions 0 to `count` - 1, from the first to the last.

    >>> evenly_spread(9, 3).tolist(), evenly_spread(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def as_bytes(paths: Sequence[str] | np.ndarray) -> np.ndarray:
    """Paths as one array (N,) of bytes, as files are named; an array of bytes as it is."""
    try:
        return np.asarray(paths, dtype=np.bytes_)
    except UnicodeEncodeError:  # not ASCII, which is several times slower
        return np.asarray([os.fsencode(path) for path in paths], dtype=np.bytes_)


def read_file(path: Path) -> bytes:
    """The bytes of an image file; OSError for pipes and devices, whose reading may never end."""
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
    notes: tuple[str, ...] = ()  # one sentence per oddity of the archives

    def read(self, image_id: str) -> bytes | None:
        """The bytes of an image, or None when no archive has it."""
        row = int(self.rows([image_id])[0])
        if row < 0:
            return None
        with open(self.archives[self.archive[row]], "rb", buffering=0) as file:
            return os.pread(file.fileno(), int(self.size[row]), int(self.offset[row]))

    def rows(self, image_ids: Sequence[str]) -> np.ndarray:
        """The row of each image, -1 for those that no archive has."""
        keys = as_bytes(image_ids)
        if not len(self.ids):
            return np.full(len(keys), -1)
        # Of the same width, or searchsorted would copy millions of ids to widen them.
        rows = np.searchsorted(self.ids, keys.astype(self.ids.dtype))
        rows = np.minimum(rows, len(self.ids) - 1)
        return np.where(self.ids[rows] == keys, rows, -1)


class ImageStore:
    """The images of a dataset folder, as bytes.

    The index of packed splits is built once for all processes, which map its files.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._is_packed: dict[str, bool] = {}
        self._indexes: dict[str, TarIndex] = {}

    def read(self, path: str | Path) -> bytes:
        """The bytes of the image at `path`, relative to the root or absolute (else OSError)."""
        path = Path(path)
        split = "".join(path.parts[:1])
        data = self._index(split).read(path.stem) if self.is_packed(split) else None
        return read_file(self.root / path) if data is None else data

    def is_packed(self, split: str) -> bool:
        """Whether a split is in archives, without the one-letter folders of unpacked images."""
        if split not in self._is_packed:
            folder = self.root / split
            is_split = split in SPLITS and folder.is_dir()
            within = folder.iterdir() if is_split else ()
            is_unpacked = any(len(path.name) == 1 and path.is_dir() for path in within)
            self._is_packed[split] = is_split and not is_unpacked and bool(_archives(folder))
        return self._is_packed[split]

    def prepare(self, paths: Sequence[str] | np.ndarray) -> None:
        """Index the packed splits that occur in `paths`, before worker processes start.

        Paths are strings, or an array (N,) of bytes: there may be millions.
        """
        packed = [split for split in SPLITS if self.is_packed(split)]
        paths = as_bytes(paths) if packed else ()
        for split in packed:
            if np.char.startswith(paths, f"{split}/".encode()).any():
                self._index(split)

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of `paths` that neither a file nor an archive has; reads no image."""
        absent = []
        for split, part in _by_split(paths).items():
            if self.is_packed(split):
                rows = self._index(split).rows([Path(path).stem for path in part])
                part = [path for path, row in zip(part, rows, strict=True) if row < 0]
            absent += [path for path in part if not (self.root / path).is_file()]
        return absent

    def state(self, paths: Sequence[str]) -> str:
        """A digest of path, size and time of a sample of `paths`, and of all archives they use."""
        stamps = []
        chosen = [paths[i] for i in evenly_spread(len(paths), _SAMPLE)]
        for split, part in _by_split(chosen).items():
            if self.is_packed(split):
                part = [f"{split}/{path.name}" for path in _archives(self.root / split)]
            stamps += [(path, *_stamp(self.root / path)) for path in part]
        return artifacts.fingerprint(stamps)

    def ids(self, split: str, warn: Callable[[str], None] = warnings.warn) -> list[str]:
        """All ids that a split has an image for, sorted; `warn` receives a note on other files."""
        if self.is_packed(split):
            return [image_id.decode() for image_id in self._index(split).ids]
        return _ids_of_files(self.root / split, warn)

    def _index(self, split: str) -> TarIndex:
        if split not in self._indexes:
            self._indexes[split] = index_archives(self.root / split)
        return self._indexes[split]


def _by_split(paths: Sequence[str]) -> dict[str, list[str]]:
    parts = defaultdict(list)
    for path in paths:
        parts[path.split("/", 1)[0]].append(path)
    return parts


def _stamp(path: Path) -> tuple[int, int]:
    """Size and modification time of a file; (-1, -1) where there is none.

    What Kaggle mounts is read-only and may show another time in each session: there it is 0.
    """
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    is_mounted = artifacts.KAGGLE_INPUT in path.parents
    return status.st_size, 0 if is_mounted else status.st_mtime_ns


def _archives(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("images_*.tar") if path.is_file())


def walk_files(
    folder: Path, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Each folder from `folder` down, hidden ones left out, and its files' names, sorted.

    Linked folders are followed, but never twice or to a folder above `folder`, as circles are.
    """
    above = [parent for path in (folder.absolute(), folder.resolve()) for parent in path.parents]
    seen = set(map(os.path.realpath, above))
    for place, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield place, sorted(names)


def _ids_of_files(folder: Path, warn: Callable[[str], None]) -> list[str]:
    found: list[str] = []
    others: list[str] = []
    for place, names in walk_files(folder):
        parts = Path(place).relative_to(folder).parts
        is_place = len(parts) == 3 and all(len(part) == 1 for part in parts)
        regular = _regular_files(place) if is_place else ()
        start = "".join(parts)
        stems = {name[:-4] for name in regular if name.startswith(start) and name.endswith(".jpg")}
        stems = {stem for stem in stems if _ID.fullmatch(stem)}
        stems = {stem for stem in stems if not _is_companion(stem, stems)}
        found += stems
        others += [
            os.path.join(*parts, name)
            for name in names
            if (is_place or name.lower().endswith(_SUFFIXES))
            and not (name.endswith(".jpg") and name[:-4] in stems)
        ]
    if others:
        warn(
            f"{len(others):,} files of {folder.name} are left out, because they are no file "
            f"{folder.name}/a/b/c/ID.jpg with an id that begins with abc: "
            f"{first_of(ascii(name)[1:-1] for name in others)}."
        )
    return sorted(found)


def _regular_files(folder: str) -> set[str]:
    with os.scandir(folder) as entries:  # which tells without a look at each of a million files
        is_file = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    return {name for name, known in is_file.items() if known or os.path.isfile(f"{folder}/{name}")}


def _is_companion(stem: str, stems: set[str]) -> bool:
    matches = [re.fullmatch(pattern, stem) for pattern in _COMPANIONS]
    return any(match and match[1] in stems for match in matches)


def index_archives(folder: Path) -> TarIndex:
    """The index of all `images_*.tar` in a folder, kept beside them or among the runs.

    An archive that is cut short, damaged or no archive at all gives what it has, and a warning. An
    index that is damaged, or of archives of other names, sizes or times, is replaced.
    """
    archives = _archives(folder)
    odd = sorted(path.name for path in folder.glob("images_*.tar") if not path.is_file())
    if odd:
        warnings.warn(
            f"{len(odd):,} archives in {folder} are left out, because they are no regular files: "
            f"{first_of(odd)}.",
            stacklevel=2,
        )
    cache = folder / "tar_index"
    if not (cache.is_dir() or os.access(folder, os.W_OK)):
        place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:6]
        cache = artifacts.outputs_root() / "tar_index" / f"{folder.name}-{place}"
    key = artifacts.fingerprint([[path.name, *_stamp(path)] for path in archives])
    with artifacts.locked(cache):
        index = _load_index(archives, cache, key)
        if index is None:
            index = _build_index(archives)
            # Where nothing can be written, or a file is in the way, the index stays in memory.
            with contextlib.suppress(OSError, ValueError), artifacts.atomic_path(cache) as target:
                target.mkdir()
                for name in _ARRAYS:
                    np.save(target / f"{name}.npy", getattr(index, name))
                facts = {"images": len(index.ids), "notes": index.notes}
                files = [f"{name}.npy" for name in _ARRAYS]
                artifacts.mark_complete(target, key, files=files, **facts)
            index = _load_index(archives, cache, key) or index
    for note in index.notes:
        warnings.warn(note, stacklevel=2)
    return index


def _load_index(archives: list[Path], cache: Path, key: str) -> TarIndex | None:
    if not artifacts.is_done(cache, key):
        return None
    try:
        # Plain arrays over the mapped files: element access on np.memmap itself is slow.
        arrays = {
            name: np.asarray(np.load(cache / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS
        }
        notes = tuple(map(str, artifacts.read_json(cache / artifacts.MANIFEST)["notes"]))
    except Exception:  # NumPy raises nearly anything on a damaged header, tokenize.TokenError too
        return None
    kinds = {name: values.dtype.kind for name, values in arrays.items()}
    shapes = {values.shape for values in arrays.values()}
    if kinds != _ARRAYS or len(shapes) != 1 or arrays["ids"].ndim != 1:
        return None
    return TarIndex(tuple(archives), **arrays, notes=notes)


def _build_index(archives: list[Path]) -> TarIndex:
    with ThreadPoolExecutor(8) as threads:
        what = f"indexing {archives[0].parent.name} archives"
        parts = list(artifacts.progress(threads.map(_walk, archives), what, len(archives)))
    notes = [note for _, notes in parts for note in notes]
    members = np.concatenate([found for found, _ in parts])
    ids, first, counts = np.unique(members["id"], return_index=True, return_counts=True)
    repeated = ids[counts > 1]
    if len(repeated):
        notes.append(
            f"{len(repeated):,} images are more than once in the archives of {archives[0].parent}, "
            f"and the first is used: {first_of(name.decode() for name in repeated)}."
        )
    lengths = [len(found) for found, _ in parts]
    archive = np.repeat(np.arange(len(parts), dtype=np.uint16), lengths)[first]
    offset, size = members["offset"][first], members["size"][first]
    return TarIndex(tuple(archives), ids, archive, offset, size, tuple(notes))


def _walk(path: Path) -> tuple[np.ndarray, list[str]]:
    """Id, offset and size of each whole image in one archive, and notes on its oddities."""
    rows: list[tuple[str, int, int]] = []
    others: list[str] = []
    is_damaged = False
    try:
        with open(path, "rb", buffering=0) as file:
            for member in _members(file.fileno()):
                if member is None:
                    is_damaged = True
                    continue
                stem, suffix = os.path.splitext(os.path.basename(member.name))
                if suffix.lower() not in _SUFFIXES or member.isdir():
                    continue
                is_file = member.isreg() and member.type != tarfile.GNUTYPE_SPARSE
                is_id = _ID.fullmatch(stem) and len(stem) <= _LONGEST_ID
                if is_file and is_id and member.size <= MOST_BYTES:
                    rows.append((stem, member.offset_data, member.size))
                else:
                    others.append(ascii(member.name[:_LONGEST_ID])[1:-1])
    except OSError:
        is_damaged = True
    notes = []
    if is_damaged:
        notes.append(
            f"{path} is damaged or cut short: {len(rows):,} images of it are used; download it "
            "again."
        )
    if others:
        notes.append(
            f"{len(others):,} members of {path} are left out, because they are no image file "
            f"called by an id: {first_of(others)}."
        )
    width = max((len(row[0]) for row in rows), default=1)
    return np.array(rows, dtype=[("id", f"S{width}"), ("offset", "i8"), ("size", "i8")]), notes


def _members(descriptor: int) -> Iterator[tarfile.TarInfo | None]:
    """The whole members of an archive in their order; None at damage, which it goes on after."""
    length = os.fstat(descriptor).st_size
    place, last = 0, None  # the last member waits until what follows shows that its size is right
    is_end = False  # whether two blocks of zeros were found
    while place + _BLOCK <= length:
        found = _member_at(descriptor, place, length)
        if found is not None:
            if last is not None:
                yield last
            last, place = found
            continue
        end = os.pread(descriptor, 2 * _BLOCK, place)
        is_end = len(end) == 2 * _BLOCK and not any(end)
        start = place if is_end or last is None else last.offset_data
        after = _next_header(descriptor, start, length)
        if last is not None and after >= place:
            yield last
        if after < length:
            yield None
        place, last = after, None
    if last is not None:
        yield last
    if not is_end:
        yield None


def _member_at(descriptor: int, place: int, length: int) -> tuple[tarfile.TarInfo, int] | None:
    """The member whose headers begin at `place`, and where the next one's do; None if damaged."""
    name = size = None
    is_sparse = False
    while True:
        block = os.pread(descriptor, _BLOCK, place)
        try:
            member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError):
            return None
        start = place + _BLOCK
        more = member.type == tarfile.GNUTYPE_SPARSE and block[482]
        while more and start < length:  # the map of a sparse file has blocks of its own
            more = os.pread(descriptor, _BLOCK, start)[504:505] == b"\1"
            start += _BLOCK
        is_long = member.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        is_pax = member.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)
        if size is not None and not (is_long or is_pax):
            member.size = size
        has_data = member.isreg() or is_long or member.type not in tarfile.SUPPORTED_TYPES
        used = member.size if has_data else 0
        if used < 0 or start + used > length:
            return None
        place = start + -(-used // _BLOCK) * _BLOCK
        if not (is_long or is_pax):
            member.name = member.name if name is None else os.fsdecode(name)
            member.type = tarfile.GNUTYPE_SPARSE if is_sparse else member.type
            member.offset_data = start
            return member, place
        if used > _LONGEST_HEADER:
            return None
        text = os.pread(descriptor, used, start)
        if member.type == tarfile.GNUTYPE_LONGNAME:
            name = text.split(b"\0", 1)[0]
        elif is_pax and member.type != tarfile.XGLTYPE:
            records = _pax_records(text)
            name = records.get(b"path", name)
            is_sparse = any(key.startswith(b"GNU.sparse") for key in records)
            if b"size" in records:
                size = int(records[b"size"]) if records[b"size"].isdigit() else -1


def _pax_records(text: bytes) -> dict[bytes, bytes]:
    """The sound records "LENGTH KEY=VALUE" of an extended header."""
    records, place = {}, 0
    while found := re.compile(rb"([0-9]{1,9}) ([^=]+)=").match(text, place):
        end = place + int(found[1])
        if end <= found.end():
            break
        records[found[2]] = text[found.end() : end - 1]
        place = end
    return records


def _next_header(descriptor: int, start: int, length: int) -> int:
    """Where the next sound member begins, from `start` on; `length` if there is none."""
    for place in range(start, length, _CHUNK):
        chunk = os.pread(descriptor, _CHUNK, place)
        for found in re.finditer(b"ustar", chunk):
            header = place + found.start() - _MAGIC
            if header % _BLOCK == 0 and _member_at(descriptor, header, length) is not None:
                return header
    return length

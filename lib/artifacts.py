"""Files of a run: where they are, whole-or-nothing writes, manifests, records, progress, seeds.

A stage computes the fingerprint of everything it depends on, returns at once where its folder's
manifest has it (`is_done`), and otherwise writes its files atomically and signs the folder last
(`mark_complete`). So a killed run goes on where it stopped.
"""

import contextlib
import dataclasses
import errno
import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from lib.time_limit import check_time


def repository(package: Path, working: Path) -> Path:
    """The repository that `package` lies in, or, of an installed copy, that `working` lies in.

    Without either it is the working folder.
    """
    places = (package.parent, working, *working.parents)
    return next((place for place in places if any(place.glob("notebooks/01_*.ipynb"))), working)


ROOT = repository(Path(__file__).resolve().parent, Path.cwd())
RESERVED = ("reference", "data")  # folders beside those of runs
_NAME = re.compile(r"[^\W_][\w.-]{0,99}")
KAGGLE_INPUT = Path("/kaggle/input")  # read-only
KAGGLE_WORKING = Path("/kaggle/working")  # where the repository is read-only


def outputs_root() -> Path:
    """The folder of all run folders; `LANDMARK_OUTPUTS` overrides it."""
    default = (KAGGLE_WORKING if KAGGLE_WORKING.is_dir() else ROOT) / "outputs"
    return Path(os.environ.get("LANDMARK_OUTPUTS") or default)


def world_root(profile: str) -> Path:
    """Where the miniature world of a profile is generated."""
    default = KAGGLE_WORKING if KAGGLE_WORKING.is_dir() else ROOT
    return Path(os.environ.get("LANDMARK_OUTPUTS") or default) / "data" / profile


def run_folder(profile: str, data_dir: str = "", recipe: str = "", name: str = "") -> Path:
    """The folder of everything a profile makes, such as `outputs/mini-photos-3fa9c1`.

    The six digits stand for the data folder's whole path. With `name` it is called that; ValueError
    if no folder can be.
    """
    if name:
        if not _NAME.fullmatch(name) or name.casefold() in RESERVED:
            raise ValueError(
                "expected a run's name of letters, digits, '-', '_' and '.' that starts with a "
                f"letter or digit and is not {' or '.join(RESERVED)}, found {name!r}; choose "
                "another one"
            )
        return outputs_root() / name
    parts = [profile]
    if data_dir:
        folder = Path(data_dir).expanduser().resolve()
        parts += [folder.name, hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]]
    return outputs_root() / "-".join(filter(None, [*parts, recipe]))


def existing_folder(data_dir: str) -> Path:
    """`data_dir` as an absolute path; ValueError if there is no such folder."""
    folder = Path(data_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(
            f"expected a data folder in GLDv2's layout (data/README.md), found no folder {folder};"
            " give an existing one with --data-dir or leave it out for the miniature world"
        )
    return folder


def seen_by_caller(path: str | Path) -> str:
    """A path for messages: relative to where `run_all.sh` was called from."""
    return os.path.relpath(path, os.environ.get("LANDMARK_CALLER", "."))


def caller_path(text: str | Path) -> Path:
    """A path from the command line: relative to where `run_all.sh` was called from."""
    return Path(os.environ.get("LANDMARK_CALLER", ".")) / Path(text).expanduser()


T = TypeVar("T")
MANIFEST = "manifest.json"
CHECKPOINT = "model.safetensors"  # of a stage
VOTING = "voting.json"  # of a run: α, β and how references vote, as notebook 06 chose them
KEPT = "kept.json"  # of a run: stage → the folder of the checkpoint that is used in its place
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# `.NAME.HOST-PROCESS-TOKEN-NUMBER.part.SUFFIX` tells a file that is being written from one that a
# killed run left. The token tells a process from an earlier one of the same number, as restarted
# containers have.
_TEMPORARY = re.compile(r"\..*\.([0-9a-f]{6})-(\d+)-([0-9a-f]{6})-\d+\.part(?:\.[^.]*)?")
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
_TOKEN = secrets.token_hex(3)
_NUMBERS = itertools.count()
_STALE = 2 * 24 * 3600  # seconds after which files of other hosts count as left over
_FEW = 100  # files of a folder that are synced one by one; of more, the whole disk


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it becomes `path` only if the block succeeds.

    Works for a file and for a folder (make it with `mkdir()`), which replaces an existing one.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        in_the_way = next(part for part in path.parents if part.exists())
        raise ValueError(
            f"expected a folder to write {path.name} into, but {in_the_way} is a file"
        ) from None
    owner = f"{_HOST}-{os.getpid()}-{_TOKEN}"
    temporary, old = (  # np.save and savefig look at the suffix
        path.with_name(f".{path.stem}.{owner}-{next(_NUMBERS)}.part{path.suffix}") for _ in range(2)
    )
    try:
        with full_disk_named(path):
            yield temporary
            _sync([*itertools.islice(temporary.rglob("*"), _FEW), temporary])
            if temporary.is_dir() and path.is_dir():
                os.replace(path, old)  # at once, where removing it could be killed half-way
            os.replace(temporary, path)
            _sync([path.parent])
    finally:
        _remove(temporary)
        _remove(old)


@contextlib.contextmanager
def full_disk_named(path: str | Path) -> Iterator[None]:
    """Raise OSError in one sentence for what any library raises on a full disk."""
    try:
        yield
    except Exception as error:
        code = _full_disk(error)
        if not code or str(error).startswith("cannot write"):
            raise
        limit = "raise the limit on file sizes (ulimit -f)" if code == errno.EFBIG else "make room"
        told = OSError(
            f"cannot write {path}: {os.strerror(code)}; {limit} and start again, what is finished "
            "is kept"
        )
        told.errno = code
        raise told from error


def _full_disk(error: BaseException | None) -> int:
    """The error number of a full disk behind an error; 0 if it is about something else."""
    text = str(error)
    # What numpy and torch say of a write that came back short.
    is_short = re.search(r"requested and \d+ written|enforce fail at inline_container", text)
    found = errno.ENOSPC if is_short else 0
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            return error.errno
        error = error.__cause__ or error.__context__
    return next((code for code in FULL_DISK if os.strerror(code) in text), found)


def remove_leftovers(paths: Iterable[Path]) -> list[Path]:
    """Remove and return those of `paths` that are temporary and left by killed runs."""
    found = [path for path in paths if _is_leftover(path)]
    for path in found:
        _remove(path)
    return found


def _is_leftover(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if match is None:
        return False
    host, process, token = match.groups()
    if host != _HOST:
        return path.exists() and time.time() - path.stat().st_mtime > _STALE
    if int(process) == os.getpid():
        return token != _TOKEN
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError, PermissionError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # another run may be removing it too
    else:
        path.unlink(missing_ok=True)


def _sync(paths: list[Path]) -> None:
    if len(paths) > _FEW:
        os.sync()
        return
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):  # not on this disk
                raise
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(folder: str | Path, *, waits: bool = True) -> Iterator[None]:
    """Keep other runs from working in `folder`; wait while one does, or raise ValueError.

    The lock is the file `.NAME.lock` beside the folder; it ends with its process.
    """
    folder = Path(folder).absolute()
    place, holder = folder.with_name(f".{folder.name}.lock"), ""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        holder = place.read_text(errors="replace").strip()
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        whose = f"another run{f' (pid {holder})' if holder else ''}"
        if not waits:
            raise ValueError(
                f"{whose} is at work in {folder}; wait for its end, or stop it, and start again"
            ) from None
        print(f"waiting for {whose} at work in {folder}", flush=True)
        lock.acquire(poll_interval=0.2)
    except OSError:
        pass  # a disk without locks, or a read-only one, where writing raises its own error
    try:
        if lock.is_locked:
            with contextlib.suppress(OSError):  # only for the message above
                place.write_text(str(os.getpid()))
        yield
    finally:
        if lock.is_locked:  # a waiting process makes a new file
            place.unlink(missing_ok=True)
        lock.release()


def write_json(obj: Any, path: str | Path) -> Path:
    """Write `obj` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(obj, indent=2, default=_jsonable) + "\n")
    return Path(path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def read_json_or_none(path: str | Path) -> Any:
    """The content of a JSON file of ours; None where it is missing, empty or cut."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return None


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write `table` as CSV without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def read_csv_or_none(
    path: str | Path, columns: Iterable[str], **options: Any
) -> pd.DataFrame | None:
    """A table of ours with text ids; None where it is missing, cut or lacks one of `columns`.

    `options` are those of `pd.read_csv`; by default empty texts stay texts.
    """
    try:
        table = pd.read_csv(path, dtype={"id": str}, **{"keep_default_na": False, **options})
    except (OSError, ValueError):  # pandas' own errors are ValueErrors
        return None
    return table if set(columns) <= set(table.columns) else None


def _jsonable(value: Any) -> Any:
    """The JSON form of a value; of a dataclass only what is not its default."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {}
        for field in dataclasses.fields(value):
            has_factory = field.default_factory is not dataclasses.MISSING
            default = field.default_factory() if has_factory else field.default
            own = getattr(value, field.name)
            # As text, because arrays and NaN do not compare.
            if default is dataclasses.MISSING or _as_text(own) != _as_text(default):
                found[field.name] = own
        return found
    if isinstance(value, pd.DataFrame | pd.Series):
        # Categories would not change the hashes, and take nine times as long for millions of paths.
        rows = pd.util.hash_pandas_object(value, index=False, categorize=False).to_numpy()
        columns = list(value.columns) if isinstance(value, pd.DataFrame) else [str(value.name)]
        return [columns, hashlib.sha256(rows.tobytes()).hexdigest()]
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value).tobytes()
        return [str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def fingerprint(*parts: Any) -> str:
    """Sixteen hexadecimal digits that change when any part changes.

    Paths count by name, not by content. Fields of dataclasses that equal their default are left
    out, so a new setting with a neutral default changes no fingerprint; a changed default needs a
    new VERSION of its stage.

    >>> fingerprint({"b": 1, "a": [2.0]}) == fingerprint({"a": [2.0], "b": 1})
    True
    """
    return hashlib.sha256(_as_text(parts).encode()).hexdigest()[:16]


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_jsonable)


def is_done(folder: str | Path, key: str) -> bool:
    """Whether `folder` was finished by a stage with this fingerprint, and holds all its files."""
    return read_fingerprint(folder) == key


def read_fingerprint(folder: str | Path) -> str | None:
    """The fingerprint that a finished stage left in its folder, or None."""
    return (read_manifest(folder) or {}).get("key")


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """What `mark_complete` wrote; None if it is damaged or a file's size is another one."""
    manifest = read_json_or_none(Path(folder) / MANIFEST)
    files = manifest.get("files", {}) if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not isinstance(manifest.get("key"), str):
        return None
    is_whole = all(_size(Path(folder, name)) == size for name, size in files.items())
    return manifest if is_whole else None


def mark_complete(folder: str | Path, key: str, *, files: Iterable[str] = (), **facts: Any) -> None:
    """Sign the folder of a stage as finished, until one of `files` is gone or of another size."""
    sizes = {name: _size(Path(folder, name)) for name in files}
    signed = {"key": key, **facts, **({"files": sizes} if sizes else {})}
    write_json(signed, Path(folder) / MANIFEST)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def start_over(folder: str | Path) -> Path:
    """Remove the manifest and leftovers of `folder`, before a stage writes into it again."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    remove_leftovers(folder.iterdir())
    return folder


def record(run_dir: str | Path, notebook: str, **values: float | int | str) -> None:
    """Keep named numbers of `notebook`, replacing those it recorded before."""
    write_json(values, Path(run_dir) / "recorded" / f"{notebook}.json")


def read_records(run_dir: str | Path) -> pd.DataFrame:
    """All recorded numbers of a run: columns notebook, name, value."""
    rows = []
    for path in sorted((Path(run_dir) / "recorded").glob("*.json")):
        if isinstance(values := read_json_or_none(path), dict):
            rows += [(path.stem, name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=["notebook", "name", "value"])


def is_interactive() -> bool:
    """Whether this runs in a terminal, or in Jupyter without papermill."""
    if os.environ.get("LANDMARK_HEADLESS"):
        return False
    ipython = sys.modules.get("IPython")
    return sys.stderr.isatty() or hasattr(ipython and ipython.get_ipython(), "kernel")


def progress(
    iterable: Iterable[T],
    what: str,
    total: int | None = None,
    *,
    seconds: float = 15.0,
    note: Callable[[], str] | None = None,
) -> Iterator[T]:
    """Yield from `iterable` with a progress bar, or a line every `seconds` if not interactive.

    What `note` returns is added every `seconds`. Raises TimeUp before an item if the time limit is
    over.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    is_watched = is_interactive()
    if is_watched:
        from tqdm.auto import tqdm

        iterable = tqdm(iterable, desc=what, total=total, leave=False)
    started = last = time.monotonic()
    for count, item in enumerate(iterable, start=1):
        check_time(what)
        yield item
        now = time.monotonic()
        if now - last < seconds or count == total:
            continue
        last, added = now, note() if note else ""
        if not is_watched:
            line = _progress_line(what, count, total, now - started)
            print(f"{line}, {added}" if added else line, flush=True)
        elif added:
            iterable.set_postfix_str(added)


def _progress_line(what: str, count: int, total: int | None, elapsed: float) -> str:
    if not total:
        return f"{what}: {count:,} in {elapsed:.0f} s"
    line = f"{what}: {count:,} of {total:,} ({count / total:.0%})"
    if count < max(2, total / 50):  # too few items to extrapolate from
        return line
    return f"{line}, {elapsed / count * (total - count):.0f} s left"


@contextlib.contextmanager
def generator_threads(count: int, **options: Any) -> Iterator[ThreadPoolExecutor]:
    """Threads of a generator, for which nobody waits when it is left or ends.

    One that an error leaves unfinished is closed by Python's garbage collection, in any thread and
    within any call; waiting for other threads there can last for ever.
    """
    threads = ThreadPoolExecutor(count, **options)
    try:
        yield threads
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def end_with(parent: int) -> None:
    """End this worker within a second after the process `parent`, to which ^C is left."""

    def watch() -> None:
        starter = multiprocessing.parent_process()
        if starter and starter.sentinel:  # a fork server, where there is one, is the parent
            connection.wait([starter.sentinel])
        else:
            while os.getppid() == parent:
                time.sleep(1)
        os._exit(1)

    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=watch, daemon=True).start()


def start_as(environment: Mapping[str, str], parent: int) -> None:
    """Make this process, which may be a copy, one that `parent` started in this environment."""
    gc.freeze()  # what was imported is never garbage
    os.environ.clear()
    os.environ.update(environment)
    end_with(parent)


def peak_memory(*workers: int) -> int:
    """MiB that this process has used at most, or one of its ended children or running `workers`."""
    import resource  # which only Unix has

    for worker in workers:
        with contextlib.suppress(OSError, IndexError):  # where nobody tells, or it has ended
            told = Path(f"/proc/{worker}/status").read_text().partition("VmHWM:")[2]
            _peaks.append(int(told.split()[0]))
    own = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(*_peaks, *(resource.getrusage(who).ru_maxrss for who in own)) // 1024


_peaks = [0]  # of workers, in KiB


def rng(seed: int, *words: str | int) -> np.random.Generator:
    """An independent generator for each purpose, named by `words`."""
    return np.random.default_rng(stream_seed(seed, *words))


def stream_seed(seed: int, *words: str | int) -> int:
    """A 63-bit seed derived from `seed` and `words`, for torch generators."""
    return int(fingerprint(seed, *words), 16) >> 1

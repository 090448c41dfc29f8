"""What makes a stage resumable: whole-or-nothing writes, manifests, recorded numbers, progress.

A stage computes the fingerprint of everything it depends on, returns at once when its folder's
manifest carries that fingerprint (`is_done`), and otherwise writes its files atomically and signs
the folder last (`mark_done`). A killed run therefore goes on where it stopped, and a half-written
artefact never looks like a whole one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

T = TypeVar("T")
MANIFEST = "manifest.json"


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it becomes `path` only if the block succeeds.

    Works for a file and for a folder (make it with `mkdir()`); an existing folder is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, because writers such as np.save and savefig look at it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            _remove(path)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(obj: Any, path: str | Path) -> Path:
    """Write `obj` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(obj, indent=2, default=_jsonable) + "\n")
    return Path(path)


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def write_csv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write `table` as CSV without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
    return Path(path)


def _jsonable(value: Any) -> Any:
    """The JSON form of what our configs and records hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, pd.DataFrame | pd.Series):
        rows = pd.util.hash_pandas_object(value, index=False).to_numpy()
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

    Parts are dataclasses, tables, arrays, numbers, strings, and lists, sets and dicts of these;
    paths count by name, so give the fingerprint of what lies there (`read_key`) beside them.

    >>> fingerprint({"b": 1, "a": [2.0]}) == fingerprint({"a": [2.0], "b": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, default=_jsonable)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def is_done(folder: str | Path, key: str) -> bool:
    """Whether `folder` was finished by a stage with this fingerprint."""
    return read_key(folder) == key


def read_key(folder: str | Path) -> str | None:
    """The fingerprint that a finished stage left in its folder, or None."""
    manifest = Path(folder) / MANIFEST
    return read_json(manifest)["key"] if manifest.is_file() else None


def mark_done(folder: str | Path, key: str, **facts: Any) -> None:
    """Sign `folder` as finished; `facts` (counts, seconds) are kept beside the fingerprint."""
    write_json({"key": key, **facts}, Path(folder) / MANIFEST)


def start_over(folder: str | Path) -> Path:
    """Take the signature off `folder` before a stage writes into it again."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    return folder


def record(run_dir: str | Path, notebook: str, **values: float | int | str) -> None:
    """Keep named numbers of `notebook`, in place of all that it recorded before."""
    write_json(values, Path(run_dir) / "recorded" / f"{notebook}.json")


def read_records(run_dir: str | Path) -> pd.DataFrame:
    """All recorded numbers of a run: columns notebook, name, value."""
    rows = [
        (path.stem, name, value)
        for path in sorted((Path(run_dir) / "recorded").glob("*.json"))
        for name, value in read_json(path).items()
    ]
    return pd.DataFrame(rows, columns=["notebook", "name", "value"])


def is_watched() -> bool:
    """Whether a person watches: a terminal, or Jupyter not driven by papermill."""
    if os.environ.get("LANDMARK_HEADLESS"):
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(
    iterable: Iterable[T], what: str, total: int | None = None, *, seconds: float = 15.0
) -> Iterator[T]:
    """Pass `iterable` on and tell how far it is.

    A bar where a person watches; otherwise (papermill, a log file) one plain line at most every
    `seconds`, because a bar would leave one output object per refresh in an executed notebook.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    if is_watched():
        from tqdm.auto import tqdm

        yield from tqdm(iterable, desc=what, total=total, leave=False)
        return
    started = last = time.monotonic()
    for count, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        if now - last >= seconds and count != total:
            last = now
            print(_progress_line(what, count, total, now - started), flush=True)


def _progress_line(what: str, count: int, total: int | None, elapsed: float) -> str:
    if not total:
        return f"{what}: {count:,} in {elapsed:.0f} s"
    left = elapsed / count * (total - count)
    return f"{what}: {count:,} of {total:,} ({count / total:.0%}), {left:.0f} s left"


def rng(seed: int, *words: str | int) -> np.random.Generator:
    """An independent generator for each purpose, named by `words`.

    >>> bool(rng(0, "a").random() == rng(0, "a").random() != rng(0, "b").random())
    True
    """
    return np.random.default_rng(stream_seed(seed, *words))


def stream_seed(seed: int, *words: str | int) -> int:
    """A 63-bit seed derived from `seed` and `words`, for torch generators."""
    return int(fingerprint(seed, *words), 16) >> 1

"""A ranking on disk: one `.npz` that the submission, the scorer or another session reads again."""

from pathlib import Path

import numpy as np

from lib.ranking import Ranking
from lib.runs import atomic_path

_FIELDS = ("scores", "positions", "query_ids", "gallery_ids")


def write_ranking(ranking: Ranking, path: str | Path) -> Path:
    """Write a ranking with its ids, whole or not at all; a name without `.npz` is given it."""
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    fields = {name: getattr(ranking, name) for name in _FIELDS}
    with atomic_path(path) as temporary:
        np.savez(temporary, **{name: value for name, value in fields.items() if value is not None})
    return path


def read_ranking(path: str | Path) -> Ranking:
    """Read what `write_ranking` wrote.

    Raises:
        ValueError: if the file is no ranking, or its contents contradict each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            fields = {name: file[name] for name in _FIELDS if name in file.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # BadZipFile, zlib.error, MemoryError, ...: whatever bytes can do
        raise _no_ranking(path, error) from None
    try:
        return Ranking(**fields)
    except TypeError as error:
        raise _no_ranking(path, error) from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _no_ranking(path: str | Path, error: Exception) -> ValueError:
    return ValueError(
        f"expected a ranking in {path}, found something else ({error}); write one with"
        " lib.ranking_file"
    )

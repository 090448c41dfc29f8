"""Map a function over the rows of every landmark, for embeddings that may exceed memory.

Tasks of many landmarks run through joblib: in threads by default, otherwise on the backend that
`joblib.parallel_config` names (processes, a Dask cluster). A task carries its own rows (16 MiB of
float16). Landmarks of more than `WHOLE` rows run alone in the calling process, slice by slice.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from lib.artifacts import progress
from lib.environment import blas
from lib.retrieval import EmbeddingSubset

WHOLE = 8192  # rows of a landmark that are read at once
TASK_ROWS = 16384  # 32 MiB of float32 rows at D = 512
UNIT_TOLERANCE = 0.01  # rounding to float16 changes a norm far less


def check_embeddings(
    embeddings: np.ndarray, landmark_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Refuse other shapes and types; return both as arrays (a memory map stays one)."""
    embeddings, landmark_ids = np.asanyarray(embeddings), np.asarray(landmark_ids)
    if embeddings.ndim != 2 or (len(embeddings) and not embeddings.shape[1]):
        raise ValueError(
            f"expected embeddings of shape (N, D), found {embeddings.shape}: give one row per image"
        )
    if not np.issubdtype(embeddings.dtype, np.floating):
        raise ValueError(f"expected floating-point embeddings, found {embeddings.dtype}: cast them")
    if landmark_ids.shape != (len(embeddings),):
        raise ValueError(
            f"expected one landmark id for each of the {len(embeddings)} embeddings, "
            f"found shape {landmark_ids.shape}: give both in the same order"
        )
    if len(landmark_ids) and not np.issubdtype(landmark_ids.dtype, np.integer):
        raise ValueError(f"expected integer landmark ids, found {landmark_ids.dtype}: convert them")
    return embeddings, landmark_ids


def map_landmarks(
    work: Callable[..., Any],
    embeddings: np.ndarray,
    landmark_ids: np.ndarray,
    *,
    positions: np.ndarray | None = None,
    flags: np.ndarray | None = None,
    what: str = "",
    jobs: int = -1,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield (indices into `landmark_ids`, result of `work` on these rows), task by task.

    `work(rows, sizes)`, which can be pickled, receives the unit rows of several landmarks, one
    landmark after the other and each in its given order, and their sizes in descending order. Rows
    that are not of unit length are normalised with a warning; zero, NaN and infinity are refused.

    Args:
        landmark_ids: (N,) integers; (M,) with `positions`.
        positions: (M,) rows of the `landmark_ids`, may repeat; all N by default.
        flags: a value for each of `landmark_ids`, passed to `work` as third argument.
        what: name of the work in progress lines; none if empty.
    """
    _, inverse, counts = np.unique(landmark_ids, return_inverse=True, return_counts=True)
    order = np.lexsort((inverse, -counts[inverse]))  # the largest landmarks first
    sizes = np.sort(counts)[::-1]
    ends = np.cumsum(sizes)
    rows_of = order if positions is None else positions[order]
    extra = () if flags is None else (flags[order],)
    off_unit = 0

    huge = np.count_nonzero(sizes > WHOLE)
    for size, end in zip(sizes[:huge], ends[:huge], strict=True):
        part = slice(end - size, end)
        rows = NormalizedSubset(embeddings, rows_of[part])
        off_unit += rows.count_off_unit()
        yield order[part], work(rows, np.array([size]), *(own[part] for own in extra))

    # tasks of whole landmarks with about TASK_ROWS rows
    cuts = 1 + np.flatnonzero(np.diff((ends[huge:] - 1) // TASK_ROWS))
    runs = [run for run in np.split(np.arange(huge, len(sizes)), cuts) if len(run)]
    parts = [slice(ends[run[0]] - sizes[run[0]], ends[run[-1]]) for run in runs]
    shown = progress(runs, what) if what else runs
    tasks = (
        delayed(_run)(work, embeddings[at], at, sizes[run], *(own[part] for own in extra))
        for at, part, run in zip([rows_of[part] for part in parts], parts, shown, strict=True)
    )
    if len(parts) == 1:  # needs no thread, for whose end joblib would look every 10 ms
        jobs = 1
    with blas().limit(limits=1):  # one core per task; tasks are many
        results = Parallel(n_jobs=jobs, prefer="threads")(tasks)
    for part, (count, result) in zip(parts, results, strict=True):
        off_unit += count
        yield order[part], result
    if off_unit:
        warnings.warn(
            f"{off_unit} of {len(order)} rows were not of unit length and were normalised: "
            "normalise embeddings when they are made",
            stacklevel=3,
        )


def _run(
    work: Callable[..., Any],
    raw: np.ndarray,
    positions: np.ndarray,
    sizes: np.ndarray,
    *flags: np.ndarray,
) -> tuple[int, Any]:
    rows, off_unit = unit_rows(raw, positions)
    return off_unit, work(rows, sizes, *flags)


def unit_rows(raw: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, int]:
    """Normalise rows in float32, count those of other than unit length, refuse zero and NaN."""
    rows = np.array(raw, dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
    if len(bad):
        first = bad[0]
        what = "is zero" if norms[first] == 0 else "holds NaN or infinity"
        raise ValueError(
            f"expected finite rows other than zero, found that row {positions[first]} {what}: "
            "drop such images before cleaning"
        )
    rows /= norms[:, None]
    return rows, int(np.count_nonzero(np.abs(norms - 1) > UNIT_TOLERANCE))


class NormalizedSubset(EmbeddingSubset):
    """The rows of one huge landmark, which are read, checked and normalised on access."""

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        return self._read(part)[0]

    def _read(self, part: slice | np.ndarray) -> tuple[np.ndarray, int]:
        positions = self.chosen[part]
        return unit_rows(self.embeddings[positions], positions)

    def count_off_unit(self) -> int:
        starts = range(0, len(self), TASK_ROWS)
        return sum(self._read(slice(start, start + TASK_ROWS))[1] for start in starts)


Rows = np.ndarray | NormalizedSubset  # unit rows


def split_landmarks(rows: Rows, sizes: np.ndarray) -> list[Rows]:
    """The rows of each landmark of a task; a huge one comes alone and stays on disk."""
    return [rows] if len(sizes) == 1 else np.split(rows, np.cumsum(sizes)[:-1])


def select_rows(rows: Rows, where: np.ndarray) -> Rows:
    """The rows at `where` in that order; many rows of a huge landmark stay on disk."""
    if isinstance(rows, NormalizedSubset) and len(where) > WHOLE:
        return NormalizedSubset(rows.embeddings, rows.chosen[where])
    return rows[where]

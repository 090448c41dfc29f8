"""Do work group by group over embeddings that may be far larger than memory.

Rows of a group (a landmark, a class) are gathered from wherever they lie, checked, brought to
float32 and unit length, and handed to `work` together with those of many other groups. Tasks go
through joblib: threads by default, and whatever `joblib.parallel_config(backend=...)` names
(processes, a Dask cluster) when it is set. A task carries its own rows as they are stored (16 MiB
of float16), a few tasks are under way at a time, and results are labels: so workers need neither
the file nor much memory, only this package."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from lib.artifacts import progress
from lib.cleaning.dbscan import WHOLE, Rows

TASK_ROWS = 16384  # 32 MiB of float32 rows at D = 512
UNIT_TOLERANCE = 0.01  # float16 rows of unit length stay far within

Work = Callable[..., Any]
"""(rows, sizes) or, with `marks`, (rows, sizes, marks) to a result."""


def check_embeddings(embeddings: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give back both as arrays (a memory map stays one) after checking form and type.

    Raises:
        ValueError: unless `embeddings` is a floating-point (N, D) array and `groups` holds N
            integers.
    """
    embeddings, groups = np.asanyarray(embeddings), np.asarray(groups)
    if embeddings.ndim != 2 or (len(embeddings) and not embeddings.shape[1]):
        raise ValueError(
            f"expected embeddings of shape (N, D), found {embeddings.shape}: give one row per image"
        )
    if not np.issubdtype(embeddings.dtype, np.floating):
        raise ValueError(
            f"expected floating-point embeddings, found {embeddings.dtype}: "
            "give the unit rows as float32 or float16"
        )
    if groups.shape != (len(embeddings),):
        raise ValueError(
            f"expected one landmark id for each of the {len(embeddings)} embeddings, "
            f"found shape {groups.shape}: give both in the same order"
        )
    if len(groups) and not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"expected integer landmark ids, found {groups.dtype}: convert them, missing ones too"
        )
    return embeddings, groups


def over_groups(
    work: Work,
    embeddings: np.ndarray,
    groups: np.ndarray,
    *,
    positions: np.ndarray | None = None,
    marks: np.ndarray | None = None,
    what: str = "",
    jobs: int = -1,
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yield (where in `groups`, result of `work` on these rows) until all groups are done.

    `work(rows, sizes)` gets the unit rows of several groups, one group after the other and each in
    its given order, and their sizes in descending order. Groups of more than `WHOLE` rows come
    alone, one after the other in this process, and their rows are read slice by slice.

    Args:
        work: a function that can be pickled, for workers that are other processes.
        embeddings: (N, D) rows, checked by `check_embeddings`.
        groups: (N,) integers; (M,) beside `positions`.
        positions: (M,) the rows that `groups` is about, repeated ones too; all N by default.
        marks: a value beside each of `groups`; `work` gets those of its rows as third argument.
        what: what is being done, for progress lines; none if empty.
        jobs: joblib's `n_jobs`.

    Raises:
        ValueError: if a row holds NaN or infinity, or is zero.

    Warns:
        UserWarning: if rows are not of unit length; they are normalised.
    """
    order, sizes = _arrange(groups)
    rows_of = order if positions is None else positions[order]
    beside = () if marks is None else (marks[order],)
    ends = np.cumsum(sizes)
    off_unit = 0

    huge = int(np.searchsorted(-sizes, -WHOLE))  # the first `huge` sizes exceed WHOLE
    for size, end in zip(sizes[:huge], ends[:huge], strict=True):
        part = slice(end - size, end)
        rows = NormalizedSubset(embeddings, rows_of[part])
        off_unit += rows.count_off_unit()
        yield order[part], work(rows, np.array([size]), *(own[part] for own in beside))

    def task(part: slice, own_sizes: np.ndarray) -> tuple:
        raw, own_marks = embeddings[rows_of[part]], (own[part] for own in beside)
        return delayed(_run)(work, raw, rows_of[part], own_sizes, *own_marks)

    tasks = list(_tasks(sizes, ends, huge))
    with threadpool_limits(1, user_api="blas"):  # one core per task; tasks are many
        results = Parallel(n_jobs=jobs, prefer="threads")(
            task(*one) for one in (progress(tasks, what) if what else tasks)
        )
    for (part, _), (count, result) in zip(tasks, results, strict=True):
        off_unit += count
        yield order[part], result
    if off_unit:
        warnings.warn(
            f"{off_unit} of {len(order)} rows were not of unit length and were normalised: "
            "normalise embeddings when they are made",
            stacklevel=3,
        )


def _arrange(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) positions, group after group from the largest on, and the sizes of the groups."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.lexsort((inverse, -counts[inverse])), np.sort(counts)[::-1]


def _tasks(sizes: np.ndarray, ends: np.ndarray, first: int) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows and the group sizes of each task, about `TASK_ROWS` rows, from group `first` on."""
    cuts = first + 1 + np.flatnonzero(np.diff((ends[first:] - 1) // TASK_ROWS))
    for a, b in itertools.pairwise([first, *cuts.tolist(), len(sizes)]):
        if a < b:
            yield slice(ends[a] - sizes[a], ends[b - 1]), sizes[a:b]


def _run(
    work: Work, raw: np.ndarray, positions: np.ndarray, sizes: np.ndarray, *marks: np.ndarray
) -> tuple[int, Any]:
    rows, off_unit = unit_rows(raw, positions)
    return off_unit, work(rows, sizes, *marks)


def unit_rows(raw: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, int]:
    """Copy rows as float32 of unit length, and count those that were not of unit length.

    Raises:
        ValueError: if a row holds NaN or infinity, or is zero; `positions` tells its number.
    """
    rows = np.array(raw, dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    bad = ~np.isfinite(norms) | (norms == 0)
    if bad.any():
        first = int(np.argmax(bad))
        what = "is zero" if norms[first] == 0 else "holds NaN or infinity"
        raise ValueError(
            f"expected finite rows other than zero, found that row {positions[first]} {what}: "
            "drop such images before cleaning"
        )
    rows /= norms[:, None]
    return rows, int(np.count_nonzero(np.abs(norms - 1) > UNIT_TOLERANCE))


class NormalizedSubset:
    """The unit rows of one huge group, read, checked and normalised when asked for."""

    def __init__(self, embeddings: np.ndarray, positions: np.ndarray) -> None:
        """Remember where the rows are."""
        self.embeddings, self.positions = embeddings, positions

    def _read(self, part: slice | np.ndarray) -> tuple[np.ndarray, int]:
        positions = self.positions[part]
        return unit_rows(self.embeddings[positions], positions)

    def count_off_unit(self) -> int:
        """How many rows are not of unit length as they are stored."""
        starts = range(0, len(self), TASK_ROWS)
        return sum(self._read(slice(at, at + TASK_ROWS))[1] for at in starts)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.positions)

    def __getitem__(self, part: slice | np.ndarray) -> np.ndarray:
        """Some rows as float32."""
        return self._read(part)[0]


def chosen(rows: Rows, where: np.ndarray) -> Rows:
    """The rows at `where` in their order; many of a huge group stay unread."""
    if isinstance(rows, NormalizedSubset) and len(where) > WHOLE:
        return NormalizedSubset(rows.embeddings, rows.positions[where])
    return rows[where]

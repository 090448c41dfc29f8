"""Exact nearest neighbours by inner product, with ties decided by position.

A fast search in single precision (faiss, on a GPU when there is one) proposes somewhat more than
k candidates, which are scored again in double precision. So a score depends on its two vectors
only, never on block size, threads or device, and equal vectors tie exactly. Where the proposals
cannot be proved complete (many equal or nearly equal scores at the cut) those queries are
searched again in full. The gallery may be a memory map larger than memory: it is read in blocks.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import faiss
import numpy as np

from lib.rows import BLOCK, Table, blocks, check_table
from lib.runs import progress

Bonus = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(R, 1) query rows and (R or 1, M) gallery positions to (R, M) additions to the score."""

GPU_LARGEST_K = 2048  # the limit of faiss's k-selection on a GPU
DENSE_ENTRIES = 1 << 23  # largest (queries, gallery) score matrix held at once


def nearest(
    queries: Table,
    gallery: Table,
    k: int,
    *,
    block: int = BLOCK,
    bonus: Bonus | None = None,
    names: tuple[str, str] = ("queries", "gallery"),
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` gallery rows of largest inner product for every query.

    With `bonus`, the score is the inner product plus `bonus(rows, positions)`, and the ranking is
    exact for the sum; this runs on the CPU. Rows need not have unit norm. Arrays of float16, 32
    and 64 are welcome and are taken as float32.

    Args:
        queries: (Q, D).
        gallery: (N, D), may be a memory map.
        k: neighbours per query; all of the gallery when it is smaller.
        block: gallery rows read at a time. The result does not depend on it.
        bonus: additions to the score, computed for whole blocks and for single pairs.
        names: what error messages call the two arrays.

    Returns:
        (Q, k) float32 scores, best first, and (Q, k) int64 positions, ascending among equals.

    Raises:
        ValueError: if an array is not a table of finite numbers, widths differ, or k < 1.
    """
    check_table(queries, names[0])
    check_table(gallery, names[1])
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"expected {names[0]} and {names[1]} of one width, found {queries.shape[1]} and"
            f" {gallery.shape[1]}; embed both with the same model"
        )
    if k < 1 or block < 1:
        raise ValueError(
            f"expected k and block of at least 1, found {k} and {block}; ask for one or more"
        )
    k = min(k, len(gallery))
    scores = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for start, piece in blocks(queries, block, names[0]):
        rows = np.arange(start, start + len(piece))
        task = _Task(piece, rows, gallery, block, bonus, names[1])
        scores[rows], positions[rows] = _nearest(task, k)
    return scores, positions


@dataclass(frozen=True)
class _Task:
    """Queries that fit in memory, and where to look."""

    queries: np.ndarray  # (Q, D) float32
    rows: np.ndarray  # (Q,) their numbers among all queries, for the bonus
    gallery: Table
    block: int
    bonus: Bonus | None
    name: str  # of the gallery, in errors

    def of(self, part: slice | np.ndarray) -> "_Task":
        """The same for some of the queries."""
        return replace(self, queries=self.queries[part], rows=self.rows[part])

    def parts(self, width: int) -> Iterator[tuple[slice, "_Task"]]:
        """Cut into groups of queries such that queries × width entries fit in memory."""
        step = max(1, DENSE_ENTRIES // max(1, width))
        for start in range(0, len(self.queries), step):
            yield slice(start, start + step), self.of(slice(start, start + step))

    def extra(self, positions: np.ndarray) -> np.ndarray | float:
        """The bonus at (Q or 1, M) positions."""
        return 0.0 if self.bonus is None else self.bonus(self.rows[:, None], positions)


def _nearest(task: _Task, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Propose, score again, and search in full where that is not provably complete."""
    on_gpu = task.bonus is None and faiss.get_num_gpus() > 0 and 2 * k + 32 <= GPU_LARGEST_K
    proposals = 2 * k + 32 if on_gpu else k + k // 4 + 8
    if 4 * proposals >= len(task.gallery):  # scoring the proposals again would cost as much
        return _exhaustive(task, k)
    rough, candidates, longest = _propose(task, proposals, on_gpu)
    scores, positions = _best(_score_pairs(task, candidates), candidates, k)

    # What was not proposed scores at most the last rough score plus its rounding error: a float32
    # sum of D products loses at most D units in the last place, and a GPU may multiply with ten
    # bits of mantissa (TF32).
    width = task.queries.shape[1]
    unit = width * 2.0**-23 + (2.0**-10 if on_gpu else 0.0)
    worst = rough[:, -1]
    reach = unit * (np.linalg.norm(task.queries, axis=1) * longest + np.abs(worst))
    crowded = np.flatnonzero(worst + reach >= scores[:, -1])
    if len(crowded):
        scores[crowded], positions[crowded] = _exhaustive(task.of(crowded), k)
    return scores, positions


def _propose(task: _Task, count: int, on_gpu: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Single-precision (Q, count) scores and positions, and the longest gallery vector."""
    scores = np.full((len(task.queries), count), -np.inf, dtype=np.float32)
    positions = np.zeros((len(task.queries), count), dtype=np.int64)
    longest = 0.0
    pieces = blocks(task.gallery, task.block, task.name)
    for start, piece in progress(pieces, "search", -(-len(task.gallery) // task.block)):
        longest = max(longest, float(np.linalg.norm(piece, axis=1).max()))
        wanted = min(count, len(piece))
        if task.bonus is not None:
            found = _top_with_bonus(task, piece, start, wanted)
        elif on_gpu:
            found = faiss.knn_gpu(
                _gpu_resources(), task.queries, piece, wanted, metric=faiss.METRIC_INNER_PRODUCT
            )
        else:
            found = faiss.knn(task.queries, piece, wanted, metric=faiss.METRIC_INNER_PRODUCT)
        scores, positions = _best(
            np.hstack([scores, found[0]]), np.hstack([positions, found[1] + start]), count
        )
    return scores, positions, longest


@lru_cache(maxsize=1)
def _gpu_resources() -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()  # holds 1.5 GB of scratch memory: made once


def _top_with_bonus(
    task: _Task, piece: np.ndarray, start: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of inner product plus bonus in one block, unordered, positions within it."""
    scores = np.empty((len(task.queries), k), dtype=np.float32)
    positions = np.empty((len(task.queries), k), dtype=np.int64)
    columns = np.arange(start, start + len(piece))[None, :]
    for part, some in task.parts(len(piece)):
        dense = some.queries @ piece.T
        dense += some.extra(columns)
        positions[part] = np.argpartition(dense, len(piece) - k, axis=1)[:, len(piece) - k :]
        scores[part] = np.take_along_axis(dense, positions[part], axis=1)
    return scores, positions


def _score_pairs(task: _Task, candidates: np.ndarray) -> np.ndarray:
    """(Q, M) scores of the candidates, summed in double precision and rounded once."""
    scores = np.empty(candidates.shape, dtype=np.float32)
    for part, some in task.parts(candidates.shape[1] * task.queries.shape[1]):
        vectors = task.gallery[candidates[part]].astype(np.float32).astype(np.float64)
        exact = (vectors @ some.queries[:, :, None].astype(np.float64))[:, :, 0]
        scores[part] = exact + some.extra(candidates[part])
    return scores


def _exhaustive(task: _Task, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all double-precision scores: slow, for small galleries and hard ties."""
    scores = np.empty((len(task.queries), k), dtype=np.float32)
    positions = np.empty((len(task.queries), k), dtype=np.int64)
    block = min(task.block, 8192)
    for part, some in task.parts(min(block, len(task.gallery)) + k):
        best = np.empty((len(some.rows), 0), np.float32), np.empty((len(some.rows), 0), np.int64)
        for start, piece in blocks(task.gallery, block, task.name):
            columns = np.arange(start, start + len(piece))[None, :]
            exact = some.queries.astype(np.float64) @ piece.T.astype(np.float64)
            exact = (exact + some.extra(columns)).astype(np.float32)
            columns = np.broadcast_to(columns, exact.shape)
            best = _best(np.hstack([best[0], exact]), np.hstack([best[1], columns]), k)
        scores[part], positions[part] = best
    return scores, positions


def _best(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest scores per row, best first, equal ones in ascending position."""
    order = np.lexsort((positions, -scores), axis=-1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)

"""Brute-force search on every GPU there is, by faiss.

Blocks of the gallery go to the GPUs in turn, as many at a time as there are GPUs. Without a GPU
nothing here is called.

Exact nearest neighbours by inner product, with ties decided by position.

A search in single precision proposes somewhat more than k candidates (`lib.retrieval.running_topk`,
or faiss where
there are GPUs), which are scored again in double precision. So a score depends on its two vectors
only, never on block size, threads or device, and equal vectors tie exactly. Where the proposals
cannot be proved complete (many equal or nearly equal scores at the cut) those queries are
searched again in full. The gallery may be a memory map larger than memory: it is read in blocks."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle

import faiss
import numpy as np

from lib.artifacts import progress
from lib.retrieval.blocks import BLOCK, Block, EmbeddingTable, blocks, check_table
from lib.retrieval.running_topk import MOST_QUERIES, RunningTopK
from lib.retrieval.score_terms import Adder, ScoreTerm

LARGEST_K = 2048  # the limit of faiss's k-selection on a GPU


def gpu_count() -> int:
    """How many GPUs faiss can use; 0 with a build for the CPU."""
    return faiss.get_num_gpus()


def gpu_proposals(k: int) -> int:
    """How many candidates to take for `k` neighbours: a GPU rounds more coarsely than a CPU."""
    return 2 * k + 32


def search_blocks(
    queries: np.ndarray, pieces: Iterable[Block], k: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Search block after block, each on the next GPU.

    Args:
        queries: (Q, D) float32.
        pieces: the gallery.
        k: neighbours per query and block; all of a shorter block.

    Yields:
        per block (M,) squared lengths of its rows, (Q, k) scores and (Q, k) positions.
    """
    devices = gpu_count()
    running: list[tuple[Future, np.ndarray, int]] = []
    with ThreadPoolExecutor(devices) as threads:
        for device, (start, rows, squares) in zip(cycle(range(devices)), pieces, strict=False):
            # A block is valid until the next is asked for; beside others it needs a copy.
            rows, squares = (rows.copy(), squares.copy()) if devices > 1 else (rows, squares)
            running.append((threads.submit(_knn, device, queries, rows, k), squares, start))
            if len(running) == devices:
                yield _result(*running.pop(0))
        for one in running:
            yield _result(*one)


def _result(
    future: Future, squares: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, positions = future.result()
    return squares, scores, positions + start


def _knn(
    device: int, queries: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    return faiss.knn_gpu(
        _resources(device),
        queries,
        rows,
        min(k, len(rows)),
        metric=faiss.METRIC_INNER_PRODUCT,
        device=device,
    )


@cache
def _resources(device: int) -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()  # holds 1.5 GB of scratch memory: made once per GPU


DENSE_ENTRIES = 1 << 23  # largest (queries, gallery) score matrix held at once
PAIR_ENTRIES = 1 << 17  # of vectors scored again at once: 1 MB, which stays in cache


def nearest(
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    k: int,
    *,
    block: int = BLOCK,
    bonus: ScoreTerm | None = None,
    names: tuple[str, str] = ("queries", "gallery"),
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` gallery rows of largest inner product for every query.

    With `bonus`, the score is the inner product plus the bonus of query and gallery image, and the
    ranking is exact for the sum; this runs on the CPU. Rows need not have unit norm. Arrays of
    float16, 32 and 64 are welcome and are taken as float32.

    Args:
        queries: (Q, D).
        gallery: (N, D), may be a memory map.
        k: neighbours per query; all of the gallery when it is smaller.
        block: gallery rows read at a time. The result does not depend on it.
        bonus: additions to the score.
        names: what error messages call the two arrays.

    Returns:
        (Q, k) float32 scores, best first, and (Q, k) int64 positions, ascending among equals.

    Raises:
        ValueError: if an array is not a table of finite numbers, widths differ, or k < 1.
    """
    check_tables(queries, gallery, names)
    if k < 1 or block < 1:
        raise ValueError(
            f"expected k and block of at least 1, found {k} and {block}; ask for one or more"
        )
    k = min(k, len(gallery))
    scores = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for start, piece, squares in blocks(queries, block, names[0]):
        rows = np.arange(start, start + len(piece))
        task = _Task(piece, np.sqrt(squares), rows, gallery, block, bonus, names[1])
        scores[rows], positions[rows] = _nearest(task, k)
    return scores, positions


def check_tables(queries: EmbeddingTable, gallery: EmbeddingTable, names: tuple[str, str]) -> None:
    """Refuse two tables that cannot be compared.

    Raises:
        ValueError: if one is no (N, D) array of numbers, or their widths differ.
    """
    check_table(queries, names[0])
    check_table(gallery, names[1])
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"expected {names[0]} and {names[1]} of one width, found {queries.shape[1]} and"
            f" {gallery.shape[1]}; embed both with the same model"
        )


@dataclass(frozen=True)
class _Task:
    """Queries that fit in memory, and where to look."""

    queries: np.ndarray  # (Q, D) float32
    lengths: np.ndarray  # (Q,) their norms
    rows: np.ndarray  # (Q,) their numbers among all queries, for the bonus
    gallery: EmbeddingTable
    block: int
    bonus: ScoreTerm | None
    name: str  # of the gallery, in errors

    def of(self, part: slice | np.ndarray) -> "_Task":
        """The same for some of the queries."""
        changes = {name: getattr(self, name)[part] for name in ("queries", "lengths", "rows")}
        return replace(self, **changes)

    def parts(self, width: int, entries: int) -> Iterator[tuple[slice, "_Task"]]:
        """Cut into groups of queries such that queries × width are at most so many entries."""
        step = max(1, entries // max(1, width))
        for start in range(0, len(self.queries), step):
            yield slice(start, start + step), self.of(slice(start, start + step))

    def adder(self) -> Adder | None:
        """What adds the bonus to whole tiles."""
        return None if self.bonus is None else self.bonus.adder(self.rows)

    def extra(self, positions: np.ndarray) -> np.ndarray | float:
        """The bonus at (Q or 1, M) positions."""
        return 0.0 if self.bonus is None else self.bonus.at(self.rows[:, None], positions)


def _nearest(task: _Task, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Propose, score again, and search in full where that is not provably complete."""
    on_gpu = task.bonus is None and gpu_count() > 0 and gpu_proposals(k) <= LARGEST_K
    count = gpu_proposals(k) if on_gpu else k + k // 4 + 8
    if 4 * count >= len(task.gallery):  # scoring the proposals again would cost as much
        return _exhaustive(task, k)
    candidates, threshold, longest = (_propose_on_gpus if on_gpu else _propose)(task, count)
    scores, positions = best_of(_score_pairs(task, candidates), candidates, k)

    # What was not proposed scores at most the threshold plus its rounding error: a float32 sum of D
    # products loses at most D units in the last place, and a GPU may multiply with ten bits of
    # mantissa (TF32).
    unit = task.queries.shape[1] * 2.0**-23 + (2.0**-10 if on_gpu else 0.0)
    reach = unit * (task.lengths * longest + np.abs(threshold))
    crowded = np.flatnonzero(threshold + reach >= scores[:, -1])
    if len(crowded):
        scores[crowded], positions[crowded] = _exhaustive(task.of(crowded), k)
    return scores, positions


def _propose(task: _Task, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(Q, count) candidate positions, (Q,) thresholds, the length of the longest gallery row."""
    groups = [task.of(slice(s, s + MOST_QUERIES)) for s in range(0, len(task.rows), MOST_QUERIES)]
    running = [RunningTopK(group.queries, count, group.adder()) for group in groups]
    pieces = blocks(task.gallery, task.block, task.name)
    for piece in progress(pieces, "search", -(-len(task.gallery) // task.block)):
        for top_k in running:
            top_k.update(piece)
    positions, thresholds = zip(*(top_k.candidates() for top_k in running), strict=True)
    return np.vstack(positions), np.concatenate(thresholds), np.sqrt(running[0].longest)


def _propose_on_gpus(task: _Task, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The same by faiss, every GPU taking blocks in turn."""
    scores = np.full((len(task.queries), count), -np.inf, dtype=np.float32)
    positions = np.zeros((len(task.queries), count), dtype=np.int64)
    longest = 0.0
    pieces = blocks(task.gallery, task.block, task.name)
    pieces = progress(pieces, "search", -(-len(task.gallery) // task.block))
    for squares, *found in search_blocks(task.queries, pieces, count):
        longest = max(longest, float(squares.max()))
        scores, positions = best_of(
            np.hstack([scores, found[0]]), np.hstack([positions, found[1]]), count
        )
    return positions, scores[:, -1], np.sqrt(longest)


def score_pairs(queries: np.ndarray, gallery: EmbeddingTable, candidates: np.ndarray) -> np.ndarray:
    """(Q, M) inner products with the candidates, summed in double precision and rounded once.

    Args:
        queries: (Q, D) float32.
        gallery: (N, D).
        candidates: (Q, M) positions in the gallery; -1 is none and scores -inf.
    """
    task = _Task(queries, np.empty(len(queries)), np.arange(len(queries)), gallery, BLOCK, None, "")
    return _score_pairs(task, candidates)


def _score_pairs(task: _Task, candidates: np.ndarray) -> np.ndarray:
    """`score_pairs` of a task, its bonus included."""
    exact = np.empty(candidates.shape)
    for part, some in task.parts(candidates.shape[1] * task.queries.shape[1], PAIR_ENTRIES):
        vectors = task.gallery[candidates[part]]
        if vectors.dtype != np.float16:
            vectors = vectors.astype(np.float32)  # as which every table counts
        vectors = vectors.astype(np.float64)
        exact[part] = (vectors @ some.queries[:, :, None].astype(np.float64))[:, :, 0]
    for part, some in task.parts(candidates.shape[1], DENSE_ENTRIES):
        exact[part] += some.extra(candidates[part])
    scores = exact.astype(np.float32)
    scores[candidates < 0] = -np.inf
    return scores


def _exhaustive(task: _Task, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all double-precision scores: slow, for small galleries and hard ties."""
    scores = np.empty((len(task.queries), k), dtype=np.float32)
    positions = np.empty((len(task.queries), k), dtype=np.int64)
    block = min(task.block, 8192)
    for part, some in task.parts(min(block, len(task.gallery)) + k, DENSE_ENTRIES):
        best = np.empty((len(some.rows), 0), np.float32), np.empty((len(some.rows), 0), np.int64)
        for start, piece, _ in blocks(task.gallery, block, task.name):
            columns = np.arange(start, start + len(piece))[None, :]
            exact = some.queries.astype(np.float64) @ piece.T.astype(np.float64)
            exact = (exact + some.extra(columns)).astype(np.float32)
            columns = np.broadcast_to(columns, exact.shape)
            best = best_of(np.hstack([best[0], exact]), np.hstack([best[1], columns]), k)
        scores[part], positions[part] = best
    return scores, positions


def best_of(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of (Q, M) scores per row, best first, equal ones in ascending position."""
    order = np.lexsort((positions, -scores), axis=-1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)

"""Exact nearest neighbours by inner product, alone or with score terms added to every pair.

A single-precision search proposes more than k candidates per query, which are scored again in
double precision: a score depends on its two embeddings only, and equal scores rank by position.
Queries whose candidates cannot be proved complete are searched again in full.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import faiss
import numpy as np

from lib.artifacts import progress
from lib.environment import cores
from lib.retrieval.embedding_table import BLOCK, Block, EmbeddingTable, blocks, check_table
from lib.retrieval.ranking import Ranking, check_count

if TYPE_CHECKING:
    from lib.retrieval.ann_index import ApproximateIndex

LARGEST_GPU_K = 2048  # the limit of faiss's k-selection on a GPU
DENSE_ENTRIES = 1 << 23  # largest (queries, gallery) score matrix held at once
PAIR_ENTRIES = 1 << 17  # of vectors scored again at once: 1 MB, which stays in cache
TILE_QUERIES, TILE_ENTRIES = 2_048, 1 << 19  # scores multiplied out at once: 2 MB
PRODUCT = faiss.METRIC_INNER_PRODUCT
NO_TAG = -1
_TURN = Lock()  # on the GPUs: faiss aborts where two threads share one's resources


def search(
    queries: np.ndarray,
    gallery: np.ndarray,
    k: int,
    *,
    query_ids: Sequence[str] | np.ndarray | None = None,
    gallery_ids: Sequence[str] | np.ndarray | None = None,
    index: "ApproximateIndex | None" = None,
    block: int = BLOCK,
) -> Ranking:
    """Rank the `k` gallery images of largest inner product, best first, ties by position.

    With rows of unit norm the score is the cosine similarity. Either table may be empty.

    Args:
        queries: (Q, D) embeddings.
        gallery: (N, D) embeddings, may be a memory map larger than memory.
        k: images per query; all of a smaller gallery.
        query_ids: (Q,) ids, for a ranking that can be scored and submitted; so are `gallery_ids`.
        index: of the gallery; given, the search is approximate and prints its recall.
        block: gallery rows in memory at a time in exact search, which decides no result.

    >>> search(np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0]]), k=5).positions.tolist()
    [[1, 0], [0, 1]]
    """
    check_count(query_ids, len(queries), "query")
    check_count(gallery_ids, len(gallery), "gallery")
    scores, positions = nearest(queries, gallery, k, index=index, block=block)
    return Ranking(scores, positions, query_ids, gallery_ids)


def nearest(
    queries: EmbeddingTable,
    gallery: EmbeddingTable,
    k: int,
    *,
    index: "ApproximateIndex | None" = None,
    terms: "Sequence[TagScores]" = (),
    block: int = BLOCK,
    names: tuple[str, str] = ("queries", "gallery"),
) -> tuple[np.ndarray, np.ndarray]:
    """Find the `k` gallery rows of highest score for every query.

    The score is the inner product plus all `terms`; the ranking is exact for the sum, which runs on
    the CPU where there are any. Rows need not have unit norm; any real type is taken as float32.
    Other arguments are those of `search`; messages call the two tables by their `names`.

    Returns:
        (Q, k) float32 scores, best first, and (Q, k) int64 positions, ascending among equals.
    """
    if index is not None:
        if len(index) != len(gallery):
            raise ValueError(
                f"expected an index of the {len(gallery)} {names[1]} searched, found one of"
                f" {len(index)}; build it for these (references without a landmark are left out)"
            )
        if terms:
            raise ValueError("expected an index or score terms, found both; give one of them")
        return index.nearest(queries, k, names=names)
    check_search(queries, gallery, k, block, names)
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), cores()))  # heeds a quota, too
    k = min(k, len(gallery))
    devices = 0 if terms or 2 * k + 32 > LARGEST_GPU_K else faiss.get_num_gpus()
    count = 2 * k + 32 if devices else k + k // 4 + 8  # candidates; a GPU rounds more coarsely
    # A float32 sum of D products loses at most D units in the last place, and a GPU may multiply
    # with ten bits of mantissa (TF32).
    unit = queries.shape[1] * 2.0**-23 + (2.0**-10 if devices else 0.0)
    scores = np.empty((len(queries), k), dtype=np.float32)
    positions = np.empty((len(queries), k), dtype=np.int64)
    for start, piece, squares in blocks(queries, block, names[0]):
        rows = np.arange(start, start + len(piece))
        task = _Task(piece, rows, gallery, block, terms, names[1])
        if 4 * count >= len(gallery):  # scoring the candidates again would cost as much
            scores[rows], positions[rows] = _exhaustive(task, k)
            continue
        candidates, threshold, longest = _propose(task, count, devices)
        exact = score_pairs(piece, gallery, candidates, terms=terms, rows=rows)
        found = best_of(exact, candidates, k)
        # What was not proposed scores at most the threshold plus its rounding error.
        error = unit * (np.sqrt(squares) * longest + np.abs(threshold))
        unsure = np.flatnonzero(~(threshold + error < found[0][:, -1]))  # also where it overflows
        if len(unsure):
            found[0][unsure], found[1][unsure] = _exhaustive(task.of(unsure), k)
        scores[rows], positions[rows] = found
    return scores, positions


def check_search(
    queries: EmbeddingTable, gallery: EmbeddingTable, k: int, block: int, names: tuple[str, str]
) -> None:
    """Refuse tables that cannot be compared, and no neighbours or rows at a time."""
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


def best_of(scores: np.ndarray, positions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest of (Q, M) scores per row, best first, equal ones in ascending position."""
    order = np.lexsort((positions, -scores), axis=-1)[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(positions, order, 1)


def score_pairs(
    queries: np.ndarray,
    gallery: EmbeddingTable,
    candidates: np.ndarray,
    *,
    terms: "Sequence[TagScores]" = (),
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """(Q, M) float32 scores of the candidates, summed in double precision and rounded once.

    A candidate is a position in the gallery; -1 is none and scores -inf. `rows` are the (Q,) query
    rows of the `terms`, which are added.
    """
    exact = np.empty(candidates.shape)
    for part in _parts(len(queries), candidates.shape[1] * queries.shape[1], PAIR_ENTRIES):
        vectors = gallery[candidates[part]]
        if vectors.dtype != np.float16:
            vectors = vectors.astype(np.float32)  # as `blocks` reads every table
        pairs = vectors.astype(np.float64) @ queries[part, :, None].astype(np.float64)
        exact[part] = pairs[:, :, 0]
    if terms:
        for part in _parts(len(queries), candidates.shape[1], DENSE_ENTRIES):
            exact[part] += sum(term.at(rows[part, None], candidates[part]) for term in terms)
    scores = exact.astype(np.float32)
    scores[candidates < 0] = -np.inf
    return scores


def _parts(count: int, width: int, entries: int) -> Iterator[slice]:
    """Slices of `count` rows such that rows × width are at most so many entries."""
    step = max(1, entries // max(1, width))
    return (slice(start, start + step) for start in range(0, count, step))


@dataclass(frozen=True)
class _Task:
    """Queries that fit in memory, and what they are compared with."""

    queries: np.ndarray  # (Q, D) float32
    rows: np.ndarray  # (Q,) their numbers among all queries, for the terms
    gallery: EmbeddingTable
    block: int
    terms: "Sequence[TagScores]"
    name: str  # of the gallery, in messages

    def of(self, part: slice | np.ndarray) -> "_Task":
        return replace(self, queries=self.queries[part], rows=self.rows[part])


def _propose(task: _Task, count: int, devices: int) -> tuple[np.ndarray, np.ndarray, float]:
    """(Q, count) candidate positions, (Q,) thresholds, the length of the longest gallery row."""
    best, longest = faiss.ResultHeap(len(task.queries), count, keep_max=True), 0.0
    add_tiles = _tiles_into(best, task) if task.terms else None
    pieces = blocks(task.gallery, task.block, task.name)
    for piece in progress(pieces, "search", -(-len(task.gallery) // task.block)):
        longest = max(longest, float(piece.squares.max()))
        if add_tiles:
            add_tiles(piece)
            continue
        if devices:
            scores, positions = knn_on_gpus(task.queries, piece.rows, count, devices)
        else:
            some = min(count, len(piece.rows))
            scores, positions = faiss.knn(task.queries, piece.rows, some, PRODUCT)
        best.add_result(scores, positions + piece.start)
    best.finalize()
    return best.I, best.D[:, -1], np.sqrt(longest)


def knn_on_gpus(
    queries: np.ndarray, rows: np.ndarray, k: int, devices: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and positions of the `k` nearest for every query, of each GPU's share of the rows."""
    share = -(-len(rows) // devices)

    def knn(device: int, start: int) -> tuple[np.ndarray, np.ndarray]:
        own, options = rows[start : start + share], {"metric": PRODUCT, "device": device}
        some = min(k, len(own))
        scores, positions = faiss.knn_gpu(_resources(device), queries, own, some, **options)
        return scores, positions + start

    with _TURN, ThreadPoolExecutor(devices) as threads:
        found = threads.map(knn, range(devices), range(0, len(rows), share))
        scores, positions = zip(*found, strict=True)
    return np.hstack(scores), np.hstack(positions)


@cache
def _resources(device: int) -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()  # holds 1.5 GB of scratch memory: made once per GPU


def _tiles_into(best: faiss.ResultHeap, task: _Task) -> Callable[[Block], None]:
    """What adds a block's inner products plus score terms, in tiles that stay in the cache."""
    parts = list(_parts(len(task.rows), 1, TILE_QUERIES))
    columns = [np.ascontiguousarray(task.queries[part].T) for part in parts]
    adders = [[term.tile_adder(task.rows[part]) for term in task.terms] for part in parts]

    def add_tiles(piece: Block) -> None:
        for part, queries, added in zip(parts, columns, adders, strict=True):
            for images in _parts(len(piece.rows), queries.shape[1], TILE_ENTRIES):
                tile, start = piece.rows[images] @ queries, piece.start + images.start
                for add_to_tile in added:
                    add_to_tile(tile, start)
                tile = np.ascontiguousarray(tile.T)
                best.heaps.addn(tile.shape[1], faiss.swig_ptr(tile), start, part.start, len(tile))

    return add_tiles


def _exhaustive(task: _Task, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all double-precision scores: slow, for small galleries and hard ties."""
    scores = np.empty((len(task.queries), k), dtype=np.float32)
    positions = np.empty((len(task.queries), k), dtype=np.int64)
    block = min(task.block, 8192)
    for part in _parts(len(task.queries), min(block, len(task.gallery)) + k, DENSE_ENTRIES):
        some = task.of(part)
        best = np.empty((len(some.rows), 0), np.float32), np.empty((len(some.rows), 0), np.int64)
        for start, piece, _ in blocks(task.gallery, block, task.name):
            columns = np.arange(start, start + len(piece))[None, :]
            exact = some.queries.astype(np.float64) @ piece.T.astype(np.float64)
            exact += sum(term.at(some.rows[:, None], columns) for term in some.terms)
            exact, columns = exact.astype(np.float32), np.broadcast_to(columns, exact.shape)
            best = best_of(np.hstack([best[0], exact]), np.hstack([best[1], columns]), k)
        scores[part], positions[part] = best
    return scores, positions


@dataclass(frozen=True, eq=False)
class TagScores:
    """The score that the query gives to the tag of the image; -1 is no tag."""

    voted: np.ndarray  # (Q, V) int64 tags, distinct in a row
    scores: np.ndarray  # (Q, V) float64, what each adds
    tags: np.ndarray  # (N,) int64 tag of every gallery image
    weights: np.ndarray | None = None  # (N,) float64 factor of every gallery image; None for 1
    __array_ufunc__ = None  # so that a NumPy scalar leaves the product to `__rmul__`

    def __rmul__(self, factor: float) -> "TagScores":
        """The same with all scores multiplied, as in `alpha * L`."""
        if not np.isfinite(factor):
            raise ValueError(f"expected a finite weight of a score, found {factor}; give a number")
        return replace(self, scores=factor * self.scores)

    def at(self, rows: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """(R, 1) query rows and (R or 1, M) gallery positions to (R, M) float64 additions."""
        tags = self.tags[positions]
        found = np.zeros(np.broadcast_shapes(rows.shape, positions.shape))
        for place in range(self.voted.shape[1]):
            is_same = (tags == self.voted[rows, place]) & (tags != NO_TAG)
            found += is_same * self.scores[rows, place]
        return found if self.weights is None else found * self.weights[positions]

    def tile_adder(self, rows: np.ndarray) -> Callable[[np.ndarray, int], None]:
        """What adds (Q,) query rows' term in place to (M, Q) float32 scores of images from a start.

        Images get the row of their tag in a (tags, Q) table.
        """
        voted, scores = self.voted[rows], self.scores[rows]
        counts = (voted != NO_TAG) & (scores != 0)
        tags, column = np.unique(voted[counts], return_inverse=True)
        table = np.zeros((len(tags), len(rows)), dtype=np.float32)
        table[column, np.nonzero(counts)[0]] = scores[counts]
        place = np.searchsorted(tags, self.tags)
        is_voted = np.append(tags, NO_TAG)[place] == self.tags
        place = np.where(is_voted & (self.tags != NO_TAG), place, NO_TAG)

        def add_to_tile(tile: np.ndarray, start: int) -> None:
            own = place[start : start + len(tile)]
            images = np.flatnonzero(own != NO_TAG)
            added = table[own[images]]
            if self.weights is not None:
                added *= self.weights[start + images, None]
            if len(images) == len(tile):
                tile += added
            else:
                tile[images] += added

        return add_to_tile

"""Approximate nearest neighbours among millions of references, and how approximate they are.

Exact search of 4.1 million references for each of 760,000 gallery images is 3 · 10¹⁵ operations.
An inverted file (faiss IVF: rows grouped in cells by k-means, a query looks into the nearest few)
needs a thousandth of them. Nothing here is silent: every search also searches a sample of its
queries exactly, and prints the recall. Rows are kept as float16 and the found are scored again in
double precision, so a score is the same as from the exact search.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np

from lib.neighbours import best_of, check_tables, nearest, score_pairs
from lib.rows import BLOCK, ChosenRows, Table, blocks, check_table
from lib.runs import atomic_path, fingerprint, is_done, mark_done, progress, rng, start_over

VERSION = 1  # of the stored form
INDEX, TRAINED = "index.faiss", "trained"
POINTS_PER_CELL = 40  # rows that k-means learns from; faiss asks for 39
AT_ONCE = 16_384  # queries


class Found(NamedTuple):
    """Neighbours, and the measured recall of the search that found them."""

    scores: np.ndarray  # (Q, k) float32, best first
    positions: np.ndarray  # (Q, k) int64
    recall_at_1: float
    recall_at_k: float


def build_index(
    rows: Table, folder: str | Path, *, cells: int = 0, iterations: int = 8, seed: int = 0
) -> Path:
    """Train an index of `rows` and save it in `folder`, which is returned.

    Does nothing when the folder already holds the index of these rows, and does not train again
    when a killed run had finished training. Takes about half as much memory again as the rows have
    in float16, all of it released at the end; minutes for millions of rows.

    Args:
        rows: (N, D) embeddings, may be a memory map.
        folder: receives `index.faiss`.
        cells: groups of rows; 0 for 2·√N.
        iterations: of k-means.
        seed: chooses the rows that k-means learns from.

    Raises:
        ValueError: if rows are no table of finite numbers, or there are fewer rows than cells.
    """
    check_table(rows, "rows to index")
    cells = cells or min(len(rows), round(2 * len(rows) ** 0.5))
    if not 1 <= cells <= len(rows):
        raise ValueError(
            f"expected 1 to {len(rows)} cells for {len(rows)} rows, found {cells}; search so few"
            " exactly, or ask for fewer cells"
        )
    folder = Path(folder)
    key = fingerprint(VERSION, cells, iterations, seed, list(rows.shape), _digest(rows))
    if is_done(folder, key):
        return folder
    start_over(folder)
    index = _trained(rows, folder / TRAINED, key, cells, iterations, seed)
    pieces = blocks(rows, BLOCK, "rows to index")
    for _, piece, _ in progress(pieces, "indexing", -(-len(rows) // BLOCK)):
        index.add(piece)
    with atomic_path(folder / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    mark_done(folder, key, rows=len(rows), cells=cells)
    return folder


def _trained(
    rows: Table, folder: Path, key: str, cells: int, iterations: int, seed: int
) -> faiss.IndexIVF:
    """The index with its cells and no rows: read, or trained and kept."""
    if is_done(folder, key):
        return faiss.read_index(str(folder / INDEX))
    start_over(folder)
    width = rows.shape[1]
    index = faiss.index_factory(width, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    index.by_residual = False  # residuals in half precision would lose what float16 rows have
    index.cp.niter, index.cp.seed, index.cp.spherical = iterations, seed, True
    index.cp.min_points_per_centroid = 1
    chosen = rng(seed, "rows that k-means learns from").permutation(len(rows))
    chosen = np.sort(chosen[: POINTS_PER_CELL * cells])
    pieces = blocks(ChosenRows(rows, chosen), BLOCK, "rows to index")
    learned = np.concatenate([piece.copy() for _, piece, _ in pieces])
    index.train(learned)
    with atomic_path(folder / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    mark_done(folder, key)
    return index


def _digest(rows: Table) -> str:
    """A hash of all values: four seconds for four million rows of 512."""
    found = hashlib.sha256(str(rows.dtype).encode())
    for start in range(0, len(rows), BLOCK):
        found.update(np.ascontiguousarray(rows[start : start + BLOCK]))
    return found.hexdigest()


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """A saved index over its rows; make it with `read_index`.

    Attributes:
        rows: (N, D) embeddings that it was built over.
        index: faiss's inverted file, which stays on disk.
        probes: cells that a query looks into; more find more and take longer.
        sample: queries of every search that are searched exactly, too.
    """

    rows: Table
    index: faiss.IndexIVF
    probes: int = 8
    sample: int = 500

    def __len__(self) -> int:
        """The number of rows."""
        return self.index.ntotal

    def nearest(
        self,
        queries: Table,
        k: int,
        *,
        names: tuple[str, str] = ("queries", "indexed rows"),
        block: int = BLOCK,
    ) -> Found:
        """Find about the `k` rows of largest inner product for every query, and print the recall.

        A neighbour counts as found when one of the same score was, so copies of an image are as
        good as each other. A query whose cells hold fewer than `k` rows is searched exactly.

        Args:
            queries: (Q, D), may be a memory map.
            k: neighbours per query; all rows when there are fewer.
            names: what messages call queries and rows.
            block: queries read at a time, and rows in the exact search of the sample.

        Raises:
            ValueError: as `lib.neighbours.nearest`.
        """
        check_tables(queries, self.rows, names)
        if k < 1:
            raise ValueError(f"expected k of at least 1, found {k}; ask for one neighbour or more")
        k = min(k, len(self))
        scores = np.empty((len(queries), k), dtype=np.float32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        pieces = blocks(queries, min(block, AT_ONCE), names[0])
        count = -(-len(queries) // min(block, AT_ONCE))
        for start, piece, _ in progress(pieces, f"approximate search of {names[1]}", count):
            part = slice(start, start + len(piece))
            scores[part], positions[part] = self._nearest(piece, k, block)
        return Found(scores, positions, *self._recall(queries, scores, names, block))

    def _nearest(self, queries: np.ndarray, k: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        settings = faiss.SearchParametersIVF(nprobe=self.probes)
        wanted = min(k + k // 8 + 1, len(self))  # rounding may swap the last few
        candidates = self.index.search(queries, wanted, params=settings)[1]
        scores, positions = best_of(score_pairs(queries, self.rows, candidates), candidates, k)
        few = np.flatnonzero(positions[:, -1] < 0)
        if len(few):
            scores[few], positions[few] = nearest(queries[few], self.rows, k, block=block)
        return scores, positions

    def _recall(
        self, queries: Table, scores: np.ndarray, names: tuple[str, str], block: int
    ) -> tuple[float, float]:
        """Recall at 1 and at k over evenly spread queries, printed."""
        k, count = scores.shape[1], min(self.sample, len(queries))
        if not k or not count:
            return 1.0, 1.0
        chosen = np.linspace(0, len(queries) - 1, count).astype(np.int64)
        exact = nearest(queries[chosen], self.rows, k, block=block, names=names)[0]
        is_found = scores[chosen] >= exact[:, -1:]
        at_1 = float((scores[chosen, 0] >= exact[:, 0]).mean())
        at_k = float(is_found.mean())
        also = f", recall@{k} {at_k:.4f}" if k > 1 else ""
        print(
            f"approximate search of {len(self):,} {names[1]}: recall@1 {at_1:.4f}{also}, measured"
            f" on {count:,} of {len(queries):,} {names[0]} ({self.probes} of"
            f" {self.index.nlist:,} cells probed)",
            flush=True,
        )
        return at_1, at_k


def read_index(folder: str | Path, rows: Table, **options: int) -> ApproximateIndex:
    """Open the index that `build_index` saved in `folder` for `rows`; it stays on disk.

    Args:
        folder: of the index.
        rows: the embeddings it was built over.
        options: `probes` and `sample` of `ApproximateIndex`.

    Raises:
        ValueError: if there is no finished index, or it is of another number or width of rows.
    """
    path = Path(folder) / INDEX
    if not path.is_file():
        raise ValueError(f"expected a finished index in {folder}, found none; build it first")
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    if (index.ntotal, index.d) != tuple(rows.shape):
        raise ValueError(
            f"expected the index of {rows.shape[0]} rows of {rows.shape[1]} in {folder}, found one"
            f" of {index.ntotal} of {index.d}; build it for these rows"
        )
    return ApproximateIndex(rows, index, **options)


def find_nearest(
    queries: Table,
    rows: Table,
    k: int,
    index: ApproximateIndex | None = None,
    *,
    names: tuple[str, str] = ("queries", "gallery"),
    block: int = BLOCK,
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest rows of every query: exact, or through `index` where one is given.

    Raises:
        ValueError: if the index is of another number of rows, and as `lib.neighbours.nearest`.
    """
    if index is None:
        return nearest(queries, rows, k, block=block, names=names)
    if len(index) != len(rows):
        raise ValueError(
            f"expected an index of the {len(rows)} {names[1]} searched, found one of"
            f" {len(index)}; build it for these (references without a landmark are left out)"
        )
    return index.nearest(queries, k, names=names, block=block)[:2]

"""Approximate nearest neighbours among millions of references, through an inverted file of faiss.

Rows are projected, grouped in cells by k-means and kept as half-byte codes (IVF, PQ fast scan). A
query looks into the nearest cells; its best candidates are scored again as in the exact search.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from lib import artifacts
from lib.environment import cores
from lib.retrieval.embedding_table import (
    BLOCK,
    EmbeddingSubset,
    EmbeddingTable,
    blocks,
    check_table,
)
from lib.retrieval.knn import best_of, check_search, nearest, score_pairs

VERSION = 2  # of the stored form
INDEX = "index.faiss"
FEWEST = 64  # rows worth an index
POINTS_PER_CELL = 40  # rows that k-means learns from; faiss asks for 39
PROJECTED = 192  # dimensions kept
ITERATIONS = 8  # of k-means
AT_ONCE = 16_384  # queries
SAMPLE = 500  # queries of every search that are also searched exactly, for the recall
LARGEST_EXACT = 300_000  # references: exact tags of as many gallery images take half an hour


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """A saved index over the (N, D) embeddings `rows`; `read_index` makes it.

    A query looks into `probes` cells and scores at least `candidates` rows again.
    """

    rows: EmbeddingTable
    index: faiss.IndexPreTransform
    probes: int
    candidates: int

    def __len__(self) -> int:
        return self.index.ntotal

    def nearest(
        self,
        queries: EmbeddingTable,
        k: int,
        *,
        names: tuple[str, str] = ("queries", "indexed rows"),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find about the `k` rows of largest inner product for every query, and print the recall.

        A neighbour counts as found when one of the same score was. A query whose cells hold fewer
        than `k` rows is searched exactly. All else is as in `lib.retrieval.nearest`.
        """
        check_search(queries, self.rows, k, BLOCK, names)
        k = min(k, len(self))
        scores = np.empty((len(queries), k), dtype=np.float32)
        positions = np.empty((len(queries), k), dtype=np.int64)
        inside = faiss.SearchParametersIVF(nprobe=self.probes)
        settings = faiss.SearchParametersPreTransform(index_params=inside)
        wanted = min(max(self.candidates, 2 * k), len(self))
        pieces = blocks(queries, AT_ONCE, names[0])
        title = f"approximate search of {names[1]}"
        for start, piece, _ in artifacts.progress(pieces, title, -(-len(queries) // AT_ONCE)):
            candidates = self.index.search(piece, wanted, params=settings)[1]
            found = best_of(score_pairs(piece, self.rows, candidates), candidates, k)
            few = np.flatnonzero(found[1][:, -1] < 0)
            if len(few):
                found[0][few], found[1][few] = nearest(piece[few], self.rows, k)
            scores[start : start + len(piece)], positions[start : start + len(piece)] = found
        if scores.size:
            self._print_recall(queries, scores, names)
        return scores, positions

    def _print_recall(
        self, queries: EmbeddingTable, scores: np.ndarray, names: tuple[str, str]
    ) -> None:
        """Print the recall at 1 and at k over evenly spread queries."""
        k, count = scores.shape[1], min(SAMPLE, len(queries))
        chosen = np.linspace(0, len(queries) - 1, count).astype(np.int64)
        exact = nearest(queries[chosen], self.rows, k, names=names)[0]
        at_1 = float((scores[chosen, 0] >= exact[:, 0]).mean())
        at_k = float((scores[chosen] >= exact[:, -1:]).mean())
        also = f", recall@{k} {at_k:.4f}" if k > 1 else ""
        cells = faiss.extract_index_ivf(self.index).nlist
        print(
            f"approximate search of {len(self):,} {names[1]}: recall@1 {at_1:.4f}{also}, measured"
            f" on {count:,} of {len(queries):,} {names[0]} ({self.probes} of {cells:,} cells"
            " probed)",
            flush=True,
        )


def index_if_large(rows: EmbeddingTable, folder: str | Path) -> ApproximateIndex | None:
    """An index of `rows` kept in `folder`; None for up to `LARGEST_EXACT`, searched exactly."""
    return read_index(build_index(rows, folder), rows) if len(rows) > LARGEST_EXACT else None


def read_index(
    folder: str | Path, rows: EmbeddingTable, *, probes: int = 0, candidates: int = 100
) -> ApproximateIndex:
    """Open the index that `build_index` saved in `folder` for `rows`, and refuse that of others.

    `probes` are by default a twelfth of the cells, at least 8.
    """
    index = _open_index(folder)
    found = "none" if index is None else f"one of {index.ntotal} of {index.d}"
    if index is None or (index.ntotal, index.d) != tuple(rows.shape):
        raise ValueError(
            f"expected the index of {rows.shape[0]} rows of {rows.shape[1]} in {folder}, found"
            f" {found}; build it for these rows"
        )
    cells = faiss.extract_index_ivf(index).nlist
    return ApproximateIndex(rows, index, probes or min(cells, max(8, cells // 12)), candidates)


def _open_index(folder: str | Path) -> faiss.Index | None:
    """The index in a folder, or None where there is none or its file is cut."""
    try:
        index = faiss.read_index(str(Path(folder) / INDEX))
    except (RuntimeError, MemoryError):
        return None
    return None if faiss.try_extract_index_ivf(index) is None else index


def build_index(rows: EmbeddingTable, folder: str | Path, *, cells: int = 0, seed: int = 0) -> Path:
    """Train an index of the (N, D) `rows`, with 2·√N cells by default, and save it in `folder`.

    Does nothing when the folder already holds the index of rows with these values. Takes minutes
    for millions of rows, and less than a gigabyte.
    """
    check_table(rows, "rows to index")
    cells = cells or round(2 * len(rows) ** 0.5)
    if len(rows) < FEWEST or not 1 <= cells <= len(rows):
        raise ValueError(
            f"expected at least {FEWEST} rows and as many as cells, found {len(rows)} rows for"
            f" {cells} cells; search so few exactly, or ask for fewer cells"
        )
    folder, digest = Path(folder), hashlib.sha256(str(rows.dtype).encode())
    for start in range(0, len(rows), BLOCK):  # four seconds for four million rows of 512
        digest.update(np.ascontiguousarray(rows[start : start + BLOCK]))
    shape = list(rows.shape)
    key = artifacts.fingerprint(VERSION, cells, ITERATIONS, seed, shape, digest.hexdigest())
    if artifacts.is_done(folder, key) and _open_index(folder) is not None:
        return folder
    artifacts.start_over(folder)
    faiss.omp_set_num_threads(min(faiss.omp_get_max_threads(), cores()))  # heeds a quota, too
    index = _train(rows, cells, seed)
    pieces = blocks(rows, BLOCK, "rows to index")
    for _, piece, _ in artifacts.progress(pieces, "indexing", -(-len(rows) // BLOCK)):
        index.add(piece)
    with artifacts.atomic_path(folder / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    artifacts.mark_complete(folder, key, files=[INDEX], rows=len(rows), cells=cells)
    return folder


def _train(rows: EmbeddingTable, cells: int, seed: int) -> faiss.IndexPreTransform:
    """The index with its cells, learned from some of the rows, and empty."""
    generator = artifacts.rng(seed, "rows that the index learns from")
    chosen = np.sort(generator.permutation(len(rows))[: max(POINTS_PER_CELL * cells, FEWEST)])
    pieces = blocks(EmbeddingSubset(rows, chosen), BLOCK, "rows to index")
    learned = np.concatenate([piece.copy() for _, piece, _ in pieces])
    projection = _projection(learned, generator)
    codes = f"IVF{cells},PQ{max(1, projection.d_out // 2)}x4fs"
    inverted = faiss.index_factory(projection.d_out, codes, faiss.METRIC_INNER_PRODUCT)
    inverted.cp.niter, inverted.cp.seed, inverted.cp.spherical = ITERATIONS, seed, True
    for settings in (inverted.cp, inverted.pq.cp):
        settings.min_points_per_centroid = 1
    inverted.train(projection.apply(learned))
    return faiss.IndexPreTransform(projection, inverted)


def _projection(rows: np.ndarray, generator: np.random.Generator) -> faiss.LinearTransform:
    """Onto the directions of largest second moment, rotated at random so that codes share them."""
    width = rows.shape[1]
    kept = max(1, min(PROJECTED, width) // 2 * 2)
    _, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))  # no mean is subtracted
    turned, _ = np.linalg.qr(generator.standard_normal((kept, kept)))
    matrix = (turned @ directions[:, ::-1][:, :kept].T).astype(np.float32)
    projection = faiss.LinearTransform(width, kept, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix).ravel(), projection.A)
    projection.is_trained = True
    return projection

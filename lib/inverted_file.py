"""Train and save an inverted file of faiss over millions of rows.

Rows are projected on the directions in which they differ most, grouped in cells by k-means and kept
as half-byte codes (IVF, PQ fast scan), 56 bytes a row instead of a kilobyte. A finished index is
recognised by the contents of its rows, and a killed build goes on from its training.
`lib.approximate` searches it.
"""

import hashlib
from pathlib import Path

import faiss
import numpy as np

from lib.rows import BLOCK, ChosenRows, Table, blocks, check_table
from lib.runs import atomic_path, fingerprint, is_done, mark_done, progress, rng, start_over

VERSION = 2  # of the stored form
INDEX, TRAINED = "index.faiss", "trained"
FEWEST = 64  # rows worth an index
POINTS_PER_CELL = 40  # rows that k-means learns from; faiss asks for 39
PROJECTED = 192  # dimensions kept


def build_index(
    rows: Table, folder: str | Path, *, cells: int = 0, iterations: int = 8, seed: int = 0
) -> Path:
    """Train an index of `rows` and save it in `folder`, which is returned.

    Does nothing when the folder already holds the index of these rows, and does not train again
    when a killed run had finished training. Minutes for millions of rows, and less than a gigabyte.

    Args:
        rows: (N, D) embeddings, may be a memory map.
        folder: receives `index.faiss`.
        cells: groups of rows; 0 for 2·√N.
        iterations: of k-means.
        seed: chooses the rows that k-means learns from.

    Raises:
        ValueError: if rows are no table of finite numbers, or too few for an index or its cells.
    """
    check_table(rows, "rows to index")
    cells = cells or round(2 * len(rows) ** 0.5)
    if len(rows) < FEWEST or not 1 <= cells <= len(rows):
        raise ValueError(
            f"expected at least {FEWEST} rows and as many as cells, found {len(rows)} rows for"
            f" {cells} cells; search so few exactly, or ask for fewer cells"
        )
    folder = Path(folder)
    key = fingerprint(VERSION, cells, iterations, seed, list(rows.shape), _digest(rows))
    if is_done(folder, key) and open_index(folder) is not None:
        return folder
    start_over(folder)
    index = _trained(rows, folder / TRAINED, key, cells, iterations, seed)
    pieces = blocks(rows, BLOCK, "rows to index")
    for _, piece, _ in progress(pieces, "indexing", -(-len(rows) // BLOCK)):
        index.add(piece)
    with atomic_path(folder / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    mark_done(folder, key, files=[INDEX], rows=len(rows), cells=cells)
    return folder


def open_index(folder: str | Path) -> faiss.Index | None:
    """The index in a folder, or None where there is none or its file is cut."""
    try:
        index = faiss.read_index(str(Path(folder) / INDEX))
    except (RuntimeError, MemoryError):
        return None
    return None if faiss.try_extract_index_ivf(index) is None else index


def _trained(
    rows: Table, folder: Path, key: str, cells: int, iterations: int, seed: int
) -> faiss.IndexPreTransform:
    """The index with its cells and no rows: read, or trained and kept."""
    if is_done(folder, key) and (known := open_index(folder)) is not None:
        return known
    start_over(folder)
    generator = rng(seed, "rows that the index learns from")
    chosen = np.sort(generator.permutation(len(rows))[: max(POINTS_PER_CELL * cells, FEWEST)])
    pieces = blocks(ChosenRows(rows, chosen), BLOCK, "rows to index")
    learned = np.concatenate([piece.copy() for _, piece, _ in pieces])
    projection = _projection(learned, generator)
    width = projection.d_out
    codes = f"IVF{cells},PQ{max(1, width // 2)}x4fs"
    inverted = faiss.index_factory(width, codes, faiss.METRIC_INNER_PRODUCT)
    inverted.cp.niter, inverted.cp.seed, inverted.cp.spherical = iterations, seed, True
    for settings in (inverted.cp, inverted.pq.cp):
        settings.min_points_per_centroid = 1
    inverted.train(projection.apply(learned))
    index = faiss.IndexPreTransform(projection, inverted)
    with atomic_path(folder / INDEX) as temporary:
        faiss.write_index(index, str(temporary))
    mark_done(folder, key, files=[INDEX])
    return index


def _projection(rows: np.ndarray, generator: np.random.Generator) -> faiss.LinearTransform:
    """On the directions of largest second moment, turned at random so that codes share them evenly.

    Without subtracting the mean, inner products of what is kept stay what they are.
    """
    width = rows.shape[1]
    kept = max(1, min(PROJECTED, width) // 2 * 2)
    _, directions = np.linalg.eigh((rows.T @ rows).astype(np.float64))
    turned, _ = np.linalg.qr(generator.standard_normal((kept, kept)))
    matrix = (turned @ directions[:, ::-1][:, :kept].T).astype(np.float32)
    projection = faiss.LinearTransform(width, kept, False)
    faiss.copy_array_to_vector(np.ascontiguousarray(matrix).ravel(), projection.A)
    projection.is_trained = True
    return projection


def _digest(rows: Table) -> str:
    """A hash of all values: four seconds for four million rows of 512."""
    found = hashlib.sha256(str(rows.dtype).encode())
    for start in range(0, len(rows), BLOCK):
        found.update(np.ascontiguousarray(rows[start : start + BLOCK]))
    return found.hexdigest()

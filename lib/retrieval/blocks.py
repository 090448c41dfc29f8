"""Tables of embeddings that may be larger than memory: checked and read in float32 blocks.

Whoever searches reads embeddings through here, so a wrong shape or a NaN is found in one place and
named by its row, and a float16 memory map is never converted as a whole. The next block is read
and converted by a thread while the present one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

BLOCK = 65_536  # rows in memory at a time: 134 MB at 512 dimensions


class EmbeddingTable(Protocol):
    """(N, D) embeddings in memory, in a memory map, or put together from some."""

    shape: tuple[int, ...]
    ndim: int
    dtype: np.dtype

    def __len__(self) -> int:
        """N."""
        ...

    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray:
        """Rows by slice, or by an array of positions of any shape."""
        ...


class EmbeddingSubset:
    """Some rows of an array or memory map, read only when they are asked for."""

    def __init__(self, embeddings: EmbeddingTable, chosen: np.ndarray) -> None:
        """Remember the array and the row numbers."""
        self.embeddings, self.chosen = embeddings, chosen
        self.shape = (len(chosen), *embeddings.shape[1:])
        self.ndim, self.dtype = embeddings.ndim, embeddings.dtype

    def __len__(self) -> int:
        """The number of chosen rows."""
        return len(self.chosen)

    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray:
        """Rows by slice or by position among the chosen."""
        return self.embeddings[self.chosen[item]]


class Block(NamedTuple):
    """Consecutive rows of a table, valid until the next block is asked for."""

    start: int  # position of the first row
    rows: np.ndarray  # (M, D) float32, C-contiguous
    squares: np.ndarray  # (M,) float32 squared lengths


def check_table(embeddings: EmbeddingTable, what: str) -> None:
    """Refuse what is not an (N, D) array of numbers; values are checked as they are read.

    Raises:
        ValueError: naming what was found instead.
    """
    if getattr(embeddings, "ndim", None) != 2:
        raise ValueError(
            f"expected {what} as an (N, D) array, found"
            f" {getattr(embeddings, 'shape', type(embeddings).__name__)}; pass one row per image"
        )
    if embeddings.dtype.kind not in "fiu":
        raise ValueError(
            f"expected {what} of real numbers, found {embeddings.dtype}; pass float16 or float32"
        )


def open_rows(path: Path) -> np.ndarray:
    """The (N, D) floating-point rows of a `.npy` file, which stay on disk until they are used.

    Raises:
        ValueError: naming the file and what it holds instead.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        found = f"{rows.dtype} of shape {rows.shape}" if isinstance(rows, np.ndarray) else "many"
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy raises nearly anything on a damaged file
        raise ValueError(
            f"expected rows that numpy.save wrote in {path}, found another or a cut file "
            f"({error or type(error).__name__}); write it again"
        ) from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f":
        raise ValueError(
            f"expected floating-point rows of shape (N, D) in {path}, found {found}; "
            "give one row per image, as float16 or float32"
        )
    return rows


def blocks(embeddings: EmbeddingTable, block: int, what: str) -> Iterator[Block]:
    """Yield the table in blocks of `block` rows, the next of which is read meanwhile.

    Raises:
        ValueError: at the first row that holds a NaN or an infinity.
    """
    starts = range(0, len(embeddings), block)
    shape = (min(block, len(embeddings)), embeddings.shape[1])
    is_ready = isinstance(embeddings, np.ndarray) and embeddings.dtype == np.float32
    buffers = [None if is_ready else np.empty(shape, np.float32) for _ in starts[:2]]
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(_read, embeddings, 0, block, what, buffers[0])] if starts else []
        for number, start in enumerate(starts, start=1):
            current = coming.pop().result()
            if number < len(starts):
                later = (embeddings, start + block, block, what, buffers[number % 2])
                coming.append(reader.submit(_read, *later))
            yield current


def _read(
    embeddings: EmbeddingTable, start: int, block: int, what: str, buffer: np.ndarray | None
) -> Block:
    """One block, converted into `buffer`, or as it lies there where that is float32 already."""
    piece = embeddings[start : start + block]
    if buffer is None:
        piece = np.ascontiguousarray(piece)
    else:
        np.copyto(buffer[: len(piece)], piece)
        piece = buffer[: len(piece)]
    squares = np.einsum("nd,nd->n", piece, piece)
    if not np.isfinite(squares).all():  # also where a finite row is longer than float32 can say
        finite = np.isfinite(piece).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            row = embeddings.chosen[row] if isinstance(embeddings, EmbeddingSubset) else row
            raise ValueError(
                f"expected finite {what}, found a NaN or an infinity in row {row};"
                " embed that image again or leave it out"
            )
    return Block(start, piece, squares)

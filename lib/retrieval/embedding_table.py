"""Tables of embeddings that may be larger than memory: opened, checked and read in blocks.

Every search reads its tables through `blocks` in float32, one block ahead, and a NaN is reported
with its row; a float16 memory map is never converted as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from lib.artifacts import generator_threads, read_csv_or_none, read_manifest

ROWS, IDS = "embeddings.npy", "ids.csv"
DESCRIBED = ("id", "path", "landmark_id", "category")  # columns of `IDS`; but for id optional
BLOCK = 65_536  # rows in memory at a time: 134 MB at 512 dimensions


class EmbeddingTable(Protocol):
    """(N, D) embeddings: an array, a memory map, or a class that reads rows on demand."""

    shape: tuple[int, ...]
    ndim: int
    dtype: np.dtype

    def __len__(self) -> int: ...
    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray: ...


class EmbeddingSubset:
    """Rows of a table at the (M,) positions `chosen`, read on demand."""

    def __init__(self, embeddings: EmbeddingTable, chosen: np.ndarray) -> None:
        self.embeddings, self.chosen = embeddings, chosen
        self.shape = (len(chosen), *embeddings.shape[1:])
        self.ndim, self.dtype = embeddings.ndim, embeddings.dtype

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, item: slice | np.ndarray) -> np.ndarray:
        return self.embeddings[self.chosen[item]]


@dataclass(frozen=True, eq=False)
class Embeddings:
    """A finished folder of `lib.retrieval.embed`; rows stay on disk, ids until asked for."""

    folder: Path
    manifest: dict[str, Any]
    rows: np.ndarray  # (N, D) float16, a memory map

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def root(self) -> Path:
        """The data folder of the images' paths."""
        if "root" not in self.manifest:  # of an earlier version
            raise ValueError(
                f"expected {self.folder} to tell its data folder, found none; embed it again"
            )
        return Path(self.manifest["root"])

    @cached_property
    def ids(self) -> np.ndarray:
        """(N,) strings."""
        return self.table(["id"])["id"].to_numpy(dtype=str)

    def table(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """What is known of the images: the columns of `DESCRIBED` that there are, or some."""
        table = read_csv_or_none(self.folder / IDS, ["id"], usecols=columns)
        if table is None or len(table) != len(self):
            found = "another or a cut file" if table is None else f"{len(table):,}"
            raise ValueError(
                f"expected the ids of {len(self):,} embeddings in {self.folder / IDS}, found"
                f" {found}; embed those images again"
            )
        return table


def read_embeddings(folder: str | Path) -> Embeddings:
    """Open a finished folder of `lib.retrieval.embed`."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise ValueError(f"expected finished embeddings in {folder}, found none; run embed first")
    return Embeddings(Path(folder), manifest, open_rows(Path(folder) / ROWS))


def open_rows(path: Path) -> np.ndarray:
    """Open the (N, D) floating-point rows of a `.npy` file as a memory map, and nothing else."""
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


def check_table(embeddings: EmbeddingTable, what: str) -> None:
    """Check that `embeddings` is an (N, D) table of numbers; `blocks` checks the values."""
    if getattr(embeddings, "ndim", None) != 2:
        raise ValueError(
            f"expected {what} as an (N, D) array, found"
            f" {getattr(embeddings, 'shape', type(embeddings).__name__)}; pass one row per image"
        )
    if embeddings.dtype.kind not in "fiu":
        raise ValueError(
            f"expected {what} of real numbers, found {embeddings.dtype}; pass float16 or float32"
        )


class Block(NamedTuple):
    """Consecutive rows of a table, valid until the next block is asked for."""

    start: int  # position of the first row
    rows: np.ndarray  # (M, D) float32, C-contiguous
    squares: np.ndarray  # (M,) float32 squared lengths


def blocks(embeddings: EmbeddingTable, block: int, what: str) -> Iterator[Block]:
    """Yield the table in blocks of `block` rows, reading one ahead; refuse NaN and infinity."""
    starts = range(0, len(embeddings), block)
    shape = (min(block, len(embeddings)), embeddings.shape[1])
    is_ready = isinstance(embeddings, np.ndarray) and embeddings.dtype == np.float32
    buffers = [None if is_ready else np.empty(shape, np.float32) for _ in starts[:2]]
    with generator_threads(1) as reader:
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
    """One block, converted into `buffer`; without a buffer a view of float32 rows."""
    piece = embeddings[start : start + block]
    if buffer is None:
        piece = np.ascontiguousarray(piece)
    else:
        np.copyto(buffer[: len(piece)], piece)
        piece = buffer[: len(piece)]
    squares = np.einsum("nd,nd->n", piece, piece)
    if not np.isfinite(squares).all():  # also where the square of a finite row overflows
        finite = np.isfinite(piece).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            row = embeddings.chosen[row] if isinstance(embeddings, EmbeddingSubset) else row
            raise ValueError(
                f"expected finite {what}, found a NaN or an infinity in row {row};"
                " embed that image again or leave it out"
            )
    return Block(start, piece, squares)

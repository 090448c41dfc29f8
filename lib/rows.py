"""Tables of embeddings that may be larger than memory: checked and read in float32 blocks.

Whoever searches reads embeddings through here, so a wrong shape or a NaN is found in one place and
named by its row, and a float16 memory map is never converted as a whole.
"""

from collections.abc import Iterator
from typing import Union

import numpy as np

Table = Union[np.ndarray, "ChosenRows"]
"""(N, D) embeddings in memory, in a memory map, or some rows of one."""

BLOCK = 65_536  # rows in memory at a time: 134 MB at 512 dimensions


class ChosenRows:
    """Some rows of an array or memory map, read only when they are asked for."""

    def __init__(self, embeddings: np.ndarray, chosen: np.ndarray) -> None:
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


def check_table(embeddings: Table, what: str) -> None:
    """Refuse what is not an (N, D) array of numbers; values are checked as they are read."""
    if getattr(embeddings, "ndim", None) != 2:
        raise ValueError(
            f"expected {what} as an (N, D) array, found"
            f" {getattr(embeddings, 'shape', type(embeddings).__name__)}; pass one row per image"
        )
    if embeddings.dtype.kind not in "fiu":
        raise ValueError(
            f"expected {what} of real numbers, found {embeddings.dtype}; pass float16 or float32"
        )


def blocks(embeddings: Table, block: int, what: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start, float32 rows) over an array or memory map.

    Raises:
        ValueError: at the first row that holds a NaN or an infinity.
    """
    for start in range(0, len(embeddings), block):
        piece = np.ascontiguousarray(embeddings[start : start + block], dtype=np.float32)
        finite = np.isfinite(piece).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            row = embeddings.chosen[row] if isinstance(embeddings, ChosenRows) else row
            raise ValueError(
                f"expected finite {what}, found a NaN or an infinity in row {row};"
                " embed that image again or leave it out"
            )
        yield start, piece

"""`Ranking`: the result of search and reranking that metrics, plots and submissions read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import atomic_path

FIELDS = ("scores", "positions", "query_ids", "gallery_ids")


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked gallery positions per query, best first; validated when made, read-only afterwards.

    There may be no query or no image. The arrays are copied.

    >>> ranking = Ranking([[0.9, 0.4]], [[2, 0]], query_ids=["q"], gallery_ids=["a", "b", "c"])
    >>> ranking.predictions()
    {'q': ['c', 'a']}
    """

    scores: np.ndarray  # (Q, k) float32, larger is better, never increasing along a row; k ≤ N
    positions: np.ndarray  # (Q, k) int64 rows of the gallery, none twice in a row
    query_ids: np.ndarray | None = None  # (Q,) distinct
    gallery_ids: np.ndarray | None = None  # (N,) distinct, of the whole gallery

    def __post_init__(self) -> None:
        scores, positions = np.array(self.scores, dtype=np.float32), np.array(self.positions)
        if positions.size and not np.issubdtype(positions.dtype, np.integer):
            raise ValueError(
                f"expected integer positions, found {positions.dtype}; pass rows of the gallery"
            )
        positions = positions.astype(np.int64)
        _check_values(scores, positions)
        query_ids = None if self.query_ids is None else check_ids(self.query_ids, "query")
        gallery_ids = None if self.gallery_ids is None else check_ids(self.gallery_ids, "gallery")
        check_count(query_ids, len(scores), "query")
        if gallery_ids is not None and positions.size and positions.max() >= len(gallery_ids):
            raise ValueError(
                f"expected positions below the {len(gallery_ids)} gallery ids, found"
                f" {positions.max()}; pass the ids of the gallery that was searched"
            )
        values = (scores, positions, query_ids, gallery_ids)
        for name, value in zip(FIELDS, values, strict=True):
            if value is not None:
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def k(self) -> int:
        """How many gallery images are ranked per query."""
        return self.scores.shape[1]

    def predictions(self) -> dict[str, list[str]]:
        """Query id to ranked gallery ids, best first; refused where the ranking has no ids."""
        if self.query_ids is None or self.gallery_ids is None:
            lacking = "query ids" if self.query_ids is None else "gallery ids"
            raise ValueError(
                f"expected a ranking with {lacking}, found none; give them to the search"
            )
        ranked = self.gallery_ids[self.positions].tolist()
        return dict(zip(self.query_ids.tolist(), ranked, strict=True))

    def replace(self, scores: np.ndarray, positions: np.ndarray) -> "Ranking":
        """A new ranking of the same queries and gallery."""
        return Ranking(scores, positions, self.query_ids, self.gallery_ids)

    def top(self, k: int) -> "Ranking":
        """The first `k` of every query, or all of them when fewer are ranked."""
        if k < 1:
            raise ValueError(f"expected k of at least 1, found {k}; ask for one image or more")
        return self.replace(self.scores[:, :k], self.positions[:, :k])

    def row(self, query: str | int) -> int:
        """The row of a query, given its id, or its row number where there are no ids."""
        if self.query_ids is None:
            is_row = isinstance(query, int | np.integer) and 0 <= query < len(self)
            found = [query] if is_row else []
        else:
            found = np.flatnonzero(self.query_ids == str(query)).tolist()
        if not found:
            raise ValueError(
                f"expected one of the {len(self)} ranked queries, found {query!r}; give its id,"
                " or its row number when the ranking has no ids"
            )
        return int(found[0])

    def of(self, query: str | int) -> pd.DataFrame:
        """One query's ranking as a table: rank (from 1) as index, position, score, id if known."""
        row = self.row(query)
        table = pd.DataFrame(
            {"position": self.positions[row], "score": self.scores[row]},
            index=pd.RangeIndex(1, self.k + 1, name="rank"),
        )
        if self.gallery_ids is not None:
            table["id"] = self.gallery_ids[self.positions[row]]
        return table

    def save(self, path: str | Path) -> Path:
        """Write scores, positions and ids as `numpy.savez` does, and return `path`."""
        fields = {name: getattr(self, name) for name in FIELDS if getattr(self, name) is not None}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **fields)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Ranking":
        """Read what `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(**{name: file[name] for name in FIELDS if name in file.files})
        except FileNotFoundError:
            raise
        except Exception as error:  # BadZipFile, zlib.error, MemoryError, ... on a damaged file
            raise ValueError(
                f"expected a ranking in {path}, found something else ({error}); write one with"
                " Ranking.save"
            ) from None


def check_ids(ids: Sequence[str] | np.ndarray | pd.Series, what: str) -> np.ndarray:
    """Copy ids into a one-dimensional array of strings; refuse missing and repeated ones."""
    if np.ndim(ids) != 1:
        raise ValueError(
            f"expected a flat list of {what} ids, found {np.ndim(ids)} dimensions; pass one id"
            " per image"
        )
    table = pd.Series(np.asarray(ids))
    if table.isna().any():
        raise ValueError(
            f"expected an id for every {what} image, found none at row"
            f" {int(table.isna().argmax())}; leave such rows out"
        )
    if table.duplicated().any():
        raise ValueError(
            f"expected distinct {what} ids, found {table[table.duplicated()].iloc[0]!r} twice;"
            " keep one row per image"
        )
    return np.array(table.to_list(), dtype=str)


def check_count(ids: Sequence[str] | np.ndarray | None, rows: int, what: str) -> None:
    """Refuse another number of ids than rows; None is no ids at all."""
    if ids is not None and len(ids) != rows:
        raise ValueError(
            f"expected one {what} id per row, found {len(ids)} ids for {rows} rows; pass the ids"
            " in the order of the embeddings"
        )


def _check_values(scores: np.ndarray, positions: np.ndarray) -> None:
    if scores.ndim != 2 or scores.shape != positions.shape:
        raise ValueError(
            f"expected scores and positions of one shape (Q, k), found {scores.shape} and"
            f" {positions.shape}; pass one row per query"
        )
    faults = (
        (~np.isfinite(scores), "finite scores", "a NaN or an infinity"),
        (scores[:, 1:] > scores[:, :-1], "scores best first", "a larger one after"),
        (positions < 0, "positions from 0", "a negative one"),
        (np.diff(np.sort(positions, axis=1), axis=1) == 0, "distinct positions", "one twice"),
    )
    for wrong, expected, found in faults:
        if wrong.any():
            row = int(wrong.any(axis=1).argmax())
            raise ValueError(
                f"expected {expected} in every row, found {found} in row {row};"
                " mend the search or reranker that made this ranking"
            )

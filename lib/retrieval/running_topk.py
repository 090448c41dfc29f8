"""The best candidates of a group of queries, selected out of a gallery that streams by.

Every block is multiplied in tiles that stay in the processor's cache. A query's threshold is the
score that `count` candidates already reach, so all but a few entries of a tile fail one comparison:
beside the matrix product the selection costs a few percent, where sorting would cost as much
again."""

import numpy as np

from lib.retrieval.blocks import Block
from lib.retrieval.score_terms import Adder

TILE_ENTRIES = 1 << 22  # scores multiplied out at once: 16 MB
SHORTEST, LONGEST = 1_024, 8_192  # gallery rows of a tile
MOST_QUERIES = 2_048  # of one top_k, so that its tiles are not too flat


class RunningTopK:
    """Keeps, of all that passes, the `count` largest single-precision scores of every query.

    Where several tie with the threshold, one or more of them are missing; the first `count` - 1
    never are, unless they tie with it too.

    Attributes:
        threshold: (Q,) float32; whatever was not kept scores at most this.
        longest: largest squared length of a gallery row so far.
    """

    def __init__(self, queries: np.ndarray, count: int, adder: Adder | None = None) -> None:
        """Set an empty top_k up.

        Args:
            queries: (Q, D) float32, at most `MOST_QUERIES`.
            count: candidates kept per query.
            adder: adds the bonus of these queries to a tile.
        """
        self.columns = np.ascontiguousarray(queries.T)  # the faster way round to multiply
        self.count, self.adder = count, adder
        self.threshold = np.full(len(queries), -np.inf, dtype=np.float32)
        self.longest = 0.0
        self._scores = np.full((len(queries), count), -np.inf, dtype=np.float32)
        self._positions = np.full((len(queries), count), -1, dtype=np.int64)
        self._passed: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._waiting = 0  # entries in it
        rows = int(np.clip(TILE_ENTRIES // max(1, len(queries)), SHORTEST, LONGEST))
        self._tile = np.empty((rows, len(queries)), dtype=np.float32)

    def update(self, block: Block) -> None:
        """Sift the rows of one block."""
        self.longest = max(self.longest, float(block.squares.max(initial=0.0)))
        step = len(self._tile)
        for first in range(0, len(block.rows), step):
            piece = block.rows[first : first + step]
            tile = np.matmul(piece, self.columns, out=self._tile[: len(piece)])
            if self.adder is not None:
                self.adder(tile, block.start + first)
            self._keep(tile, block.start + first)

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """(Q, count) kept positions, unordered, -1 where there are fewer; and the thresholds."""
        self._settle()
        return self._positions, self.threshold

    def _keep(self, tile: np.ndarray, start: int) -> None:
        """Take the entries of a tile that lie above their query's threshold."""
        enough = self._scores.size
        found = np.flatnonzero(tile > self.threshold)
        if len(found) > enough and len(tile) > self.count:
            # The first tile, or a gallery ordered to annoy: this tile alone gives a better
            # threshold.
            own = np.partition(tile, len(tile) - self.count, axis=0)[len(tile) - self.count]
            np.maximum(self.threshold, own, out=self.threshold)
            found = np.flatnonzero(tile > self.threshold)
        images, queries = np.divmod(found, tile.shape[1])
        self._passed.append((queries, images + start, tile.ravel()[found]))
        self._waiting += len(found)
        if self._waiting > enough:
            self._settle()

    def _settle(self) -> None:
        """Of what was kept and what has passed since, keep the best."""
        if not self._passed:
            return
        queries, positions, scores = map(np.concatenate, zip(*self._passed, strict=True))
        self._passed, self._waiting = [], 0
        order = np.argsort(queries.astype(np.uint16), kind="stable")
        lengths = np.bincount(queries, minlength=len(self.threshold))
        queries, positions, scores = queries[order], positions[order], scores[order]
        places = np.arange(len(queries)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        width = self.count + int(lengths.max(initial=0))
        all_scores = np.full((len(lengths), width), -np.inf, dtype=np.float32)
        all_positions = np.full((len(lengths), width), -1, dtype=np.int64)
        all_scores[:, : self.count], all_positions[:, : self.count] = self._scores, self._positions
        all_scores[queries, self.count + places] = scores
        all_positions[queries, self.count + places] = positions
        best = np.argpartition(all_scores, width - self.count, axis=1)[:, width - self.count :]
        self._scores = np.take_along_axis(all_scores, best, axis=1)
        self._positions = np.take_along_axis(all_positions, best, axis=1)
        np.maximum(self.threshold, self._scores.min(axis=1, initial=np.inf), out=self.threshold)

"""Embeddings of queries, gallery and labelled references: what every reranker works on.

What several rerankers need (votes, tags, an augmented gallery) comes from functions decorated with
`cached`. Nothing here sees a right answer.
"""

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd

from lib import retrieval
from lib.artifacts import read_fingerprint
from lib.environment import blas, cores
from lib.reranking.local_features import PairVerifier
from lib.retrieval import EmbeddingTable, Ranking, TagScores

# Results that no query changes.
OF_GALLERY = ("neighbours", "reference_tags", "tag_gallery", "gallery_votes")
P = ParamSpec("P")
T = TypeVar("T")

ScoreRow = Callable[[int], tuple[np.ndarray, np.ndarray]]
"""A row of queries to the scores and the positions of some images."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """Inner products of all queries and gallery images, plus score terms: `sim + alpha * L`.

    The table of queries × gallery is never held.
    """

    queries: EmbeddingTable
    gallery: EmbeddingTable
    terms: tuple[TagScores, ...] = ()

    def __add__(self, term: TagScores) -> "Similarity":
        """The sum with one more term; ValueError if it is of other queries or another gallery."""
        expected, found = (len(self.queries), len(self.gallery)), (len(term.voted), len(term.tags))
        if found != expected:
            raise ValueError(
                f"expected votes and tags for (queries, images) = {expected}, found {found}; make"
                " them from the same embeddings"
            )
        return replace(self, terms=(*self.terms, term))


@dataclass(frozen=True, eq=False)
class RetrievalData:
    """One model's embeddings of queries, gallery and labelled references; may be memory maps."""

    queries: EmbeddingTable  # (Q, D) unit rows
    gallery: EmbeddingTable  # (N, D) unit rows
    references: EmbeddingTable  # (R, D) unit rows of labelled training images, or none
    reference_landmarks: np.ndarray  # (R,) integers, -1 where unknown
    reference_countries: np.ndarray  # (R,) strings, "" where unknown
    query_ids: np.ndarray | None = None  # (Q,) for the rankings, if known
    gallery_ids: np.ndarray | None = None  # (N,) if known
    k: int = 100  # images ranked per query; all of the gallery when it is smaller
    # Of the references that have a landmark; prints its recall. The final scores stay exact.
    index: retrieval.ApproximateIndex | None = None
    second: "RetrievalData | None" = None  # the same images as another model embeds them
    local: PairVerifier | None = None  # counts the inliers of a query and a gallery image
    _results: dict[tuple, object] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        retrieval.check_count(self.query_ids, len(self.queries), "query")
        retrieval.check_count(self.gallery_ids, len(self.gallery), "gallery")

    @cached_property
    def plain(self) -> Ranking:
        """The ranking of exact search."""
        ids = {"query_ids": self.query_ids, "gallery_ids": self.gallery_ids}
        return retrieval.search(self.queries, self.gallery, self.k, **ids)

    @property
    def similarity(self) -> Similarity:
        return Similarity(self.queries, self.gallery)

    def with_queries(self, queries: EmbeddingTable) -> "RetrievalData":
        """The same gallery and references asked with other (Q, D) unit rows, without ids.

        What was computed of the gallery alone is kept.
        """
        found = replace(self, queries=queries, query_ids=None, second=None, local=None)
        kept = {key: one for key, one in self._results.items() if key[0] in OF_GALLERY}
        found._results.update(kept)
        return found

    def rank(self, score: Similarity, query: str | int | None = None) -> Ranking:
        """Rank the whole gallery by a score, exactly, ties by position; for one query if given."""
        ids = self.query_ids
        if query is not None:
            own = slice(row := self.plain.row(query), row + 1)
            terms = (replace(t, voted=t.voted[own], scores=t.scores[own]) for t in score.terms)
            score = Similarity(score.queries[own], score.gallery, tuple(terms))
            ids = None if ids is None else ids[own]
        found = retrieval.nearest(score.queries, score.gallery, self.k, terms=score.terms)
        return Ranking(*found, ids, self.gallery_ids)

    def rank_each(self, score: ScoreRow) -> Ranking:
        """Rank the images that `score` gives for each query, as `rank_rows`."""
        found = rank_rows(score, len(self.queries), min(self.k, len(self.gallery)))
        return Ranking(*found, self.query_ids, self.gallery_ids)

    def gallery_neighbours(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(N, count) scores and positions of the gallery images nearest to each, itself included.

        The search costs N² · D, hours for the competition's gallery, so the most that were asked
        for are kept.
        """
        kept = self._results.get(("neighbours",))
        if kept is None or kept[1].shape[1] < min(count, len(self.gallery)):
            names = ("gallery images", "gallery images")
            kept = retrieval.nearest(self.gallery, self.gallery, count, names=names)
            self._results["neighbours",] = kept
        return kept[0][:, :count], kept[1][:, :count]


def rank_rows(score: ScoreRow, rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, k) best scores and their images of every row, ties in the order that `score` gives.

    Rows are ranked in threads: numpy and scipy let others run beside them.
    """
    scores, positions = np.empty((rows, k), np.float32), np.empty((rows, k), np.int64)

    def rank_one(row: int) -> None:
        values, images = score(row)
        best = np.argsort(-values, kind="stable")[:k]
        scores[row], positions[row] = values[best], images[best]

    with ThreadPoolExecutor(cores()) as threads, blas().limit(limits=1):
        for _ in threads.map(rank_one, range(rows)):
            pass
    return scores, positions


def cached(function: Callable[P, T]) -> Callable[P, T]:
    """Compute a function of `RetrievalData` and settings once; the data keeps the result."""
    signature = inspect.signature(function)

    @wraps(function)
    def compute_once(*args: P.args, **settings: P.kwargs) -> T:
        call = signature.bind(*args, **settings)
        call.apply_defaults()
        data, *values = call.arguments.values()
        more = (tuple(one.items()) if isinstance(one, dict) else one for one in values)
        key = (function.__qualname__, *more)
        if key not in data._results:
            data._results[key] = function(*args, **settings)
        return data._results[key]

    return compute_once


def read_retrieval_data(
    folder: str | Path, labelled: pd.DataFrame, *, references: str = "references", **fields: Any
) -> RetrievalData:
    """Read the folders `query`, `gallery` and `references` of embeddings in `folder`.

    `labelled` has the references' id, landmark_id and country; their folder may embed more images.
    k, index, second and local of `RetrievalData` may follow.
    """
    queries, gallery, known = (
        retrieval.read_embeddings(Path(folder) / name) for name in ("query", "gallery", references)
    )
    rows = pd.Index(known.ids).get_indexer(labelled["id"])
    if (rows < 0).any():
        raise ValueError(
            f"expected embeddings of all {len(rows)} images in {Path(folder) / references}, found"
            f" none of {labelled['id'].iloc[int((rows < 0).argmax())]}; embed that list"
        )
    in_order = np.array_equal(rows, np.arange(len(known)))
    return RetrievalData(
        queries.rows,
        gallery.rows,
        known.rows if in_order else retrieval.EmbeddingSubset(known.rows, rows),
        labelled["landmark_id"].to_numpy(),
        labelled["country"].to_numpy(dtype=object),
        query_ids=queries.ids,
        gallery_ids=gallery.ids,
        **fields,
    )


def read_second_model(
    folder: str | Path, labelled: pd.DataFrame, *, k: int = 100
) -> RetrievalData | None:
    """Read the data of a model that embedded the raw training images, or else the references.

    None if there are no such embeddings, or not of all references.
    """
    for own in (Path(folder) / name for name in ("raw", "references")):
        is_there = read_fingerprint(own) is not None
        if is_there and labelled["id"].isin(retrieval.read_embeddings(own).ids).all():
            return read_retrieval_data(folder, labelled, references=own.name, k=k)
    return None

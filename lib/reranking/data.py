"""What rerankers work on, computed once: one model's rows, plain ranking, votes, tags, distances.

The comparison of `lib.reranking.comparison` tries many settings; whatever two of them share (votes
of the
same number of references, the augmented gallery) is made by whoever asks first and kept. Nothing
here sees a right answer."""

from collections.abc import Callable, Hashable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from lib.artifacts import read_fingerprint
from lib.reranking.bridged import LandmarkDistances, landmark_distances
from lib.reranking.ensemble import concatenate
from lib.reranking.k_reciprocal import Reciprocal, reciprocal_rerank
from lib.reranking.query_expansion import augment_gallery, expand_queries
from lib.reranking.votes import Tags, Votes, tag_gallery, vote
from lib.retrieval import (
    ApproximateIndex,
    Embeddings,
    EmbeddingSubset,
    EmbeddingTable,
    Ranking,
    read_embeddings,
    search,
)

T = TypeVar("T")


class RetrievalData:
    """Queries, gallery and labelled references of one model, and what follows from them."""

    def __init__(
        self,
        queries: Embeddings,
        gallery: Embeddings,
        references: EmbeddingTable,
        labels: pd.DataFrame,
        *,
        k: int = 100,
        index: ApproximateIndex | None = None,
        second: "RetrievalData | None" = None,
    ) -> None:
        """Remember the rows; nothing is computed yet.

        Args:
            queries: ids and (Q, D) unit rows.
            gallery: ids and (N, D) unit rows.
            references: (R, D) unit rows of labelled training images.
            labels: landmark_id and country of every reference.
            k: images ranked per query.
            index: of the references, where there are too many for exact search.
            second: what another model made of the same images, for ensembles.
        """
        self.queries, self.gallery, self.k = queries, gallery, k
        self.references, self.labels, self.index, self.second = references, labels, index, second
        self._kept: dict[Hashable, object] = {}

    @property
    def labelled(self) -> tuple[EmbeddingTable, np.ndarray, np.ndarray]:
        """References with their landmarks and countries, as voting takes them."""
        return (
            self.references,
            self.labels["landmark_id"].to_numpy(),
            self.labels["country"].to_numpy(dtype=object),
        )

    @property
    def ids(self) -> dict[str, np.ndarray]:
        """The ids that a ranking takes."""
        return {"query_ids": self.queries.ids, "gallery_ids": self.gallery.ids}

    @cached_property
    def plain(self) -> Ranking:
        """Exact search."""
        return search(self.queries.rows, self.gallery.rows, self.k, **self.ids)

    @cached_property
    def tags(self) -> Tags:
        """The gallery's landmark and country, by its nearest reference."""
        return tag_gallery(self.gallery.rows, *self.labelled, index=self.index)

    def query_votes(
        self, top: int, *, normalise: bool = True, reciprocal: bool | Reciprocal = False
    ) -> Votes:
        """What the references say about the queries."""
        options = {"top": top, "normalise": normalise, "reciprocal": reciprocal}
        return self._once(
            ("query votes", *options.values()),
            lambda: vote(self.queries.rows, *self.labelled, **options, index=self.index),
        )

    def gallery_votes(self, top: int) -> Votes:
        """What the references say about the gallery, as raw sums."""
        options = {"top": top, "normalise": False, "index": self.index}
        return self._once(
            ("gallery votes", top), lambda: vote(self.gallery.rows, *self.labelled, **options)
        )

    def reciprocal(self, settings: Reciprocal) -> Ranking:
        """The gallery ranked by k-reciprocal similarity."""
        rows = self.queries.rows, self.gallery.rows
        return self._once(
            ("reciprocal", settings), lambda: reciprocal_rerank(self.plain, *rows, settings)
        )

    def distances(self, **options: float) -> tuple[LandmarkDistances, LandmarkDistances]:
        """How far queries and gallery images are from the landmarks around them."""
        references, landmarks, _ = self.labelled
        return self._once(
            ("distances", *sorted(options.items())),
            lambda: tuple(
                landmark_distances(rows, references, landmarks, index=self.index, **options)
                for rows in (self.queries.rows, self.gallery.rows)
            ),
        )

    def expanded(self, *, neighbours: int, alpha: float) -> "RetrievalData":
        """The same with expanded queries: what comes first in a stack."""
        return self._once(
            ("expanded", neighbours, alpha),
            lambda: self._with(
                queries=expand_queries(
                    self.plain,
                    self.queries.rows,
                    self.gallery.rows,
                    neighbours=neighbours,
                    alpha=alpha,
                )
            ),
        )

    def augmented(self, *, neighbours: int) -> "RetrievalData":
        """The same with an augmented gallery."""
        return self._once(
            ("augmented", neighbours),
            lambda: self._with(gallery=augment_gallery(self.gallery.rows, neighbours=neighbours)),
        )

    @cached_property
    def joined(self) -> "RetrievalData":
        """Both models' descriptors side by side, as those of one model.

        Raises:
            ValueError: if there is no second model.
        """
        if self.second is None:
            raise ValueError("expected a second model for an ensemble, found none; give `second`")
        both = self, self.second
        joined = self._with(
            queries=concatenate([one.queries.rows for one in both]),
            gallery=concatenate([one.gallery.rows for one in both]),
        )
        joined.references = concatenate([one.references for one in both])
        joined.index = None  # it is of the references of one model
        return joined

    def _with(
        self, *, queries: EmbeddingTable | None = None, gallery: EmbeddingTable | None = None
    ) -> "RetrievalData":
        asked = self.queries if queries is None else Embeddings(self.queries.ids, queries)
        shown = self.gallery if gallery is None else Embeddings(self.gallery.ids, gallery)
        rest = {"k": self.k, "index": self.index, "second": self.second}
        return RetrievalData(asked, shown, self.references, self.labels, **rest)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


def read_material(
    folder: str | Path,
    labelled: pd.DataFrame,
    *,
    references: str = "references",
    k: int = 100,
    index: ApproximateIndex | None = None,
    second: RetrievalData | None = None,
) -> RetrievalData:
    """The material of the embedding folders that a checkpoint has beside it.

    Args:
        folder: holds `query`, `gallery` and the references' embeddings.
        labelled: the references: id, landmark_id, country.
        references: name of a folder that embeds at least these.
        k: images ranked per query.
        index: of the references.
        second: another model's material.

    Raises:
        ValueError: if a folder is missing, or a reference has no embedding in it.
    """
    folder = Path(folder)
    return RetrievalData(
        read_embeddings(folder / "query"),
        read_embeddings(folder / "gallery"),
        rows_of(folder / references, labelled["id"]),
        labelled[["landmark_id", "country"]],
        k=k,
        index=index,
        second=second,
    )


def read_second(
    folder: str | Path, labelled: pd.DataFrame, *, k: int = 100
) -> RetrievalData | None:
    """The same of a model that embedded the raw training images for cleaning, if there is one.

    None, after a sentence, where references are asked for that are no training images.
    """
    raw = Path(folder) / "raw"
    if read_fingerprint(raw) is None:
        return None
    if not labelled["id"].isin(read_embeddings(raw).ids).all():
        print("no ensembles: the first model has embedded training images alone as references")
        return None
    return read_material(folder, labelled, references="raw", k=k)


def rows_of(folder: str | Path, ids: pd.Series) -> EmbeddingTable:
    """The embeddings of some images, in their order.

    Raises:
        ValueError: if the folder holds no finished embeddings, or not one of each image.
    """
    known = read_embeddings(folder)
    rows = pd.Index(known.ids).get_indexer(ids)
    if (rows < 0).any():
        raise ValueError(
            f"expected embeddings of all {len(ids)} images in {folder}, found none of"
            f" {ids.iloc[int((rows < 0).argmax())]}; embed that list"
        )
    in_order = np.array_equal(rows, np.arange(len(known)))
    return known.rows if in_order else EmbeddingSubset(known.rows, rows)

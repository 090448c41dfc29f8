"""From embedding folders to a ranking: what the command line and a script have to hand.

The folders are those that `lib.embed` leaves; labels of the references come from a dataset folder.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib import gldv2
from lib.embed import Embeddings, read_embeddings
from lib.geography import OTHER
from lib.ranking import Ranking
from lib.rerank import landmark_country_rerank
from lib.search import search
from lib.votes import NO_LANDMARK


def rank_folders(
    queries: str | Path,
    gallery: str | Path,
    *,
    references: str | Path | None = None,
    data: str | Path | None = None,
    k: int = 100,
    alpha: float = 1.0,
    beta: float = 0.1,
    top: int = 3,
) -> Ranking:
    """Rank the gallery's embeddings for the queries', reranked where references are given.

    Args:
        queries: folder of `lib.embed`.
        gallery: likewise.
        references: likewise, of training images; without it, plain search.
        data: dataset folder that has the references' landmarks and countries.
        k: images per query.
        alpha: weight of the landmark score.
        beta: weight of the country score.
        top: references that vote.

    Raises:
        ValueError: if a folder holds no finished embeddings, widths differ, references come
            without a dataset, or no reference is one of its training images.
    """
    asked, shown = read_embeddings(queries), read_embeddings(gallery)
    ids = {"query_ids": asked.ids, "gallery_ids": shown.ids}
    if references is None:
        return search(asked.rows, shown.rows, k, **ids)
    if data is None:
        raise ValueError(
            "expected a dataset folder beside the references, found none; it tells their landmarks"
        )
    known = read_embeddings(references)
    labels = labels_of(known, gldv2.read(data))
    return landmark_country_rerank(
        asked.rows,
        shown.rows,
        known.rows,
        labels["landmark_id"],
        labels["country"],
        k=k,
        alpha=alpha,
        beta=beta,
        top=top,
        **ids,
    )


def labels_of(embeddings: Embeddings, dataset: gldv2.Dataset) -> pd.DataFrame:
    """Landmark and country of every embedded training image, in its order.

    Returns:
        landmark_id (-1 where the image is none of train.csv) and country ("OTHER" there).

    Raises:
        ValueError: if no image is one of train.csv.
    """
    landmark_of = dataset.train.set_index("id")["landmark_id"]
    landmarks = landmark_of.reindex(embeddings.ids).fillna(NO_LANDMARK).astype(np.int64)
    if len(landmarks) and (landmarks == NO_LANDMARK).all():
        raise ValueError(
            f"expected embeddings of the training images of {dataset.root}, found"
            f" {len(landmarks)} others, the first {embeddings.ids[0]!r}; give their own dataset"
        )
    country_of = dataset.landmarks.set_index("landmark_id")["country"]
    countries = landmarks.map(country_of).astype(object).fillna(OTHER)
    return pd.DataFrame(
        {"landmark_id": landmarks.to_numpy(), "country": countries.to_numpy(dtype=str)}
    )

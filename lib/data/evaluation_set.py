"""What a model is validated on: queries, a gallery, and which gallery images answer a query.

With GLDv2's retrieval solution these are the competition's. Kaggle's folders have none: there,
whole landmarks are held out of training (`training_list(..., without=evaluation)`), because
retrieval is asked for landmarks that were never a class."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.data.geography import OTHER
from lib.data.gldv2 import SOLUTION, Dataset, image_paths

FEWEST = 4  # landmarks held out
Solution = dict[str, dict[str, set[str]]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Queries, gallery and truth of one validation."""

    queries: pd.DataFrame  # id, path, usage, country, continent (those of its landmark)
    gallery: pd.DataFrame  # id, path, landmark_id (-1 unknown), country, continent
    solution: Solution  # usage → query id → ids of its gallery images
    source: str  # "solution" or "held_out"
    held_out: np.ndarray  # landmark ids that must not be trained on; empty with a solution


def evaluation(
    dataset: Dataset, *, seed: int = 0, share: float = 0.1, most: int = 2000
) -> Evaluation:
    """The competition's validation where its solution is there, otherwise a held-out one.

    Args:
        dataset: From `read`.
        seed: Chooses what is held out.
        share: Part of the landmarks to hold out; four where a third of them is as many, so that
            a dozen folders have Public and Private queries too.
        most: Hold out no more landmarks than this.

    Raises:
        ValueError: The solution has no usable query, or no landmark has four images.
    """
    if dataset.solution is not None:
        return _from_solution(dataset)
    return _held_out(dataset, rng(seed, "held-out landmarks"), share, most)


def _from_solution(dataset: Dataset) -> Evaluation:
    asked = dataset.solution[dataset.solution["Usage"] != "Ignored"]
    gallery = dataset.index
    there = set(gallery["id"])
    truth = {
        query: there.intersection(images.split())
        for query, images in zip(asked["id"], asked["images"], strict=True)
    }
    asked = asked[[bool(truth[query]) for query in asked["id"]]]
    if asked.empty:
        raise ValueError(
            f"{SOLUTION} in {dataset.root} has no Public or Private query with an image in the "
            "index: check that both are from the same release."
        )
    queries = _queries("test", asked["id"], asked["Usage"])
    countries = gallery.set_index("id")[["country", "continent"]]
    known = countries[countries["country"] != OTHER]
    places = [sorted(known.index.intersection(list(truth[query]))) for query in queries["id"]]
    for column in ("country", "continent"):
        values = known[column].to_dict()
        queries[column] = [values[found[0]] if found else OTHER for found in places]
    gallery = gallery.assign(path=image_paths("index", gallery["id"]))
    return Evaluation(
        queries=queries,
        gallery=gallery[["id", "path", "landmark_id", "country", "continent"]],
        solution=_by_usage(queries, truth),
        source="solution",
        held_out=np.empty(0, dtype=np.int64),
    )


def _held_out(
    dataset: Dataset, generator: np.random.Generator, share: float, most: int
) -> Evaluation:
    """One query of each held-out landmark, two from eight images on; the rest is gallery.

    As many images of other landmarks again are distractors; those stay in training.
    """
    clean = dataset.clean
    counts = clean["landmark_id"].value_counts().sort_index()
    large = counts.index[counts >= 4].to_numpy()
    few = max(1, min(FEWEST, len(large) // 3))
    number = min(max(few, round(share * len(counts))), most, len(large), len(counts) - 1)
    if number == 0:
        raise ValueError(
            f"{dataset.root} has no retrieval solution and no landmark with four images to hold "
            "out beside another one to train on: add images or a solution file."
        )
    held_out = np.sort(generator.choice(large, number, replace=False))
    is_held = clean["landmark_id"].isin(held_out)
    images = clean[is_held].sample(frac=1, random_state=generator)
    turn = images.groupby("landmark_id").cumcount()
    size = images["landmark_id"].map(counts)
    is_query = (turn == 0) | ((turn == 1) & (size >= 8))
    asked, relevant = images[is_query], images[~is_query]
    others = clean[~is_held]
    distractors = others.sample(min(len(relevant), len(others)), random_state=generator)
    gallery = pd.concat([relevant, distractors]).sort_values("id", ignore_index=True)
    asked = asked.sort_values("id", ignore_index=True)
    few = min(1, number - 1)  # of a single landmark all queries are Private, which are reported
    public = generator.permutation(held_out)[: max(few, number // 3)]  # as 379 to 750 in GLDv2
    usage = np.where(asked["landmark_id"].isin(public), "Public", "Private")
    answers = relevant.groupby("landmark_id")["id"].agg(set)
    tags = dataset.landmarks.set_index("landmark_id")
    queries = _queries("train", asked["id"], usage)
    for table, of in ((queries, asked), (gallery, gallery)):
        for column in ("country", "continent"):
            table[column] = tags.loc[of["landmark_id"], column].to_numpy()
    gallery.insert(1, "path", image_paths("train", gallery["id"]))
    truth = {
        query: answers[landmark]
        for query, landmark in zip(asked["id"], asked["landmark_id"], strict=True)
    }
    return Evaluation(queries, gallery, _by_usage(queries, truth), "held_out", held_out)


def _queries(split: str, ids: pd.Series, usage: pd.Series | np.ndarray) -> pd.DataFrame:
    columns = {"id": ids, "path": image_paths(split, ids), "usage": usage}
    return pd.DataFrame(columns).reset_index(drop=True)


def _by_usage(queries: pd.DataFrame, truth: dict[str, set[str]]) -> Solution:
    solution: Solution = {}
    for query, usage in zip(queries["id"], queries["usage"], strict=True):
        solution.setdefault(usage, {})[query] = truth[query]
    return solution

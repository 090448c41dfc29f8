"""What a model is validated on: queries, a gallery, and the relevant gallery images of each query.

Kaggle's folders have no retrieval solution: there, whole landmarks are held out of training
(`training_list(..., without=evaluation)`), because queries show landmarks that were never a class.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.data.geography import OTHER
from lib.data.gldv2 import SOLUTION, Dataset, image_paths

FEWEST = 4  # landmarks held out
# Queries, gallery, query id → relevant ids, and landmarks held out
Parts = tuple[pd.DataFrame, pd.DataFrame, dict[str, set[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Evaluation:
    # id, path, usage, country, continent (those of its landmark), and where it is known is_seen:
    # whether training images show the landmark, as they never do where it is held out
    queries: pd.DataFrame
    gallery: pd.DataFrame  # id, path, landmark_id (-1 unknown), category, country, continent
    solution: dict[str, dict[str, set[str]]]  # usage → query id → ids of its gallery images
    source: str  # "solution" or "held_out"
    held_out: np.ndarray  # landmark ids that must not be trained on; empty with a solution


def evaluation(
    dataset: Dataset, *, seed: int = 0, share: float = 0.1, most: int = 2000
) -> Evaluation:
    """The competition's queries and gallery where its solution is there, otherwise held-out ones.

    `share` of the landmarks, but at most `most`, are held out; `FEWEST` where a third of them is as
    many, so that a dozen folders have Public and Private queries too.
    """
    if dataset.solution is not None:
        source, parts = "solution", _from_solution(dataset)
    else:
        generator = rng(seed, "held-out landmarks")
        source, parts = "held_out", _held_out(dataset, generator, share, most)
    queries, gallery, relevant, held_out = parts
    ids_of_usage = queries.groupby("usage", sort=False)["id"]
    solution = {usage: {query: relevant[query] for query in ids} for usage, ids in ids_of_usage}
    return Evaluation(queries, gallery, solution, source, held_out)


def query_names(evaluation: Evaluation) -> dict[str, str]:
    """The landmark's name for each query id, numbered where several queries show it.

    A query is named after its answers in the gallery; without a name it is called by its id.
    """
    named = evaluation.gallery.set_index("id")["category"]
    known = named[named != ""].str.replace("_", " ").to_dict()
    found: dict[str, str] = {}
    count: Counter[str] = Counter()
    for answers in evaluation.solution.values():
        for query, ids in answers.items():
            name = next((known[image] for image in sorted(ids) if image in known), "")
            count[name] += 1
            numbered = name if count[name] == 1 else f"{name} ({count[name]})"
            found[query] = numbered if name else f"query {query}"
    return found


def _from_solution(dataset: Dataset) -> Parts:
    rows = dataset.solution[dataset.solution["Usage"] != "Ignored"]
    gallery = dataset.index
    known = set(gallery["id"])
    lists = zip(rows["id"], rows["images"], strict=True)
    relevant = {query: known.intersection(images.split()) for query, images in lists}
    rows = rows[[bool(relevant[query]) for query in rows["id"]]]
    if rows.empty:
        raise ValueError(
            f"{SOLUTION} in {dataset.root} has no Public or Private query with an image in the "
            "index: check that both are from the same release."
        )
    queries = _queries("test", rows["id"], rows["Usage"])
    tagged = gallery[gallery["country"] != OTHER].set_index("id")
    tagged_ids = set(tagged.index)
    first = [min(relevant[query] & tagged_ids, default=None) for query in queries["id"]]
    for column in ("country", "continent"):
        values = tagged[column].to_dict()
        queries[column] = [values.get(image, OTHER) for image in first]
    trained = set(dataset.landmarks["category"]) - {""}
    if trained and (gallery["category"] != "").any():
        # Training and index number their landmarks apart, so these are compared by category.
        shown = set(gallery.loc[gallery["category"].isin(trained), "id"])
        queries["is_seen"] = [not shown.isdisjoint(relevant[query]) for query in queries["id"]]
    gallery = gallery.assign(path=image_paths("index", gallery["id"]))
    columns = ["id", "path", "landmark_id", "category", "country", "continent"]
    return queries, gallery[columns], relevant, np.empty(0, dtype=np.int64)


def _held_out(dataset: Dataset, generator: np.random.Generator, share: float, most: int) -> Parts:
    """One query of each held-out landmark, two from eight images on; the rest is gallery."""
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
    position = images.groupby("landmark_id").cumcount()
    size = images["landmark_id"].map(counts)
    is_query = (position == 0) | ((position == 1) & (size >= 8))
    chosen, relevant = images[is_query], images[~is_query]
    others = clean[~is_held]
    # Other landmarks, which stay in training, give the gallery as many distractors again.
    distractors = others.sample(min(len(relevant), len(others)), random_state=generator)
    gallery = pd.concat([relevant, distractors]).sort_values("id", ignore_index=True)
    chosen = chosen.sort_values("id", ignore_index=True)
    few = min(1, number - 1)  # of a single landmark all queries are Private, which are reported
    public = generator.permutation(held_out)[: max(few, number // 3)]  # as 379 to 750 in GLDv2
    usage = np.where(chosen["landmark_id"].isin(public), "Public", "Private")
    tags = dataset.landmarks.set_index("landmark_id")
    queries = _queries("train", chosen["id"], usage)
    gallery["category"] = tags.loc[gallery["landmark_id"], "category"].to_numpy()
    for table, landmarks in ((queries, chosen["landmark_id"]), (gallery, gallery["landmark_id"])):
        for column in ("country", "continent"):
            table[column] = tags.loc[landmarks, column].to_numpy()
    queries["is_seen"] = False
    gallery.insert(1, "path", image_paths("train", gallery["id"]))
    of_landmark = relevant.groupby("landmark_id")["id"].agg(set)
    of_query = dict(zip(chosen["id"], of_landmark.loc[chosen["landmark_id"]], strict=True))
    return queries, gallery, of_query, held_out


def _queries(split: str, ids: pd.Series, usage: pd.Series | np.ndarray) -> pd.DataFrame:
    columns = {"id": ids, "path": image_paths(split, ids), "usage": usage}
    return pd.DataFrame(columns).reset_index(drop=True)

"""Writes the miniature world as a folder in GLDv2's layout.

It replaces 500 GB of photographs, so that the results of both papers can be reproduced on a laptop:
landmarks on all continents, some with an interior or a back, raw labels with planted noise, a clean
list that is purer but smaller, a gallery with distractors, Public, Private and Ignored queries.
`truth.csv` tells what each image shows: only scoring may read it.
"""

import dataclasses
import os
from pathlib import Path
from urllib.parse import quote

import cv2
import joblib
import pandas as pd

from lib.artifacts import (
    atomic_path,
    end_with,
    fingerprint,
    locked,
    progress,
    read_json_or_none,
    remove_leftovers,
    rng,
    write_csv,
    write_json,
)
from lib.config import WorldConfig
from lib.miniworld.junk import draw_junk
from lib.miniworld.photograph import take_photograph
from lib.miniworld.plan import EDITION, Plan, make_plan
from lib.miniworld.surroundings import make_place

MANIFEST = "world.json"
COMMONS = "http://commons.wikimedia.org/wiki/Category:"
# Of distance, crop and occlusion: photographs to be found are harder than those to learn from.
DIFFICULTY = {"train": 0.4, "index": 0.6, "test": 0.65}


def generate(root: str | Path, config: WorldConfig, *, jobs: int = 2) -> Path:
    """Draw the world of `config` into the folder `root` and return it.

    Does nothing when `root` already holds this world, and replaces another world. The result
    depends on `config` alone, not on the number of processes `jobs`; an interrupted run leaves
    nothing behind.

    Raises:
        ValueError: if `root` holds something else, or the config is too small.
    """
    root = Path(root)
    key = fingerprint(config, EDITION)
    with locked(root):
        if not _is_drawn(root, key):
            _draw(root, config, key, jobs)
    return root


def _is_drawn(root: Path, key: str) -> bool:
    manifest = root / MANIFEST
    if manifest.is_file():
        found = read_json_or_none(manifest)
        return isinstance(found, dict) and found.get("key") == key
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(
            f"expected {root} to be absent, empty or a miniature world, found other files; "
            "give the world a folder of its own"
        )
    return False


def _draw(root: Path, config: WorldConfig, key: str, jobs: int) -> None:
    remove_leftovers(root.parent.iterdir())
    plan = make_plan(config)
    counts = plan.images["split"].value_counts().to_dict()
    manifest = {"key": key, "config": dataclasses.asdict(config), "images": counts}
    with atomic_path(root) as folder:
        folder.mkdir()
        _draw_images(folder, plan, config, jobs)
        # The same world has the same times, so that results made elsewhere count as its own.
        drawn = int(key[:7], 16)
        for image in folder.rglob("*.jpg"):
            os.utime(image, (drawn, drawn))
        _write_tables(folder, plan, config)
        write_json(manifest, folder / MANIFEST)


def _draw_images(folder: Path, plan: Plan, config: WorldConfig, jobs: int) -> None:
    # One task per place, so that each place is built once; the large ones go first.
    groups = sorted(plan.images.groupby("place"), key=lambda group: -len(group[1]))
    tasks = (
        joblib.delayed(_draw_place)(
            folder, config, place, None if place < 0 else plan.places.iloc[place], images
        )
        for place, images in groups
    )
    with joblib.parallel_config("loky", initializer=end_with, initargs=(os.getpid(),)):
        workers = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        done = (image for count in workers(tasks) for image in range(count))
        for _ in progress(done, "drawing the miniature world", total=len(plan.images)):
            pass


def _draw_place(
    folder: Path, config: WorldConfig, number: int, row: pd.Series | None, images: pd.DataFrame
) -> int:
    """Take all photographs of one place, or of junk if `row` is None; return how many."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    if row is not None:
        generator = rng(config.seed, "place", number)
        place = make_place(row["country"], row["kind"], row["second"], generator)
    for image in images.itertuples():
        generator = rng(config.seed, "photograph", image.id)
        if row is None:
            pixels = draw_junk(image.shows, config.image_size, generator)
        else:
            pixels = take_photograph(
                place, image.view, config.image_size, generator,
                difficulty=DIFFICULTY[image.split], detail=image.detail,
            )  # fmt: skip
        path = folder / image.split / Path(*image.id[:3], f"{image.id}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(generator.integers(72, 95))]
        # Not by cv2.imwrite, which gives no error on a full disk.
        _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
        path.write_bytes(data)
    cv2.setNumThreads(threads)
    return len(images)


def _write_tables(folder: Path, plan: Plan, config: WorldConfig) -> None:
    places = plan.places
    order = rng(config.seed, "tables").permutation(len(plan.images))
    images = plan.images.iloc[order].reset_index(drop=True)
    train, index, test = (images[images["split"] == name] for name in ("train", "index", "test"))

    landmarks = places["train_id"].to_numpy()[train["labelled"]]
    train = train.assign(url="", landmark_id=landmarks)
    write_csv(train[["id", "url", "landmark_id"]], folder / "train.csv")
    clean = train[train["is_clean"]].groupby("landmark_id", sort=False)["id"].agg(" ".join)
    write_csv(clean.rename("images").reset_index(), folder / "train_clean.csv")
    for column, split in (("train_id", "train"), ("index_id", "index")):
        known = places[places[column] >= 0].sort_values(column)
        urls = [COMMONS + _category(name) for name in known["name"]]
        categories = pd.DataFrame({"landmark_id": known[column], "category": urls})
        write_csv(categories, folder / f"{split}_label_to_category.csv")
    _write_countries(places[places["train_id"] >= 0], folder)

    write_csv(index[["id"]], folder / "index.csv")
    labelled = index[index["labelled"] >= 0]
    landmarks = places["index_id"].to_numpy()[labelled["labelled"]]
    labelled = labelled.assign(landmark_id=landmarks)
    write_csv(labelled[["id", "landmark_id"]], folder / "index_image_to_landmark.csv")
    write_csv(test[["id"]], folder / "test.csv")
    relevant = labelled.groupby("labelled")["id"].agg(" ".join)
    answers = test["labelled"].map(relevant).fillna("None")
    solution = pd.DataFrame({"id": test["id"], "images": answers, "Usage": test["usage"]})
    write_csv(solution, folder / "retrieval_solution_v2.1.csv")
    example = " ".join(index["id"].iloc[:3])
    write_csv(test[["id"]].assign(images=example), folder / "sample_submission.csv")
    write_csv(images[["id", "split", "planted", "shows", "view"]], folder / "truth.csv")


def _write_countries(places: pd.DataFrame, folder: Path) -> None:
    codes = sorted(places["country"].unique())
    write_json(codes, folder / "country_codes.json")
    for code in codes:
        rows = places[places["country"] == code]
        entries = [
            {"id": int(number), "name": _category(name)}
            for number, name in zip(rows["train_id"], rows["name"], strict=True)
        ]
        write_json(entries, folder / "country" / f"{code}.json")


def _category(name: str) -> str:
    """The percent-encoded title of a landmark's category on Wikimedia Commons."""
    return quote(name.replace(" ", "_"), safe=",'()")

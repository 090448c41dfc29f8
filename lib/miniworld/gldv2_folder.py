"""The miniature world: a whole dataset in GLDv2's own layout, drawn from a seed in a minute.

It stands in for 500 GB, so that every claim of both papers can be seen on a laptop: landmarks on
all continents, some with an interior or a second face, raw labels with planted noise, a clean list
that is purer but smaller, a gallery with distractors, Public, Private and Ignored queries.
`plan` decides what there is, `photograph` takes the photographs; here the files are written.
`truth.csv` tells what each image really shows: only scoring may read it.
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
from lib.miniworld.photograph import photograph
from lib.miniworld.plan import EDITION, Plan, make_plan
from lib.miniworld.surroundings import make_place

MANIFEST = "world.json"
COMMONS = "http://commons.wikimedia.org/wiki/Category:"
# How far distance, crop and occlusion go; photographs to be found are harder than those to learn.
HARDNESS = {"train": 0.4, "index": 0.6, "test": 0.65}


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
    """Whether `root` holds the world of `key`.

    Raises:
        ValueError: if it holds something else than a world.
    """
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
    with atomic_path(root) as folder:
        folder.mkdir()
        _draw_images(folder, plan, config, jobs)
        _write_tables(folder, plan, config)
        counts = plan.images["split"].value_counts().to_dict()
        write_json(
            {"key": key, "config": dataclasses.asdict(config), "images": counts}, folder / MANIFEST
        )


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
    folder: Path, config: WorldConfig, key: int, row: pd.Series | None, images: pd.DataFrame
) -> int:
    """Take all photographs of one place, or of the junk when there is none; return how many."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    if row is not None:
        place = make_place(
            row["country"], row["kind"], row["second"], rng(config.seed, "place", key)
        )
    for image in images.itertuples():
        dice = rng(config.seed, "photograph", image.id)
        if row is None:
            pixels = draw_junk(image.shows, config.image_size, dice)
        else:
            pixels = photograph(
                place, image.view, config.image_size, dice,
                hard=HARDNESS[image.split], spot=image.spot,
            )  # fmt: skip
        path = folder / _image_path(image.split, image.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(dice.integers(72, 95))]
        # Not by cv2.imwrite, which is silent about a full disk.
        _, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
        path.write_bytes(data)
    cv2.setNumThreads(threads)
    return len(images)


def _image_path(split: str, name: str) -> Path:
    return Path(split, *name[:3], f"{name}.jpg")


def _write_tables(folder: Path, plan: Plan, config: WorldConfig) -> None:
    places, images = plan.places, plan.images
    dice = rng(config.seed, "tables")
    images = images.iloc[dice.permutation(len(images))].reset_index(drop=True)
    parts = {split: images[images["split"] == split] for split in ("train", "index", "test")}
    train_ids, index_ids = places["train_id"].to_numpy(), places["index_id"].to_numpy()

    train = parts["train"].assign(url="", landmark_id=train_ids[parts["train"]["filed"]])
    write_csv(train[["id", "url", "landmark_id"]], folder / "train.csv")
    clean = train[train["is_clean"]].groupby("landmark_id", sort=False)["id"].agg(" ".join)
    write_csv(clean.rename("images").reset_index(), folder / "train_clean.csv")
    _write_categories(places, "train_id", folder / "train_label_to_category.csv")
    _write_categories(places, "index_id", folder / "index_label_to_category.csv")
    _write_countries(places[places["train_id"] >= 0], folder)

    index, test = parts["index"], parts["test"]
    write_csv(index[["id"]], folder / "index.csv")
    labelled = index[index["filed"] >= 0]
    labelled = labelled.assign(landmark_id=index_ids[labelled["filed"]])
    write_csv(labelled[["id", "landmark_id"]], folder / "index_image_to_landmark.csv")
    write_csv(test[["id"]], folder / "test.csv")
    relevant = labelled.groupby("filed")["id"].agg(" ".join)
    answers = test["filed"].map(relevant).fillna("None")
    solution = pd.DataFrame({"id": test["id"], "images": answers, "Usage": test["usage"]})
    write_csv(solution, folder / "retrieval_solution_v2.1.csv")
    example = " ".join(index["id"].iloc[:3])
    write_csv(test[["id"]].assign(images=example), folder / "sample_submission.csv")
    write_csv(images[["id", "split", "planted", "shows", "view"]], folder / "truth.csv")


def _write_categories(places: pd.DataFrame, column: str, path: Path) -> None:
    known = places[places[column] >= 0].sort_values(column)
    urls = [COMMONS + _category(name) for name in known["name"]]
    write_csv(pd.DataFrame({"landmark_id": known[column], "category": urls}), path)


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
    """The percent-encoded title of a landmark's Wikimedia Commons category."""
    return quote(name.replace(" ", "_"), safe=",'()")

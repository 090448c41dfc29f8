"""What the miniature world contains, before anything is drawn.

Two tables: `places` (`lib.world.census`), and `images`, one row per photograph: its split, the
landmark it is filed under, the place or junk it really shows, the view, whether the clean list has
it. The shares follow what is told of GLDv2: noisy raw labels, and a purer clean list with fewer
images and classes.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.artifacts import fingerprint, rng
from lib.config import WorldConfig
from lib.world.census import continent_weights, draw_places, heavy_tailed_sizes
from lib.world.junk import JUNK

EDITION = 7  # raise it when the same config would give other pixels or tables
WRONG, JUNK_SHARE, CLEAN_SHARE = 0.12, 0.05, 0.38
IGNORED, PUBLIC = 0.10, 0.30


@dataclass(frozen=True)
class Plan:
    """Places and images of a world; `images.place` is a row of `places`, -1 for junk."""

    places: pd.DataFrame  # name, country, kind, second, role, train_id, index_id, photographs
    images: pd.DataFrame  # id, split, filed, place, planted, shows, view, spot, is_clean, usage


def make_plan(config: WorldConfig) -> Plan:
    """Decide everything but the pixels.

    Raises:
        ValueError: if the world is too small to hold what it is for.
    """
    if config.landmarks < 6 or config.raw_images < 6 * config.landmarks:
        raise ValueError(
            f"expected at least 6 landmarks with 6 raw images each, found {config.landmarks} "
            f"landmarks and {config.raw_images} raw images; enlarge the world"
        )
    if config.queries < 10 or config.gallery_images < 2 * config.queries:
        raise ValueError(
            f"expected at least 10 queries and twice as many gallery images, found "
            f"{config.queries} and {config.gallery_images}; enlarge the world"
        )
    places = draw_places(config)
    images = pd.concat(
        [_training_images(config, places), *_evaluation_images(config, places)], ignore_index=True
    )
    # Ids of another edition are others, so that nothing computed from its pixels is taken for ours.
    rows = range(len(images))
    images["id"] = [fingerprint(EDITION, config.seed, "image", row) for row in rows]
    names = np.append(places["name"].to_numpy(object), "")
    images["shows"] = images["shows"].where(images["shows"] != "", names[images["place"]])
    return Plan(places, images)


class _Roll:
    """A growing list of one split's photographs."""

    def __init__(self, split: str) -> None:
        self.split, self.rows = split, []

    def add(
        self, filed: int, place: int, view: str, *, planted: str = "none", shows: str = "",
        spot: int = 0, usage: str = "",
    ) -> None:  # fmt: skip
        self.rows.append((self.split, filed, place, planted, shows, view, spot, usage))

    def table(self) -> pd.DataFrame:
        names = ["split", "filed", "place", "planted", "shows", "view", "spot", "usage"]
        return pd.DataFrame(self.rows, columns=names)


def _view(places: pd.DataFrame, place: int, share: float, dice: np.random.Generator) -> str:
    second = places["second"].iat[place]
    return second if second and dice.random() < share else "front"


def _training_images(config: WorldConfig, places: pd.DataFrame) -> pd.DataFrame:
    dice = rng(config.seed, "train")
    roll, trained = _Roll("train"), config.landmarks
    sizes = places["photographs"].to_numpy()[:trained]
    country = places["country"].to_numpy(object)
    unlisted = np.flatnonzero(places["role"] == "other")
    for place, size in enumerate(sizes):
        second_share = dice.uniform(0.2, 0.42)
        neighbours = np.flatnonzero(country[:trained] == country[place])
        neighbours = neighbours[neighbours != place]
        details: list[int] = []
        for spot in range(min(4, int(size >= 12) + int(size >= 30) + int(size >= 60))):
            details += [spot] * int(dice.integers(2, 5))
        for number in range(size):
            luck = dice.random()
            if luck < WRONG:
                pool, pick = np.arange(trained), dice.random()
                if pick < 0.3 and len(neighbours):
                    pool = neighbours
                elif pick > 0.8:
                    pool = unlisted
                other = int(dice.choice(pool[pool != place]))
                roll.add(place, other, _view(places, other, 0.2, dice), planted="wrong")
            elif luck < WRONG + JUNK_SHARE:
                roll.add(place, -1, "junk", planted="junk", shows=str(dice.choice(list(JUNK))))
            elif number < len(details):
                roll.add(place, place, "detail", spot=details[number])
            else:
                roll.add(place, place, _view(places, place, second_share, dice))
    table = roll.table()
    table["is_clean"] = _choose_clean(table, sizes, dice)
    return table


def _choose_clean(table: pd.DataFrame, sizes: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Mark the clean list: 40 % of the landmarks, as GLDv2's, hardly noise or minority views."""
    chances = np.log(sizes) + 0.5 * dice.normal(size=len(sizes))
    kept = chances >= np.quantile(chances, 0.6)
    luck = dice.random(len(table))
    listed = kept[table["filed"]]
    is_true = table["planted"].eq("none").to_numpy()
    is_front = is_true & table["view"].eq("front").to_numpy()
    is_clean = listed & ~is_front & (luck < np.where(is_true, 0.05, 0.015))
    fronts = np.flatnonzero(listed & is_front)
    wanted = round(CLEAN_SHARE * len(table)) - is_clean.sum()
    # Every listed landmark keeps two fronts; the rest of the list is drawn from all of them.
    rank = pd.Series(luck[fronts]).groupby(table["filed"].to_numpy()[fronts]).rank().to_numpy()
    order = np.argsort(np.where(rank <= 2, -1.0, luck[fronts]), kind="stable")
    is_clean[fronts[order[:wanted]]] = True
    return is_clean


def _evaluation_images(
    config: WorldConfig, places: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    dice = rng(config.seed, "evaluation")
    gallery, queries = _Roll("index"), _Roll("test")
    evaluated = np.flatnonzero(places["index_id"] >= 0)
    others = np.flatnonzero(places["role"] == "other")
    labelled = max(4 * len(evaluated), round(config.gallery_images * 0.66))
    labelled = min(labelled, config.gallery_images - 4)
    for place, size in zip(
        evaluated, heavy_tailed_sizes(len(evaluated), labelled, 2, 0.8, dice), strict=True
    ):
        second = places["second"].iat[place]
        for number in range(size):
            # A second face comes at least twice, so that its queries have something to find.
            view = second if second and 1 <= number <= 2 else _view(places, place, 0.2, dice)
            gallery.add(int(place), int(place), view)
    free = config.gallery_images - labelled
    strangers = others[:-3] if len(others) > 4 else others[:1]
    for number in range(free):
        if dice.random() < 0.3:
            gallery.add(-1, -1, "junk", planted="junk", shows=str(dice.choice(list(JUNK))))
        else:
            other = int(strangers[number % len(strangers)])
            gallery.add(-1, other, _view(places, other, 0.2, dice))

    ignored = max(1, round(config.queries * IGNORED))
    asked = config.queries - ignored
    public = np.zeros(asked, bool)
    public[dice.permutation(asked)[: max(1, round(asked * PUBLIC))]] = True
    weight = continent_weights(places["country"].iloc[evaluated]).to_numpy()
    first = dice.permutation(evaluated)[:asked]
    more = dice.choice(evaluated, asked - len(first), p=weight / weight.sum())
    for place, is_public in zip(np.concatenate([first, more]), public, strict=True):
        view = _view(places, place, 0.2, dice)
        queries.add(int(place), int(place), view, usage="Public" if is_public else "Private")
    for number in range(ignored):
        if number % 2:
            other = int(others[-1 - number // 2 % 3])
            queries.add(-1, other, "front", usage="Ignored")
        else:
            junk = str(dice.choice(list(JUNK)))
            queries.add(-1, -1, "junk", planted="junk", shows=junk, usage="Ignored")
    return gallery.table().assign(is_clean=False), queries.table().assign(is_clean=False)

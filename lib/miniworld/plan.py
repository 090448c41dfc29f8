"""The places of the miniature world: how many, where, of what kind and how much photographed.

Training is weighted towards Europe and North America, evaluation towards Asia (GLR21 §2.2), and a
few landmarks have most of the photographs, as in GLDv2.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from lib.artifacts import fingerprint, rng
from lib.config import WorldConfig
from lib.miniworld.countries import COUNTRIES, NOUNS
from lib.miniworld.junk import JUNK

CONTINENTS = {
    "Europe": "FR ES IT GB DE SE RU XK GR",
    "North America": "US US CA MX",
    "Asia": "CN JP IN TH IR TR",
    "Africa": "EG MA ET NA",
    "South America": "PE BR",
    "Oceania": "AU NZ",
    "Antarctica": "AQ",
    "OTHER": "OTHER",
}
TRAIN_SHARES = dict(zip(CONTINENTS, (0.39, 0.22, 0.20, 0.09, 0.05, 0.03, 0.01, 0.01), strict=True))
EVALUATION_SHARES = dict(
    zip(CONTINENTS, (0.20, 0.10, 0.49, 0.15, 0.02, 0.02, 0.01, 0.01), strict=True)
)
# Present in every world that has room, because each has broken somebody's reader: an accent and a
# comma in every name, "NA" read as missing, codes that continent tables lack.
ALWAYS = ("SE", "NA", "XK", "AQ", "OTHER")
# Kinds that one can walk into.
ROOMY = (
    *("church", "palace", "castle", "mosque", "temple", "pagoda", "museum", "arena"),
    *("highrise", "station", "gopuram"),
)
MOST = 0.04  # of all images show one landmark at most, or six times the mean if that is more
SECOND_FACE = 0.36  # of the places have an interior or a back


def heavy_tailed_sizes(
    count: int, total: int, smallest: int, spread: float, dice: np.random.Generator
) -> np.ndarray:
    """Divide `total` into `count` log-normal shares of at least `smallest`, in random order."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)]
    weights = dice.permutation(np.exp(spread * np.array(quantiles)))
    weights = np.minimum(weights, max(6 * weights.mean(), MOST * weights.sum()))
    free = total - smallest * count
    exact = weights / weights.sum() * free
    sizes = np.floor(exact).astype(int)
    sizes[np.argsort(sizes - exact)[: free - sizes.sum()]] += 1
    return sizes + smallest


# Of GLDv2's index images 91 % carry a category of the training set (GLR21's list `all`).
UNSEEN = 0.1


def _draw_countries(count: int, shares: dict[str, float], dice: np.random.Generator) -> list[str]:
    continents = dice.choice(list(shares), size=count, p=list(shares.values()))
    return [str(dice.choice(CONTINENTS[name].split())) for name in continents]


def _name(country: str, kind: str, taken: set[str], dice: np.random.Generator) -> str:
    style = COUNTRIES[country if country in COUNTRIES else str(dice.choice(list(COUNTRIES)))]
    nouns = dict(pair.split("=") for pair in f"{NOUNS} {style.nouns}".split())
    attempt = 0
    while True:
        attempt += 1
        stem = str(dice.choice(style.starts.split())) + str(dice.choice(style.ends.split()))
        if dice.random() < 0.35:
            stem = f"{dice.choice(style.epithets.split())} {stem}"
        # In a world so large that a country runs out of names, they are numbered.
        stem = f"{stem} {attempt}" if attempt > 50 else stem
        name = style.pattern.format(name=stem, noun=nouns[kind]).replace("_", " ")
        if name not in taken:
            taken.add(name)
            return name


def draw_places(config: WorldConfig) -> pd.DataFrame:
    """Draw all places; a landmark without training images or outside the gallery has id -1 there.

    Columns: name, country, kind, second, role (train, unseen, other), train_id, index_id and
    photographs, the number of its training images.
    """
    dice = rng(config.seed, "places")
    trained = config.landmarks
    labelled = max(4, round(config.gallery_images * 0.66 / 14))
    unseen = max(1, round(labelled * UNSEEN))
    others = max(2, round(config.gallery_images * 0.34 * 0.7 / 5)) + 3
    fixed = list(ALWAYS) if trained >= 2 * len(ALWAYS) else []
    countries = fixed + _draw_countries(trained - len(fixed), TRAIN_SHARES, dice)
    countries += _draw_countries(unseen + others, EVALUATION_SHARES, dice)
    taken: set[str] = set()
    rows = []
    for country in countries:
        style = COUNTRIES[country if country in COUNTRIES else str(dice.choice(list(COUNTRIES)))]
        kind = str(dice.choice(style.kinds.split()))
        second = ""
        if dice.random() < SECOND_FACE:
            second = "interior" if kind in ROOMY and dice.random() < 0.7 else "back"
        rows.append((_name(country, kind, taken, dice), country, kind, second))
    places = pd.DataFrame(rows, columns=["name", "country", "kind", "second"])
    places["role"] = ["train"] * trained + ["unseen"] * unseen + ["other"] * others
    # Ids are drawn from GLDv2's range, and the gallery numbers its landmarks differently.
    places["train_id"] = places["index_id"] = -1
    places.loc[: trained - 1, "train_id"] = dice.choice(203_094, trained, replace=False)
    places["photographs"] = 0
    sizes = heavy_tailed_sizes(trained, config.raw_images, 2, config.spread, dice)
    places.loc[: trained - 1, "photographs"] = sizes
    seen = _draw_seen(places[:trained], labelled - unseen, dice)
    chosen = np.concatenate([seen, np.arange(trained, trained + unseen)])
    places.loc[chosen, "index_id"] = dice.choice(101_302, len(chosen), replace=False)
    return places


def continent_weights(countries: pd.Series) -> pd.Series:
    """Weights under which continents come up with the evaluation's shares."""
    home = countries.map({c: name for name, codes in CONTINENTS.items() for c in codes.split()})
    return home.map(EVALUATION_SHARES) / home.map(home.value_counts())


def _draw_seen(places: pd.DataFrame, count: int, dice: np.random.Generator) -> np.ndarray:
    """Choose which trained landmarks are evaluated.

    By the evaluation's shares of continents, and within a continent rather the famous ones.
    """
    weight = continent_weights(places["country"]) * places["photographs"]
    count = min(count, len(places))
    return np.sort(dice.choice(len(places), count, replace=False, p=weight / weight.sum()))


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

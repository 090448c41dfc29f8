"""Everything about the miniature world but the pixels: its places, and what each photograph shows.

The shares follow GLDv2: raw labels are noisy, the clean list is purer with fewer images and
classes, a few landmarks have most photographs. Training is weighted towards Europe and North
America, evaluation towards Asia (GLR21, the 2nd place of Google Landmark Retrieval 2021, §2.2).
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import pandas as pd

from lib.artifacts import fingerprint, rng
from lib.config import WorldConfig
from lib.miniworld.countries import NOUNS, find_country
from lib.miniworld.junk import JUNK

EDITION = 7  # raise it when the same config gives other pixels or tables
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
# Countries of every world that has room for them, because each is hard to read: an accent and a
# comma in every name, "NA" taken for a missing value, codes that continent tables lack.
REQUIRED_COUNTRIES = ("SE", "NA", "XK", "AQ", "OTHER")
KINDS_WITH_INTERIOR = (
    *("church", "palace", "castle", "mosque", "temple", "pagoda", "museum", "arena"),
    *("highrise", "station", "gopuram"),
)
# Shares of the places.
WITH_SECOND_VIEW = 0.36  # an interior or a back
UNSEEN = 0.1  # of the evaluated; 91 % of GLDv2's index images have a category of the training set
# Shares of the images.
MAX_SHARE = 0.04  # of one landmark, or six times the mean if that is more
WRONG, JUNK_SHARE, CLEAN_SHARE = 0.12, 0.05, 0.38  # of the training images
IGNORED, PUBLIC = 0.10, 0.30  # of the queries


@dataclass(frozen=True)
class Plan:
    """Places and images of a world.

    An image's `labelled` and `place` are row numbers of `places`: its label, and what it shows. -1
    means none.
    """

    places: pd.DataFrame  # name, country, kind, second, role, train_id, index_id, photographs
    images: (
        pd.DataFrame
    )  # id, split, labelled, place, planted, shows, view, detail, is_clean, usage


def make_plan(config: WorldConfig) -> Plan:
    """Draw places and images.

    Raises:
        ValueError: if the world is too small for its parts.
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
    # Ids change with the edition, so that results computed from other pixels are never reused.
    rows = range(len(images))
    images["id"] = [fingerprint(EDITION, config.seed, "image", row) for row in rows]
    names = np.append(places["name"].to_numpy(object), "")
    images["shows"] = images["shows"].where(images["shows"] != "", names[images["place"]])
    return Plan(places, images)


def draw_places(config: WorldConfig) -> pd.DataFrame:
    """Draw all places; a landmark without training images or outside the gallery has id -1 there.

    Columns: name, country, kind, second (view: back, interior or none), role (train, unseen,
    other), train_id, index_id and photographs, the number of its training images.
    """
    generator = rng(config.seed, "places")
    trained = config.landmarks
    labelled = max(4, round(config.gallery_images * 0.66 / 14))
    unseen = max(1, round(labelled * UNSEEN))
    others = max(2, round(config.gallery_images * 0.34 * 0.7 / 5)) + 3
    codes = list(REQUIRED_COUNTRIES) if trained >= 2 * len(REQUIRED_COUNTRIES) else []
    for shares, total in ((TRAIN_SHARES, trained), (EVALUATION_SHARES, trained + unseen + others)):
        drawn = generator.choice(list(shares), size=total - len(codes), p=list(shares.values()))
        codes += [str(generator.choice(CONTINENTS[name].split())) for name in drawn]
    taken: set[str] = set()
    rows = []
    for code in codes:
        country = find_country(code, generator)
        kind = str(generator.choice(country.kinds.split()))
        second = ""
        if generator.random() < WITH_SECOND_VIEW:
            has_interior = kind in KINDS_WITH_INTERIOR and generator.random() < 0.7
            second = "interior" if has_interior else "back"
        rows.append((_draw_name(code, kind, taken, generator), code, kind, second))
    places = pd.DataFrame(rows, columns=["name", "country", "kind", "second"])
    places["role"] = ["train"] * trained + ["unseen"] * unseen + ["other"] * others
    # Ids are drawn from GLDv2's range, and the gallery numbers its landmarks differently.
    places["train_id"] = places["index_id"] = -1
    places.loc[: trained - 1, "train_id"] = generator.choice(203_094, trained, replace=False)
    places["photographs"] = 0
    sizes = _heavy_tailed_sizes(trained, config.raw_images, config.spread, generator)
    places.loc[: trained - 1, "photographs"] = sizes
    # Evaluated are the unseen landmarks, and trained ones drawn by the evaluation's shares of
    # continents, within a continent by their number of photographs.
    weight = _continent_weights(places["country"][:trained]) * places["photographs"][:trained]
    count = min(labelled - unseen, trained)
    seen = generator.choice(trained, count, replace=False, p=weight / weight.sum())
    evaluated = np.concatenate([np.sort(seen), np.arange(trained, trained + unseen)])
    places.loc[evaluated, "index_id"] = generator.choice(101_302, len(evaluated), replace=False)
    return places


def _draw_name(code: str, kind: str, taken: set[str], generator: np.random.Generator) -> str:
    """Draw a name that is not in `taken`, and add it there."""
    country = find_country(code, generator)
    nouns = dict(pair.split("=") for pair in f"{NOUNS} {country.nouns}".split())
    starts, ends = country.starts.split(), country.ends.split()
    attempt = 0
    while True:
        attempt += 1
        stem = str(generator.choice(starts)) + str(generator.choice(ends))
        if generator.random() < 0.35:
            stem = f"{generator.choice(country.epithets.split())} {stem}"
        # In a world so large that a country runs out of names, they are numbered.
        stem = f"{stem} {attempt}" if attempt > 50 else stem
        name = country.pattern.format(name=stem, noun=nouns[kind]).replace("_", " ")
        if name not in taken:
            taken.add(name)
            return name


def _heavy_tailed_sizes(
    count: int, total: int, spread: float, generator: np.random.Generator
) -> np.ndarray:
    """Divide `total` into `count` log-normal shares of at least 2, in random order."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / count) for i in range(count)]
    weights = generator.permutation(np.exp(spread * np.array(quantiles)))
    weights = np.minimum(weights, max(6 * weights.mean(), MAX_SHARE * weights.sum()))
    free = total - 2 * count
    exact = weights / weights.sum() * free
    sizes = np.floor(exact).astype(int)
    sizes[np.argsort(sizes - exact)[: free - sizes.sum()]] += 1
    return sizes + 2


def _continent_weights(countries: pd.Series) -> pd.Series:
    """Weights by which drawn places have the evaluation's shares of continents."""
    home = countries.map({c: name for name, codes in CONTINENTS.items() for c in codes.split()})
    return home.map(EVALUATION_SHARES) / home.map(home.value_counts())


class _ImageRows:
    """A growing list of one split's photographs."""

    def __init__(self, split: str) -> None:
        self.split, self.rows = split, []

    def add(
        self, labelled: int, place: int, view: str, *, planted: str = "none", shows: str = "",
        detail: int = 0, usage: str = "",
    ) -> None:  # fmt: skip
        self.rows.append((self.split, labelled, place, planted, shows, view, detail, usage))

    def add_junk(self, labelled: int, generator: np.random.Generator, usage: str = "") -> None:
        shows = str(generator.choice(list(JUNK)))
        self.add(labelled, -1, "junk", planted="junk", shows=shows, usage=usage)

    def table(self) -> pd.DataFrame:
        names = ["split", "labelled", "place", "planted", "shows", "view", "detail", "usage"]
        return pd.DataFrame(self.rows, columns=names)


def _draw_view(
    places: pd.DataFrame, place: int, share: float, generator: np.random.Generator
) -> str:
    """Draw the front or, with probability `share`, the place's second view if it has one."""
    second = places["second"].iat[place]
    return second if second and generator.random() < share else "front"


def _training_images(config: WorldConfig, places: pd.DataFrame) -> pd.DataFrame:
    generator = rng(config.seed, "train")
    images, trained = _ImageRows("train"), config.landmarks
    sizes = places["photographs"].to_numpy()[:trained]
    country = places["country"].to_numpy(object)
    unlisted = np.flatnonzero(places["role"] == "other")
    for place, size in enumerate(sizes):
        second_share = generator.uniform(0.2, 0.42)
        neighbours = np.flatnonzero(country[:trained] == country[place])
        neighbours = neighbours[neighbours != place]
        details: list[int] = []
        for detail in range(min(4, int(size >= 12) + int(size >= 30) + int(size >= 60))):
            details += [detail] * int(generator.integers(2, 5))
        for number in range(size):
            chance = generator.random()
            if chance < WRONG:
                pool, pick = np.arange(trained), generator.random()
                if pick < 0.3 and len(neighbours):
                    pool = neighbours
                elif pick > 0.8:
                    pool = unlisted
                other = int(generator.choice(pool[pool != place]))
                view = _draw_view(places, other, 0.2, generator)
                images.add(place, other, view, planted="wrong")
            elif chance < WRONG + JUNK_SHARE:
                images.add_junk(place, generator)
            elif number < len(details):
                images.add(place, place, "detail", detail=details[number])
            else:
                images.add(place, place, _draw_view(places, place, second_share, generator))
    table = images.table()
    table["is_clean"] = _choose_clean(table, sizes, generator)
    return table


def _choose_clean(
    table: pd.DataFrame, sizes: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Mark the clean list: 40 % of the landmarks, as in GLDv2, few errors and second views."""
    weights = np.log(sizes) + 0.5 * generator.normal(size=len(sizes))
    is_listed = (weights >= np.quantile(weights, 0.6))[table["labelled"]]
    order = generator.random(len(table))
    is_right = table["planted"].eq("none").to_numpy()
    is_front = is_right & table["view"].eq("front").to_numpy()
    is_clean = is_listed & ~is_front & (order < np.where(is_right, 0.05, 0.015))
    fronts = np.flatnonzero(is_listed & is_front)
    wanted = round(CLEAN_SHARE * len(table)) - is_clean.sum()
    # Every listed landmark keeps two fronts; the rest of the list is drawn from all of them.
    order = order[fronts]
    rank = pd.Series(order).groupby(table["labelled"].to_numpy()[fronts]).rank().to_numpy()
    first = np.argsort(np.where(rank <= 2, -1.0, order), kind="stable")
    is_clean[fronts[first[:wanted]]] = True
    return is_clean


def _evaluation_images(
    config: WorldConfig, places: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    generator = rng(config.seed, "evaluation")
    gallery, queries = _ImageRows("index"), _ImageRows("test")
    evaluated = np.flatnonzero(places["index_id"] >= 0)
    others = np.flatnonzero(places["role"] == "other")
    labelled = max(4 * len(evaluated), round(config.gallery_images * 0.66))
    labelled = min(labelled, config.gallery_images - 4)
    sizes = _heavy_tailed_sizes(len(evaluated), labelled, 0.8, generator)
    for place, size in zip(evaluated, sizes, strict=True):
        second = places["second"].iat[place]
        for number in range(size):
            # A second view occurs at least twice, so that its queries have something to find.
            is_second = second and 1 <= number <= 2
            view = second if is_second else _draw_view(places, place, 0.2, generator)
            gallery.add(int(place), int(place), view)
    distractors = others[:-3] if len(others) > 4 else others[:1]
    for number in range(config.gallery_images - labelled):
        if generator.random() < 0.3:
            gallery.add_junk(-1, generator)
        else:
            other = int(distractors[number % len(distractors)])
            gallery.add(-1, other, _draw_view(places, other, 0.2, generator))

    ignored = max(1, round(config.queries * IGNORED))
    scored = config.queries - ignored
    is_public = np.zeros(scored, bool)
    is_public[generator.permutation(scored)[: max(1, round(scored * PUBLIC))]] = True
    weight = _continent_weights(places["country"].iloc[evaluated]).to_numpy()
    first = generator.permutation(evaluated)[:scored]
    more = generator.choice(evaluated, scored - len(first), p=weight / weight.sum())
    usages = np.where(is_public, "Public", "Private")
    for place, usage in zip(np.concatenate([first, more]), usages, strict=True):
        view = _draw_view(places, place, 0.2, generator)
        queries.add(int(place), int(place), view, usage=str(usage))
    for number in range(ignored):
        if number % 2:
            queries.add(-1, int(others[-1 - number // 2 % 3]), "front", usage="Ignored")
        else:
            queries.add_junk(-1, generator, "Ignored")
    return gallery.table().assign(is_clean=False), queries.table().assign(is_clean=False)

"""The places of the miniature world: how many, where, of what kind and how much photographed.

Training is weighted towards Europe and North America, evaluation towards Asia ([21] §2.2), and a
few landmarks have most of the photographs, as in GLDv2.
"""

from statistics import NormalDist

import numpy as np
import pandas as pd

from lib.artifacts import rng
from lib.config import WorldConfig
from lib.world.styles import COUNTRIES, NOUNS

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


# Of GLDv2's index images 91 % carry a category of the training set ([21]'s list `all`).
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

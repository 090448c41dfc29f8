"""Read one CSV file of a dataset strictly: named columns, right types, no repeated key.

Files of several million rows are ordinary here, so every check is a vectorised one, and a file
that fails is read a second time only to say where. Text stays text: "NA" is Namibia or a name,
never a missing value. What the tables mean together is left to `lib.data.gldv2`.

The files a scorer reads: the solution of the competition and a submission to it.

Both are CSV tables with one row per query and ids joined by spaces (`retrieval_solution_v2.1.csv`
and Kaggle's submission format). Errors name the file and the line."""

import csv
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

import pandas as pd

COMMONS = "http://commons.wikimedia.org/wiki/Category:"
ID_PATTERN = r"[0-9A-Za-z_-]{3,}"  # three characters name the folders of an image
ID_TEXT = r"[0-9A-Za-z_-]+"  # of an id in a list, which is compared only


def read_table(path: Path, columns: Mapping[str, type], *, key: str | None = None) -> pd.DataFrame:
    """Read the given `columns` of a CSV file, in that order.

    Args:
        path: The file; further columns in it are ignored.
        columns: Column name to `str` or `int`. A column called `id` must hold image ids.
        key: A column whose values may not repeat.

    Raises:
        ValueError: The file is missing, empty or no CSV, lacks a column, has a whole number or an
            image id that is none, or repeats a key.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: get it as data/README.md tells.")
    header = read_header(path)
    _check_header(path, header, list(columns))
    try:
        table = _parse(path, dict(columns))
    except pd.errors.ParserWarning:
        raise _no_csv(path, "Its rows have more fields than its header") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _no_csv(path, error) from None
    for name in [name for name, kind in columns.items() if kind is int]:
        _refuse(path, table, table[name] < 0, name, "which is negative: ids count from 0")
    if "id" in columns:
        wrong = ~table["id"].str.fullmatch(ID_PATTERN).astype(bool)
        _refuse(path, table, wrong, "id", "which is no image id such as 0123456789abcdef")
    if key is not None:
        repeated = table[key].duplicated()
        _refuse(path, table, repeated, key, "which an earlier row has already: remove one of them")
    return table


def explode_ids(table: pd.DataFrame, keep: str | list[str], path: Path) -> pd.DataFrame:
    """One row per image of a table whose column `images` has ids between spaces.

    Raises:
        ValueError: An image is listed twice, or something is listed that is no image id.
    """
    lists = [text.split() for text in table["images"]]
    ids = pd.Series([i for ids in lists for i in ids], dtype=table["images"].dtype, name="id")
    refuse_odd_ids(path, ids)
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise ValueError(
            f"{path} lists {len(repeated):,} images more than once ({first_of(repeated)}): "
            "an image can have one landmark only."
        )
    columns = table[[keep] if isinstance(keep, str) else keep]
    rows = columns.loc[columns.index.repeat([len(ids) for ids in lists])].reset_index(drop=True)
    return pd.concat([ids, rows], axis=1)


def refuse_odd_ids(path: Path, ids: pd.Series) -> None:
    """Refuse a list of images in which something is no id: commas, endings, paths, quotes.

    Raises:
        ValueError: Something is no image id.
    """
    wrong = ids[~ids.str.fullmatch(ID_TEXT).astype(bool)]
    if len(wrong):
        raise ValueError(
            f"{path} lists {wrong.iloc[0][:100]!r}, which is no image id such as 0123456789abcdef "
            f"(others like it: {len(wrong) - 1:,}): write ids alone, with spaces between them."
        )


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file.

    Raises:
        ValueError: The file is empty or no CSV.
    """
    try:
        rows = pd.read_csv(
            path, header=None, nrows=1, dtype=str, na_filter=False, encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: download it again.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _no_csv(path, error) from None
    return rows.iloc[0].tolist()


def _no_csv(path: Path, why: Exception | str) -> ValueError:
    why = str(why).strip().removeprefix("Error tokenizing data. C error: ")
    return ValueError(
        f"{path} is not readable as CSV ({why}): download it again, or, where ids have commas "
        "between them, write spaces."
    )


def category_name(url: str) -> str:
    """The name of a landmark as Wikimedia Commons writes it, from its category address.

    >>> category_name("http://commons.wikimedia.org/wiki/Category:Marb%C3%A4cks_kyrka,_Sweden")
    'Marbäcks_kyrka,_Sweden'
    """
    return unquote(url.rpartition("/Category:")[2]).replace(" ", "_")


def category_url(name: str) -> str:
    """The Wikimedia Commons address of a landmark's category, as GLDv2's tables have it.

    >>> category_url("Växsjö kyrka, Småland").rpartition("/")[2]
    'Category:V%C3%A4xsj%C3%B6_kyrka,_Sm%C3%A5land'
    """
    return COMMONS + quote(name.replace(" ", "_"), safe=",'()")


def first_of(values: pd.Series, most: int = 3) -> str:
    """The first few values, for a sentence about many.

    >>> first_of(pd.Series([4, 5, 6, 7]))
    '4, 5, 6 ...'
    """
    shown = ", ".join(str(value) for value in values.iloc[:most])
    return shown + (" ..." if len(values) > most else "")


def _check_header(path: Path, header: list[str], columns: list[str]) -> None:
    missing = [name for name in columns if name not in header]
    if not missing:
        return
    message = (
        f"{path} must have the columns {', '.join(columns)}, but {', '.join(missing)} is missing "
        f"from its header {', '.join(header)}: "
    )
    split = [name.strip() for name in re.split("[,;|\t]", ",".join(header))]
    if len(header) == 1 and set(missing) <= set(split):
        raise ValueError(message + "write commas between its columns.")
    if set(missing) <= set(split):
        raise ValueError(message + "take the spaces away from its names.")
    raise ValueError(message + "check where the file comes from.")


def _parse(path: Path, columns: dict[str, type]) -> pd.DataFrame:
    types = {name: "int64" if kind is int else str for name, kind in columns.items()}
    try:
        return _read_csv(path, types)
    except (ValueError, OverflowError) as error:
        if isinstance(error, pd.errors.ParserError | UnicodeDecodeError):
            raise
        text = _read_csv(path, dict.fromkeys(columns, str))
        for name in [name for name, kind in columns.items() if kind is int]:
            wrong = ~text[name].str.fullmatch(r"[0-9]{1,18}").astype(bool)
            _refuse(path, text, wrong, name, "which is no whole number from 0")
        raise


def _read_csv(path: Path, types: dict[str, type | str]) -> pd.DataFrame:
    # Of lists every column is read: pandas drops fields beyond the last that is asked for, so of
    # ids between commas it would keep the first. It only warns where they are in the first row.
    is_list = "images" in types
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # index_col=False: with one field too many per row, pandas would shift every column by one.
        table = pd.read_csv(
            path,
            usecols=None if is_list else list(types),
            dtype=types,
            na_filter=False,
            index_col=False,
            encoding="utf-8-sig",
        )
    return table[list(types)]


def _refuse(path: Path, table: pd.DataFrame, wrong: pd.Series, column: str, why: str) -> None:
    """Raise about the rows marked `wrong`, if there are any, naming the first."""
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise ValueError(
            f"{path} has {column} {table[column].iloc[row]!r} in data row {row + 1}, {why} "
            f"(rows like it: {int(wrong.sum()):,})."
        )


_SUBMISSION, _SOLUTION = ("id", "images"), ("id", "images", "Usage")
USAGES = ("Public", "Private")


def read_solution(path: str | Path) -> dict[str, dict[str, set[str]]]:
    """Read a solution file: usage (`Public`, `Private`) → query id → relevant gallery ids.

    `Ignored` rows are dropped before their images are looked at. Both usages are always there.

    Raises:
        ValueError: if columns, a usage or a row is not as in `retrieval_solution_v2.1.csv`.
    """
    solution: dict[str, dict[str, set[str]]] = {usage: {} for usage in USAGES}
    for line, query, row in _rows(path, _SOLUTION):
        if row["Usage"] == "Ignored":
            continue
        if row["Usage"] not in USAGES:
            raise ValueError(
                f"{path}, line {line}: expected usage Public, Private or Ignored, found"
                f" {row['Usage']!r}; mend that row"
            )
        relevant = set(_ids(row["images"], f"{path}, line {line}"))
        if not relevant:
            raise ValueError(
                f"{path}, line {line}: expected relevant images for query {query}, found none;"
                " mark the query Ignored"
            )
        solution[row["Usage"]][query] = relevant
    return solution


def read_ignored(path: str | Path) -> set[str]:
    """The query ids that a solution file marks as ignored."""
    rows = _rows(path, _SOLUTION)
    return {query for _, query, row in rows if row["Usage"] == "Ignored"}


def read_submission(path: str | Path) -> dict[str, list[str]]:
    """Read a submission file: query id → ranked gallery ids, [] where the row has none.

    Blank lines and spaces at the end of a row are tolerated.

    Raises:
        ValueError: if the header is not `id,images`, a query occurs twice, or a row has anything
            but ids between spaces: commas, endings such as .jpg, paths, a Python list.
    """
    rows = _rows(path, _SUBMISSION)
    return {query: _ids(row["images"], f"{path}, line {line}") for line, query, row in rows}


def read_groups(path: str | Path) -> dict[str, str]:
    """Read a file with the columns `id,group`: query id → group, such as its continent.

    Raises:
        ValueError: if the header is another or a query occurs twice.
    """
    rows = _rows(path, ("id", "group"))
    return {query: (row["group"] or "").strip() for _, query, row in rows}


def _ids(text: str | None, place: str) -> list[str]:
    """The ids of a cell."""
    ids = (text or "").split()
    wrong = next((found for found in ids if not re.fullmatch(ID_TEXT, found)), None)
    if wrong is not None:
        raise ValueError(
            f"{place}: expected image ids between spaces, found {wrong[:100]!r}; write ids alone,"
            " without commas, quotes, folders or .jpg"
        )
    return ids


def _rows(
    path: str | Path, columns: tuple[str, ...]
) -> Iterator[tuple[int, str, dict[str, str | None]]]:
    """Yield (line, id, row) of a table whose ids are distinct."""
    csv.field_size_limit(2**31 - 1)  # its default holds 7,710 ids
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(path, tuple(reader.fieldnames or ()), columns)
            yield from _checked(path, reader, columns)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: expected a CSV table, found something else near line"
                f" {reader.line_num + 1} ({error}); give the file itself, as UTF-8"
            ) from None


def _check_columns(path: str | Path, found: tuple[str, ...], columns: tuple[str, ...]) -> None:
    if found == columns:
        return
    hint = "write that header, with commas"
    if {found, columns} == {_SUBMISSION, _SOLUTION}:
        hint = "it seems that submission and solution are swapped"
    raise ValueError(
        f"{path}: expected the columns {','.join(columns)}, found"
        f" {','.join(found)[:200] or 'nothing'}; {hint}"
    )


def _checked(
    path: str | Path, reader: csv.DictReader, columns: tuple[str, ...]
) -> Iterator[tuple[int, str, dict[str, str | None]]]:
    seen = set()
    for row in reader:
        place = f"{path}, line {reader.line_num}"
        if None in row:
            raise ValueError(
                f"{place}: expected {len(columns)} fields, found"
                f" {len(columns) + len(row[None])}; write spaces between ids, no commas"
            )
        query = row["id"].strip()
        if not query and not (row[columns[1]] or "").strip():
            continue
        if [query] != _ids(query, place):
            raise ValueError(f"{place}: expected the id of a query, found {query!r}; mend that row")
        if query in seen:
            raise ValueError(
                f"{place}: expected every query once, found {query} again; keep one row"
            )
        seen.add(query)
        yield reader.line_num, query, row

"""The files a scorer reads: the solution of the competition and a submission to it.

Both are CSV tables with one row per query and ids joined by spaces (`retrieval_solution_v2.1.csv`
and Kaggle's submission format). Errors name the file and the line.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from lib.tables import ID_TEXT

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

"""The files a scorer reads: the solution of the competition and a submission to it.

Both are CSV tables with one row per query and ids joined by spaces (`retrieval_solution_v2.1.csv`
and Kaggle's submission format). Errors name the line.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

USAGES = ("Public", "Private")


def read_solution(path: str | Path) -> dict[str, dict[str, set[str]]]:
    """Read a solution file: usage (`Public`, `Private`) → query id → relevant gallery ids.

    `Ignored` rows are dropped before their images are looked at. Both usages are always there.

    Raises:
        ValueError: if columns, a usage or a row is not as in `retrieval_solution_v2.1.csv`.
    """
    solution: dict[str, dict[str, set[str]]] = {usage: {} for usage in USAGES}
    for line, query, row in _rows(path, ("id", "images", "Usage")):
        if row["Usage"] == "Ignored":
            continue
        if row["Usage"] not in USAGES:
            raise ValueError(
                f"{path}, line {line}: expected usage Public, Private or Ignored, found"
                f" {row['Usage']!r}; mend that row"
            )
        relevant = set((row["images"] or "").split())
        if not relevant:
            raise ValueError(
                f"{path}, line {line}: expected relevant images for query {query}, found none;"
                " mark the query Ignored"
            )
        solution[row["Usage"]][query] = relevant
    return solution


def read_ignored(path: str | Path) -> set[str]:
    """The query ids that a solution file marks as ignored."""
    rows = _rows(path, ("id", "images", "Usage"))
    return {query for _, query, row in rows if row["Usage"] == "Ignored"}


def read_submission(path: str | Path) -> dict[str, list[str]]:
    """Read a submission file: query id → ranked gallery ids, [] where the row has none.

    Blank lines and spaces at the end of a row are tolerated.

    Raises:
        ValueError: if the header is not `id,images` or a query occurs twice.
    """
    return {query: (row["images"] or "").split() for _, query, row in _rows(path, ("id", "images"))}


def read_groups(path: str | Path) -> dict[str, str]:
    """Read a file with the columns `id,group`: query id → group, such as its continent.

    Raises:
        ValueError: if the header is another or a query occurs twice.
    """
    rows = _rows(path, ("id", "group"))
    return {query: (row["group"] or "").strip() for _, query, row in rows}


def _rows(
    path: str | Path, columns: tuple[str, ...]
) -> Iterator[tuple[int, str, dict[str, str | None]]]:
    """Yield (line, id, row) of a table whose ids are distinct."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != columns:
            raise ValueError(
                f"{path}: expected the columns {','.join(columns)}, found"
                f" {','.join(reader.fieldnames or ()) or 'nothing'}; write that header"
            )
        seen = set()
        for row in reader:
            query = row["id"].strip()
            if not query and not (row[columns[1]] or "").strip():
                continue
            if query in seen:
                raise ValueError(
                    f"{path}, line {reader.line_num}: expected every query once, found {query}"
                    " again; keep one row"
                )
            seen.add(query)
            yield reader.line_num, query, row

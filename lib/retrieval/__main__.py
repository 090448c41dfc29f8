"""Commands: `python -m lib.retrieval score SUBMISSION SOLUTION` and `check SUBMISSION DATA_DIR`.

`score` prints the official numbers of a submission file, with `--groups continents.csv` per group,
and `--queries scores.csv` keeps the numbers of every query. `check` says whether Kaggle would
accept a file for the dataset folder.
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib.artifacts import write_csv
from lib.data import (
    ImageStore,
    ids_of_split,
    read_groups,
    read_ignored,
    read_solution,
    read_submission,
)
from lib.retrieval.metrics import OFFICIAL, Solution, evaluate, per_query, refuse_unknown
from lib.retrieval.submission import check_submission


def main(arguments: Sequence[str] | None = None) -> None:
    """Score or check a submission file."""
    chosen = _parse(arguments)
    try:
        text = _score(chosen) if chosen.command == "score" else _check(chosen)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(text)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib.retrieval", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="the official numbers of a submission file")
    score.add_argument("submission", help="file with the columns id,images")
    score.add_argument("solution", help="file like retrieval_solution_v2.1.csv")
    score.add_argument("--groups", help="file with the columns id,group: numbers per group, too")
    score.add_argument("--queries", help="file to write with a row per query")
    check = commands.add_parser("check", help="is a file as Kaggle wants it?")
    check.add_argument("submission", help="file with the columns id,images")
    check.add_argument("data", help="dataset folder in GLDv2's layout")
    check.add_argument("-k", type=int, default=OFFICIAL, help="ids per row (100)")
    return parser.parse_args(arguments)


def _score(chosen: argparse.Namespace) -> str:
    files = read_submission(chosen.submission), read_solution(chosen.solution)
    ignored = read_ignored(chosen.solution)
    groups = read_groups(chosen.groups) if chosen.groups else None
    _check_files(chosen, *files, ignored=ignored, groups=groups)
    tables = [evaluate(*files, ignored=ignored)]
    if groups is not None:
        tables.append(evaluate(*files, ignored=ignored, groups=groups))
    if chosen.queries:
        write_csv(per_query(*files, ignored=ignored), chosen.queries)
    return "\n\n".join(table.to_string(float_format="{:.4f}".format) for table in tables)


def _check_files(
    chosen: argparse.Namespace,
    predictions: Mapping[str, Sequence[str]],
    solutions: Mapping[str, Solution],
    *,
    ignored: Collection[str],
    groups: Mapping[str, str] | None,
) -> None:
    """Refuse files that cannot belong together; warn of those that hardly do."""
    asked = {query: set(ids) for solution in solutions.values() for query, ids in solution.items()}
    if not asked:
        raise ValueError(f"{chosen.solution}: expected Public or Private queries, found none")
    try:
        refuse_unknown(predictions, asked.keys() | ignored)
    except ValueError as error:
        raise ValueError(f"{chosen.submission}: {error}") from None
    doubts = []
    absent = [query for query in asked if not predictions.get(query)]
    if absent:
        doubts.append(
            f"{chosen.submission} ranks no image for {len(absent):,} of the {len(asked):,} queries,"
            f" the first {absent[0]}; they count 0"
        )
    answers = set().union(*asked.values())
    found = {image for query in asked for image in predictions.get(query, ())}
    if found and found.isdisjoint(answers):
        lower = {image.lower() for image in answers}
        same = sum(image.lower() in lower for image in found)
        case = f", but {same:,} are in the other case" if same else ""
        doubts.append(
            f"none of the {len(found):,} ids in {chosen.submission} answers any query of"
            f" {chosen.solution}{case}; are both of one dataset?"
        )
    groupless = [query for query in asked if groups is not None and query not in groups]
    if groupless:
        doubts.append(
            f"{chosen.groups} has no group for {len(groupless):,} of the {len(asked):,} queries,"
            f" the first {groupless[0]}"
        )
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)


def _check(chosen: argparse.Namespace) -> str:
    queries, gallery = _ids_of(chosen.data)
    rows = check_submission(chosen.submission, queries, gallery, k=chosen.k)
    return f"{chosen.submission}: {len(rows):,} rows are right"


def _ids_of(data: str) -> tuple[pd.Series, pd.Series]:
    if not Path(data).is_dir():
        raise ValueError(f"expected a dataset folder, found none at {data}; check its path")
    store = ImageStore(Path(data))
    found = ids_of_split(store, "test"), ids_of_split(store, "index")
    for split, ids in zip(("test", "index"), found, strict=True):
        if ids.empty:
            raise ValueError(
                f"expected {split}.csv or images of {split} in {data}, found neither; give the"
                " dataset folder that the submission is for"
            )
    return found


if __name__ == "__main__":
    main()

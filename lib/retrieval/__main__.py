"""Commands: `python -m lib.retrieval score SUBMISSION SOLUTION` and `check SUBMISSION DATA_DIR`.

`score` prints the official metrics of a submission file, with `--groups FILE` per group, and
`--queries FILE` writes those of every query. `check` tells whether Kaggle would accept a file.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib import data
from lib.artifacts import write_csv
from lib.retrieval.metrics import OFFICIAL, evaluate, per_query, refuse_unknown
from lib.retrieval.submission import check_submission


def main(arguments: Sequence[str] | None = None) -> None:
    """Score or check a submission file."""
    parser = argparse.ArgumentParser(prog="python -m lib.retrieval", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    score = commands.add_parser("score", help="the official metrics of a submission file")
    score.add_argument("submission", help="file with the columns id,images")
    score.add_argument("solution", help="file like retrieval_solution_v2.1.csv")
    score.add_argument("--groups", help="file with the columns id,group: metrics per group, too")
    score.add_argument("--queries", help="file to write with a row per query")
    check = commands.add_parser("check", help="would Kaggle accept a file?")
    check.add_argument("submission", help="file with the columns id,images")
    check.add_argument("data", help="dataset folder in GLDv2's layout")
    check.add_argument("-k", type=int, default=OFFICIAL, help="ids per row (100)")
    chosen = parser.parse_args(arguments)
    try:
        text = _score(chosen) if chosen.command == "score" else _check(chosen)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(text)


def _score(chosen: argparse.Namespace) -> str:
    """Refuse files that do not fit each other, warn of what looks wrong, and score."""
    predictions = data.read_submission(chosen.submission)
    solutions = data.read_solution(chosen.solution)
    ignored = data.read_ignored(chosen.solution)
    groups = data.read_groups(chosen.groups) if chosen.groups else None
    relevant = {query: set(ids) for usage in solutions.values() for query, ids in usage.items()}
    if not relevant:
        raise ValueError(f"{chosen.solution}: expected Public or Private queries, found none")
    try:
        refuse_unknown(predictions, relevant.keys() | ignored)
    except ValueError as error:
        raise ValueError(f"{chosen.submission}: {error}") from None
    for warning in _warnings(chosen, predictions, relevant, groups):
        print(f"warning: {warning}", file=sys.stderr)
    tables = [evaluate(predictions, solutions, ignored=ignored)]
    if groups is not None:
        tables.append(evaluate(predictions, solutions, ignored=ignored, groups=groups))
    if chosen.queries:
        write_csv(per_query(predictions, solutions, ignored=ignored), chosen.queries)
    return "\n\n".join(table.to_string(float_format="{:.4f}".format) for table in tables)


def _warnings(
    chosen: argparse.Namespace,
    predictions: dict[str, list[str]],
    relevant: dict[str, set[str]],
    groups: dict[str, str] | None,
) -> Iterator[str]:
    absent = [query for query in relevant if not predictions.get(query)]
    if absent:
        yield (
            f"{chosen.submission} ranks no image for {len(absent):,} of the {len(relevant):,}"
            f" queries, the first {absent[0]}; they count 0"
        )
    answers = set().union(*relevant.values())
    found = {image for query in relevant for image in predictions.get(query, ())}
    if found and found.isdisjoint(answers):
        lower = {image.lower() for image in answers}
        same = sum(image.lower() in lower for image in found)
        case = f", but {same:,} are in the other case" if same else ""
        yield (
            f"none of the {len(found):,} ids in {chosen.submission} answers any query of"
            f" {chosen.solution}{case}; are both of one dataset?"
        )
    groupless = [] if groups is None else [query for query in relevant if query not in groups]
    if groupless:
        yield (
            f"{chosen.groups} has no group for {len(groupless):,} of the {len(relevant):,} queries,"
            f" the first {groupless[0]}"
        )


def _check(chosen: argparse.Namespace) -> str:
    if not Path(chosen.data).is_dir():
        raise ValueError(f"expected a dataset folder, found none at {chosen.data}; check its path")
    store = data.ImageStore(Path(chosen.data))
    ids = {split: data.ids_of_split(store, split) for split in ("test", "index")}
    for split, found in ids.items():
        if found.empty:
            raise ValueError(
                f"expected {split}.csv or images of {split} in {chosen.data}, found neither; give"
                " the dataset folder that the submission is for"
            )
    rows = check_submission(chosen.submission, ids["test"], ids["index"], k=chosen.k)
    return f"{chosen.submission}: {len(rows):,} rows are right"


if __name__ == "__main__":
    main()

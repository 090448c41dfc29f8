"""The competition's answer file: one row per query, its best gallery ids joined by spaces.

Kaggle rejects a whole file for one bad row and does not say which, so everything is checked before
a byte is written, and an error names the row. The file appears whole or not at all.
`python -m lib.submission write submission.csv --query FOLDER --gallery FOLDER` makes one from the
folders of `lib.embed` (or from `--ranking FILE`), `python -m lib.submission check submission.csv
DATA_FOLDER` checks a finished one.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.layout import ids_of_split, read_if_there
from lib.metrics import OFFICIAL, counted
from lib.ranking import Ranking, check_ids
from lib.ranking_file import read_ranking
from lib.runs import write_csv
from lib.solutions import read_submission
from lib.storage import ImageStore

Ids = Sequence[str] | np.ndarray | pd.Series


def write_submission(
    predictions: Ranking | Mapping[str, Sequence[str]],
    path: str | Path,
    *,
    query_ids: Ids,
    gallery_ids: Ids,
    sample: Ids | None = None,
    k: int | None = None,
) -> Path:
    """Write ranked ids as `id,images`, every query exactly once.

    Args:
        predictions: a `Ranking` with ids, or query id to ranked gallery ids, best first.
        path: the file to write; one that is there is replaced.
        query_ids: all queries, in the order of the file unless `sample` gives another.
        gallery_ids: all gallery images.
        sample: the ids of `sample_submission.csv`, whose order is kept.
        k: ids per row; as many as a `Ranking` holds, at most the official 100, else these; the
            whole gallery where it is smaller.

    Returns:
        `path`.

    Raises:
        ValueError: if a query is missing, unknown or repeated, or a row has an unknown or repeated
            id or another number of ids; nothing is written then.
    """
    k = min(counted(predictions), OFFICIAL) if k is None else k
    if isinstance(predictions, Ranking):
        predictions = predictions.top(k).predictions()
    queries = check_ids(query_ids, "query").tolist()
    if sample is not None:
        queries = _in_order_of(sample, queries)
    _check(predictions, queries, gallery_ids, k)
    rows = [" ".join(predictions[query]) for query in queries]
    return write_csv(pd.DataFrame({"id": queries, "images": rows}, dtype=str), path)


def check_submission(
    path: str | Path, query_ids: Ids, gallery_ids: Ids, *, k: int = OFFICIAL
) -> dict[str, list[str]]:
    """Read a submission file and check it as Kaggle would.

    Returns:
        Query id to ranked gallery ids.

    Raises:
        ValueError: as `write_submission`, or if the header is not `id,images`.
    """
    predictions = read_submission(path)
    try:
        _check(predictions, check_ids(query_ids, "query").tolist(), gallery_ids, k)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return predictions


def _in_order_of(sample: Ids, queries: list[str]) -> list[str]:
    ordered = check_ids(sample, "sample").tolist()
    difference = set(ordered) ^ set(queries)
    if difference:
        raise ValueError(
            f"expected the queries of the sample submission, found {len(difference)} in one of the"
            f" two only, such as {min(difference)!r}; take queries and sample from one dataset"
        )
    return ordered


def _check(
    predictions: Mapping[str, Sequence[str]], queries: list[str], gallery_ids: Ids, k: int
) -> None:
    if k < 1:
        raise ValueError(f"expected k of at least 1, found {k}; the competition asks for 100")
    gallery = set(check_ids(gallery_ids, "gallery").tolist())
    wanted = min(k, len(gallery))
    known = set(queries)
    for number, query in enumerate(predictions, start=1):
        if query not in known:
            raise ValueError(
                f"row {number}: expected one of the {len(known)} queries, found {query!r};"
                " leave it out"
            )
    missing = [query for query in queries if query not in predictions]
    if missing:
        raise ValueError(
            f"expected a row for each of the {len(queries)} queries, found none for"
            f" {len(missing)}, the first {missing[0]!r}; rank every query"
        )
    for number, (query, ranked) in enumerate(predictions.items(), start=1):
        _check_row(f"row {number}, query {query!r}", ranked, gallery, wanted)


def _check_row(row: str, ranked: Sequence[str], gallery: set[str], wanted: int) -> None:
    if isinstance(ranked, str):
        raise ValueError(f"{row}: expected a list of ids, found one string; split it at its spaces")
    if len(ranked) != wanted:
        raise ValueError(
            f"{row}: expected {wanted} ids, found {len(ranked)}; search with k={wanted} or keep"
            " that many"
        )
    unknown = next((found for found in ranked if found not in gallery), None)
    if unknown is not None:
        raise ValueError(
            f"{row}: expected ids of the gallery, found {unknown!r}; rank the gallery of this"
            " dataset"
        )
    if len(set(ranked)) < len(ranked):
        twice = next(found for place, found in enumerate(ranked) if found in ranked[:place])
        raise ValueError(
            f"{row}: expected distinct ids, found {twice!r} twice; keep its better rank"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a submission file, or check one against the test and index ids of a dataset folder."""
    chosen = _parse(arguments)
    try:
        done = _write(chosen) if chosen.action == "write" else _check_file(chosen)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(done)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lib.submission", description=main.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="is a file as Kaggle wants it?")
    check.add_argument("submission", help="file with the columns id,images")
    check.add_argument("data", help="dataset folder in GLDv2's layout")
    write = actions.add_parser("write", help="from embeddings or a ranking")
    write.add_argument("submission", help="the file to write")
    write.add_argument("--query", help="embedding folder of the queries")
    write.add_argument("--gallery", help="embedding folder of the gallery")
    write.add_argument("--ranking", help="file of lib.ranking_file, instead of both")
    write.add_argument("--references", help="embedding folder of training images, to rerank by")
    write.add_argument("--data", help="dataset folder: labels of references, ids to check against")
    write.add_argument("--alpha", type=float, default=1.0, help="weight of the landmark (1)")
    write.add_argument("--beta", type=float, default=0.1, help="weight of the country (0.1)")
    write.add_argument("--votes", type=int, default=3, help="references that vote (3)")
    check.add_argument("-k", type=int, default=OFFICIAL, help="ids per row (100)")
    write.add_argument("-k", type=int, help="ids per row (all of a ranking, at most 100)")
    return parser.parse_args(arguments)


def _check_file(chosen: argparse.Namespace) -> str:
    queries, gallery = _ids_of(chosen.data)
    rows = check_submission(chosen.submission, queries, gallery, k=chosen.k)
    return f"{chosen.submission}: {len(rows):,} rows are right"


def _write(chosen: argparse.Namespace) -> str:
    if bool(chosen.ranking) == bool(chosen.query or chosen.gallery):
        raise ValueError(
            "expected either --ranking, or --query and --gallery, found"
            f" {'both' if chosen.ranking else 'neither'}; give one of the two"
        )
    k = OFFICIAL if chosen.k is None else chosen.k
    ranking = read_ranking(chosen.ranking).top(k) if chosen.ranking else _rank(chosen, k)
    ids, sample = (ranking.query_ids, ranking.gallery_ids), None
    if ids[0] is None or ids[1] is None:
        raise ValueError(f"expected a ranking with ids, found none in {chosen.ranking}; save them")
    if chosen.data:
        ids = _ids_of(chosen.data)
        columns = {"id": str}
        sample = read_if_there(Path(chosen.data), "sample_submission.csv", columns, key="id")
    path = write_submission(
        ranking,
        chosen.submission,
        query_ids=ids[0],
        gallery_ids=ids[1],
        sample=None if sample is None else sample["id"],
        k=chosen.k,
    )
    return f"{path}: {len(ranking):,} rows of {ranking.k} ids"


def _rank(chosen: argparse.Namespace, k: int) -> Ranking:
    from lib.rank_folders import rank_folders  # brings torch, which checking a file does not need

    if not (chosen.query and chosen.gallery):
        raise ValueError("expected --query and --gallery, found one of them; give both folders")
    return rank_folders(
        chosen.query,
        chosen.gallery,
        references=chosen.references,
        data=chosen.data,
        k=k,
        alpha=chosen.alpha,
        beta=chosen.beta,
        top=chosen.votes,
    )


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

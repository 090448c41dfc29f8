"""`python -m lib.retrieval` score, check, query, add, export or embed, each with `--help`.

`score` prints the official metrics of a submission file, with `--groups FILE` per group, and
`--queries FILE` writes those of every query. `check` tells whether Kaggle would accept a file.
`query` finds the gallery images of a run that are nearest to a photograph, and `add` puts
photographs into its gallery. `export` writes networks as one ONNX or torch model,
and `embed` the embeddings of a list of images.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lib import config, data
from lib.artifacts import atomic_path, caller_path, outputs_root, seen_by_caller, write_csv
from lib.retrieval.metrics import OFFICIAL, evaluate, per_query
from lib.retrieval.query import checkpoint_of, inference_of, load_run, read_photo
from lib.retrieval.submission import check_submission

SHOWN = 12  # images of a ranking that are drawn
LISTS = ("index", "test", "gallery", "query", "train", *config.LISTS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Score or check a submission; ask a run with a photograph, add some, or export its network."""
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
    query = commands.add_parser("query", help="the gallery images nearest to a photograph")
    query.add_argument("photo", type=caller_path)
    query.add_argument("-k", type=int, default=10, help="images (10)")
    query.add_argument("--out", type=caller_path, help="PNG of them (PHOTO_nearest.png, here)")
    add = commands.add_parser("add", help="photographs to a gallery, without embedding it again")
    add.add_argument("photos", nargs="+", type=caller_path, metavar="PHOTO")
    add.add_argument("--landmark", default="", help="the name of what they show")
    export = commands.add_parser("export", help="a descriptor to take away, pre-processing inside")
    export.add_argument("checkpoints", nargs="+", type=caller_path, metavar="CHECKPOINT")
    export.add_argument("--to", default="onnx", help="onnx (default) or torch")
    export.add_argument("--out", type=caller_path, help="folder (export_FORMAT by the checkpoint)")
    export.add_argument("--size", type=int, help="pixels, for checkpoints that do not tell theirs")
    export.add_argument("--photos", nargs="*", type=caller_path, default=[], metavar="PHOTO")
    embed = commands.add_parser("embed", help="a list of images, with accelerate launch -m, too")
    embed.add_argument("checkpoint", type=caller_path)
    embed.add_argument("data", type=caller_path, help="dataset folder in GLDv2's layout")
    embed.add_argument("--list", default="index", help=f"{', '.join(LISTS)} (index)")
    embed.add_argument("--clusters", type=caller_path, help="train_cluster.csv of the list cluster")
    embed.add_argument("--out", type=caller_path, help="folder (embeddings/LIST by the checkpoint)")
    embed.add_argument("--size", type=int, help="pixels, for a checkpoint that does not tell its")
    embed.add_argument("--batch-size", type=int, default=128, help="images of a process (128)")
    for asked in (query, add):
        place = {"type": caller_path, "default": outputs_root() / "mini"}
        asked.add_argument("--run", **place, help="run folder or checkpoint (outputs/mini)")
        asked.add_argument("--stage", default="", help="another network of the run than the last")
        asked.add_argument("--gallery", type=caller_path, help="another folder of embeddings")
    chosen = parser.parse_args(arguments)
    try:
        text = COMMANDS[chosen.command](chosen)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    if text:
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
        tables = [evaluate(predictions, solutions, ignored=ignored)]
    except ValueError as error:
        raise ValueError(f"{chosen.submission}: {error}") from None
    for warning in _warnings(chosen, predictions, relevant, groups):
        print(f"warning: {warning}", file=sys.stderr)
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
    of_all = f"of the {len(relevant):,} queries, the first"
    absent = [query for query in relevant if not predictions.get(query)]
    if absent:
        told = f"{chosen.submission} ranks no image for {len(absent):,}"
        yield f"{told} {of_all} {absent[0]}; they count 0"
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
        yield f"{chosen.groups} has no group for {len(groupless):,} {of_all} {groupless[0]}"


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


def _query(chosen: argparse.Namespace) -> str:
    """Print the ranking at once, then draw it."""
    model = load_run(chosen.run, stage=chosen.stage, gallery=chosen.gallery)
    found = model.query(chosen.photo, chosen.k)
    print(found.to_string(float_format="{:.4f}".format), flush=True)
    from lib.plots import sheets  # with matplotlib, for which the answer need not wait

    shown = found.head(SHOWN)
    images = [read_photo(chosen.photo), *(model.image(one) for one in shown["id"])]
    captions = ["query"]
    for score, name in zip(shown["score"], shown["landmark"], strict=True):
        captions.append(sheets.shorten(f"{score:.2f} {name}", 20))
    row = sheets.ImageRow(
        f"{chosen.photo.name}\n{len(model.gallery):,} images", images, (), captions
    )
    path = chosen.out or caller_path(f"{chosen.photo.stem}_nearest.png")
    with atomic_path(path) as temporary:
        sheets.draw([row]).savefig(temporary, dpi=100)
    return f"drawn in {seen_by_caller(path)}"


def _add(chosen: argparse.Namespace) -> str:
    model = load_run(chosen.run, stage=chosen.stage, gallery=chosen.gallery)
    table = model.add(chosen.photos, landmark=chosen.landmark)
    print(table.to_string(index=False))
    counts = table["status"].value_counts()
    return (
        f"{counts.get('added', 0):,} photographs added, {counts.get('known', 0):,} known before;"
        f" the gallery has {len(model.gallery):,} images"
    )


def _export(chosen: argparse.Namespace) -> str:
    from lib.retrieval.export import export_descriptor  # with torch

    paths = [checkpoint_of(place) for place in chosen.checkpoints]
    folder = chosen.out or paths[0].parent / f"export_{chosen.to}"
    inference = config.InferenceConfig(size=chosen.size) if chosen.size else None
    options = {"to": chosen.to, "inference": inference, "photos": chosen.photos}
    return f"written to {seen_by_caller(export_descriptor(paths, folder, **options))}"


def _embed(chosen: argparse.Namespace) -> str:
    from lib.retrieval.embedding import embed  # with torch

    checkpoint = checkpoint_of(chosen.checkpoint)
    inference = (
        config.InferenceConfig(size=chosen.size) if chosen.size else inference_of(checkpoint)
    )
    table = _images(data.read(chosen.data), chosen.list, chosen.clusters)
    folder = chosen.out or checkpoint.parent / "embeddings" / chosen.list
    embed(checkpoint, table, chosen.data, folder, inference, batch_size=chosen.batch_size)
    if int(os.environ.get("RANK", 0)):  # another process of accelerate tells it
        return ""
    return f"{len(table):,} images embedded in {seen_by_caller(folder)}"


def _images(dataset: data.Dataset, name: str, clusters: Path | None) -> pd.DataFrame:
    """Columns id, path and what is known of the images of a list."""
    if name in ("query", "gallery"):
        found = data.evaluation(dataset)
        return found.queries if name == "query" else found.gallery
    if name in ("index", "test"):
        table = dataset.index if name == "index" else dataset.test.to_frame("id")
        if table.empty:
            raise ValueError(f"expected images of {name} in {dataset.root}, found none")
        return table.assign(path=data.image_paths(name, table["id"]))
    if name not in LISTS:
        raise ValueError(f"expected a list among {', '.join(LISTS)}, found {name!r}")
    table = data.training_list(dataset, "full" if name == "train" else name, clusters=clusters)
    return table.merge(dataset.landmarks[["landmark_id", "category"]], on="landmark_id", how="left")


COMMANDS = {
    "score": _score,
    "check": _check,
    "query": _query,
    "add": _add,
    "export": _export,
    "embed": _embed,
}

if __name__ == "__main__":
    main()

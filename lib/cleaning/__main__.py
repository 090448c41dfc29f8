"""Clean files: `python -m lib.cleaning EMBEDDINGS LABELS.csv --out FOLDER`.

EMBEDDINGS is a folder that `lib.retrieval.embed` wrote, or a `.npy` file of rows in the order of
the labels; LABELS.csv has the columns id and landmark_id (or label, or landmark), whose values are
any text. FOLDER receives `train_cluster.csv`, `images.csv`, `landmarks.csv` and `sweep.csv`, as
`lib.cleaning.stage` describes. Every setting of `lib.config.CleanConfig` is an option, by default
as the profiles clean (`lib.recipes.CLEAN`); finished work is not repeated.
"""

import argparse
import dataclasses
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from lib.artifacts import MANIFEST, read_json
from lib.cleaning.stage import CLUSTERS, clean_files
from lib.config import CleanConfig
from lib.recipes import CLEAN

HELP = {
    "eps": "cosine distance of the first pass; 0: suggested from the distances",
    "min_samples": "neighbours of a core image, itself included",
    "relaxed_eps": "cosine distance of the second pass; 0: eps times --relaxation",
    "relaxation": "relaxed eps over eps",
    "relaxed_min_samples": "neighbours of a core image in the second pass",
    "min_cluster_size": "images; smaller clusters are dropped",
    "rescue": "second pass over the noise",
    "split": "one class per cluster, not per landmark",
    "drop_suspected_mislabels": "first drop images that another landmark explains better",
    "mislabel_odds": "wrong against right, from which an image is suspected",
    "mislabel_whitening": "power of the PCA whitening of rows for this comparison, 0 to 1",
    "split_two_views": "split clusters that show two views",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Clean what the command line names; return 1 after a refusal."""
    given = parse(arguments)
    try:
        config = CleanConfig(**{name: getattr(given, name) for name in HELP})
        with warnings.catch_warnings(record=True) as noted:
            clean_files(given.embeddings, given.labels, given.out, config, jobs=given.jobs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for warning in noted:
        print(f"warning: {warning.message}", file=sys.stderr)
    print(_summary(read_json(Path(given.out) / MANIFEST)))
    print(f"wrote {CLUSTERS}, images.csv, landmarks.csv and sweep.csv into {given.out}")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = __doc__.partition("\n\n")[2]
    parser = argparse.ArgumentParser("python -m lib.cleaning", description=about)
    parser.add_argument("embeddings", help="folder of lib.retrieval.embed, or a .npy file (N, D)")
    parser.add_argument("labels", help="CSV with id and landmark_id, any texts")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="folder for the tables")
    parser.add_argument("--jobs", type=int, default=-1, help="cores; all by default")
    for name, default in dataclasses.asdict(CLEAN).items():
        kind = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        help_text = f"{HELP[name]} (default %(default)s)"
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=help_text, **kind)
    given = parser.parse_args(arguments)
    if given.jobs == 0:
        parser.error("expected one job or more (-1: as many as cores), found 0")
    return given


def _summary(facts: dict[str, int | float | str]) -> str:
    left = facts["images"] - facts["dropped"]
    statuses = [
        f"{name} {facts[name]:,} ({facts[name] / facts['images']:.1%})"
        for name in ("kept", "split", "rescued", "dropped")
    ]
    return (
        f"{facts['images']:,} images in {facts['landmarks']:,} landmarks became {left:,} images "
        f"in {facts['classes']:,} classes ({facts['landmarks_lost']:,} landmarks lost)\n"
        f"{', '.join(statuses)}\n"
        f"eps {facts['eps']:.3f}, relaxed eps {facts['relaxed_eps']:.3f}: {facts['reason']}"
    )


if __name__ == "__main__":
    sys.exit(main())

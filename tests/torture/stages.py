"""Every stage that writes, small: for full disks and for two processes at once."""

import contextlib
import os
import resource
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from lib import data as gldv2
from lib.artifacts import write_csv
from lib.cleaning import make_cluster_list
from lib.config import WorldConfig
from lib.data.own_photos import import_photos
from lib.data.tar_images import ImageStore
from lib.miniworld import generate
from lib.retrieval import embedding as embed
from lib.retrieval.ranking import Ranking
from lib.retrieval.scoring import score_queries
from lib.retrieval.submission import write_submission
from lib.training.stage import train
from tests.torture.harness import Say, apart, digest
from tests.torture.samples import CLEAN, INFERENCE, MODEL, STAGE

WORLD = WorldConfig(landmarks=12, raw_images=120, gallery_images=60, queries=20, image_size=48)


def make_world(samples: Path, folder: Path) -> None:
    """The miniature world, drawn by two processes."""
    generate(folder / "world", WORLD)


def make_checkpoint(samples: Path, folder: Path) -> None:
    """A training of eight steps."""
    table = gldv2.training_list(gldv2.read(samples / "data"), "clean")
    train(STAGE, MODEL, table, samples / "data", folder / "stage")


def make_embeddings(samples: Path, folder: Path) -> None:
    """Embeddings in six blocks."""
    table = gldv2.training_list(gldv2.read(samples / "data"), "clean")
    checkpoint = samples / "stage" / "model.safetensors"
    with patch.object(embed, "BLOCK", 8):
        embed.embed(checkpoint, table, samples / "data", folder / "raw", INFERENCE)


def make_clusters(samples: Path, folder: Path) -> None:
    """The cluster list and its tables."""
    table = gldv2.training_list(gldv2.read(samples / "data"), "clean")
    make_cluster_list(samples / "raw", table, CLEAN, folder / "clean", jobs=1)


def make_ranking(samples: Path, folder: Path) -> None:
    """Query and gallery embedded, ranked and scored."""
    evaluation = gldv2.evaluation(gldv2.read(samples / "data"))
    checkpoint = samples / "stage" / "model.safetensors"
    ranking = embed.embed_and_search(
        checkpoint, evaluation, samples / "data", folder / "embeddings", INFERENCE, k=10
    )
    ranking.save(folder / "ranking.npz")
    write_csv(score_queries(ranking, evaluation, k=10), folder / "scores.csv")


def make_submission(samples: Path, folder: Path) -> None:
    """The answer file."""
    ranking = Ranking.load(samples / "ranking.npz")
    ids = {"query_ids": ranking.query_ids, "gallery_ids": ranking.gallery_ids}
    write_submission(ranking, folder / "submission.csv", **ids, k=10)


def make_import(samples: Path, folder: Path) -> None:
    """Imported photographs; those that are there are not imported again."""
    if not (folder / "photos").exists():
        import_photos(samples / "loose", folder / "photos")


def make_tar_index(samples: Path, folder: Path) -> None:
    """The index of packed images, which may stay in memory."""
    split = folder / "packed" / "train"
    split.mkdir(parents=True, exist_ok=True)
    for archive in (samples / "packed" / "train").glob("*.tar"):
        with contextlib.suppress(FileExistsError):
            (split / archive.name).symlink_to(archive)
    ids = ImageStore(split.parent).ids("train")
    (folder / "count.txt").write_text(str(len(ids)))


STAGES: dict[str, Callable[[Path, Path], None]] = {
    "world": make_world,
    "train": make_checkpoint,
    "embed": make_embeddings,
    "clean": make_clusters,
    "rank and score": make_ranking,
    "submission": make_submission,
    "import": make_import,
    "tar index": make_tar_index,
}


def work(stage: str, samples: Path, folder: Path, largest_file: int = 0) -> Callable[[Say], None]:
    """Run a stage and say "done" and its digest, or "error" and what was raised.

    Args:
        stage: of `STAGES`.
        samples: from `write_samples`.
        folder: receives the results, and temporary files in `tmp`.
        largest_file: as `ulimit -f`, in bytes; 0 for no limit.
    """

    def call(say: Say) -> None:
        os.environ["TMPDIR"] = str(folder / "tmp")
        (folder / "tmp").mkdir(exist_ok=True)
        if largest_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        STAGES[stage](samples, folder)
        say(f"done {digest(folder)}")

    return call


def undisturbed_end(stage: str, samples: Path, folder: Path) -> str:
    """What `work` says where there is space and nobody else."""
    folder.mkdir(exist_ok=True)
    said = next(apart(work(stage, samples, folder), seconds=120, guarded=False), "nothing")
    if not said.startswith("done"):
        raise RuntimeError(f"expected the stage {stage!r} to end right, found: {said}")
    return said

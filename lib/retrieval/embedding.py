"""From a checkpoint and images to embeddings: float16 unit rows in one `.npy`, with their ids.

An image's embedding is the mean over mirrored and rescaled views, larger than in training, as both
papers test (GLR20 = 3rd place, Google Landmark Retrieval 2020, Mei et al.; GLR21 = 2nd place,
Google Landmark Retrieval 2021, Zhang et al., whose code has the scales 0.707, 1 and 1.414).
"""

import errno
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from lib import artifacts, data, models
from lib.config import InferenceConfig
from lib.distributed import (
    is_main_process,
    launch,
    limit_threads,
    precision,
    processes_to_start,
    work_alone,
)
from lib.environment import cores
from lib.models import EmbeddingNetwork, normalise
from lib.retrieval.embedding_table import DESCRIBED, IDS, ROWS, Embeddings, read_embeddings
from lib.retrieval.knn import search
from lib.retrieval.ranking import Ranking

STEP = 16  # pixels; the sizes of other scales are multiples of it
BLOCK = 4096  # images
READERS = 16  # threads that read for a GPU, at most
PARTIAL = "partial"  # a folder with the rows so far, and which blocks of them are there
BLOCKS_DONE = "blocks.npy"
UNREADABLE = "unreadable.txt"  # paths of images that counted as grey in the blocks so far


def sizes(config: InferenceConfig) -> tuple[int, ...]:
    """The side of every view in pixels."""
    return tuple(
        config.size if scale == 1 else max(STEP, STEP * round(config.size * scale / STEP))
        for scale in config.scales
    )


def largest_size(config: InferenceConfig) -> int:
    """The side at which images are read; smaller views are resized from it."""
    if not config.scales or min(config.scales) <= 0:
        raise ValueError(
            f"expected one or more positive scales, found {config.scales}; (1.0,) is one plain view"
        )
    return max(sizes(config))


def extract_embeddings(
    model: EmbeddingNetwork, pixels: torch.Tensor, config: InferenceConfig
) -> torch.Tensor:
    """Embed uint8 images (B, 3, S, S), S of `largest_size`, as float32 unit rows (B, D)."""
    images = normalise(pixels, model.mean, model.std)
    total = torch.zeros((), device=images.device)
    for side in sizes(config):
        view = images
        if side != images.shape[-1]:
            view = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
        view = view.contiguous(memory_format=torch.channels_last)
        total = total + model.embed(view)
        if config.flip:
            total = total + model.embed(view.flip(3))
    return F.normalize(total, dim=1)


@dataclass(frozen=True)
class _Job:
    """What one call of `embed` has to do."""

    checkpoint: Path
    paths: np.ndarray  # (N,) bytes, which pass quickly to processes
    root: Path
    folder: Path
    inference: InferenceConfig
    batch_size: int
    key: str


def embed(
    checkpoint: str | Path,
    table: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    inference: InferenceConfig,
    *,
    batch_size: int = 128,
    processes: int | None = None,
) -> Path:
    """Embed the images of `table` (columns id, path under `root`) and return `folder`.

    Does nothing when the folder holds these images' embeddings from this checkpoint, and embeds
    only the missing blocks when it holds some of them. `read_embeddings` reads the result. Columns
    landmark_id and category, where the table has them, are kept for `load_run`. By default there is
    one process per GPU, and as many as there are blocks at most.

    Raises:
        ValueError: if too many images are unreadable, or an embedding is not finite.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    origin = artifacts.read_fingerprint(checkpoint.parent)
    if origin is None:
        origin = [str(checkpoint), checkpoint.stat().st_size, checkpoint.stat().st_mtime_ns]
    settings = artifacts.fingerprint(checkpoint.name, origin, table[["id", "path"]], inference)
    store, paths, root = data.ImageStore(root), tuple(table["path"]), Path(root)
    with work_alone(
        folder, lambda: data.work_left(f"embedding {folder.name!r}", folder, settings, store, paths)
    ) as key:
        if key:
            job = _Job(checkpoint, data.as_bytes(paths), root, folder, inference, batch_size, key)
            blocks = max(1, -(-len(paths) // BLOCK))
            launch(_embed, job, min(processes_to_start(processes), blocks))
            if is_main_process():
                _finish(job, table[[name for name in DESCRIBED if name in table]], settings, origin)
    return folder


def embed_evaluation(
    checkpoint: str | Path,
    evaluation: data.Evaluation,
    root: str | Path,
    folder: str | Path,
    inference: InferenceConfig,
) -> tuple[Embeddings, Embeddings]:
    """Embed queries and gallery under `folder` as `query` and `gallery`, and read both."""
    queries, gallery = (
        read_embeddings(embed(checkpoint, table, root, Path(folder) / name, inference))
        for name, table in (("query", evaluation.queries), ("gallery", evaluation.gallery))
    )
    return queries, gallery


def embed_and_search(
    checkpoint: str | Path,
    evaluation: data.Evaluation,
    root: str | Path,
    folder: str | Path,
    inference: InferenceConfig,
    *,
    k: int = 100,
) -> Ranking:
    """Rank the `k` nearest gallery images of every query, embedded as by `embed_evaluation`."""
    queries, gallery = embed_evaluation(checkpoint, evaluation, root, folder, inference)
    return search(queries.rows, gallery.rows, k, query_ids=queries.ids, gallery_ids=gallery.ids)


def _embed(job: _Job) -> None:
    accelerator = Accelerator(mixed_precision=precision())
    limit_threads()
    model = models.load(job.checkpoint, device=accelerator.device).model
    model = model.to(memory_format=torch.channels_last)
    count, partial = len(job.paths), job.folder / PARTIAL
    if accelerator.is_main_process:
        _prepare(job, model.config.embedding_dim)
    accelerator.wait_for_everyone()
    source, size = data.ImageSource(job.root), largest_size(job.inference)
    missing = np.flatnonzero(~np.load(partial / BLOCKS_DONE))
    mine = missing[missing % accelerator.num_processes == accelerator.process_index]
    starts = [(block * BLOCK, min((block + 1) * BLOCK, count)) for block in mine]
    blocks = (
        data.SquareImages(source, job.paths[first:last], size, keep=False) for first, last in starts
    )
    shown = artifacts.progress(mine, f"embedding {job.folder.name}, blocks")
    with closing(_embed_blocks(model, blocks, job, accelerator)) as rows_of_blocks:
        for block, (first, _), rows in zip(shown, starts, rows_of_blocks, strict=True):
            wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if len(wrong):
                example = Path(os.fsdecode(job.paths[first + wrong[0]])).stem
                raise ValueError(
                    f"expected finite embeddings, found NaN or infinity for {len(wrong):,} of"
                    f" {len(rows):,} images, the first {example}; look at the weights in"
                    f" {job.checkpoint}, or train them again"
                )
            _note_unreadable(job, source)
            _write_rows(partial / ROWS, first, rows)
            _write_rows(partial / BLOCKS_DONE, block, np.ones(1, dtype=bool))
    accelerator.wait_for_everyone()


def _embed_blocks(
    model: EmbeddingNetwork,
    blocks: Iterator[data.SquareImages],
    job: _Job,
    accelerator: Accelerator,
) -> Iterator[np.ndarray]:
    """Embed blocks of images in threads that each read a batch, then compute: (N, D) float16 rows.

    So one batch is read while another is computed, the next block's too. On a CPU the threads share
    a batch of the given size and compute side by side with one core each, because OpenMP's threads
    wait for each other in every layer: beside other work they are half as fast. A GPU takes one
    batch at a time.
    """
    is_cpu = accelerator.device.type == "cpu"
    threads = torch.get_num_threads() if is_cpu else min(READERS, cores() + 1)
    step = -(-job.batch_size // threads) if is_cpu else job.batch_size
    before = torch.get_num_threads()
    turn = nullcontext() if is_cpu else Lock()

    def embed_batch(images: data.SquareImages, start: int) -> np.ndarray:
        pixels, _, _ = images[range(start, min(start + step, len(images)))]
        batch = torch.from_numpy(pixels).to(accelerator.device)
        with turn, torch.inference_mode(), accelerator.autocast():
            found = extract_embeddings(model, batch, job.inference)
            return found.to(torch.float16).cpu().numpy()

    def submitted(pool: ThreadPoolExecutor) -> list[Future[np.ndarray]]:
        images = next(blocks, ())
        return [pool.submit(embed_batch, images, at) for at in range(0, len(images), step)]

    one_core = {"initializer": torch.set_num_threads, "initargs": (1,)}
    try:
        with artifacts.generator_threads(threads, **one_core) as pool:
            ahead = submitted(pool)
            while ahead:
                batches, ahead = ahead, submitted(pool)
                shown = artifacts.progress(
                    batches, f"embedding {job.folder.name}, batches of a block"
                )
                yield np.concatenate([batch.result() for batch in shown])
    finally:
        torch.set_num_threads(before)


def _note_unreadable(job: _Job, source: data.ImageSource) -> None:
    """Collect the images that count as grey over all processes and killed runs."""
    path, found = job.folder / PARTIAL / UNREADABLE, [*source.unreadable]  # which threads add to
    with artifacts.full_disk_named(path), open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        known = set(file.read().splitlines())
        file.write("".join(f"{name}\n" for name in found if name not in known))
    known.update(found)
    data.check_readable(f"embedding {job.folder.name!r}", job.root, known, len(job.paths))


def _write_rows(path: Path, first: int, rows: np.ndarray) -> None:
    """Overwrite rows of a `.npy` file; not through a memory map, which a full disk kills."""
    offset = np.load(path, mmap_mode="r").offset + first * rows[0].nbytes
    with artifacts.full_disk_named(path), open(path, "r+b") as file:
        file.seek(offset)
        file.write(rows.data)
        file.flush()
        os.fsync(file.fileno())


def _prepare(job: _Job, dim: int) -> None:
    """Allocate the rows, unless a killed run of the same job left its blocks."""
    artifacts.start_over(job.folder)
    if artifacts.is_done(job.folder / PARTIAL, job.key):
        return
    with artifacts.atomic_path(job.folder / PARTIAL) as temporary:
        temporary.mkdir()
        shape = (len(job.paths), dim)
        np.lib.format.open_memmap(temporary / ROWS, "w+", np.float16, shape).flush()
        try:  # reserve disk space, so that a full disk is found at the start
            with open(temporary / ROWS, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, (temporary / ROWS).stat().st_size)
        except AttributeError:  # not on this system
            pass
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on this disk
                raise
        np.save(temporary / BLOCKS_DONE, np.zeros(-(-len(job.paths) // BLOCK), dtype=bool))
        (temporary / UNREADABLE).touch()
        artifacts.mark_complete(temporary, job.key, files=(ROWS, BLOCKS_DONE))


def _finish(job: _Job, table: pd.DataFrame, settings: str, origin: object) -> None:
    """Move the rows to `folder`, and write what is known of the images and the manifest."""
    partial = job.folder / PARTIAL
    unreadable = set((partial / UNREADABLE).read_text(encoding="utf-8").splitlines())
    data.report_unreadable(unreadable)
    artifacts.start_over(partial)  # its rows leave, so it is nothing to go on from
    (partial / ROWS).replace(job.folder / ROWS)
    artifacts.write_csv(table, job.folder / IDS)
    shutil.rmtree(partial)
    facts = {"images": len(job.paths), "root": str(job.root.resolve()), "files": (ROWS, IDS)}
    facts |= {"inference": job.inference, "checkpoint": origin}
    data.mark_stage_complete(job.folder, job.key, settings, unreadable, **facts)

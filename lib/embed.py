"""From a checkpoint and images to descriptors: float16 unit rows in one `.npy`, with their ids.

Rows are written in blocks into a memory map, and a block is marked when it is done, so an embedding
of four million images survives a kill and several processes share the work block by block.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from lib import models
from lib.batches import SquareImages, loader, report_bad
from lib.config import InferenceConfig
from lib.describe import describe, largest_size
from lib.images import ImageSource
from lib.rows import open_rows
from lib.runs import (
    atomic_path,
    fingerprint,
    is_done,
    mark_done,
    progress,
    read_key,
    start_over,
    write_csv,
)
from lib.train import precision

ROWS = "embeddings.npy"
IDS = "ids.csv"
BLOCK = 4096  # images
PARTIAL = "partial"  # a folder with the rows so far, and which blocks of them are there
BLOCKS_DONE = "blocks.npy"


@dataclass(frozen=True)
class Embeddings:
    """Descriptors and whose they are: ids (N,) str and rows (N, D) float16, a memory map."""

    ids: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class EmbeddingJob:
    """What an embedding process needs to know."""

    checkpoint: Path
    ids: pd.Series
    paths: tuple[str, ...]
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
) -> Path:
    """Embed the images of `table` (columns id, path) and return `folder`.

    Does nothing when the folder already holds these images' embeddings from this checkpoint, and
    goes on with the missing blocks when it holds some of them. Read the result with
    `read_embeddings`.

    Args:
        checkpoint: written by `lib.train` (or `lib.models.save`).
        table: images in the order of the rows to be.
        root: the data folder that the paths are relative to.
        folder: receives `embeddings.npy` (N, D) float16 and `ids.csv`.
        inference: sizes and views of an image.
        batch_size: images per forward pass and process.

    Raises:
        ValueError: if `inference` has no scale, or one is not positive.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    origin = read_key(checkpoint.parent) or [str(checkpoint), *_file_stamp(checkpoint)]
    key = fingerprint(checkpoint.name, origin, table[["id", "path"]], inference)
    if not is_done(folder, key):
        ids, paths = table["id"], tuple(table["path"])
        _embed(EmbeddingJob(checkpoint, ids, paths, Path(root), folder, inference, batch_size, key))
    return folder


def read_embeddings(folder: str | Path) -> Embeddings:
    """Ids and rows of a finished embedding folder; the rows stay on disk until they are used.

    Raises:
        ValueError: if the folder holds no finished embeddings, or ids are out of step with rows.
    """
    folder = Path(folder)
    if read_key(folder) is None:
        raise ValueError(f"expected finished embeddings in {folder}, found none; run embed first")
    options = {"usecols": ["id"], "dtype": str, "keep_default_na": False}
    try:
        ids = pd.read_csv(folder / IDS, **options)["id"].to_numpy(dtype=str)
    except ValueError as error:
        raise ValueError(
            f"expected a column id in {folder / IDS}, found another or a cut file ({error}); "
            "embed those images again"
        ) from error
    rows = open_rows(folder / ROWS)
    if len(rows) != len(ids):
        raise ValueError(
            f"expected a row for each of the {len(ids):,} ids in {folder}, found embeddings of"
            f" shape {rows.shape}; embed those images again"
        )
    return Embeddings(ids, rows)


def _file_stamp(path: Path) -> list[int]:
    return [path.stat().st_size, path.stat().st_mtime_ns]


def _embed(job: EmbeddingJob) -> None:
    accelerator = Accelerator(mixed_precision=precision())
    model = models.load(job.checkpoint, device=accelerator.device).model
    model = model.to(memory_format=torch.channels_last)
    count, partial = len(job.paths), job.folder / PARTIAL
    if accelerator.is_main_process:
        _prepare(job, model.config.embedding_dim)
    accelerator.wait_for_everyone()
    rows = np.lib.format.open_memmap(partial / ROWS, "r+")
    is_block_done = np.lib.format.open_memmap(partial / BLOCKS_DONE, "r+")
    source, size = ImageSource(job.root), largest_size(job.inference)
    mine = [
        block
        for block in np.flatnonzero(~is_block_done)
        if block % accelerator.num_processes == accelerator.process_index
    ]
    for block in progress(mine, f"embedding {job.folder.name}"):
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        images = SquareImages(source, job.paths[first:last], size)
        starts = range(0, last - first, job.batch_size)
        batches = [list(range(s, min(s + job.batch_size, last - first))) for s in starts]
        for pixels, positions in loader(images, batches):
            rows[first + positions.numpy()] = _rows(accelerator, model, pixels, job.inference)
        rows.flush()
        is_block_done[block] = True
        is_block_done.flush()
    report_bad(source)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _finish(job)
    accelerator.wait_for_everyone()


def _prepare(job: EmbeddingJob, dim: int) -> None:
    """Make room for the rows, unless a killed run of the same job left its blocks."""
    start_over(job.folder)
    if is_done(job.folder / PARTIAL, job.key):
        return
    with atomic_path(job.folder / PARTIAL) as temporary:
        temporary.mkdir()
        shape = (len(job.paths), dim)
        np.lib.format.open_memmap(temporary / ROWS, "w+", np.float16, shape).flush()
        np.save(temporary / BLOCKS_DONE, np.zeros(-(-len(job.paths) // BLOCK), dtype=bool))
        mark_done(temporary, job.key)


def _finish(job: EmbeddingJob) -> None:
    """Move the rows to their place and sign the folder."""
    partial = start_over(job.folder / PARTIAL)  # its rows leave, so it is nothing to go on from
    (partial / ROWS).replace(job.folder / ROWS)
    write_csv(job.ids.to_frame("id"), job.folder / IDS)
    shutil.rmtree(partial)
    mark_done(job.folder, job.key, images=len(job.paths), size=job.inference.size)


@torch.inference_mode()
def _rows(
    accelerator: Accelerator,
    model: models.EmbeddingNetwork,
    pixels: torch.Tensor,
    inference: InferenceConfig,
) -> np.ndarray:
    """Float16 unit rows (B, D) of uint8 images (B, 3, S, S)."""
    with accelerator.autocast():
        rows = describe(model, pixels.to(accelerator.device), inference)
    return rows.to(torch.float16).cpu().numpy()

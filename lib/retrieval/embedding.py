"""From pixels to descriptors: one image seen several ways, as one unit row.

GLR20 and GLR21 test at a larger size than they train at; mirrored and rescaled views are the usual
cheap additions, whose embeddings are averaged (GLR21's code has the scales 0.707, 1 and 1.414 and
multiples of 16 pixels).

From a checkpoint and images to descriptors: float16 unit rows in one `.npy`, with their ids.

Rows are written in blocks into one file, and a block is marked when it is done, so an embedding of
four million images survives a kill and several processes share the work block by block."""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from lib import models
from lib.artifacts import (
    atomic_path,
    fingerprint,
    full_disk_named,
    is_done,
    mark_complete,
    progress,
    read_fingerprint,
    start_over,
    write_csv,
)
from lib.config import InferenceConfig
from lib.data import (
    ImageSource,
    ImageStore,
    SquareImages,
    check_readable,
    load_batches,
    mark_stage_complete,
    report_unreadable,
    work_left,
)
from lib.distributed import precision, work_alone
from lib.models import EmbeddingNetwork, normalise
from lib.retrieval.blocks import open_rows

STEP = 16  # pixels; the sizes of other scales are multiples of it


def sizes(config: InferenceConfig) -> tuple[int, ...]:
    """The side of every view in pixels.

    >>> sizes(InferenceConfig(448, scales=(0.707, 1.0, 1.414)))
    (320, 448, 640)
    """
    return tuple(
        config.size if scale == 1 else max(STEP, STEP * round(config.size * scale / STEP))
        for scale in config.scales
    )


def largest_size(config: InferenceConfig) -> int:
    """The side at which images are read; the smaller views are made from that.

    Raises:
        ValueError: if there is no scale, or one is not positive.
    """
    if not config.scales or min(config.scales) <= 0:
        raise ValueError(
            f"expected one or more positive scales, found {config.scales}; (1.0,) is one plain view"
        )
    return max(sizes(config))


def extract_embeddings(
    model: EmbeddingNetwork, pixels: torch.Tensor, config: InferenceConfig
) -> torch.Tensor:
    """Describe uint8 images (B, 3, S, S) by unit rows (B, D) in float32.

    Args:
        model: on the device of `pixels`.
        pixels: values 0 to 255, S as `largest_size` says.
        config: which views there are.
    """
    images = normalise(pixels, model.mean, model.std)
    total = torch.zeros((), device=images.device)
    for side in sizes(config):
        view = images if side == images.shape[-1] else _resized(images, side)
        view = view.contiguous(memory_format=torch.channels_last)
        total = total + model.embed(view)
        if config.flip:
            total = total + model.embed(view.flip(3))
    return F.normalize(total, dim=1)


def _resized(images: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


ROWS = "embeddings.npy"
IDS = "ids.csv"
BLOCK = 4096  # images
PARTIAL = "partial"  # a folder with the rows so far, and which blocks of them are there
BLOCKS_DONE = "blocks.npy"
UNREADABLE = "unreadable.txt"  # paths of images that counted as grey in the blocks so far


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
    settings: str  # the fingerprint without that of the images
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
        checkpoint: written by `lib.training.stage` (or `lib.models.network.save`).
        table: images in the order of the rows to be.
        root: the data folder that the paths are relative to.
        folder: receives `embeddings.npy` (N, D) float16 and `ids.csv`.
        inference: sizes and views of an image.
        batch_size: images per forward pass and process.

    Raises:
        ValueError: if `inference` has no scale, or one is not positive; if more than a few per cent
            of the images are missing or unreadable; or if an embedding is not finite.
    """
    checkpoint, folder = Path(checkpoint), Path(folder)
    origin = read_fingerprint(checkpoint.parent) or [str(checkpoint), *_file_stamp(checkpoint)]
    settings = fingerprint(checkpoint.name, origin, table[["id", "path"]], inference)
    store, paths, root = ImageStore(root), tuple(table["path"]), Path(root)
    with work_alone(
        folder, lambda: work_left(f"embedding {folder.name!r}", folder, settings, store, paths)
    ) as key:
        if key:
            ids = table["id"]
            options = inference, batch_size, settings, key
            _embed(EmbeddingJob(checkpoint, ids, paths, root, folder, *options))
    return folder


def read_embeddings(folder: str | Path) -> Embeddings:
    """Ids and rows of a finished embedding folder; the rows stay on disk until they are used.

    Raises:
        ValueError: if the folder holds no finished embeddings, or ids are out of step with rows.
    """
    folder = Path(folder)
    if read_fingerprint(folder) is None:
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
    torch.set_num_threads(min(torch.get_num_threads(), joblib.cpu_count()))  # a container's quota
    model = models.load(job.checkpoint, device=accelerator.device).model
    model = model.to(memory_format=torch.channels_last)
    count, partial = len(job.paths), job.folder / PARTIAL
    if accelerator.is_main_process:
        _prepare(job, model.config.embedding_dim)
    accelerator.wait_for_everyone()
    source, size = ImageSource(job.root), largest_size(job.inference)
    mine = [
        block
        for block in np.flatnonzero(~np.load(partial / BLOCKS_DONE))
        if block % accelerator.num_processes == accelerator.process_index
    ]
    for block in progress(mine, f"embedding {job.folder.name}"):
        first, last = block * BLOCK, min((block + 1) * BLOCK, count)
        images = SquareImages(source, job.paths[first:last], size)
        starts = range(0, last - first, job.batch_size)
        batches = [list(range(s, min(s + job.batch_size, last - first))) for s in starts]
        rows = np.empty((last - first, model.config.embedding_dim), dtype=np.float16)
        for pixels, positions in load_batches(images, batches):
            rows[positions.numpy()] = _rows(accelerator, model, pixels, job.inference)
        _check_finite(job, rows, first)
        _note_unreadable(job, source)
        _write_rows(partial / ROWS, first, rows)
        _write_rows(partial / BLOCKS_DONE, block, np.ones(1, dtype=bool))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _finish(job)
    accelerator.wait_for_everyone()


def _check_finite(job: EmbeddingJob, rows: np.ndarray, first: int) -> None:
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"expected finite embeddings, found NaN or infinity for {len(wrong):,} of {len(rows):,}"
            f" images, the first {job.ids.iloc[first + wrong[0]]}; look at the weights in "
            f"{job.checkpoint}, or train them again"
        )


def _note_unreadable(job: EmbeddingJob, source: ImageSource) -> set[str]:
    """Keep the names of images that counted as grey, of killed runs and other processes too."""
    path = job.folder / PARTIAL / UNREADABLE
    with full_disk_named(path), open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        known = set(file.read().splitlines())
        file.write("".join(f"{name}\n" for name in source.unreadable if name not in known))
    known.update(source.unreadable)
    check_readable(f"embedding {job.folder.name!r}", job.root, known, len(job.paths))
    return known


def _write_rows(path: Path, first: int, rows: np.ndarray) -> None:
    """Overwrite rows of a `.npy` file; not through a memory map, which a full disk kills."""
    offset = np.load(path, mmap_mode="r").offset + first * rows[0].nbytes
    with full_disk_named(path), open(path, "r+b") as file:
        file.seek(offset)
        file.write(rows.data)
        file.flush()
        os.fsync(file.fileno())


def _prepare(job: EmbeddingJob, dim: int) -> None:
    """Make room for the rows, unless a killed run of the same job left its blocks."""
    start_over(job.folder)
    if is_done(job.folder / PARTIAL, job.key):
        return
    with atomic_path(job.folder / PARTIAL) as temporary:
        temporary.mkdir()
        shape = (len(job.paths), dim)
        np.lib.format.open_memmap(temporary / ROWS, "w+", np.float16, shape).flush()
        _allocate(temporary / ROWS)
        np.save(temporary / BLOCKS_DONE, np.zeros(-(-len(job.paths) // BLOCK), dtype=bool))
        (temporary / UNREADABLE).touch()
        mark_complete(temporary, job.key, files=(ROWS, BLOCKS_DONE))


def _allocate(path: Path) -> None:
    """Take the room for a whole file, so that a disk too small for it is found at the start."""
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except AttributeError:  # not on this system
        return
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on this disk
            raise


def _finish(job: EmbeddingJob) -> None:
    """Move the rows to their place and sign the folder."""
    unreadable = (job.folder / PARTIAL / UNREADABLE).read_text(encoding="utf-8").splitlines()
    report_unreadable(set(unreadable))
    partial = start_over(job.folder / PARTIAL)  # its rows leave, so it is nothing to go on from
    (partial / ROWS).replace(job.folder / ROWS)
    write_csv(job.ids.to_frame("id"), job.folder / IDS)
    shutil.rmtree(partial)
    facts = {"images": len(job.paths), "size": job.inference.size}
    mark_stage_complete(
        job.folder, job.key, job.settings, set(unreadable), files=(ROWS, IDS), **facts
    )


@torch.inference_mode()
def _rows(
    accelerator: Accelerator,
    model: models.EmbeddingNetwork,
    pixels: torch.Tensor,
    inference: InferenceConfig,
) -> np.ndarray:
    """Float16 unit rows (B, D) of uint8 images (B, 3, S, S)."""
    with accelerator.autocast():
        rows = extract_embeddings(model, pixels.to(accelerator.device), inference)
    return rows.to(torch.float16).cpu().numpy()

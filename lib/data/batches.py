"""The one loader of training and embedding: given batches of positions, it yields their pixels.

Sets that fit into memory are decoded once and indexed; larger ones are read by worker processes.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lib.data.images import ImageSource, load_pixels

IN_MEMORY = 2 * 2**30  # bytes
PREFETCHED = 2  # batches that a worker process reads ahead
TIMEOUT = 1800  # seconds without a batch, after which nothing more is waited for
SHARED_MEMORY = Path("/dev/shm")  # through which workers hand tensors over, on Linux


class SquareImages(Dataset):
    """The images at `paths`, stretched to squares of `size` pixels; indexed by whole batches."""

    def __init__(self, source: ImageSource, paths: Sequence[str], size: int) -> None:
        source.prepare(paths)
        self.source, self.size = source, size
        self.paths = np.asarray(paths, dtype=np.bytes_)  # one block, which forks do not copy
        is_small = len(paths) * 3 * size * size <= IN_MEMORY
        self.pixels = load_pixels(source, paths, size) if is_small else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, positions: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (B, 3, S, S) uint8 and the positions themselves (B,) int64."""
        where = np.asarray(positions, dtype=np.int64)
        if self.pixels is not None:
            pixels = self.pixels[where]
        else:
            squares = [self.source.read_resized(self.paths[i].decode(), self.size) for i in where]
            pixels = np.stack(squares).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(pixels)), torch.from_numpy(where)


def loader(images: SquareImages, batches: Sequence[Sequence[int]]) -> DataLoader:
    """Load `batches` of positions, with worker processes where files are read meanwhile."""
    workers = 0 if images.pixels is not None else min(8, max(1, joblib.cpu_count() - 1))
    largest = max(map(len, batches), default=0) * 3 * images.size**2
    is_piped = workers > 0 and not _has_room(largest * workers * PREFETCHED)
    return _Loader(
        images,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=_as_arrays if is_piped else None,
        timeout=TIMEOUT if workers else 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or it draws its workers' seeds from the global one
    )


class _Loader(DataLoader):
    """A `DataLoader` whose workers need no shared memory where there is little of it."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        try:
            for pixels, positions in super().__iter__():
                yield torch.as_tensor(pixels), torch.as_tensor(positions)
        except RuntimeError as error:
            if not re.search(
                "timed out|shared memory|killed by signal|exited unexpectedly", str(error)
            ):
                raise
            raise OSError(
                "the processes that read images stopped, or gave no batch for "
                f"{TIMEOUT // 60} minutes ({str(error).splitlines()[0]}); look for a full /dev/shm "
                "(docker run --shm-size=8g), too little memory, or a disk that does not answer"
            ) from error


def _has_room(needed: int) -> bool:
    """Whether shared memory can hold so many bytes for each process of this computer."""
    if not SHARED_MEMORY.is_dir():
        return True
    processes = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)
    return needed * processes < 0.8 * shutil.disk_usage(SHARED_MEMORY).free


def _as_arrays(batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[np.ndarray, ...]:
    """Arrays travel through a pipe, tensors through shared memory."""
    return tuple(tensor.numpy() for tensor in batch)


def report_bad(unreadable: Collection[str]) -> None:
    """Say how many images were replaced by grey because nothing could read them."""
    if unreadable:
        count, first = len(unreadable), min(unreadable)
        print(f"{count:,} images could not be read and count as grey, first {first}", flush=True)

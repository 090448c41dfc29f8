"""The one loader of training and embedding: given batches of positions, it yields their pixels.

Sets that fit into memory are decoded once and indexed; larger ones are read by worker processes.
"""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lib.images import ImageSource, load_pixels

IN_MEMORY = 2 * 2**30  # bytes


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
    workers = 0 if images.pixels is not None else min(8, max(1, (os.cpu_count() or 2) - 1))
    return DataLoader(
        images,
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # or it draws its workers' seeds from the global one
    )


def report_bad(source: ImageSource) -> None:
    """Say how many images were replaced by grey because nothing could read them."""
    if bad := source.bad:
        print(f"{len(bad):,} images could not be read and count as grey, first {next(iter(bad))}")

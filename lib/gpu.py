"""Brute-force search on every GPU there is, by faiss.

Blocks of the gallery go to the GPUs in turn, as many at a time as there are GPUs. Without a GPU
nothing here is called.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import cycle

import faiss
import numpy as np

from lib.rows import Block

LARGEST_K = 2048  # the limit of faiss's k-selection on a GPU


def count() -> int:
    """How many GPUs faiss can use; 0 with a build for the CPU."""
    return faiss.get_num_gpus()


def proposals(k: int) -> int:
    """How many candidates to take for `k` neighbours: a GPU rounds more coarsely than a CPU."""
    return 2 * k + 32


def search_blocks(
    queries: np.ndarray, pieces: Iterable[Block], k: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Search block after block, each on the next GPU.

    Args:
        queries: (Q, D) float32.
        pieces: the gallery.
        k: neighbours per query and block; all of a shorter block.

    Yields:
        per block (M,) squared lengths of its rows, (Q, k) scores and (Q, k) positions.
    """
    devices = count()
    running: list[tuple[Future, np.ndarray, int]] = []
    with ThreadPoolExecutor(devices) as threads:
        for device, (start, rows, squares) in zip(cycle(range(devices)), pieces, strict=False):
            # A block is valid until the next is asked for; beside others it needs a copy.
            rows, squares = (rows.copy(), squares.copy()) if devices > 1 else (rows, squares)
            running.append((threads.submit(_knn, device, queries, rows, k), squares, start))
            if len(running) == devices:
                yield _result(*running.pop(0))
        for one in running:
            yield _result(*one)


def _result(
    future: Future, squares: np.ndarray, start: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores, positions = future.result()
    return squares, scores, positions + start


def _knn(
    device: int, queries: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    return faiss.knn_gpu(
        _resources(device),
        queries,
        rows,
        min(k, len(rows)),
        metric=faiss.METRIC_INNER_PRODUCT,
        device=device,
    )


@cache
def _resources(device: int) -> "faiss.StandardGpuResources":
    return faiss.StandardGpuResources()  # holds 1.5 GB of scratch memory: made once per GPU

"""How fast cleaning is: `python -m tests.benchmarks.bench_clean [--full] [--huge]` from the root.

Makes its own data in GLDv2's shape (heavy-tailed landmark sizes, rows in random order), and prints
tables: scikit-learn's loop, `cluster_landmarks` and the bare product-and-threshold loop on the same
landmarks; what a sweep and the options cost; time against the sum of squared sizes. Instead, with
`--huge`, one landmark of 100,000 images, and with `--full` all of cleaning over a memory map of
4,132,914 float16 rows (4.2 GB in a temporary folder). Run each where nothing else runs.
"""

import argparse
import dataclasses
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import DBSCAN

from lib.cleaning.dbscan import cluster_landmarks
from lib.cleaning.eps import suggest_eps, sweep
from lib.cleaning.label_noise import estimate_label_noise
from lib.cleaning.two_pass import clean
from lib.config import CleanConfig

DIMENSIONS = 512
LARGEST = 6_272
EPS, RELAXED_EPS, MIN_SAMPLES = 0.45, 0.55, 4
CENTRES = 4_096


def draw_sizes(landmarks: int, images: int, generator: np.random.Generator) -> np.ndarray:
    """(L,) lognormal sizes with a median of 6 that add up to `images`, one of them `LARGEST`."""
    spread = np.sqrt(2 * np.log(images / landmarks / 6))
    for _ in range(8):  # clipping takes images away, a wider spread gives them back
        draws = generator.lognormal(np.log(6), spread, landmarks)
        sizes = np.clip(draws, 1, LARGEST).astype(np.int64)
        spread *= (images / sizes.sum()) ** 0.25
    sizes[0] = LARGEST
    while (missing := images - sizes.sum()) != 0:
        able = np.flatnonzero((sizes > 10) & (sizes < LARGEST))
        some = generator.choice(able, min(abs(missing), len(able)), replace=False)
        sizes[some] += np.sign(missing)
    return sizes


def make_rows(path: Path, sizes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Write float16 unit rows in random order; two views and a fifth of noise per landmark.

    Returns:
        (N,) landmark of every row.
    """
    ids = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (len(ids), DIMENSIONS))
    centres = generator.standard_normal((CENTRES, DIMENSIONS), dtype=np.float32)
    for start in range(0, len(ids), 20_000):
        own = ids[start : start + 20_000]
        view = generator.random(len(own)) < 0.2
        spread = generator.choice([0.7, 0.9, 1.05, 4.0], (len(own), 1), p=[0.4, 0.3, 0.1, 0.2])
        block = generator.standard_normal((len(own), DIMENSIONS), dtype=np.float32)
        block *= spread.astype(np.float32)
        block += centres[(own * 7 + view) % CENTRES]
        rows[start : start + len(own)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    return ids


def measure(work: Callable[[], Any]) -> tuple[Any, float, float, float]:
    """Result, seconds, CPU seconds, and peak of own memory above where it began in GiB.

    CPU seconds tell more where others use the machine too. Pages of mapped files are not counted
    as memory; on other systems than Linux the peak is NaN.
    """
    began, done, peak = _own_memory(), threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _own_memory() - began)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    return result, seconds, cpu, peak[0]


def _own_memory() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(text for text in status.read_text().splitlines() if text.startswith("RssAnon"))
    return int(line.split()[1]) / 2**20


def compare(
    images: int, landmarks: int, generator: np.random.Generator, folder: Path
) -> np.ndarray:
    """Time the three loops on the same landmarks, and count labels that differ.

    Returns:
        (N,) landmark of every row of `rows.npy`.
    """
    sizes = draw_sizes(landmarks, images, generator)
    ids = make_rows(folder / "rows.npy", sizes, generator)
    rows = np.load(folder / "rows.npy").astype(np.float32)
    members = np.split(np.argsort(ids, kind="stable"), np.cumsum(np.bincount(ids))[:-1])
    expected = np.empty(len(ids), dtype=np.int64)

    def scikit_learn() -> None:
        model = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="cosine")
        for own in members:
            expected[own] = model.fit(rows[own]).labels_

    def bound() -> int:
        found = 0
        for own in members:
            part = rows[own]
            found += np.count_nonzero(part @ part.T >= 1 - EPS)
        return found

    def ours() -> np.ndarray:
        return cluster_landmarks(rows, ids, eps=EPS, min_samples=MIN_SAMPLES)

    ours()  # warm
    labels, *figures = measure(ours)
    table = [("cluster_landmarks", *figures)]
    table += [("product and threshold", *measure(bound)[1:])]
    table += [("scikit-learn's loop", *measure(scikit_learn)[1:])]
    frame = pd.DataFrame(table, columns=["what", "seconds", "CPU seconds", "peak GiB"])
    for name in ("seconds", "CPU seconds"):
        frame[f"{name}: times less"] = frame[name].iloc[-1] / frame[name]
    print(
        f"\n{len(ids):,} images in {landmarks:,} landmarks (median {np.median(sizes):.0f}, mean "
        f"{sizes.mean():.1f}, largest {sizes.max():,}); labels that differ from scikit-learn's: "
        f"{(labels != expected).sum()}\n{frame.round(2).to_string(index=False)}",
        flush=True,
    )
    return ids


def grow(images: int, generator: np.random.Generator, folder: Path) -> None:
    """Time the same number of images in landmarks of four sizes."""
    table = []
    for size in (16, 512, 2_048, 8_192):
        sizes = np.full(images // size, size)
        ids = make_rows(folder / "rows.npy", sizes, generator)
        rows = np.load(folder / "rows.npy")
        _, seconds, cpu, peak = measure(
            lambda rows=rows, ids=ids: cluster_landmarks(
                rows, ids, eps=EPS, min_samples=MIN_SAMPLES
            )
        )
        pairs = float((sizes**2).sum())
        table.append((size, len(sizes), pairs / 1e6, seconds, cpu, 1e9 * cpu / pairs, peak))
    columns = ["size", "landmarks", "million pairs", "seconds", "CPU seconds"]
    columns += ["CPU ns per pair", "peak GiB"]
    print(f"\n{pd.DataFrame(table, columns=columns).round(2).to_string(index=False)}")


def run_options(ids: np.ndarray, folder: Path) -> None:
    """Time what goes beyond one clustering, on the rows that `compare` left."""
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    radii = np.linspace(0.3, 0.6, 20).tolist()
    plain = CleanConfig(eps=EPS, relaxed_eps=RELAXED_EPS, min_samples=MIN_SAMPLES)
    work = {
        "cluster_landmarks": lambda: cluster_landmarks(rows, ids, eps=EPS, min_samples=MIN_SAMPLES),
        "sweep of twenty radii": lambda: sweep(rows, ids, radii, min_samples=MIN_SAMPLES),
        "suggest_eps": lambda: suggest_eps(rows, ids, min_samples=MIN_SAMPLES),
        "clean, as in GLR20": lambda: clean(rows, ids, plain),
        "clean, with two views split": lambda: clean(
            rows, ids, dataclasses.replace(plain, split_two_views=True)
        ),
        "estimate_label_noise": lambda: estimate_label_noise(rows, ids),
    }
    table = [(name, *measure(task)[1:]) for name, task in work.items()]
    frame = pd.DataFrame(table, columns=["what", "seconds", "CPU seconds", "peak GiB"])
    print(f"\n{len(ids):,} images\n{frame.round(2).to_string(index=False)}", flush=True)


def run_huge(images: int, generator: np.random.Generator, folder: Path) -> None:
    """One landmark, block by block, from a memory map."""
    ids = make_rows(folder / "huge.npy", np.array([images]), generator)
    rows = np.load(folder / "huge.npy", mmap_mode="r")
    _, seconds, cpu, peak = measure(
        lambda: cluster_landmarks(rows, ids, eps=EPS, min_samples=MIN_SAMPLES)
    )
    print(
        f"\none landmark of {images:,} images: {seconds:.1f} s, {cpu:.1f} CPU s, {peak:.2f} GiB "
        "beyond the page cache",
        flush=True,
    )


def run_full(generator: np.random.Generator, folder: Path) -> None:
    """Both passes, numbering and distances at GLDv2's size, from a memory map."""
    sizes = draw_sizes(203_094, 4_132_914, generator)
    start = time.perf_counter()
    ids = make_rows(folder / "full.npy", sizes, generator)
    print(f"\nwrote {len(ids):,} rows in {time.perf_counter() - start:.0f} s", flush=True)
    rows = np.load(folder / "full.npy", mmap_mode="r")
    said = "{}: {:.1f} s, {:.1f} CPU s, {:.2f} GiB beyond the page cache"
    figures = measure(lambda: cluster_landmarks(rows, ids, eps=EPS, min_samples=MIN_SAMPLES))[1:]
    print(said.format("cluster_landmarks", *figures), flush=True)
    config = CleanConfig(eps=EPS, relaxed_eps=RELAXED_EPS, min_samples=MIN_SAMPLES)
    names = np.char.mod("%016x", np.arange(len(ids)))
    result, *figures = measure(lambda: clean(rows, ids, config, ids=names))
    print(said.format("clean: both passes, relabelling, tables", *figures), flush=True)
    table, *figures = measure(result.train_cluster)
    print(said.format(f"train_cluster: {len(table):,} classes", *figures))
    print(result.summary())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="GLDv2's size, 4.2 GB on disk")
    parser.add_argument("--huge", action="store_true", help="one landmark of 100,000 images")
    parser.add_argument("--images", type=int, default=200_000, help="of the comparison")
    parser.add_argument("--folder", help="for the temporary files")
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}")
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.huge:
            run_huge(100_000, generator, folder)
        if given.full:
            run_full(generator, folder)
        if not (given.huge or given.full):
            ids = compare(given.images, given.images // 20, generator, folder)
            run_options(ids, folder)
            grow(131_072, generator, folder)


if __name__ == "__main__":
    main()

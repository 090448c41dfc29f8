"""How fast reranking is: `python -m tests.benchmarks.bench_rerank [--full]` from the root.

Makes its own embeddings with landmarks and countries (heavy-tailed, float16, in memory maps), then
prints time and memory of every step: the exact search against the bare matrix product, votes,
gallery tags through the approximate index, the final scoring, the dense formula on as much as it
can hold, and the bootstrap. `--full` is the competition's size: 1,129 queries, 761,757 gallery
images, 4,132,914 references of 512 numbers (5 GB on disk, and as much again for the index).
"""

import argparse
import os
import platform
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info

from lib.reranking import RetrievalData, landmark_country_rerank, query_votes
from lib.reranking.landmark_country import Tags, Votes, tag_gallery, vote_scores
from lib.retrieval.ann_index import build_index, read_index
from lib.retrieval.embedding_table import BLOCK, blocks
from lib.retrieval.knn import nearest, search
from lib.retrieval.scoring import paired_gain
from tests.benchmarks.bench_clean import draw_sizes, measure

DIMENSIONS = 512
COUNTRIES = 150
JUNK, TOPICS = {"gallery": 0.3, "references": 0.1}, 2_000  # no landmark: faces, food, maps
# As measured on the descriptors of a few thousand photographs: variances fall along the axes (71
# effective dimensions of 512), so that images of different landmarks have cosines of -0.2 to 0.27
# (5 to 95 %), and those of one landmark of 0.22 to 0.87, in the median 0.65.
VARIANCES = (1 + np.arange(DIMENSIONS, dtype=np.float32) / 12) ** -1.5
SPREADS, SHARES = np.array([0.4, 0.6, 0.75, 1.0, 1.6], np.float32), (0.15, 0.25, 0.3, 0.2, 0.1)
HOLDS = 8 * 2**30  # bytes that the dense formula may take
GPU_RATE = 50e12  # operations per second: what one GPU should sustain (estimate)


@dataclass(frozen=True)
class World:
    """The generated embeddings, memory maps of float16, and the labels of the references."""

    queries: np.ndarray
    gallery: np.ndarray
    references: np.ndarray
    landmarks: np.ndarray
    countries: np.ndarray


class Painter:
    """Draws images of landmarks that stand in countries, and junk of a few thousand topics.

    Landmarks are rows of `directions` from the front, topics from the back: -1, -2, …
    """

    def __init__(self, landmarks: int, generator: np.random.Generator) -> None:
        self.generator = generator
        share = 1 / np.arange(1, COUNTRIES + 1)
        self.country = generator.choice(COUNTRIES, landmarks, p=share / share.sum())
        places = _unit(0.5 * self._noise(COUNTRIES)[self.country] + self._noise(landmarks))
        self.directions = np.vstack([places, self._noise(TOPICS)])

    def _noise(self, count: int) -> np.ndarray:
        noise = self.generator.standard_normal((count, DIMENSIONS), dtype=np.float32)
        return _unit(np.sqrt(VARIANCES) * noise)

    def with_junk(self, landmarks: np.ndarray, share: float) -> np.ndarray:
        """What images filed under these landmarks show: a share of them a topic instead."""
        topics = -1 - self.generator.integers(TOPICS, size=len(landmarks))
        return np.where(self.generator.random(len(landmarks)) < share, topics, landmarks)

    def write(self, path: Path, shown: np.ndarray) -> np.ndarray:
        """A memory map of an image per landmark or topic given."""
        rows = np.lib.format.open_memmap(path, "w+", np.float16, (len(shown), DIMENSIONS))
        for start in range(0, len(shown), 20_000):
            own = shown[start : start + 20_000]
            spread = self.generator.choice(SPREADS, (len(own), 1), p=SHARES)
            images = self.directions[own] + spread * self._noise(len(own))
            rows[start : start + len(own)] = _unit(images)
        rows.flush()
        return np.load(path, mmap_mode="r")


def _unit(rows: np.ndarray) -> np.ndarray:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def make_world(
    folder: Path, queries: int, images: int, references: int, generator: np.random.Generator
) -> World:
    """Write queries, gallery and references of the same landmarks."""
    sizes = draw_sizes(max(50, references // 20), references, generator)
    painter = Painter(len(sizes), generator)
    of_references = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    of_gallery = painter.with_junk(generator.choice(of_references, images), JUNK["gallery"])
    of_queries = generator.choice(of_gallery[of_gallery >= 0], queries)
    seen = painter.with_junk(of_references, JUNK["references"])  # under a wrong label
    codes = np.array([f"{number:03d}" for number in range(COUNTRIES)])
    return World(
        queries=np.array(painter.write(folder / "queries.npy", of_queries)),
        gallery=painter.write(folder / "gallery.npy", of_gallery),
        references=painter.write(folder / "references.npy", seen),
        landmarks=of_references,
        countries=codes[painter.country[of_references]],
    )


class Report:
    """Lines of what was measured."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float]] = []

    def time(self, what: str, work, *, repeats: int = 1):
        """Measure a step, best of `repeats`, and print it at once."""
        measured = [measure(work) for _ in range(repeats)]
        result, *figures = min(measured, key=lambda found: found[1])
        self.rows.append((what, *figures))
        seconds, cpu, peak = figures
        print(f"{what:58} {seconds:8.1f} s {cpu:8.1f} CPU s {peak:6.2f} GiB", flush=True)
        return result

    def seconds(self, what: str, *, cpu: bool = False) -> float:
        """What a step took."""
        return next(row[2 if cpu else 1] for row in self.rows if row[0] == what)

    def ratio(self, what: str, of: str) -> str:
        """How many times as long as another step, by the clock and in CPU time."""
        clock, cpu = (
            self.seconds(what, cpu=is_cpu) / self.seconds(of, cpu=is_cpu)
            for is_cpu in (False, True)
        )
        return f"{clock:.2f} by the clock, {cpu:.2f} in CPU time"


def bare_product(report: Report, what: str, queries: np.ndarray, gallery: np.ndarray) -> None:
    """Time nothing but the products of the same float32 blocks that the search multiplies."""
    clock = cpu = 0.0
    queries = queries.astype(np.float32)
    for _, rows, _ in blocks(gallery, BLOCK, "gallery"):
        time.sleep(0.2)  # the next block is read meanwhile, not beside the product
        began, cpu_began = time.perf_counter(), time.process_time()
        queries @ rows.T
        clock, cpu = clock + time.perf_counter() - began, cpu + time.process_time() - cpu_began
    report.rows.append((what, clock, cpu, float("nan")))
    rate = 2 * len(queries) * gallery.size / clock / 1e9
    print(f"{what:58} {clock:8.1f} s {cpu:8.1f} CPU s   ({rate:.0f} GFLOP/s)", flush=True)


def dense_formula(
    queries: np.ndarray, gallery: np.ndarray, votes: Votes, tags: Tags, *, is_sorted: bool
) -> np.ndarray:
    """GLR21 as it is written down: every similarity, every addition, then the best 100."""
    final = queries @ gallery.T
    codes, _ = pd.factorize(np.append(votes.countries.ravel(), tags.countries))
    voted, tagged = np.split(codes, [votes.countries.size])
    voted = np.where(votes.countries == "", -1, voted.reshape(votes.countries.shape))
    parts = ((votes.landmarks, votes.landmark_scores, tags.landmarks, 1.0),)
    parts += ((voted, votes.country_scores, tagged, 0.1),)
    for own, scores, theirs, weight in parts:
        for place in range(own.shape[1]):
            added = (weight * scores[:, place : place + 1]).astype(np.float32)
            final += added * (own[:, place : place + 1] == theirs[None])
    if is_sorted:
        return np.argsort(-final, axis=1)[:, :100]
    best = np.argpartition(-final, 100, axis=1)[:, :100]
    order = np.argsort(-np.take_along_axis(final, best, 1), axis=1)
    return np.take_along_axis(best, order, 1)


def compare_with_dense(report: Report, world: World, data: RetrievalData) -> None:
    """The same final scoring on the largest part of the gallery that the dense formula can hold."""
    images = min(len(world.gallery), HOLDS // (16 * len(world.queries)))
    queries = world.queries.astype(np.float32)
    gallery = world.gallery[:images].astype(np.float32)
    votes, tags = query_votes(data), tag_gallery(data)
    own = Tags(tags.landmarks[:images], tags.countries[:images])
    L, C = (replace(term, tags=term.tags[:images]) for term in vote_scores(data))
    part = replace(data, queries=queries, gallery=gallery)
    ours = report.time(
        "final scoring, the part that the dense formula can hold",
        lambda: part.rank(part.similarity + 1.0 * L + 0.1 * C),
    )
    found = {}
    for name, is_sorted in (("dense formula, sorted as published", True), ("dense, parted", False)):
        found[name] = report.time(
            name, lambda s=is_sorted: dense_formula(queries, gallery, votes, own, is_sorted=s)
        )
    same = np.mean([(ours.positions == positions).mean() for positions in found.values()])
    rows = {row[0]: row for row in report.rows}
    mine = rows["final scoring, the part that the dense formula can hold"]
    print(f"  {images:,} images; {same:.2%} of all places agree (the rest are float32 ties)")
    for name in found:
        faster, leaner = rows[name][1] / mine[1], rows[name][3] / mine[3]
        print(f"  {name}: {faster:.1f} times as long, {leaner:.1f} times the memory")


def tag_through_index(report: Report, world: World, folder: Path, probes: int) -> RetrievalData:
    """Build the index, tag the gallery through it, and say what exact tags would take."""
    rows = world.references
    report.time("index: train, fill and save", lambda: build_index(rows, folder / "index"))
    index = read_index(folder / "index", rows, probes=probes)
    labels = (rows, world.landmarks, world.countries)
    data = RetrievalData(world.queries, world.gallery, *labels, index=index)
    report.time("gallery tags through the index", lambda: tag_gallery(data))
    part = world.gallery[:: max(1, len(world.gallery) // 2_000)][:2_000]
    what = f"gallery tags exactly, {len(part):,} of {len(world.gallery):,} images"
    report.time(what, lambda: tag_gallery(RetrievalData(part, part, *labels)))
    hours = report.seconds(what) * len(world.gallery) / len(part) / 3600
    operations = 2 * len(world.gallery) * len(rows) * DIMENSIONS
    print(f"  exact tags of the whole gallery: {hours:.2f} h (extrapolated)")
    print(
        f"  on one GPU: {operations:.1e} operations, {operations / GPU_RATE:.0f} s at"
        f" {GPU_RATE:.0e} per second (an estimate, not measured)"
    )
    return data


def run(world: World, folder: Path, probes: int) -> Report:
    """All steps, in the order of a rerank."""
    report = Report()
    queries, labels = world.queries, (world.references, world.landmarks, world.countries)
    nearest(queries[:50], world.gallery, 100)  # reads the gallery into the page cache
    bare_product(report, "bare product, queries × gallery", queries, world.gallery)
    report.time("exact search, 100 of the gallery", lambda: search(queries, world.gallery, 100))
    bare_product(report, "bare product again", queries, world.gallery)
    print(f"  search over product: {_over_bare(report)}")
    exact = RetrievalData(queries, world.gallery, *labels)
    report.time("query votes, exact", lambda: query_votes(exact))
    data = tag_through_index(report, world, folder, probes)
    report.time(
        "query votes, k-reciprocal through the index", lambda: query_votes(data, reciprocal=True)
    )
    query_votes(data)
    report.time(
        "final scoring, exact over the whole gallery",
        lambda: landmark_country_rerank(data),
    )
    ratio = report.ratio(
        "final scoring, exact over the whole gallery", "exact search, 100 of the gallery"
    )
    print(f"  final scoring over search: {ratio}")
    compare_with_dense(report, world, data)
    differences = [*map(pd.Series, np.random.default_rng(0).normal(size=(2, len(queries))))]
    report.time(
        "paired bootstrap, 10,000 resamples",
        lambda: paired_gain(*differences, generator=np.random.default_rng(1)),
    )
    whole = ("index: train, fill and save", "gallery tags through the index")
    whole += ("query votes, k-reciprocal through the index",)
    whole += ("final scoring, exact over the whole gallery",)
    minutes = sum(report.seconds(what) for what in whole) / 60
    peak = max(row[3] for row in report.rows if row[0] in whole)
    print(f"whole rerank, index included: {minutes:.1f} minutes, at most {peak:.2f} GiB")
    return report


def _over_bare(report: Report) -> str:
    bare = [row for row in report.rows if row[0].startswith("bare product")]
    found = next(row for row in report.rows if row[0].startswith("exact search"))
    clock, cpu = (found[i] / np.mean([row[i] for row in bare]) for i in (1, 2))
    return f"{clock:.2f} by the clock, {cpu:.2f} in CPU time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the competition's size, 10 GB on disk")
    parser.add_argument("--probes", type=int, default=0, help="cells per query; 0: a twelfth")
    parser.add_argument("--folder", help="for the temporary files")
    options = parser.parse_args()
    sizes = (1_129, 761_757, 4_132_914) if options.full else (1_129, 80_000, 200_000)
    threads = max(pool["num_threads"] for pool in threadpool_info())
    print(
        f"{os.cpu_count()} cores, {threads} threads, {platform.processor() or platform.machine()}"
    )
    print("queries {:,}, gallery {:,}, references {:,}".format(*sizes), flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        began = time.perf_counter()
        world = make_world(Path(folder), *sizes, np.random.default_rng(0))
        print(f"written in {time.perf_counter() - began:.0f} s\n", flush=True)
        run(world, Path(folder), options.probes)


if __name__ == "__main__":
    main()

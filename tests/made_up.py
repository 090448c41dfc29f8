"""Made-up evaluations, embeddings and retrieval data, without a dataset or a network."""

import hashlib
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from lib.artifacts import fingerprint, mark_complete, write_csv
from lib.data.evaluation_set import Evaluation
from lib.reranking.data import RetrievalData
from lib.retrieval.embedding_table import IDS, ROWS

COUNTRIES = ("NA", "FR", "JP")  # Namibia first: pandas reads its code as a missing value
CONTINENTS = ("Africa", "Europe", "Asia")
USAGES = ("Public", "Private")


class NumberedSource:
    """Stands in for `ImageSource`: every path has one colour of its own."""

    def read_resized(self, path: str, size: int) -> np.ndarray:
        """A (size, size, 3) square of the colour of `path`."""
        return np.full((size, size, 3), colour_of(path), dtype=np.uint8)


def colour_of(path: str) -> tuple[int, int, int]:
    """Three numbers up to 255 by which a path is recognised."""
    return tuple((zlib.crc32(path.encode()) >> shift) % 256 for shift in (0, 8, 16))


def shown(images: list[np.ndarray], paths: list[str]) -> list[str]:
    """The paths whose pictures `images` are; each must be one of `paths`."""
    path_of = {colour_of(path): path for path in paths}
    return [path_of[tuple(image[0, 0].tolist())] for image in images]


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so, of another process, and fail after so many seconds."""
    give_up = time.monotonic() + seconds
    while not is_so() and time.monotonic() < give_up:
        time.sleep(0.1)
    assert is_so()


def numbered_evaluation(*, queries: int = 6, gallery: int = 12) -> Evaluation:
    """Images q0, q1, ... and g0, g1, ... of three landmarks in turn; usages alternate."""
    asked = pd.DataFrame({"id": [f"q{i}" for i in range(queries)]})
    found = pd.DataFrame({"id": [f"g{i}" for i in range(gallery)]})
    for table, split in ((asked, "test"), (found, "index")):
        mark = table.index % len(COUNTRIES)
        table["path"] = [f"{split}/{name}.jpg" for name in table["id"]]
        table["landmark_id"] = mark
        table["country"] = [COUNTRIES[i] for i in mark]
        table["continent"] = [CONTINENTS[i] for i in mark]
    asked["usage"] = [USAGES[i // len(COUNTRIES) % 2] for i in range(queries)]
    solution = {usage: {} for usage in USAGES}
    for query, usage, mark in zip(asked["id"], asked["usage"], asked["landmark_id"], strict=True):
        solution[usage][query] = set(found.loc[found["landmark_id"] == mark, "id"])
    held_out = np.empty(0, dtype=np.int64)
    return Evaluation(asked.drop(columns="landmark_id"), found, solution, "solution", held_out)


def small_evaluation() -> Evaluation:
    """30 queries and 90 gallery images of three landmarks; a landmark per continent."""
    return numbered_evaluation(queries=30, gallery=90)


def small_data(
    evaluation: Evaluation, seed: int = 0, *, noise: float = 0.6, two: bool = True
) -> RetrievalData:
    """Noisy unit rows around a centre per landmark, 60 references, perhaps a second model."""
    generator = np.random.default_rng(seed)
    centres = np.eye(3, 8) + 0.3 * generator.normal(size=(3, 8))

    def rows_near(landmarks: np.ndarray) -> np.ndarray:
        rows = centres[landmarks] + noise * generator.normal(size=(len(landmarks), 8))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)

    codes = {"NA": 0, "FR": 1, "JP": 2}
    asked = evaluation.queries["country"].map(codes).to_numpy()
    shown = evaluation.gallery["landmark_id"].to_numpy()
    landmarks = np.arange(60) % 3
    return RetrievalData(
        rows_near(asked),
        rows_near(shown),
        rows_near(landmarks),
        landmarks,
        np.array(list(codes))[landmarks],
        query_ids=evaluation.queries["id"].to_numpy(dtype=str),
        gallery_ids=evaluation.gallery["id"].to_numpy(dtype=str),
        k=20,
        second=small_data(evaluation, seed + 1, noise=noise, two=False) if two else None,
    )


def unit_rows(generator: np.random.Generator, count: int, width: int) -> np.ndarray:
    """Random float32 rows of unit norm."""
    rows = generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rows_around_centres(seed, count, *, centres=60, width=24, spread=0.5):
    """Float16 unit rows in groups that are the same for every seed."""
    generator = np.random.default_rng(seed)
    middle = np.random.default_rng(99).standard_normal((centres, width))
    rows = middle[generator.integers(centres, size=count)]
    rows = rows + spread * generator.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def random_case(
    seed: int,
    *,
    queries: int = 9,
    images: int = 260,
    references: int = 120,
    width: int = 6,
    landmarks: int = 20,
    k: int = 40,
    ties: bool = False,
    **fields: object,
) -> RetrievalData:
    """Rows at random, some references without landmark or country; with ties, few distinct rows."""
    generator = np.random.default_rng(seed)
    sizes = {"queries": queries, "gallery": images, "references": references}
    rows = {name: unit_rows(generator, count, width) for name, count in sizes.items()}
    if ties:  # every row occurs many times
        pool = unit_rows(generator, 12, width)
        rows = {name: pool[generator.integers(12, size=len(own))] for name, own in rows.items()}
    return RetrievalData(
        **rows,
        reference_landmarks=generator.integers(-1, landmarks, references),
        reference_countries=generator.choice(["", "CN", "IN", "FR", "OTHER"], references),
        k=k,
        **fields,
    )


def similarities(data: RetrievalData) -> np.ndarray:
    """(Q, N) in double precision."""
    return data.queries.astype(np.float64) @ data.gallery.astype(np.float64).T


def nearest_references(
    data: RetrievalData, image: np.ndarray, count: int
) -> list[tuple[int, float]]:
    """Labelled references nearest to an image with their similarities, by lists."""
    found = data.references.astype(np.float64) @ image.astype(np.float64)
    found = found.astype(np.float32).astype(np.float64)
    labelled = [i for i in range(len(found)) if data.reference_landmarks[i] != -1]
    return [(i, found[i]) for i in sorted(labelled, key=lambda i: (-found[i], i))[:count]]


def write_folder(folder: Path, ids: list[str], rows: np.ndarray) -> Path:
    """Write ids and float16 rows, and sign the folder."""
    folder.mkdir(parents=True)
    np.save(folder / ROWS, np.asarray(rows, dtype=np.float16))
    write_csv(pd.DataFrame({"id": ids}), folder / IDS)
    mark_complete(folder, fingerprint(ids, np.asarray(rows)))
    return folder


def left_by_a_kill(name: str) -> str:
    """The temporary name of a file that a process of this computer, long ended, was writing."""
    host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    path = Path(name)
    return f".{path.stem}.{host}-{2**22 + 1}-abcdef-0.part{path.suffix}"

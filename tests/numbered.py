"""An evaluation without a dataset, and a source of images whose pixels tell their path."""

import zlib

import numpy as np
import pandas as pd

from lib.data.evaluation_set import Evaluation

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

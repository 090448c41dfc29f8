"""A GLDv2 folder of 32-pixel photographs: each landmark has its own colours and stripes."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.small_gldv2 import COMMONS, write_countries, write_table

LANDMARKS = (3, 11, 12, 40, 41, 90)
COUNTRIES = {"JP": (3,), "FR": (11, 12), "KE": (40,), "CA": (41,), "OTHER": (90,)}
SIZE = 32
COLOURS = np.array(
    [(200, 60, 50), (60, 180, 70), (60, 90, 210), (210, 190, 60), (170, 70, 190), (80, 190, 190)]
)
COUNTS = {"train": 8, "index": 3, "test": 2}  # images per landmark


def stripes_image(landmark: int, generator: np.random.Generator) -> np.ndarray:
    """One view (S, S, 3) uint8: stripes at the landmark's angle, shifted, darker or lighter."""
    angle = landmark * np.pi / len(LANDMARKS)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    wave = np.sin(2 * np.pi * (3 * (x * np.cos(angle) + y * np.sin(angle)) + generator.random()))
    pixels = COLOURS[landmark] * generator.uniform(0.7, 1.1) + 35 * wave[..., None]
    noise = generator.normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def stripes_id(split: str, landmark: int, number: int) -> str:
    """Sixteen hexadecimal digits, different for every image."""
    return f"{landmark * 8 + number:03x}{'0123456789abc'[list(COUNTS).index(split)] * 13}"


def write_stripes(root: Path) -> Path:
    """Write tables and images, and return `root`."""
    generator = np.random.default_rng(7)
    for split, count in COUNTS.items():
        for landmark in range(len(LANDMARKS)):
            for number in range(count):
                name = stripes_id(split, landmark, number)
                path = root / split / name[0] / name[1] / name[2] / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(stripes_image(landmark, generator)).save(path, quality=90)
    for name, rows in _tables().items():
        write_table(root, name, rows)
    write_countries(
        root, {code: [_entry(mark) for mark in marks] for code, marks in COUNTRIES.items()}
    )
    return root


def _entry(mark: int) -> dict:
    return {"id": mark, "name": f"Place_{mark}"}


def _ids(split: str, landmark: int) -> list[str]:
    return [stripes_id(split, landmark, number) for number in range(COUNTS[split])]


def _tables() -> dict[str, list[str]]:
    marks = dict(enumerate(LANDMARKS))
    categories = [f"{mark},{COMMONS}Place_{mark}" for mark in LANDMARKS]
    usages = ("Public", "Private")
    return {
        "train.csv": [f"{i},http://x/{i}.jpg,{marks[c]}" for c in marks for i in _ids("train", c)],
        "train_clean.csv": [f"{marks[c]},{' '.join(_ids('train', c))}" for c in marks],
        "train_label_to_category.csv": categories,
        "index.csv": [i for c in marks for i in _ids("index", c)],
        "index_image_to_landmark.csv": [f"{i},{marks[c]}" for c in marks for i in _ids("index", c)],
        "index_label_to_category.csv": categories,
        "test.csv": [i for c in marks for i in _ids("test", c)],
        "retrieval_solution_v2.1.csv": [
            f"{query},{' '.join(_ids('index', c))},{usage}"
            for c in marks
            for query, usage in zip(_ids("test", c), usages, strict=True)
        ],
    }

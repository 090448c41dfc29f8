"""A small dataset in GLDv2's layout: grey images with rows that a test can name, or photographs.

`write_gldv2` writes the first, `write_stripes` landmarks of their own colours and stripes, which a
network tells apart in seconds.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

COMMONS = "http://commons.wikimedia.org/wiki/Category:"
TABLES = {
    "train.csv": "id,url,landmark_id",
    "train_clean.csv": "landmark_id,images",
    "train_label_to_category.csv": "landmark_id,category",
    "index.csv": "id",
    "index_image_to_landmark.csv": "id,landmark_id",
    "index_label_to_category.csv": "landmark_id,category",
    "test.csv": "id",
    "retrieval_solution_v2.1.csv": "id,images,Usage",
}
GREY = np.full((4, 6, 3), 90, dtype=np.uint8)
LANDMARK_OF = {1: 50, 2: 7, 3: 50, 4: 3, 5: 7, 6: 9, 7: 3, 8: 9, 9: 7, 10: 50, 11: 7, 12: 50}


def image_id(number: int) -> str:
    """A 16-digit id whose first three digits, the folders, are the number's."""
    return f"{number:03x}{number:013x}"


def ids(*numbers: int) -> str:
    """Ids between spaces, as the files list them."""
    return " ".join(image_id(number) for number in numbers)


def default_rows() -> dict[str, list[str]]:
    """The rows of every table of the folder."""
    return {
        "train.csv": [f"{image_id(i)},http://x/{i}.jpg,{mark}" for i, mark in LANDMARK_OF.items()],
        "train_clean.csv": [f"7,{ids(2, 5)}", f"50,{ids(1, 3)}"],
        "train_label_to_category.csv": [
            f'50,"{COMMONS}Marb%C3%A4cks_kyrka,_Sm%C3%A5land"',
            f"7,{COMMONS}Windhoek",
            f"3,{COMMONS}NA",
            f"9,{COMMONS}Nowhere",
        ],
        "index.csv": [image_id(i) for i in range(101, 106)],
        "index_image_to_landmark.csv": [
            f"{image_id(i)},{mark}" for i, mark in ((101, 0), (102, 0), (103, 1), (104, 2))
        ],
        "index_label_to_category.csv": [
            f'0,"{COMMONS}Marb%C3%A4cks_kyrka,_Sm%C3%A5land"',
            f"1,{COMMONS}Windhoek",
            f"2,{COMMONS}Unseen",
        ],
        "test.csv": [image_id(i) for i in range(201, 205)],
        "retrieval_solution_v2.1.csv": [
            f"{image_id(201)},{ids(101, 103)},Public",
            f"{image_id(202)},{ids(102)},Private",
            f"{image_id(203)},None,Ignored",
            f"{image_id(204)},{ids(104)},Public",
        ],
    }


def write_table(root: Path, name: str, rows: list[str]) -> None:
    """Write one of `TABLES` with the given rows."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([TABLES[Path(name).name], *rows]) + "\n"
    (root / name).write_text(text, encoding="utf-8")


def write_countries(root: Path, countries: dict[str, list[dict]]) -> None:
    """Write country files with the given entries."""
    (root / "country").mkdir(parents=True, exist_ok=True)
    (root / "country_codes.json").write_text(json.dumps(list(countries)))
    for code, entries in countries.items():
        (root / "country" / f"{code}.json").write_text(json.dumps(entries))


def write_image(root: Path, split: str, image_id: str, pixels: np.ndarray = GREY) -> Path:
    """Write a JPEG where `split` keeps this id."""
    path = root / split / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=90)
    return path


def write_tables(root: Path, rows: dict[str, list[str]], countries: dict[str, list[dict]]) -> Path:
    """Write all tables of a folder, and return it."""
    for name, own in rows.items():
        write_table(root, name, own)
    write_countries(root, countries)
    return root


def write_gldv2(root: Path) -> Path:
    """Write a folder of a few grey images, each of whose rows a test can name."""
    countries = {
        "SE": [{"id": 50, "name": "Marb%C3%A4cks_kyrka,_Sm%C3%A5land"}],
        "NA": [{"name": "Windhoek"}],
        "RU": [{"id": 3, "name": "NA"}],
        "OTHER": [],
    }
    write_tables(root, default_rows(), countries)
    for split, numbers in (("train", LANDMARK_OF), ("index", range(101, 106))):
        for number in numbers:
            write_image(root, split, image_id(number))
    for number in range(201, 205):
        write_image(root, "test", image_id(number))
    return root


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
                pixels = stripes_image(landmark, generator)
                write_image(root, split, stripes_id(split, landmark, number), pixels)
    countries = {code: [_entry(mark) for mark in marks] for code, marks in COUNTRIES.items()}
    return write_tables(root, _tables(), countries)


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

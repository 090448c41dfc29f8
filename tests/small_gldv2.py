"""A GLDv2 folder of a few tiny images, each of whose rows a test can name."""

import json
from pathlib import Path

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


def write_image(root: Path, split: str, image_id: str, size: tuple[int, int] = (6, 4)) -> Path:
    """Write a grey JPEG where `split` keeps this id."""
    path = root / split / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 90, 90)).save(path)
    return path


def write_gldv2(root: Path) -> Path:
    """Write the whole folder."""
    for name, rows in default_rows().items():
        write_table(root, name, rows)
    write_countries(
        root,
        {
            "SE": [{"id": 50, "name": "Marb%C3%A4cks_kyrka,_Sm%C3%A5land"}],
            "NA": [{"name": "Windhoek"}],
            "RU": [{"id": 3, "name": "NA"}],
            "OTHER": [],
        },
    )
    for split, numbers in (("train", LANDMARK_OF), ("index", range(101, 106))):
        for number in numbers:
            write_image(root, split, image_id(number))
    for number in range(201, 205):
        write_image(root, "test", image_id(number))
    return root

"""Photographs in folders named after their landmark, written in GLDv2's layout.

`./run_all.sh import FOLDERS DATA_DIR` copies them into a new data folder, on which every profile
runs. Ids are made from the files' contents, so the same photograph in two folders is noticed;
nothing in the source is changed.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.images import decode
from lib.layout import image_paths
from lib.paths import caller_path
from lib.runs import atomic_path, progress, write_csv
from lib.tables import category_url

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SMALLEST = 32  # pixels at which a file is decoded to see whether it can be


def import_photos(folders: str | Path, data_dir: str | Path) -> pd.DataFrame:
    """Write every readable image below `folders` into the new data folder `data_dir`.

    Each folder directly below is one landmark, its own subfolders included; landmark ids count from
    0 in the order of the names. All images are taken for clean, and no country is known.

    Args:
        folders: holds a folder per landmark.
        data_dir: receives train.csv, train_clean.csv, train_label_to_category.csv and
            train/a/b/c/ID.jpg; appears whole or not at all.

    Returns:
        One row per file: path, landmark, id ("" if it was left out), problem ("" if there is none).

    Raises:
        ValueError: if there is no folder with a readable image, or `data_dir` is taken.
    """
    folders, data_dir = Path(folders), Path(data_dir)
    if not folders.is_dir():
        raise ValueError(f"expected a folder of landmark folders, found none at {folders}")
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise ValueError(f"expected a new folder to write into, found {data_dir}; give another one")
    files = [
        (path, place.name)
        for place in sorted(path for path in folders.iterdir() if path.is_dir())
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    with atomic_path(data_dir) as target:
        target.mkdir()
        seen: dict[str, str] = {}
        rows = [
            (str(path.relative_to(folders)), landmark, *_take(path, target, seen))
            for path, landmark in progress(files, "importing photographs")
        ]
        table = pd.DataFrame(rows, columns=["path", "landmark", "id", "problem"])
        taken = table[table["id"] != ""]
        if taken.empty:
            raise ValueError(
                f"expected images in folders below {folders}, found {len(table):,} files and no "
                "readable image; give a folder that holds one folder per landmark"
            )
        _write_tables(taken, target)
    return table


def _take(path: Path, target: Path, seen: dict[str, str]) -> tuple[str, str]:
    """Copy one file; its id, or why it was left out."""
    if path.suffix.lower() not in SUFFIXES:
        return "", "no image by its name"
    data = path.read_bytes()
    try:
        decode(data, SMALLEST)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        return "", f"unreadable ({type(error).__name__})"
    name = hashlib.sha256(data).hexdigest()[:16]
    if name in seen:
        return "", f"the same photograph as {seen[name]}"
    seen[name] = str(path.relative_to(path.parents[1]))
    place = target / image_paths("train", [name])[0]
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return name, ""


def _write_tables(taken: pd.DataFrame, target: Path) -> None:
    numbers = {name: number for number, name in enumerate(sorted(taken["landmark"].unique()))}
    train = pd.DataFrame(
        {"id": taken["id"], "url": "", "landmark_id": taken["landmark"].map(numbers)}
    )
    write_csv(train, target / "train.csv")
    clean = train.groupby("landmark_id")["id"].agg(" ".join).rename("images").reset_index()
    write_csv(clean, target / "train_clean.csv")
    categories = [(number, category_url(name)) for name, number in numbers.items()]
    columns = ["landmark_id", "category"]
    write_csv(pd.DataFrame(categories, columns=columns), target / "train_label_to_category.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Import photographs and say what was left out."""
    parser = argparse.ArgumentParser(prog="./run_all.sh import", description=main.__doc__)
    parser.add_argument("folders", help="holds one folder per landmark, named after it")
    parser.add_argument("data_dir", help="new folder in GLDv2's layout")
    chosen = parser.parse_args(arguments)
    try:
        table = import_photos(caller_path(chosen.folders), caller_path(chosen.data_dir))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    left_out = table[table["problem"] != ""]
    if len(left_out):
        print(left_out[["path", "problem"]].head(20).to_string(index=False))
        print(f"left out {len(left_out):,} of {len(table):,} files", file=sys.stderr)
    taken = table[table["id"] != ""]
    print(f"{len(taken):,} images of {taken['landmark'].nunique():,} landmarks")
    print(f"next: ./run_all.sh photos --data-dir {chosen.data_dir} -p WEIGHTS FILE")


if __name__ == "__main__":
    main()

"""Photographs in folders named after their landmark, written in GLDv2's layout.

`./run_all.sh import FOLDERS DATA_DIR` copies them into a new data folder, on which every profile
runs. Ids are made from the files' contents, so the same photograph in two folders is noticed;
nothing in the source is changed. Whatever is left out is listed with its reason, but for hidden
files and folders."""

import argparse
import hashlib
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib.artifacts import atomic_path, caller_path, locked, progress, write_csv
from lib.data.gldv2 import image_paths
from lib.data.images import SMALLEST, decode
from lib.data.tables import category_url
from lib.data.tar_images import read_file, walk_files

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff")


def import_photos(folders: str | Path, data_dir: str | Path) -> pd.DataFrame:
    """Write every readable image below `folders` into the new data folder `data_dir`.

    Each folder directly below is one landmark, its own subfolders included, linked ones too;
    landmark ids count from 0 in the order of the names. All images are taken for clean, and no
    country is known.

    Args:
        folders: holds a folder per landmark.
        data_dir: receives train.csv, train_clean.csv, train_label_to_category.csv and
            train/a/b/c/ID.jpg; appears whole or not at all.

    Returns:
        One row per file, and per folder of which nothing could be read: path, landmark, id (""
        if it was left out), problem ("" if there is none).

    Raises:
        ValueError: if there is no folder with a readable image, or `data_dir` is taken, or another
            run imports into it.
    """
    folders, data_dir = Path(folders), Path(data_dir)
    if not folders.is_dir():
        raise ValueError(f"expected a folder of landmark folders, found none at {folders}")
    found = [entry for entry in _found(folders) if not entry.path.name.startswith(".")]
    with locked(data_dir, waits=False):
        _refuse_taken(data_dir)
        return _import(found, folders, data_dir)


def _refuse_taken(data_dir: Path) -> None:
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise ValueError(f"expected a new folder to write into, found {data_dir}; give another one")


def _import(found: Sequence["_Found"], folders: Path, data_dir: Path) -> pd.DataFrame:
    with atomic_path(data_dir) as target:
        target.mkdir()
        seen: dict[str, str] = {}
        rows = []
        for entry in progress(found, "importing photographs"):
            shown = _as_text(entry.path.relative_to(folders))
            name, problem = "", entry.problem
            if not problem:
                name, problem = _take(entry.path, shown, target, seen)
            rows.append((shown, entry.landmark, name, problem))
        table = pd.DataFrame(rows, columns=["path", "landmark", "id", "problem"], dtype=object)
        taken = table[table["id"] != ""]
        if taken.empty:
            raise ValueError(
                f"expected images in folders below {folders}, found {len(table):,} files and no "
                "readable image; give a folder that holds one folder per landmark"
            )
        _write_tables(taken, target)
    return table


@dataclass(frozen=True)
class _Found:
    """A file or folder of the source."""

    path: Path
    landmark: str  # "" where there is none
    problem: str = ""  # why it is left out, as far as is known without reading it


def _found(folders: Path) -> Iterator[_Found]:
    """Everything in `folders`, by landmark: files, and folders of which nothing can be read."""
    for place in sorted(folders.iterdir()):
        landmark = unicodedata.normalize("NFC", _as_text(place.name))
        if not place.is_dir():
            yield _Found(place, "", "beside the landmark folders")
        elif place.name.startswith("."):
            continue
        elif landmark != unicodedata.normalize("NFC", place.name):
            yield _Found(place, landmark, "the folder's name is no UTF-8")
        else:
            yield from _files_of(place, landmark)


def _files_of(place: Path, landmark: str) -> Iterator[_Found]:
    closed: list[OSError] = []
    is_empty = True
    for folder, names in walk_files(place, closed.append):
        for name in names:
            is_empty = False
            yield _Found(Path(folder, name), landmark)
    for error in closed:
        yield _Found(Path(error.filename), landmark, f"unreadable ({error.strerror})")
    if is_empty and not closed:
        yield _Found(place, landmark, "no file in this folder")


def _as_text(path: Path | str) -> str:
    """A name that can be written and printed, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _take(path: Path, shown: str, target: Path, seen: dict[str, str]) -> tuple[str, str]:
    """Copy one file; its id, or why it was left out."""
    if path.suffix.lower() not in SUFFIXES:
        return "", "no image by its name"
    try:
        data = read_file(path)
        decode(data, SMALLEST)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return "", f"unreadable ({reason})"
    name = hashlib.sha256(data).hexdigest()[:16]
    if name in seen:
        return "", f"the same photograph as {seen[name]}"
    seen[name] = shown
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
    taken = table[table["id"] != ""]
    lost = sorted(set(table["landmark"]) - set(taken["landmark"]) - {""})
    if len(left_out):
        print(left_out[["path", "problem"]].head(20).to_string(index=False))
        print(f"left out {len(left_out):,} of {len(table):,} files", file=sys.stderr)
    if lost:
        print(f"left out {len(lost):,} landmarks: {', '.join(lost[:20])}", file=sys.stderr)
    print(f"{len(taken):,} images of {taken['landmark'].nunique():,} landmarks")
    print(f"next: ./run_all.sh photos --data-dir {shlex.quote(chosen.data_dir)}")

"""Import photographs from folders named after their landmark into a new folder in GLDv2's layout.

Ids are made from the files' contents, so the same photograph in two folders is noticed. Everything
that is left out is listed with its reason, except hidden files and folders.
"""

import argparse
import hashlib
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Sequence
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

    Each folder directly below is one landmark, with its subfolders and linked folders; landmark ids
    count from 0 in the order of the names. All images count as clean. `data_dir` appears whole or
    not at all.

    Returns:
        One row per file, and per folder without a readable file: path, landmark, id ("" if it was
        left out), problem ("" if there is none).
    """
    folders, data_dir = Path(folders), Path(data_dir)
    if not folders.is_dir():
        raise ValueError(f"expected a folder of landmark folders, found none at {folders}")
    if folders.resolve() in (data_dir.resolve(), *data_dir.resolve().parents):
        raise ValueError(
            f"expected a data folder outside {folders}, found {data_dir}; or it counts as a "
            "landmark next time"
        )
    found = [entry for entry in _find(folders) if not entry[0].name.startswith(".")]
    rows, seen = [], {}
    with locked(data_dir, waits=False):
        if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
            raise ValueError(
                f"expected a new folder to write into, found {data_dir}; give another one"
            )
        with atomic_path(data_dir) as target:
            target.mkdir()
            for path, landmark, problem in progress(found, "importing photographs"):
                shown, name = _as_text(path.relative_to(folders)), ""
                if not problem:
                    name, problem = _copy(path, shown, target, seen)
                rows.append((shown, landmark, name, problem))
            table = pd.DataFrame(rows, columns=["path", "landmark", "id", "problem"], dtype=object)
            copied = table[table["id"] != ""]
            if copied.empty:
                raise ValueError(
                    f"expected images in folders below {folders}, found {len(table):,} files and "
                    "no readable image; give a folder that holds one folder per landmark"
                )
            _write_tables(copied, target)
    return table


def _find(folders: Path) -> Iterator[tuple[Path, str, str]]:
    """Path, landmark and problem ("" so far) of every file, and of folders without a file."""
    for place in sorted(folders.iterdir()):
        landmark = unicodedata.normalize("NFC", _as_text(place.name))
        if not place.is_dir():
            yield place, "", "beside the landmark folders"
        elif place.name.startswith("."):
            continue
        elif landmark != unicodedata.normalize("NFC", place.name):
            yield place, landmark, "the folder's name is no UTF-8"
        else:
            errors: list[OSError] = []
            walk = walk_files(place, errors.append)
            files = [(Path(folder, name), landmark, "") for folder, names in walk for name in names]
            yield from files
            for error in errors:
                yield Path(error.filename), landmark, f"unreadable ({error.strerror})"
            if not files and not errors:
                yield place, landmark, "no file in this folder"


def _as_text(path: Path | str) -> str:
    """A name that can be written and printed, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _copy(path: Path, shown: str, target: Path, seen: dict[str, str]) -> tuple[str, str]:
    """Copy one file; its id, or the reason why it was left out."""
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


def _write_tables(copied: pd.DataFrame, target: Path) -> None:
    landmark_id, names = pd.factorize(copied["landmark"], sort=True)
    train = pd.DataFrame({"id": copied["id"], "url": "", "landmark_id": landmark_id})
    clean = train.groupby("landmark_id")["id"].agg(" ".join).rename("images").reset_index()
    categories = pd.DataFrame({"category": [category_url(name) for name in names]})
    write_csv(train, target / "train.csv")
    write_csv(clean, target / "train_clean.csv")
    categories = categories.rename_axis("landmark_id").reset_index()
    write_csv(categories, target / "train_label_to_category.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Import photographs and print what was left out."""
    parser = argparse.ArgumentParser(prog="./run_all.sh import", description=main.__doc__)
    parser.add_argument("folders", help="holds one folder per landmark, named after it")
    parser.add_argument("data_dir", help="new folder in GLDv2's layout")
    chosen = parser.parse_args(arguments)
    try:
        table = import_photos(caller_path(chosen.folders), caller_path(chosen.data_dir))
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    left_out = table[table["problem"] != ""]
    copied = table[table["id"] != ""]
    lost = sorted(set(table["landmark"]) - set(copied["landmark"]) - {""})
    if len(left_out):
        print(left_out[["path", "problem"]].head(20).to_string(index=False))
        print(f"left out {len(left_out):,} of {len(table):,} files", file=sys.stderr)
    if lost:
        print(f"left out {len(lost):,} landmarks: {', '.join(lost[:20])}", file=sys.stderr)
    print(f"{len(copied):,} images of {copied['landmark'].nunique():,} landmarks")
    print(f"next: ./run_all.sh photos --data-dir {shlex.quote(chosen.data_dir)}")


if __name__ == "__main__":
    main()

"""Import photographs, from landmark folders or a CSV, into a new folder in GLDv2's layout.

Ids are made from the files' contents, so the same photograph in two places is noticed. Everything
that is left out is listed with its reason, except hidden files and folders. Queries and gallery,
where they are given, become GLDv2's test and index images with a solution.
"""

import argparse
import functools
import hashlib
import os
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from lib.artifacts import atomic_path, caller_path, locked, progress, write_csv, write_json
from lib.data import tables
from lib.data.geography import country_codes
from lib.data.gldv2 import SOLUTION, image_paths
from lib.data.images import FORMATS, SMALLEST, decode, stretch
from lib.data.tar_images import read_file, walk_files

LISTING = "photographs.csv"  # what became of every file
# Columns of a CSV beside path and landmark, which may be called label, as in open-metric-learning.
OPTIONAL = ("country", "split", "is_query", "is_gallery", "category")
SPLITS = {  # names of splits and of their folders → split, is_query, is_gallery
    **dict.fromkeys(("train", "training"), ("train", False, False)),
    **dict.fromkeys(("val", "valid", "validation"), ("validation", True, True)),
    "test": ("test", True, True),
    **dict.fromkeys(("query", "queries"), ("validation", True, False)),
    **dict.fromkeys(("gallery", "index"), ("validation", False, True)),
}
FLAGS = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "", "none", "nan"), False),
}
# Photographs as grey squares of so many pixels, without their mean: cosines from which two count
# as nearly the same. Of 4,644 photographs 90 pairs reach it, and one of these shows two places;
# half the size, JPEG at quality 30, other brightness and grey reach it, a cut of 5 % often.
THUMBNAIL, NEARLY_THE_SAME = 16, 0.97
_BLOCK = 1024  # photographs compared at a time


def import_photos(source: str | Path, data_dir: str | Path, *, link: bool = False) -> pd.DataFrame:
    """Write every readable image of `source` into the new folder `data_dir`; copy or `link` it.

    `source` is a CSV (data/README.md), or a folder in which each folder is one landmark, with its
    subfolders and linked folders, or in which `train`, `val` and `test` hold such folders. Landmark
    ids count from 0 in the order of the names; all training images count as clean. `data_dir`
    appears whole or not at all.

    Returns:
        One row per file, and per folder without a readable file: path, landmark, id ("" if it was
        left out), split (train, test, index or ""), problem ("" if there is none), similar (the
        nearly same photograph that spoils an evaluation: of training for a query, without queries
        of another landmark; "" if there is none), and is_query and is_gallery as they were asked.
    """
    source, data_dir = Path(source), Path(data_dir)
    if not source.exists():
        raise ValueError(
            f"expected a folder of landmark folders or a CSV, found none at {source}; give the "
            "one that holds your photographs"
        )
    if source.is_dir() and source.resolve() in (data_dir.resolve(), *data_dir.resolve().parents):
        raise ValueError(
            f"expected a data folder outside {source}, found {data_dir}; or it counts as a "
            "landmark next time"
        )
    table = _from_folder(source) if source.is_dir() else _from_csv(source)
    with locked(data_dir, waits=False):
        if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
            raise ValueError(
                f"expected a new folder to write into, found {data_dir}; give another one"
            )
        with atomic_path(data_dir) as target:
            target.mkdir()
            table, thumbnails = _store(table, target, link)
            if (table["id"] == "").all():
                first = table[["path", "problem"]].head(1).to_numpy()
                raise ValueError(
                    f"expected images in {source}, found {len(table):,} files and no readable "
                    "image; give a folder that holds one folder per landmark, or a CSV of images"
                    + "".join(f" (first: {path}: {problem})" for path, problem in first)
                )
            table = _with_splits(table, source)
            table["similar"] = _similar(table, thumbnails)
            _move_and_write_tables(table, target)
            table = table.drop(columns=["file", "country", "usage"])
            write_csv(table, target / LISTING)
    return table


def _from_folder(folder: Path) -> pd.DataFrame:
    """The files of landmark folders, or of a tree of splits that hold such folders."""
    visible = [path for path in sorted(folder.iterdir()) if path.name[0] != "." and path.is_dir()]
    named = [path for path in visible if path.name.casefold() in SPLITS]
    split = [path for path in named if _holds_folders_alone(path)]
    if (split or len(named) > 1) and split != visible:
        others = tables.first_of(path.name for path in visible if path not in split)
        raise ValueError(
            f"expected landmark folders in {folder}, or splits such as train, val and test "
            f"with landmark folders in each, found {tables.first_of(p.name for p in named)} "
            f"and, beside them or without landmark folders, {others}; rename or move them"
        )
    trees = {path: SPLITS[path.name.casefold()] for path in split}
    trees[folder] = SPLITS["train"]  # of splits, what lies beside them
    rows = [
        (path, _as_text(path.relative_to(folder)), landmark, *roles, problem)
        for tree, roles in trees.items()
        for path, landmark, problem in _find(tree, split)
    ]
    names = ["file", "path", "landmark", "split", "is_query", "is_gallery", "problem"]
    table = pd.DataFrame(rows, columns=names, dtype=object).assign(country="")
    return table.astype({"is_query": bool, "is_gallery": bool})


def _holds_folders_alone(folder: Path) -> bool:
    """Whether folders, and no images, lie directly in it."""
    within = [path for path in folder.iterdir() if path.name[0] != "."]
    are_images = any(path.suffix.lower() in _suffixes() and path.is_file() for path in within)
    return any(path.is_dir() for path in within) and not are_images


def _find(folder: Path, apart: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    """Path, landmark and problem ("" so far) of every file, and of folders without a file.

    Folders that are `apart` are left out, and what is hidden.
    """
    for place in sorted(folder.iterdir()):
        landmark = unicodedata.normalize("NFC", _as_text(place.name))
        if place.name.startswith(".") or place in apart:
            continue
        if not place.is_dir():
            yield place, "", "beside the landmark folders"
        elif landmark != unicodedata.normalize("NFC", place.name):
            yield place, landmark, "the folder's name is no UTF-8"
        else:
            errors: list[OSError] = []
            walked = [(Path(at), names) for at, names in walk_files(place, errors.append)]
            files = [at / name for at, names in walked for name in names if name[0] != "."]
            for path in files:
                is_image = path.suffix.lower() in _suffixes()
                yield path, landmark, "" if is_image else "no image by its name"
            for error in errors:
                yield Path(error.filename), landmark, f"unreadable ({error.strerror})"
            if not files and not errors:
                yield place, landmark, "no file in this folder"


@functools.cache
def _suffixes() -> set[str]:
    """Endings of the names of images, as Pillow has them, and HEIC's."""
    known = Image.registered_extensions().items()
    return {suffix for suffix, name in known if name in FORMATS} | {".heic", ".heif", ".hif"}


def _as_text(path: Path | str) -> str:
    """A name that can be written and printed, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _from_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV; paths in it are relative to its folder."""
    header = tables.read_header(path)
    label = "label" if "label" in header and "landmark" not in header else "landmark"
    given = [name for name in OPTIONAL if name in header]
    table = tables.read_table(path, dict.fromkeys(["path", label, *given], str), key="path")
    table = table.rename(columns={label: "landmark"})
    table = table.apply(lambda values: values.str.strip().str.normalize("NFC"))
    table = table.reindex(columns=["path", "landmark", *OPTIONAL], fill_value="")
    unused = [name for name in header if name not in ("path", label, *given)]
    pairs = table[["category", "landmark"]].drop_duplicates()
    is_named = pairs["category"].is_unique and (pairs["category"] != "").all()
    if is_named and pairs["landmark"].is_unique:  # each label has a category of its own
        table["landmark"] = table["category"]
    elif "category" in given:
        unused.append("category")
    if unused:
        print(f"columns that are not used: {tables.first_of(unused, 10)}", file=sys.stderr)
    for name in ("is_query", "is_gallery"):
        flags = table[name].str.lower().map(FLAGS)
        tables.refuse(path, table, flags.isna(), name, "true or false")
        table[name] = flags.astype(bool)
    codes = country_codes(table["country"])
    is_unknown = (codes == "") & (table["country"] != "")
    tables.refuse(path, table, is_unknown, "country", "a country as code or English name, or none")
    table["country"] = codes
    _set_splits(path, table, given)
    needs_name = (table["landmark"] == "") & ~(table["is_gallery"] & ~table["is_query"])
    is_neither = (table["split"] != "train") & ~(table["is_query"] | table["is_gallery"])
    problem = np.where(needs_name, "no landmark", np.where(is_neither, "no query, no gallery", ""))
    files = [_existing(path.parent, name) for name in table["path"]]
    return table.drop(columns="category").assign(file=files, problem=problem)


def _set_splits(path: Path, table: pd.DataFrame, given: Sequence[str]) -> None:
    """Write train, validation or test into `table`, and the flags that are not `given`."""
    is_asked = table["is_query"] | table["is_gallery"]
    if "split" not in given:
        table["split"] = np.where(is_asked, "validation", "train")
        return
    names = table["split"].str.lower()
    tables.refuse(path, table, ~names.isin(SPLITS), "split", "train, validation or test")
    roles = pd.DataFrame([SPLITS[name] for name in names], index=table.index)
    is_train = roles[0] == "train"
    tables.refuse(path, table, is_train & is_asked, "split", "no query or gallery image in train")
    table["split"] = roles[0]
    if not {"is_query", "is_gallery"} & set(given):
        table["is_query"], table["is_gallery"] = roles[1], roles[2]
    elif "is_gallery" not in given:
        table["is_gallery"] = ~is_train & ~table["is_query"]
    elif "is_query" not in given:
        table["is_query"] = ~is_train & ~table["is_gallery"]


def _existing(folder: Path, name: str) -> Path:
    """The file that a table names, in the form of its accents that the disk has."""
    forms = [Path(folder, unicodedata.normalize(form, name)) for form in ("NFC", "NFD")]
    return next((path for path in forms if path.exists()), forms[0])


def _store(table: pd.DataFrame, target: Path, link: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Write all images into `train`, first those that are asked for, and give them ids.

    Returns the table with ids and problems, and (N, 256) thumbnails.
    """
    thumbnails = np.zeros((len(table), THUMBNAIL**2), dtype=np.float32)
    ids, problems, seen = [""] * len(table), table["problem"].tolist(), {}
    order = np.argsort(table["split"].to_numpy() == "train", kind="stable")
    for row in progress(order, "importing photographs"):
        if problems[row]:
            continue
        file, shown = table["file"].iloc[row], table["path"].iloc[row]
        try:
            data = read_file(file)
            thumbnails[row] = _thumbnail(decode(data, SMALLEST))
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            problems[row] = f"unreadable ({reason})"
            continue
        name = hashlib.sha256(data).hexdigest()[:16]
        if name in seen:
            problems[row] = f"the same photograph as {seen[name]}"
            continue
        ids[row], seen[name] = name, shown
        place = target / image_paths("train", [name])[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        if link:
            place.symlink_to(file.resolve())
        else:
            place.write_bytes(data)
    return table.assign(id=ids, problem=problems), thumbnails


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    """(256,) unit vector of the grey picture without its mean; 0 for a single grey."""
    grey = cv2.cvtColor(stretch(pixels, THUMBNAIL), cv2.COLOR_RGB2GRAY).astype(np.float32).ravel()
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-6)


def _with_splits(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """Give each stored image its split, and queries their usage.

    An image cannot be query and gallery at once. Of those that are asked for as both, every fourth
    of each landmark becomes a query, and the others the gallery. Validation queries are Public and
    test queries Private; where there is one kind, those of every third landmark are Public.
    """
    is_stored = table["id"] != ""
    both = table[is_stored & table["is_query"] & table["is_gallery"]].sort_values("id")
    of_landmark = both.groupby("landmark")["id"]
    chosen = both.index[(of_landmark.cumcount() % 4 == 0) & (of_landmark.transform("size") > 1)]
    is_query = table["is_query"] & (~table["is_gallery"] | table.index.isin(chosen))
    asked = np.where(is_query, "test", np.where(table["is_gallery"], "index", "train"))
    split = pd.Series(np.where(is_stored, asked, ""), table.index)
    queries, gallery = table[split == "test"], table[split == "index"]
    is_answered = queries["landmark"].isin(set(gallery["landmark"]) - {""})
    if not (split == "train").any():
        raise ValueError(
            f"expected training images in {source}, found queries and gallery images alone; mark "
            "some landmarks with split train"
        )
    if len(queries) + len(gallery) and not is_answered.any():
        raise ValueError(
            f"expected queries in {source} with gallery images of their landmark, found "
            f"{len(queries):,} queries and {len(gallery):,} gallery images, none of which answers "
            "a query; give both, or neither to hold landmarks out of training"
        )
    usage = queries["split"].map({"validation": "Public", "test": "Private"})
    if usage.nunique() == 1:
        is_public = pd.factorize(queries["landmark"], sort=True)[0] % 3 == 1
        usage = pd.Series(np.where(is_public, "Public", "Private"), queries.index)
    return table.assign(split=split, usage=usage.where(is_answered, "Ignored"))


def _similar(table: pd.DataFrame, thumbnails: np.ndarray) -> np.ndarray:
    """The path of the most similar photograph that should not be so, "" below the threshold.

    Queries are compared with training images. Without queries, landmarks are held out later: then
    images are compared with those of other landmarks.
    """
    has_queries = (table["split"] == "test").any()
    asked = np.flatnonzero(table["split"] == ("test" if has_queries else "train"))
    among = np.flatnonzero(table["split"] == "train")
    landmark = pd.factorize(table["landmark"])[0]
    paths, found = table["path"].to_numpy(), np.full(len(table), "", dtype=object)
    for start in range(0, len(asked), _BLOCK):
        rows = asked[start : start + _BLOCK]
        cosine = thumbnails[rows] @ thumbnails[among].T
        if not has_queries:
            cosine[landmark[rows][:, None] == landmark[among]] = -1
        best = cosine.argmax(axis=1)
        is_near = cosine[np.arange(len(rows)), best] >= NEARLY_THE_SAME
        found[rows[is_near]] = paths[among[best[is_near]]]
    return found


def _move_and_write_tables(table: pd.DataFrame, target: Path) -> None:
    train, gallery, queries = (table[table["split"] == name] for name in ("train", "index", "test"))
    for split, ids in (("index", gallery["id"]), ("test", queries["id"])):
        for old, new in zip(image_paths("train", ids), image_paths(split, ids), strict=True):
            os.renames(target / old, target / new)
    labels = _write_landmarks("train", train, target)
    clean = labels.groupby("landmark_id")["id"].agg(" ".join).rename("images")
    write_csv(labels.assign(url="")[["id", "url", "landmark_id"]], target / "train.csv")
    write_csv(clean.reset_index(), target / "train_clean.csv")
    if len(queries):
        known = _write_landmarks("index", gallery[gallery["landmark"] != ""], target)
        write_csv(known, target / "index_image_to_landmark.csv")
        answers = gallery.groupby("landmark")["id"].agg(" ".join)
        images = queries["landmark"].map(answers).fillna("")
        solution = pd.DataFrame({"id": queries["id"], "images": images, "Usage": queries["usage"]})
        write_csv(solution, target / SOLUTION)
        write_csv(queries[["id"]], target / "test.csv")
        write_csv(gallery[["id"]], target / "index.csv")
    ids = dict(zip(train["landmark"], labels["landmark_id"], strict=True))
    located = table[(table["id"] != "") & (table["country"] != "") & (table["landmark"] != "")]
    for code, names in located.groupby("country")["landmark"]:
        entries = [
            ({"id": ids[name]} if name in ids else {}) | {"name": tables.category_url(name)}
            for name in names.unique()
        ]
        write_json(entries, target / "country" / f"{code}.json")
    if len(located):
        write_json(sorted(located["country"].unique()), target / "country_codes.json")


def _write_landmarks(split: str, images: pd.DataFrame, target: Path) -> pd.DataFrame:
    """Number the landmarks of a split and write their names; columns id, landmark_id."""
    landmark_id, names = pd.factorize(images["landmark"], sort=True)
    categories = {"landmark_id": range(len(names)), "category": map(tables.category_url, names)}
    write_csv(pd.DataFrame(categories), target / f"{split}_label_to_category.csv")
    return pd.DataFrame({"id": images["id"], "landmark_id": landmark_id})


def main(arguments: Sequence[str] | None = None) -> None:
    """Import photographs and print what was left out."""
    parser = argparse.ArgumentParser(prog="./run_all.sh import", description=main.__doc__)
    parser.add_argument("source", help="folder of landmark folders, or a CSV (data/README.md)")
    parser.add_argument("data_dir", help="new folder in GLDv2's layout")
    parser.add_argument("--link", action="store_true", help="link the files, do not copy them")
    chosen = parser.parse_args(arguments)
    try:
        source, data_dir = caller_path(chosen.source), caller_path(chosen.data_dir)
        table = import_photos(source, data_dir, link=chosen.link)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    for line in _summary(table, chosen.data_dir):
        print(line, file=sys.stderr)
    stored = table[table["id"] != ""]
    counts = stored["split"].value_counts()
    print(f"{len(stored):,} images of {stored['landmark'].nunique():,} landmarks")
    if "test" in counts:
        print(
            f"{counts['train']:,} for training, {counts['test']:,} queries, "
            f"{counts['index']:,} in the gallery"
        )
    print(f"next: ./run_all.sh photos --data-dir {shlex.quote(chosen.data_dir)}")


def _summary(table: pd.DataFrame, data_dir: str) -> Iterator[str]:
    """What a person should know of the import, in lines."""
    left_out, stored = table[table["problem"] != ""], table[table["id"] != ""]
    if len(left_out):
        yield left_out[["path", "problem"]].head(20).to_string(index=False)
        yield (
            f"left out {len(left_out):,} of {len(table):,} files; {data_dir}/{LISTING} has "
            "every file with its reason and its id"
        )
    lost = sorted(set(table["landmark"]) - set(stored["landmark"]) - {""})
    if lost:
        yield f"left out {len(lost):,} landmarks: {', '.join(lost[:20])}"
    both = stored["is_query"] & stored["is_gallery"]
    if both.any():
        queries = int((stored.loc[both, "split"] == "test").sum())
        yield (
            f"{int(both.sum()):,} images are query and gallery at once, which GLDv2's layout "
            f"keeps apart: {queries:,} of them are queries now, the others the gallery"
        )
    similar = stored[stored["similar"] != ""]
    if len(similar):
        pairs = "; ".join((similar["path"] + " and " + similar["similar"]).head(3))
        if (stored["split"] == "test").any():
            what = "queries look nearly like a training image, so scores come out too high"
        else:
            what = "images look nearly like one of another landmark: check their labels"
        yield f"{len(similar):,} {what}; the first: {pairs}"


if __name__ == "__main__":
    main()

"""Ask a finished run with a photograph: the nearest images of its gallery, with landmark names.

`load_run` opens network and gallery. The gallery stays on disk, and torch is imported when the
first photograph is embedded.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from lib import artifacts, data
from lib.artifacts import CHECKPOINT, KEPT
from lib.config import InferenceConfig, override
from lib.environment import cores
from lib.recipes import profile
from lib.retrieval.embedding_table import DESCRIBED, IDS, ROWS, open_rows
from lib.retrieval.knn import best_of, nearest

if TYPE_CHECKING:
    from lib.models import EmbeddingNetwork

Photo: TypeAlias = "str | Path | bytes | np.ndarray | Image.Image"
"""A file's path or content, (H, W, 3) uint8 RGB pixels, or a Pillow image."""

GALLERIES = ("index", "gallery")  # folders of embeddings, the first that is there
ADDED = "_added"  # ends the name of a folder beside a gallery: one of embeddings per addition
BLOCK = 8192  # rows converted at a time: 16 MB, which stay in the cache
BATCH = 32  # photographs that go through the network at once


class _Part:
    """One folder of embeddings: rows as a memory map, and a table of their images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, artifacts.read_manifest(folder)
        if self.manifest is None:
            raise ValueError(f"expected finished embeddings in {folder}, found none; embed them")
        self.rows = open_rows(folder / ROWS)
        self.root = Path(self.manifest["root"]) if "root" in self.manifest else _data_of(folder)

    def images(self, positions: np.ndarray | None = None) -> pd.DataFrame:
        """The columns id, path, landmark_id, landmark of rows at (M,) `positions`, or of all."""
        table = None if positions is None else self._lines(positions)
        if table is None:
            table = artifacts.read_csv_or_none(self.folder / IDS, ["id"])
            if table is None or len(table) != len(self.rows):
                raise ValueError(
                    f"expected the ids of {len(self.rows):,} embeddings in {self.folder / IDS},"
                    " found another or a cut file; embed those images again"
                )
            table = table if positions is None else table.iloc[positions]
        if "path" not in table:
            table = _described(table["id"], self.root)
        landmarks = table.get("landmark_id", pd.Series(-1, index=table.index))
        names = table.get("category", pd.Series("", index=table.index)).astype(str)
        named = names.str.replace("_", " ").mask(
            names == "", ("landmark " + landmarks.astype(str)).where(landmarks != -1, "")
        )
        columns = {"landmark_id": landmarks, "landmark": named}
        return table[["id", "path"]].assign(**columns).reset_index(drop=True)

    def _lines(self, positions: np.ndarray) -> pd.DataFrame | None:
        """Those lines of the table, without reading all into a table; None where lines break."""
        wanted, found, count = {-1, *positions.tolist()}, {}, 0
        with open(self.folder / IDS, encoding="utf-8", newline="\n") as file:
            for count, line in enumerate(file):
                if count - 1 in wanted:
                    found[count - 1] = line
        if count != len(self.rows):
            return None
        text = "".join(found[number] for number in (-1, *positions.tolist()))
        return pd.read_csv(StringIO(text), dtype={"id": str}, keep_default_na=False)


class Gallery:
    """The embedded images of one or more folders, searched as one; their rows stay on disk."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.parts = [_Part(Path(folder)) for folder in folders]
        self._starts = np.cumsum([0, *(len(part.rows) for part in self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def images(self) -> pd.DataFrame:
        """id, path, landmark_id (-1 unknown) and landmark, its name, of every image."""
        return pd.concat([part.images() for part in self.parts], ignore_index=True)

    def search(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` nearest of (Q, D) rows: (Q, k) scores, best first, and positions; exact."""
        pieces = []
        for start, part in zip(self._starts, self.parts, strict=False):
            step = max(BLOCK, -(-len(part.rows) // cores()))
            for first in range(0, len(part.rows), step):
                pieces.append((start + first, part.rows[first : first + step]))

        def search(piece: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            scores, positions = nearest(rows, piece[1], k, block=BLOCK)
            return scores, positions + piece[0]

        with ThreadPoolExecutor(cores()) as threads:
            found = list(threads.map(search, pieces))
        return best_of(*(np.hstack(parts) for parts in zip(*found, strict=True)), k)

    def at(self, positions: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Rows of `images` at (M,) positions, read alone: a large table is not read whole."""
        positions = np.asarray(positions)
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        tables = []
        for number in np.unique(owners):
            where = np.flatnonzero(owners == number)
            table = self.parts[number].images(positions[where] - self._starts[number])
            tables.append(table.assign(root=str(self.parts[number].root)).set_index(where))
        return pd.concat(tables).sort_index()

    def find(self, image_id: str) -> int:
        """The position of an image, given its id (else ValueError)."""
        found = np.flatnonzero(self.images["id"] == image_id)
        if not len(found):
            raise ValueError(
                f"expected the id of one of the {len(self):,} gallery images, found {image_id!r};"
                " Gallery.images lists them"
            )
        return int(found[0])


class Retriever:
    """A trained network and its gallery, to be asked with photographs."""

    def __init__(self, checkpoint: Path, gallery: Gallery, inference: InferenceConfig) -> None:
        self.checkpoint, self.gallery, self.inference = checkpoint, gallery, inference
        self._sources: dict[str, data.ImageSource] = {}

    @cached_property
    def network(self) -> "EmbeddingNetwork":
        """The network in evaluation mode, on the GPU where there is one."""
        import torch

        from lib import models
        from lib.distributed import limit_threads

        limit_threads()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return models.load(self.checkpoint, device=device).model

    def embed(self, photos: Sequence[Photo]) -> np.ndarray:
        """Embed photographs as float32 rows of unit length, (N, D), at the size of the gallery."""
        import torch

        from lib.retrieval.embedding import extract_embeddings, largest_size

        size, network = largest_size(self.inference), self.network
        device, rows = next(network.parameters()).device, []
        for start in range(0, len(photos), BATCH):
            some = photos[start : start + BATCH]
            squares = [data.stretch(read_photo(photo, size), size) for photo in some]
            pixels = torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2)).to(device)
            with torch.inference_mode():
                rows.append(extract_embeddings(network, pixels, self.inference).cpu().numpy())
        return np.concatenate(rows)

    def query(self, photo: Photo, k: int = 10) -> pd.DataFrame:
        """Rank the `k` nearest gallery images of a photograph: id, score, landmark_id, landmark.

        The index is the rank, from 1; `landmark` is the name, "" where none is known.
        """
        scores, positions = self.gallery.search(self.embed([photo]), k)
        table = self.gallery.at(positions[0]).assign(score=scores[0])
        table.index = pd.RangeIndex(1, len(table) + 1, name="rank")
        return table[["id", "score", "landmark_id", "landmark"]]

    def image(self, image_id: str) -> np.ndarray:
        """The (H, W, 3) uint8 RGB pixels of a gallery image; grey where its file is not there."""
        place = self.gallery.at([self.gallery.find(image_id)]).iloc[0]
        return data.ImageSource(place["root"]).read(place["path"])

    def add(
        self,
        photos: Sequence[str | Path],
        *,
        landmark: str = "",
        ids: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Embed photographs, without the gallery again, and add them to it for good.

        The files stay where they are. A killed call goes on when it is repeated, and photographs
        that are in the gallery are left as they are.

        Args:
            photos: paths of files.
            landmark: the name of what they show.
            ids: of the photographs, one for each; by default they are made of a file's content, as
                in importing, so that each photograph has one.

        Returns:
            Columns id, path and status: added, known, or why it is left out.
        """
        from lib.retrieval.embedding import embed

        table = pd.DataFrame({"id": "", "path": [str(Path(one).absolute()) for one in photos]})
        table["id"], table["status"] = zip(*map(_identify, table["path"]), strict=True)
        if ids is not None:
            table["id"] = [str(one) for one in ids]
        self._check_ids(table, is_given=ids is not None)
        new = table[table["status"] == "added"]
        if new.empty:
            return table
        images, base = self.gallery.images, self.gallery.parts[0]
        of_name = images.loc[images["landmark"] == landmark, "landmark_id"] if landmark else ()
        landmark_id = next(iter(of_name), -1)
        told = new[["id", "path"]].assign(landmark_id=landmark_id, category=landmark)
        folder = _added_to(base.folder) / artifacts.fingerprint(told)
        embed(self.checkpoint, told, base.root, folder, self.inference)
        self.gallery = Gallery([base.folder, *_additions(self.checkpoint, base.folder)])
        return table

    def _check_ids(self, table: pd.DataFrame, *, is_given: bool) -> None:
        """Mark what the gallery has already as known; refuse an id that it has for another."""
        known = dict(zip(self.gallery.images["id"], self.gallery.images["path"], strict=True))
        for row, name, path, status in table.itertuples():
            if status != "added":
                continue
            if not re.fullmatch(r"\S+", name) or (is_given and known.get(name, path) != path):
                raise ValueError(
                    "expected ids without spaces that no other image of the gallery has, found"
                    f" {name!r} for {path}; give another id"
                )
            if name in known:
                table.loc[row, "status"] = "known"
            known[name] = path


def load_run(
    run: str | Path = "outputs/mini", *, stage: str = "", gallery: str | Path = ""
) -> Retriever:
    """Open the network that a run kept, with the gallery that it embedded.

    Args:
        run: a run folder, a stage's folder in it, or a checkpoint.
        stage: the folder of another network than the one kept for the submission.
        gallery: another folder of `lib.retrieval.embed`; by default the one beside the network.
    """
    checkpoint = _checkpoint_of(Path(run).expanduser(), stage)
    beside = [checkpoint.parent / "embeddings" / name for name in GALLERIES]
    known = [Path(gallery)] if gallery else [one for one in beside if (one / ROWS).is_file()]
    if not known:
        raise ValueError(
            f"expected an embedded gallery in {checkpoint.parent / 'embeddings'}, found none; run"
            " notebook 06 first, or embed one: python -m lib.retrieval embed --help"
        )
    found = Gallery([known[0], *_additions(checkpoint, known[0])])
    manifest = found.parts[0].manifest
    if not _is_made_by(checkpoint, manifest):
        raise ValueError(
            f"expected a gallery embedded by {checkpoint}, found one of another network in"
            f" {known[0]}; embed it again"
        )
    return Retriever(checkpoint, found, inference_of(checkpoint, manifest))


def inference_of(
    checkpoint: str | Path, manifest: Mapping[str, Any] | None = None
) -> InferenceConfig:
    """The image size and views that a checkpoint is tested with.

    They are those of the embeddings whose `manifest` is given, else what the checkpoint itself
    tells, else, for one of an earlier version, those of its run's profile.
    """
    manifest = manifest or {}
    told = manifest.get("inference", _facts(checkpoint).get("inference"))
    if told is not None:
        return override(InferenceConfig(), told)
    given = _parameters(Path(checkpoint).parent.parent)
    if given is None:
        raise ValueError(
            f"expected {checkpoint} to tell its test size, found neither that nor the run that"
            " trained it; give the size"
        )
    usual = profile(given["PROFILE"], recipe_name=given.get("RECIPE", "")).inference
    return replace(usual, size=manifest.get("size") or given.get("TEST_SIZE") or usual.size)


def _is_made_by(checkpoint: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether embeddings are this network's, as far as both tell where they come from."""
    made_by, origin = manifest.get("checkpoint"), artifacts.read_fingerprint(checkpoint.parent)
    return not isinstance(made_by, str) or origin is None or made_by == origin


def _added_to(gallery: Path) -> Path:
    return gallery.with_name(gallery.name + ADDED)


def _additions(checkpoint: Path, gallery: Path) -> list[Path]:
    """The folders of photographs added to a gallery; prints how many another network embedded."""
    usual, found, lost = artifacts.read_manifest(gallery) or {}, [], 0
    for folder in sorted(_added_to(gallery).glob("[0-9a-f]*")):
        manifest = artifacts.read_manifest(folder)
        if manifest is None:  # a killed addition, which goes on when it is repeated
            continue
        is_same = manifest["inference"] == usual.get("inference", manifest["inference"])
        if is_same and _is_made_by(checkpoint, manifest):
            found.append(folder)
        else:
            lost += manifest["images"]
    if lost:
        print(f"{lost:,} photographs added under another network are left out; add them again")
    return found


def _identify(path: str) -> tuple[str, str]:
    """The id of a photograph's content, as importing makes it, and whether it can be read."""
    try:
        content = Path(path).read_bytes()
        data.decode(content, 1)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        return "", f"unreadable ({getattr(error, 'strerror', None) or error})"
    return hashlib.sha256(content).hexdigest()[:16], "added"


def _facts(checkpoint: str | Path) -> dict[str, Any]:
    """What `lib.models.save` was told beside the weights, without reading these."""
    with open(checkpoint, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            notes = json.loads(file.read(length)).get("__metadata__", {})
            return json.loads(notes.get("facts", "{}"))
        except (ValueError, AttributeError, OverflowError, MemoryError):
            return {}  # another kind of file, which `lib.models.load` refuses


def _checkpoint_of(run: Path, stage: str) -> Path:
    """The checkpoint that is meant by a run folder, a stage's folder or a file."""
    if run.is_file():
        return run
    if not (run / CHECKPOINT).is_file():
        kept = artifacts.read_json_or_none(run / KEPT) or {}
        stage = stage or next(reversed(kept.values()), "")
        run = run / stage if stage else run
    if not (run / CHECKPOINT).is_file():
        raise ValueError(
            f"expected a finished run in {run}, found no {CHECKPOINT}; give the folder of one, such"
            " as outputs/mini after ./run_all.sh mini"
        )
    return run / CHECKPOINT


def _parameters(run: Path) -> dict[str, Any] | None:
    """The parameters of a run's last notebook, as papermill kept them; None without one."""
    for path in sorted((run / "notebooks").glob("*.ipynb"), reverse=True):
        notebook = artifacts.read_json_or_none(path) or {}
        given = notebook.get("metadata", {}).get("papermill", {}).get("parameters", {})
        if "PROFILE" in given:
            return given
    return None


def _data_of(folder: Path) -> Path:
    """The data folder of embeddings of earlier versions, which do not tell it."""
    run = folder.parents[2]
    given = _parameters(run)
    if given is None:
        raise ValueError(f"expected {folder} to tell its data folder, found none; embed it again")
    beside = run.parent / "data" / given["PROFILE"]  # where LANDMARK_OUTPUTS was given
    world = beside if beside.is_dir() else artifacts.world_root(given["PROFILE"])
    return Path(given.get("DATA_DIR") or world)


def _described(ids: pd.Series, root: Path) -> pd.DataFrame:
    """id, path, landmark_id and category of images whose embeddings do not tell them."""
    found = data.read(root)
    named = found.train.merge(found.landmarks, on="landmark_id")
    split = "index" if ids.isin(found.index["id"]).all() else "train"
    known = {"index": found.index, "train": named}[split].set_index("id")
    table = known.reindex(ids).reset_index()
    return table.assign(path=data.image_paths(split, ids))[list(DESCRIBED)]


def read_photo(photo: Photo, size: int | None = None) -> np.ndarray:
    """The (H, W, 3) uint8 RGB pixels of a photograph, upright, at least `size` where it is given.

    Raises:
        ValueError: if it cannot be read, or pixels are given in another form.
    """
    if isinstance(photo, Image.Image):
        photo = np.asarray(photo.convert("RGB"))
    if isinstance(photo, np.ndarray):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise ValueError(
                f"expected (H, W, 3) uint8 pixels, found {photo.dtype} of shape {photo.shape};"
                " give RGB from 0 to 255"
            )
        return photo
    try:
        content = photo if isinstance(photo, bytes) else Path(photo).expanduser().read_bytes()
        return data.decode(content, size)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        name = "the given bytes" if isinstance(photo, bytes) else photo
        raise ValueError(
            f"expected a photograph in {name}, found none that can be read ({error});"
            " give a JPEG, PNG, WebP or the like"
        ) from None

"""Ask a finished run with a photograph: the nearest images of its gallery, with landmark names.

`load_run` opens network and gallery. The gallery stays on disk, and torch is imported when the
first photograph is embedded.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image
from safetensors import SafetensorError, safe_open

from lib import artifacts, data
from lib.artifacts import CHECKPOINT, KEPT
from lib.config import InferenceConfig, override
from lib.environment import cores
from lib.retrieval.embedding_table import IDS, ROWS, Embeddings, read_embeddings
from lib.retrieval.knn import best_of, nearest

if TYPE_CHECKING:
    from lib.models import EmbeddingNetwork

Photo: TypeAlias = "str | Path | bytes | np.ndarray | Image.Image"
"""A file's path or content, (H, W, 3) uint8 RGB pixels, or a Pillow image."""

GALLERIES = ("index", "gallery")  # folders of embeddings, the first that is there
ADDED = "_added"  # ends the name of a folder beside a gallery: one of embeddings per addition
BLOCK = 8192  # rows converted at a time: 16 MB, which stay in the cache
BATCH = 32  # photographs that go through the network at once


class Gallery:
    """The embedded images of one or more folders, searched as one; their rows stay on disk."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.parts = [read_embeddings(folder) for folder in folders]
        self._starts = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def images(self) -> pd.DataFrame:
        """id, path, landmark_id (-1 unknown) and landmark, its name, of every image."""
        return pd.concat([_named(part.table()) for part in self.parts], ignore_index=True)

    def search(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` nearest of (Q, D) rows: (Q, k) scores, best first, and positions; exact."""
        pieces = []
        for start, part in zip(self._starts, self.parts, strict=False):
            step = max(BLOCK, -(-len(part) // cores()))
            for first in range(0, len(part), step):
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
            part, where = self.parts[number], np.flatnonzero(owners == number)
            table = _named(_lines(part, positions[where] - self._starts[number]))
            tables.append(table.assign(root=str(part.root)).set_index(where))
        return pd.concat(tables).sort_index()


def _lines(part: Embeddings, positions: np.ndarray) -> pd.DataFrame:
    """The table of an embedded folder at (M,) positions, of which only those lines are parsed."""
    wanted, found, count = {-1, *positions.tolist()}, {}, 0
    with open(part.folder / IDS, encoding="utf-8", newline="\n") as file:
        for count, line in enumerate(file):
            if count - 1 in wanted:
                found[count - 1] = line
    if count != len(part):  # a line is no image where a field has several
        return part.table().iloc[positions]
    text = "".join(found[number] for number in (-1, *positions.tolist()))
    return pd.read_csv(StringIO(text), dtype={"id": str}, keep_default_na=False)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """The columns id, path, landmark_id and landmark of an embedded folder's table."""
    table = pd.DataFrame({"landmark_id": -1, "category": "", **table})
    numbers = ("landmark " + table["landmark_id"].astype(str)).where(table["landmark_id"] != -1, "")
    names = table["category"].astype(str).str.replace("_", " ")
    named = table.assign(landmark=names.where(names != "", numbers)).reset_index(drop=True)
    return named[["id", "path", "landmark_id", "landmark"]]


class Retriever:
    """A trained network and its gallery, to be asked with photographs."""

    def __init__(self, checkpoint: Path, gallery: Gallery, inference: InferenceConfig) -> None:
        self.checkpoint, self.gallery, self.inference = checkpoint, gallery, inference

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
        found = np.flatnonzero(self.gallery.images["id"] == image_id)
        if not len(found):
            raise ValueError(
                f"expected the id of one of the {len(self.gallery):,} gallery images, found"
                f" {image_id!r}; Gallery.images lists them"
            )
        place = self.gallery.at(found[:1]).iloc[0]
        return data.ImageSource(place["root"]).read(place["path"])

    def add(self, photos: Sequence[str | Path], *, landmark: str = "") -> pd.DataFrame:
        """Embed photographs of one `landmark`, by name, and add them to the gallery for good.

        The files stay where they are, the gallery is not embedded again, and a killed call goes on
        when it is repeated. An id is made of a file's content, as in importing. Returns the columns
        id, path and status: added, known, or why it is left out.
        """
        from lib.retrieval.embedding import embed

        table = pd.DataFrame(map(_identify, photos), columns=["id", "path", "status"])
        images, base = self.gallery.images, self.gallery.parts[0]
        is_known = table["id"].isin(images["id"]) | table["id"].duplicated()
        table.loc[is_known & (table["status"] == "added"), "status"] = "known"
        new = table[table["status"] == "added"]
        if new.empty:
            return table
        of_name = images.loc[images["landmark"] == landmark, "landmark_id"] if landmark else ()
        landmark_id = next(iter(of_name), -1)
        told = new[["id", "path"]].assign(landmark_id=landmark_id, category=landmark)
        folder = _added_to(base.folder) / artifacts.fingerprint(told)
        embed(self.checkpoint, told, base.root, folder, self.inference)
        self.gallery = Gallery([base.folder, *_additions(self.checkpoint, base.folder)])
        return table


def load_run(
    run: str | Path = "outputs/mini", *, stage: str = "", gallery: str | Path | None = None
) -> Retriever:
    """Open the network that a run kept, with the gallery that it embedded.

    Args:
        run: a run folder, a stage's folder in it, or a checkpoint.
        stage: the folder of another network than the one kept for the submission.
        gallery: another folder of `lib.retrieval.embed`; by default the one beside the network.
    """
    checkpoint = checkpoint_of(Path(run).expanduser(), stage)
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

    They are those of the embeddings whose `manifest` is given, else what the checkpoint tells.
    """
    told = (manifest or _facts(checkpoint)).get("inference")
    if told is None:
        raise ValueError(
            f"expected {checkpoint} to tell its test size, found none; give the size, or embed the"
            " gallery again"
        )
    return override(InferenceConfig(), told)


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
        is_same = manifest["inference"] == usual.get("inference")
        if is_same and _is_made_by(checkpoint, manifest):
            found.append(folder)
        else:
            lost += manifest["images"]
    if lost:
        print(f"{lost:,} photographs added under another network are left out; add them again")
    return found


def _identify(photo: str | Path) -> tuple[str, str, str]:
    """The id of a photograph's content, as importing makes it, its path and its status."""
    path = str(Path(photo).absolute())
    try:
        content = Path(path).read_bytes()
        data.decode(content, 1)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        return "", path, f"unreadable ({getattr(error, 'strerror', None) or error})"
    return hashlib.sha256(content).hexdigest()[:16], path, "added"


def _facts(checkpoint: str | Path) -> dict[str, Any]:
    """What `lib.models.save` was told beside the weights, without reading these."""
    try:
        with safe_open(checkpoint, "numpy") as file:
            return json.loads((file.metadata() or {}).get("facts", "{}"))
    except SafetensorError:
        return {}  # another kind of file, which `lib.models.load` refuses


def checkpoint_of(run: Path, stage: str = "") -> Path:
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

"""Every reader of a file under hypothesis: a value, or one sentence that names the file.

Each reader has a sound file, which is damaged byte by byte and as what it is: other JSON, other
cells, headers of arrays that lie, archives of anything, tensors of odd kinds. `tests/test_readers`
runs a few examples of each.
"""

import contextlib
import io
import json
import os
import shutil
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from lib import data as gldv2
from lib.artifacts import is_done, read_fingerprint, read_records
from lib.cleaning.evaluate import read_truth
from lib.cleaning.stage import read_cluster_list
from lib.config import WorldConfig
from lib.data.geography import read_country_files
from lib.data.tables import read_groups, read_ignored, read_solution, read_submission
from lib.data.tar_images import ImageStore
from lib.miniworld import generate
from lib.models import network as models
from lib.models.weights import load_weights, read_weights
from lib.retrieval.ann_index import read_index
from lib.retrieval.embedding_table import open_rows, read_embeddings
from lib.retrieval.ranking import Ranking
from lib.training.stage import train
from tests.torture.harness import Outcome, Say, apart, error_fault
from tests.torture.samples import MODEL, STAGE, index_rows, write_samples

CHECKS = list(HealthCheck)
EXAMPLES = 120  # of each reader
ODD = ("", "NA", "-1", "1e3", "9" * 30, "nan", "a b", '"', "\0", "é", "=1+1", " ", "x" * 200_000)
Strategy = st.SearchStrategy[bytes]


@dataclass(frozen=True)
class Reader:
    """What reads a file: `read(root)` reads `root / file` among its sound neighbours."""

    file: str
    read: Callable[[Path], object]
    keeps: Sequence[str] = ()  # what else it reads, as written by `write_samples`

    def prepare(self, samples: Path, root: Path) -> bytes:
        """Lay the sound files out below `root`; the content of the one to be damaged."""
        for kept in {self.file, *self.keeps}:
            (root / kept).parent.mkdir(parents=True, exist_ok=True)
            if (samples / kept).is_dir():
                shutil.copytree(samples / kept, root / kept, dirs_exist_ok=True)
            else:
                shutil.copy(samples / kept, root / kept)
        return (root / self.file).read_bytes()

    def fault(self, root: Path, content: bytes) -> str:
        """Why reading `content` is neither a value nor one sentence that names the file."""
        path = root / self.file
        path.write_bytes(content)
        try:
            self.read(root)
        except Exception as error:
            return error_fault(error, path.name, str(path.parent))
        return ""


def _dataset(root: Path) -> None:
    dataset = gldv2.read(root / "data")
    gldv2.training_list(dataset, "full")
    gldv2.evaluation(dataset)


def _clusters(root: Path) -> None:
    clusters = root / "cleaning" / "train_cluster.csv"
    gldv2.training_list(gldv2.read(root / "data"), "cluster", clusters=clusters)


def _cleaning(root: Path) -> None:
    read_cluster_list(root / "cleaning", gldv2.training_list(gldv2.read(root / "data"), "full"))


def _state(root: Path) -> None:
    table = gldv2.training_list(gldv2.read(root / "data"), "clean")
    train(STAGE, MODEL, table, root / "data", root / "interrupted")
    (root / "interrupted" / "manifest.json").unlink()


def _archives(root: Path) -> None:
    store = ImageStore(root / "packed")
    for name in store.ids("train"):
        with contextlib.suppress(OSError):  # a changed id or offset is another image's
            store.read(f"train/a/b/c/{name}.jpg")


def _new_archives(root: Path) -> None:
    shutil.rmtree(root / "packed/train/tar_index", ignore_errors=True)
    _archives(root)


def _world(root: Path) -> None:
    drawing = "lib.miniworld.gldv2_folder."
    with patch(f"{drawing}_draw_images"), patch(f"{drawing}_write_tables"):
        generate(root / "world", WorldConfig(landmarks=20, raw_images=300, queries=30))


def _backbone(root: Path) -> None:
    network = models.build_model(MODEL).backbone
    load_weights(network, read_weights(root / "weights.pth"))


DATA = ("data",)
SOLUTION = (read_solution, read_ignored)
TABLES = (
    "train.csv", "train_clean.csv", "train_label_to_category.csv", "index.csv", "test.csv",
    "index_image_to_landmark.csv", "index_label_to_category.csv", "retrieval_solution_v2.1.csv",
)  # fmt: skip
EMBEDDINGS = ("raw/embeddings.npy", "raw/ids.csv", "raw/manifest.json")
CLEANING = ("images.csv", "landmarks.csv", "sweep.csv", "manifest.json")
READERS = [
    *(Reader(f"data/{name}", _dataset, DATA) for name in TABLES),
    Reader("data/country_codes.json", lambda r: read_country_files(r / "data", print), DATA),
    Reader("data/country/JP.json", lambda r: read_country_files(r / "data", print), DATA),
    Reader("cleaning/train_cluster.csv", _clusters, DATA),
    *(Reader(f"cleaning/{name}", _cleaning, (*DATA, "cleaning")) for name in CLEANING),
    *(Reader(name, lambda r: read_embeddings(r / "raw").ids, EMBEDDINGS) for name in EMBEDDINGS),
    Reader("labelled/rows.npy", lambda r: open_rows(r / "labelled/rows.npy"), DATA),
    Reader("solution.csv", lambda r: [read(r / "solution.csv") for read in SOLUTION]),
    Reader("submission.csv", lambda r: read_submission(r / "submission.csv")),
    Reader("groups.csv", lambda r: read_groups(r / "groups.csv")),
    Reader("truth.csv", read_truth),
    Reader("ranking.npz", lambda r: Ranking.load(r / "ranking.npz")),
    Reader("recorded/01_eda.json", read_records),
    Reader(
        "stage/manifest.json",
        lambda r: (read_fingerprint(r / "stage"), is_done(r / "stage", "x")),
    ),
    Reader("stage/model.safetensors", lambda r: models.load(r / "stage/model.safetensors")),
    Reader("interrupted/state.pt", _state, DATA),
    Reader("weights.pth", _backbone),
    Reader("index/index.faiss", lambda r: read_index(r / "index", index_rows()), ("index",)),
    Reader("packed/train/images_000.tar", _new_archives, ("packed",)),
    *(
        Reader(f"packed/train/tar_index/{name}", _archives, ("packed",))
        for name in ("ids.npy", "offset.npy", "manifest.json")
    ),
    Reader("world/world.json", _world),
]  # fmt: skip


def write_reader_samples(folder: Path) -> Path:
    """`write_samples`, and the same things where some readers expect them."""
    write_samples(folder)
    (folder / "labelled").mkdir()
    shutil.copy(folder / "raw/embeddings.npy", folder / "labelled/rows.npy")
    shutil.copy(folder / "data/retrieval_solution_v2.1.csv", folder / "solution.csv")
    _archives(folder)
    _world(folder)
    return folder


def damaged(valid: bytes, suffix: str) -> Strategy:
    """Content in place of `valid`: its bytes damaged, or another file of its kind."""
    kinds = {
        ".csv": _tables, ".json": _documents, ".npy": lambda _: _arrays(), ".npz": _zips,
        ".safetensors": _tensors, ".pth": lambda _: _pickles(), ".pt": lambda _: _pickles(),
    }  # fmt: skip
    wild = st.one_of(st.binary(max_size=300), st.sampled_from([b"", b"\0" * 600, b"<html>", b"{}"]))
    same = st.one_of(wild, _bytes(valid), _bytes(valid))
    return st.one_of(same, kinds[suffix](valid)) if suffix in kinds else same


@st.composite
def _bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` cut, with bytes replaced, inserted or left out, or with a piece twice."""
    at, end = sorted(draw(st.tuples(*[st.integers(0, len(valid))] * 2)))
    new = draw(st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\0" * 64)))
    return draw(
        st.sampled_from([
            valid[:at],
            valid[:at] + new + valid[at + len(new) :],
            valid[:at] + new + valid[at:],
            valid[:at] + valid[end:],
            valid[:end] + valid[at:],
        ])
    )  # fmt: skip


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9),
    st.sampled_from(["../../out", "FR", 10**30, -1, [], {}, [["FR"]], "\ud800"]),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["key", "id", "name", "eps", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def _documents(valid: bytes) -> Strategy:
    deep = [b"[" * 100_000, b'{"key":' * 5000, b'{"key": 1e999}', b'{"key": NaN}', b"9" * 5000]
    others = VALUES.map(lambda value: json.dumps(value).encode())
    return st.one_of(st.sampled_from(deep), others, _changed(json.loads(valid)).map(_dumped))


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


@st.composite
def _changed(draw: st.DrawFn, value: Any) -> Any:
    """`value` with one part of it another, or gone."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key, copy = draw(st.sampled_from(keys)), value.copy()
        if draw(st.integers(0, 3)):
            copy[key] = draw(_changed(value[key]))
        else:
            del copy[key]
        return copy
    return draw(VALUES)


@st.composite
def _tables(draw: st.DrawFn, valid: bytes) -> bytes:
    """Some cells, rows or columns of a CSV file odd, and sometimes its form."""
    rows = [line.split(",") for line in valid.decode().splitlines()] or [[""]]
    for _ in range(draw(st.integers(0, 3))):
        row = rows[draw(st.integers(0, len(rows) - 1))]
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(ODD) | st.text(max_size=6))
    change = draw(st.integers(0, 5))
    if change == 0:
        column = draw(st.integers(0, len(rows[0]) - 1))
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif change == 1:
        rows = [*rows, draw(st.sampled_from(rows)), [*rows[-1], "more"]]
    elif change == 2:
        rows = rows[: draw(st.integers(0, 2))]
    ends, quote = draw(st.sampled_from(["\n", "\r\n", "\r"])), draw(st.sampled_from(["", '"']))
    coding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    text = ends.join(",".join(f"{quote}{cell}{quote}" for cell in row) for row in rows)
    return text.encode(coding, errors="replace")


@st.composite
def _arrays(draw: st.DrawFn) -> bytes:
    """A .npy file whose header may lie about what follows."""
    kinds = ["<f4", "<f2", "|O", "<U8", "|S16", "<i8", ">f8", "|b1", "|V4", "<f99", "<M8[s]"]
    sizes = st.sampled_from([0, 1, 32, 48, -1, 2**40, 2**62]) | st.integers(0, 60)
    shape = tuple(draw(st.lists(sizes, max_size=3)))
    header = {"descr": draw(st.sampled_from(kinds)), "fortran_order": draw(st.booleans())}
    text = repr(header | {"shape": shape}).encode()
    text = draw(st.sampled_from([text, text, text, b"(" * 3000, b"{}", b"__import__('os')"]))
    content = draw(st.sampled_from([b"", bytes(3072), b"\xff" * 3072]) | st.binary(max_size=64))
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text + b"\n" + content


@st.composite
def _zips(draw: st.DrawFn, valid: bytes) -> bytes:
    """The .npz file with some arrays others, absent or not arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(valid)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            fate = draw(st.integers(0, 3))
            if fate:
                other = draw(_arrays() | st.binary(max_size=9)) if fate == 1 else old.read(name)
                new.writestr(name, other)
    return file.getvalue()


@st.composite
def _tensors(draw: st.DrawFn, valid: bytes) -> bytes:
    """The .safetensors file with another header."""
    length = int.from_bytes(valid[:8], "little")
    header = json.loads(valid[8 : 8 + length])
    if draw(st.booleans()):
        notes = header["__metadata__"]
        notes["config"] = json.dumps(draw(_changed(json.loads(notes["config"]))))
    else:
        header = draw(_changed(header))
    text = _dumped(header)
    told = draw(st.sampled_from([len(text), len(text), len(text), 2**63, 0, len(text) + 1]))
    return told.to_bytes(8, "little") + text + valid[8 + length :]


class _Command:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple:
        return os.system, ("true",)


@st.composite
def _pickles(draw: st.DrawFn) -> bytes:
    """What people save as .pth: wrappers, names, tensors and other things of many kinds."""
    things = st.sampled_from([
        torch.zeros(3), torch.zeros(2, 2).to_sparse(), torch.tensor(float("nan")), np.float64(1),
        torch.zeros(2, dtype=torch.complex64), Namespace(lr=0.1), Path("x"), _Command(), None, 3,
        {3: torch.zeros(1)}, {"": {}}, [torch.zeros(1)], torch.nn.Linear(2, 2), "text",
    ])  # fmt: skip
    names = st.sampled_from(["state_dict", "model", "key", "step", "conv1.weight", 7, None])
    content = draw(st.one_of(things, st.dictionaries(names, things, max_size=4)))
    content = draw(st.sampled_from([content, {"state_dict": content}, {"net": content}]))
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=draw(st.booleans()))
    return file.getvalue()


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """`EXAMPLES` files for every reader."""
    list(apart(lambda _: write_reader_samples(folder / "samples"), seconds=300, guarded=False))
    for reader in READERS:
        left = max(3, round(share * EXAMPLES))
        for attempt in range(10):  # what hangs or crashes ends a fork, and another one goes on
            root = folder / reader.file.replace("/", "_") / str(attempt)
            content = damaged(reader.prepare(folder / "samples", root), Path(reader.file).suffix)
            probe = _probe(reader, root, content, left, int(generator.integers(2**32)))
            text = ""
            for text in apart(probe, seconds=30):
                left -= 1
                yield Outcome(reader.file, text)
            if left <= 0 or not text.startswith(("hangs", "killed")):
                break


def _probe(
    reader: Reader, root: Path, content: Strategy, examples: int, number: int
) -> Callable[[Say], None]:
    def probe(say: Say) -> None:
        @seeded(number)
        @settings(max_examples=examples, database=None, deadline=None, suppress_health_check=CHECKS)
        @given(content)
        def example(content: bytes) -> None:
            say(reader.fault(root, content))

        example()

    return probe

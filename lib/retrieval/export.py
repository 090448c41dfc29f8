"""A descriptor to take away: pixels of any size in, one embedding out, without this library.

The contract is that of Google Landmark Retrieval 2020: a uint8 RGB image (H, W, 3) goes in, and
`global_descriptor`, a row of unit length, comes out. Resizing, normalisation and test views are
part of the model; several networks are concatenated, as GLR20 §2.2 has it (GLR20 = 3rd place of
2020, Mei et al.).
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from lib import artifacts, data, models
from lib.artifacts import rng
from lib.config import InferenceConfig, ModelConfig, override
from lib.retrieval.embedding import extract_embeddings, largest_size
from lib.retrieval.embedding_table import read_embeddings
from lib.retrieval.knn import search
from lib.retrieval.metrics import OFFICIAL
from lib.retrieval.query import GALLERIES, Gallery, Photo, Retriever, inference_of, read_photo
from lib.retrieval.scoring import bootstrap_interval, score_queries

INPUT, OUTPUT = "input_image", "global_descriptor"
FILES = {"onnx": "descriptor.onnx", "torch": "descriptor.pt2"}
LEAST_COSINE = 0.9999  # of an exported embedding with that of the library
LARGEST_ONNX = 2**30  # bytes of weights in the file itself; more lie beside it
NEEDED = ("onnx", "onnxscript", "onnxruntime")  # to write ONNX and to check it


def averaging_weights(n: int, size: int) -> torch.Tensor:
    """(size, n) weights that shrink `n` pixels to `size`, each the average of what it covers.

    Fewer pixels stay as they are, followed by zeros. `n` may be symbolic, in an export.

    >>> averaging_weights(4, 2)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000],
            [0.0000, 0.0000, 0.5000, 0.5000]])
    """
    pixels, place = torch.arange(n)[None, :].double(), torch.arange(size)[:, None].double()
    scale = torch.scalar_tensor(n, dtype=torch.float64) / size
    end = torch.minimum((place + 1) * scale, pixels + 1)
    area = (end - torch.maximum(place * scale, pixels)).clamp(min=0) / scale
    return torch.where(scale > 1, area, (pixels == place).double()).float()


def linear_weights(n: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(size, size) weights of the pixels before and after each new one, in parts of 2048.

    They enlarge the first `n` of `size` pixels as OpenCV does, which counts in such parts.
    """
    count = torch.scalar_tensor(n, dtype=torch.float64).clamp(max=size)
    pixels = torch.arange(size, dtype=torch.float64)
    centre = ((pixels + 0.5) * (count / size) - 0.5).clamp(min=0).minimum(count - 1)
    before = centre.floor()
    share = (2048 * (centre - before).float()).round()
    after = (before + 1).minimum(count - 1)
    first, second = ((place[:, None] == pixels).float() for place in (before, after))
    return first * (2048 - share)[:, None], second * share[:, None]


def square(image: torch.Tensor, size: int) -> torch.Tensor:
    """Resize uint8 (H, W, 3) to float (3, size, size) of integers as `lib.data.stretch` does."""
    height, width = image.shape[:2]
    rows, columns = averaging_weights(height, size), averaging_weights(width, size)
    means = rows @ (image.permute(2, 0, 1).float() @ columns.T)
    # OpenCV rounds a half to the even integer, but up where it takes 2 x 2 pixels together.
    is_half = [torch.scalar_tensor(n) == 2 * size for n in (height, width)]
    pixels = torch.where(is_half[0] & is_half[1], (means + 0.5).floor(), means.round())
    # As OpenCV enlarges, in integers: columns are multiplied out, and rows shortened before and
    # after. A network with whitening tells the difference from exact interpolation.
    sums = (pixels @ sum(linear_weights(width, size)).T / 16).floor()
    parts = ((part / 65536 @ sums).floor() for part in linear_weights(height, size))
    return ((sum(parts) + 2) / 4).floor()


class Descriptor(nn.Module, PyTorchModelHubMixin):
    """Networks with their pre-processing: uint8 RGB (H, W, 3) → embedding (D,) of unit length.

    `save_pretrained`, `from_pretrained` and `push_to_hub` are those of huggingface_hub's mixin.
    """

    def __init__(
        self, members: Sequence[Mapping[str, Any]], scores: Mapping[str, Any] | None = None
    ) -> None:
        """Build each member of its `model` and `inference` (JSON), with random weights.

        Its `facts`, and the `scores` of all together, are for the model card.
        """
        super().__init__()
        self.members, self.scores = list(members), dict(scores or {})
        self.inference = [override(InferenceConfig(), one["inference"]) for one in members]
        built = (override(ModelConfig(), one["model"]) for one in members)
        self.networks = nn.ModuleList(models.build_model(one) for one in built)
        self.eval()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(H, W, 3) uint8 → (D,) float32 of unit length."""
        rows = [
            extract_embeddings(network, square(image, largest_size(inference))[None], inference)
            for network, inference in zip(self.networks, self.inference, strict=True)
        ]
        return F.normalize(torch.cat(rows, dim=1), dim=1)[0]

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card that the mixin writes beside the weights."""
        return ModelCard(model_card(self.members, self.scores))


def read_descriptor(
    checkpoints: Sequence[str | Path], inference: InferenceConfig | None = None
) -> Descriptor:
    """The networks of one or more checkpoints as one descriptor, each tested as it tells.

    Raises:
        ValueError: if a checkpoint does not tell its image size and `inference` is not given.
    """
    members, loaded = [], [models.load(path) for path in checkpoints]
    for path, found in zip(map(Path, checkpoints), loaded, strict=True):
        views = inference or inference_of(path, _manifest(path))
        settings = dataclasses.replace(found.model.config, weights="")
        facts = {**found.facts, "weights": found.model.config.weights}
        parts = {"model": dataclasses.asdict(settings), "inference": dataclasses.asdict(views)}
        members.append(parts | {"facts": facts})
    descriptor = Descriptor(members, _scores([Path(path) for path in checkpoints]))
    for network, found in zip(descriptor.networks, loaded, strict=True):
        network.load_state_dict(found.model.state_dict())
    return descriptor


def export_descriptor(
    checkpoints: Sequence[str | Path],
    folder: str | Path,
    *,
    to: str = "onnx",
    inference: InferenceConfig | None = None,
    photos: Sequence[Photo] = (),
) -> Path:
    """Write the networks of checkpoints as one model with its card, and return `folder`.

    `to` onnx writes `descriptor.onnx`; `to` torch writes `descriptor.pt2` (torch.export) and what
    `Descriptor.from_pretrained` reads. What is written gives the library's embeddings of `photos`
    (by default two of scikit-learn's, and parts of them) at a cosine of `LEAST_COSINE` or more.

    Raises:
        ValueError: if it does not, or a package for ONNX is not installed.
    """
    if to not in FILES:
        raise ValueError(f"expected a format among {', '.join(FILES)}, found {to!r}")
    missing = [name for name in NEEDED if to == "onnx" and find_spec(name) is None]
    if missing:
        raise ValueError(
            f"expected the packages {', '.join(NEEDED)} for ONNX, found no {', '.join(missing)};"
            f" run pip install {' '.join(missing)}, or choose --to torch"
        )
    descriptor = read_descriptor(checkpoints, inference)
    pixels = [read_photo(photo) for photo in photos] or _sample_photos()
    pairs = zip(checkpoints, descriptor.inference, strict=True)
    asked = (Retriever(Path(path), Gallery([]), views) for path, views in pairs)
    rows = np.hstack([one.embed(pixels) for one in asked])
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    with artifacts.atomic_path(folder) as temporary:
        temporary.mkdir()
        write = _write_onnx if to == "onnx" else _write_torch
        run = write(descriptor, temporary / FILES[to])
        cosines = [float(run(one) @ row) for one, row in zip(pixels, expected, strict=True)]
        if not min(cosines) >= LEAST_COSINE:
            raise ValueError(
                f"expected the exported embeddings of {len(pixels)} photographs to equal the"
                f" library's, found a cosine of {min(cosines):.5f}; nothing is written"
            )
        checked = (
            f"Checked on {len(pixels)} photographs: the smallest cosine"
            f" with the library's embeddings is {min(cosines):.6f}."
        )
        card = model_card(descriptor.members, descriptor.scores, checked=checked, file=FILES[to])
        (temporary / "README.md").write_text(card, encoding="utf-8")
        if to == "torch":
            descriptor.save_pretrained(temporary)
    return Path(folder)


def _example() -> dict[str, Any]:
    """An image, and that its height and width may be others, for an exporter."""
    height, width = (torch.export.Dim(name, min=2) for name in ("height", "width"))
    image = torch.zeros((97, 143, 3), dtype=torch.uint8)
    return {"args": (image,), "dynamic_shapes": ({0: height, 1: width},)}


def _write_torch(descriptor: Descriptor, path: Path) -> Any:
    with torch.no_grad():
        program = torch.export.export(descriptor, strict=False, **_example())
    torch.export.save(program, path)
    module = torch.export.load(path).module()
    return lambda pixels: module(torch.from_numpy(pixels)).detach().numpy()


def _write_onnx(descriptor: Descriptor, path: Path) -> Any:
    import onnxruntime

    weights = sum(value.nbytes for value in descriptor.state_dict().values())
    names = {"input_names": [INPUT], "output_names": [OUTPUT]}
    options = {"dynamo": True, "external_data": weights > LARGEST_ONNX, "verbose": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(descriptor, f=path, **_example(), **names, **options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run([OUTPUT], {INPUT: pixels})[0]


def _sample_photos() -> list[np.ndarray]:
    """Two photographs that come with scikit-learn, upright and lying, in parts of several sizes."""
    from sklearn.datasets import load_sample_images

    first, second = load_sample_images().images  # (427, 640, 3)
    turned = second.transpose(1, 0, 2)
    return [one.copy() for one in (first, turned, first[:160, :90], second[40:88, 100:164])]


def _manifest(checkpoint: Path) -> Mapping[str, Any] | None:
    """The manifest of the gallery beside a checkpoint, if it has embedded one."""
    folders = (checkpoint.parent / "embeddings" / name for name in GALLERIES)
    return next(filter(None, map(artifacts.read_manifest, folders)), None)


def _scores(checkpoints: Sequence[Path]) -> dict[str, list[float]]:
    """Usage → mAP with its interval, and the queries, of the embeddings beside the checkpoints.

    Empty where one has embedded no queries, or their data folder is not there.
    """
    folders = [path.parent / "embeddings" for path in checkpoints]
    splits = [[folder / name for folder in folders] for name in ("query", "gallery")]
    if any(artifacts.read_manifest(one) is None for split in splits for one in split):
        return {}
    queries, gallery = (list(map(read_embeddings, split)) for split in splits)
    if not gallery[0].root.is_dir():
        return {}
    evaluation = data.evaluation(data.read(gallery[0].root))
    tables, rows = ((queries, evaluation.queries), (gallery, evaluation.gallery)), []
    for embedded, images in tables:
        if any(one.ids.tolist() != images["id"].tolist() for one in embedded):
            return {}
        rows.append(np.hstack([one.rows for one in embedded]))
    ids = {"query_ids": queries[0].ids, "gallery_ids": gallery[0].ids}
    scored = score_queries(search(*rows, OFFICIAL, **ids), evaluation)
    return {
        usage: [*bootstrap_interval(part, generator=rng(0, "interval")), len(part)]
        for usage, part in scored.groupby("usage")["average_precision"]
    }


def model_card(
    members: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Sequence[float]],
    *,
    checked: str = "",
    file: str = "",
) -> str:
    """README.md of a descriptor: contract, recipe, data, numbers with intervals, licences."""
    facts = [one["facts"] for one in members]
    names = " + ".join(dict.fromkeys(one.get("recipe") or "a network" for one in facts))
    dims = sum(one["model"]["embedding_dim"] for one in members)
    rows = {
        "recipe": [one.get("recipe", "not known") for one in facts],
        "backbone": [one["model"]["backbone"] for one in members],
        "pooling, neck": [f"{one['model']['pooling']}, {one['model']['neck']}" for one in members],
        "starting weights": [one.get("weights") or "random" for one in facts],
        "data": [one.get("data", "not known") for one in facts],
        "training list": [one.get("train_list", "not known") for one in facts],
        "last stage": [one.get("stage", "not known") for one in facts],
        "test size": [f"{one['inference']['size']} px" for one in members],
        "views": [_views(one["inference"]) for one in members],
    }
    lines = [f"| {name} | {' | '.join(map(str, values))} |" for name, values in rows.items()]
    head = f"| | {' | '.join(f'network {n}' for n in range(1, len(members) + 1))} |"
    numbers = [
        f"| {usage} | {queries:,} | {mean:.3f} ({low:.3f} to {high:.3f}) |"
        for usage, (mean, low, high, queries) in scores.items()
    ]
    return CARD.format(
        names=names,
        dims=dims,
        use=USES[file],
        table="\n".join([head, "|---" * (len(members) + 1) + "|", *lines]),
        scores="\n".join(["| queries | number | mAP@100 |", "|---|---|---|", *numbers])
        if numbers
        else "Not measured: no queries were embedded with it.",
        checked=checked,
    )


def _views(inference: Mapping[str, Any]) -> str:
    scales = ", ".join(f"{scale:g}" for scale in inference["scales"])
    return f"scales {scales}{', mirrored too' * inference['flip']}"


USES = {  # of `pixels`
    "descriptor.onnx": f"""\
import onnxruntime

session = onnxruntime.InferenceSession("descriptor.onnx")
(row,) = session.run(["{OUTPUT}"], {{"{INPUT}": pixels}})""",
    "descriptor.pt2": """\
import torch

row = torch.export.load("descriptor.pt2").module()(torch.from_numpy(pixels))""",
    "": """\
import torch
from lib.retrieval import Descriptor

row = Descriptor.from_pretrained("FOLDER_OR_REPOSITORY")(torch.from_numpy(pixels))""",
}
CARD = """\
---
license: other
pipeline_tag: image-feature-extraction
tags: [image-retrieval, landmark-retrieval]
---

# Landmark descriptor: {names}

One photograph in, {dims} numbers of unit length out; the inner product of two such rows is the
similarity of their photographs. Input `input_image` is uint8 RGB (height, width, 3) of any size, 2
pixels or more, upright; output is `global_descriptor`. Resizing, normalisation and test views are
inside: give pixels as they are.

```python
import numpy as np
from PIL import Image, ImageOps

pixels = np.array(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))

{use}
```

{checked}

## What it is

{table}

## Numbers

mAP@100 of plain search by these embeddings, with a 95 % bootstrap interval over queries:

{scores}

Settings are chosen on Public queries; Private ones are only scored. The numbers hold for the data
named above and say little about other photographs.

## Licences

The code that made this file is under Apache-2.0. The weights come from the photographs and from the
starting weights named above, each of which has a licence of its own: Google Landmarks v2 has CC BY
4.0 for its annotations and a licence per image, and timm's model pages name that of its weights.
Look at them before you give this file away or use it commercially.
"""

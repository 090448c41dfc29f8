"""What a full run of each recipe of both papers costs: hours and memory by stage and machine.

    python -m tests.benchmarks.bench_cost [--recipes glr20-resnet152 ...]

Computed, not measured on any GPU: operations are counted by torch on the meta device and divided by
what a card sustains; decoding is timed here; cleaning and reranking were timed at full size on two
cores (`bench_clean.txt`, `bench_rerank.txt`). Writes `full_cost.csv`, and `bench_cost.txt` with all
assumptions, into `outputs/reference`. GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et
al.), GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.). Four minutes on two cores.
"""

import argparse
import dataclasses
import functools
import io
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lib import models
from lib.artifacts import rng, write_csv
from lib.config import ModelConfig, StageConfig
from lib.data.images import PREFETCHED, decode, stretch
from lib.recipes import RECIPES, profile
from lib.reports import REFERENCE

# Images of GLDv2's lists (GLR21, Table 1, and its code) and of GLR20's cleaned list (§2.1), and
# classes of their heads. GLR20 does not tell its classes: those of the full list stand for them.
IMAGES = {"clean": 1_580_470, "c2x": 3_223_078, "full": 4_132_914, "all": 4_825_830}
IMAGES |= {"cluster": 2_800_000, "full+index": 4_825_830}
CLASSES = {"clean": 81_313, "c2x": 81_313}
MOST_CLASSES = 203_094
SEARCHED = 761_757 + 1_129  # gallery images and queries, embedded by every network that is compared
SUBMITTED = 117_577  # test images of GLDv2
JPEG_SIDES, JPEG_QUALITY = (800, 600), 85  # of a typical image of GLDv2: 120 kB
BACKWARD = 2  # times the operations of a forward pass, as torch counts them for plain convolutions
RESNET50_SIZE = 224  # pixels of the published rates
EIGHT_OVER_ONE = 8322 / 1200  # what eight V100 train in the time of one (the same table)
STATE_BYTES = 16  # of a weight in training: itself, gradient, momentum in float32, half copies
HALF = 0.5  # of the bytes of float32 activations, under autocast
FREE = 0.9  # of a card's memory, beside what CUDA takes
WORKERS = 8  # processes that read images for a card, at most
EMBEDDED, LAYERS = 128, 3  # images of a batch; outputs of layers that are there at once


@dataclass(frozen=True)
class Card:
    """A GPU: peak of half precision with its tensor cores (data sheet), and memory in GiB."""

    peak: float  # operations per second
    memory: int
    resnet50: float  # images/s of ResNet50 in training


# Images/s of ResNet50 v1.5 at 224 px in mixed precision on one card: A100 and V100 as NVIDIA
# publishes them (DeepLearningExamples, PyTorch, container 21.03). Assumed: that a T4 reaches the
# V100's share of its peak, and an H100 the A100's rate times the ratio of their memory bandwidths.
CARDS = {
    "T4": Card(65e12, 16, 1200 * 65 / 125),
    "A100": Card(312e12, 80, 2470),
    "H100": Card(989e12, 80, 2470 * 3.35 / 2.04),
    "V100": Card(125e12, 16, 1200),
}
# Cards and processor cores of rented machines of this kind.
MACHINES = {"1 × T4": ("T4", 1, 4), "1 × A100": ("A100", 1, 6), "1 × H100": ("H100", 1, 13)}
MACHINES |= {"8 × V100": ("V100", 8, 40)}


def on_meta(model: ModelConfig, size: int) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network without values, and an image for it; GeM pooling, which meta lacks, as average."""
    plain = dataclasses.replace(model, weights="", pooling=model.pooling.replace("gem", "gap"))
    with torch.device("meta"):
        return models.build_model(plain), torch.empty(1, 3, size, size)


class Counted(NamedTuple):
    """A network at one image size; bytes are of half precision."""

    operations: float  # of a forward pass of one image
    kept: float  # bytes for the backward pass
    largest: float  # bytes of the largest output of a layer
    weights: int


_COUNTED: dict[str, Counted] = {}


def count(model: ModelConfig, size: int) -> Counted:
    """Count on the meta device, once."""
    key = repr((model, size))
    if key not in _COUNTED:
        network, image = on_meta(model, size)
        largest = [0]
        for module in network.modules():
            module.register_forward_hook(lambda *found: largest.append(_nbytes(found[-1])))
        with FlopCounterMode(display=False) as counter:
            network.eval()(image)
        held = {value.untyped_storage()._cdata: None for value in network.parameters()}

        def keep(value: torch.Tensor) -> torch.Tensor:
            storage = value.untyped_storage()
            held.setdefault(storage._cdata, storage)  # held, or another takes its number
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            network.train()(image.expand(2, -1, -1, -1).contiguous())
        kept = sum(storage.nbytes() for storage in held.values() if storage)
        weights = sum(value.numel() for value in network.parameters())
        sizes = HALF * kept / 2, HALF * max(largest), weights
        _COUNTED[key] = Counted(counter.get_total_flops(), *sizes)
    return _COUNTED[key]


def _nbytes(found: object) -> int:
    return found.nbytes if isinstance(found, torch.Tensor) else 0


@functools.cache
def decode_seconds(size: int, *, images: int = 40) -> float:
    """Processor seconds to decode a typical JPEG and stretch it to `size`, here."""
    noise = rng(0, "cost").integers(0, 256, (75, 100, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(JPEG_SIDES, Image.BICUBIC).save(
        file, "JPEG", quality=JPEG_QUALITY
    )
    began = time.process_time()
    for _ in range(images):
        stretch(decode(file.getvalue(), size), size)
    return (time.process_time() - began) / images


def measured(name: str, pattern: str) -> tuple[float, float]:
    """Processor seconds and GiB of the lines of a committed benchmark that begin with `pattern`."""
    text = (REFERENCE / f"bench_{name}.txt").read_text()
    line = rf"^{pattern}.*?([\d.]+) s,? +([\d.]+) CPU s,? +([\d.]+) GiB"
    found = re.findall(line, text, re.MULTILINE)
    if not found:
        raise ValueError(
            f"expected a line {pattern!r} in bench_{name}.txt, found none; run it anew"
        )
    return sum(float(cpu) for _, cpu, _ in found), max(float(peak) for *_, peak in found)


@dataclass(frozen=True)
class Work:
    """A stage of a run, whatever the machine."""

    stage: str
    images: int = 0  # that go through a network
    model: ModelConfig | None = None
    size: int = 0  # pixels
    training: StageConfig | None = None
    cpu: float = 0.0  # processor seconds of work without a network
    host_gib: float = 0.0


def works(name: str) -> Iterator[Work]:
    """The stages of `./run_all.sh full --recipe NAME`, as the notebooks do them."""
    found = profile("full", recipe_name=name)
    for stage in found.stages:
        images = stage.epochs * IMAGES[stage.train_list]
        yield Work(f"train {stage.name}", images, found.model, stage.size, stage)
    embed = functools.partial(Work, model=found.model, size=found.inference.size)
    if found.needs_clusters:
        yield embed("embed the raw list", IMAGES["full"])
        cpu, peak = measured("clean", "clean: both passes, relabelling, tables:")
        yield Work("clean", cpu=cpu, host_gib=peak)
    yield embed("embed queries and gallery", SEARCHED * (1 + len(found.stages)) + SUBMITTED)
    yield embed("embed references", IMAGES[found.rerank.references])
    cpu, peak = measured("rerank", "exact search, 100 of the gallery")
    yield Work("search", cpu=cpu * (1 + len(found.stages)), host_gib=peak)
    steps = ["index: train", "gallery tags through", "query votes, k-rec", "final scoring, exact"]
    parts = [measured("rerank", step) for step in steps]
    yield Work("rerank", cpu=sum(cpu for cpu, _ in parts), host_gib=max(gib for _, gib in parts))


def share_of_peak(card: Card) -> float:
    """What ResNet50 in training reaches of the card's peak."""
    counted = count(ModelConfig("resnet50"), RESNET50_SIZE)
    return card.resnet50 * (1 + BACKWARD) * counted.operations / card.peak


def cost(work: Work, machine: str) -> dict[str, object]:
    """Hours and memory of a stage on a machine."""
    name, cards, cores = MACHINES[machine]
    card, row = CARDS[name], {"stage": work.stage, "machine": machine, "images": work.images}
    if work.model is None:
        row |= {"hours": work.cpu / cores / 3600, "limit": "processor"}
        return row | {"gpu_gib": 0.0, "host_gib": work.host_gib}
    network = count(work.model, work.size)
    speed = EIGHT_OVER_ONE if cards == 8 else 1.0
    rate = card.peak * share_of_peak(card) * speed
    passes, batch = 1, EMBEDDED
    gib = (4 * network.weights + LAYERS * batch * network.largest) / 2**30
    if stage := work.training:
        passes, mixed = 1 + BACKWARD, 2 if stage.cutmix else 1
        batch = stage.batch_size // cards
        classes = CLASSES.get(stage.train_list, MOST_CLASSES) * (1 + (stage.cutmix == "code"))
        state = STATE_BYTES * (network.weights + classes * work.model.embedding_dim)
        image = mixed * (network.kept + 8 * classes)  # logits and their softmax in float32
        most = int((FREE * card.memory * 2**30 - state) / image)
        parts = next((n for n in range(1, batch + 1) if batch % n == 0 and batch // n <= most), 0)
        gib = (state + image * batch / parts) / 2**30 if parts else math.inf
        row |= {"batch": stage.batch_size, "accumulate": parts}
        passes *= mixed
    seconds = {
        "arithmetic": work.images * passes * network.operations / rate,
        "decoding": work.images * decode_seconds(work.size) / cores,
    }
    limit = max(seconds, key=seconds.get)
    loaded = (
        cards * min(WORKERS, max(1, cores // cards - 1)) * PREFETCHED * batch * 3 * work.size**2
    )
    row |= {"hours": seconds[limit] / 3600, "limit": limit}
    return row | {"gpu_gib": gib, "host_gib": loaded / 2**30}


def assumptions() -> str:
    """Everything that was assumed or measured, line by line."""
    lines = ["Computed by python -m tests.benchmarks.bench_cost; nothing here ran on a GPU.", ""]
    for name, card in CARDS.items():
        lines.append(
            f"{name}: peak {card.peak / 1e12:.0f}e12 operations/s in half precision, "
            f"{card.memory} GiB, ResNet50 in training {card.resnet50:.0f} images/s: "
            f"{share_of_peak(card):.0%} of peak"
        )
    lines += [f"{name}: {cores} cores" for name, (_, _, cores) in MACHINES.items()]
    lines += [
        "A100, V100: rates that NVIDIA publishes (DeepLearningExamples, PyTorch, 21.03); T4: the",
        "share of the V100; H100: the A100's rate by the ratio of memory bandwidths. Every network",
        "is taken to reach that share, which flatters EfficientNet. Eight V100 are "
        f"{EIGHT_OVER_ONE:.2f} times as fast as one",
        f"(same source). A training step is {1 + BACKWARD} forward passes, with Corner-Cutmix of",
        "two images.",
        f"Decoding a JPEG of {JPEG_SIDES[0]} x {JPEG_SIDES[1]} px: "
        + ", ".join(
            f"{1000 * decode_seconds(size):.1f} ms at {size} px" for size in (256, 448, 512)
        )
        + " of one core, timed here.",
        "Cleaning, search, reranking: processor seconds of bench_clean.txt, bench_rerank.txt, at",
        "GLDv2's size on two cores, divided by the cores; a GPU is not used for them.",
        f"Images: {', '.join(f'{name} {images:,}' for name, images in IMAGES.items())}.",
        "Repeats of rare classes (GLR20's sampler) are not counted.",
        f"GPU memory in training: {STATE_BYTES} bytes a weight, activations as torch keeps them at",
        f"half their float32 bytes, at most {FREE:.0%} of the card; 'accumulate': parts of the",
        f"total batch. In embedding: weights, and {LAYERS} times the largest output of a layer.",
        "Host memory of training and embedding: batches that reading processes hold ready.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Write both files and print the hours of every recipe."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    papers = [name for name in RECIPES if name.startswith("glr") and not name.endswith("-code")]
    parser.add_argument("--recipes", nargs="+", default=papers, choices=RECIPES)
    rows = []
    for name in parser.parse_args().recipes:
        for work in works(name):
            rows += [{"recipe": name, **cost(work, machine)} for machine in MACHINES]
        print(f"{name}: {len(rows)} rows", flush=True)
    table = pd.DataFrame(rows)
    kinds = table["stage"].str.split().str[0]
    hours = table.pivot_table("hours", ["recipe", kinds], "machine", "sum", sort=False)
    total = table.pivot_table("hours", "recipe", "machine", "sum", sort=False)
    order = ["recipe", "stage", "machine", "hours", "limit", "images", "batch", "accumulate"]
    rounded = {"hours": 4, "gpu_gib": 2, "host_gib": 2}
    table = table[[*order, "gpu_gib", "host_gib"]].round(rounded)
    whole = {"images": "Int64", "batch": "Int64", "accumulate": "Int64"}
    write_csv(table.astype(whole), REFERENCE / "full_cost.csv")
    text = f"{assumptions()}\n\nhours\n{total[[*MACHINES]].round(1).to_string()}\n"
    (REFERENCE / "bench_cost.txt").write_text(text)
    print(f"\n{hours[[*MACHINES]].round(2).to_string()}\n\n{text}")


if __name__ == "__main__":
    main()

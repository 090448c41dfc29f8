"""How much of a training step and of embedding is not the network, and what other work costs.

    python -m tests.benchmarks.bench_step [--seconds 2] [--busy 0 1 3] [--networks mini lite0]

For the miniature recipe and for EfficientNet-Lite0 at 128 px with random weights, on generated JPEG
files: images/s of `train` over those of a bare loop of forward, backward and step on batches in
memory (`train` computes the halves of a batch side by side where it may, and with fewer threads
beside other work); images/s of `embed` over those of a bare forward pass and of decoding on the
same cores, one after the other; the time of a step by part. Each with the defaults of glibc and
OpenMP and with `lib.environment.VARIABLES`, alone and beside busy processes, in a process of its
own. Run it where nothing else runs: 10 minutes on two cores.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs
from PIL import Image

from lib import data, models, retrieval, training
from lib.artifacts import read_manifest, rng
from lib.config import InferenceConfig, ModelConfig, StageConfig
from lib.distributed import limit_threads, precision
from lib.environment import VARIABLES, cores
from lib.recipes import profile
from lib.retrieval.embedding import extract_embeddings
from lib.training.augmentation import Augment
from lib.training.schedules import build_optimizer
from lib.training.stage import build_classification_model, is_slow_in_half

IMAGES, CLASSES, SIDE = 512, 64, 160  # JPEG files, their classes, and their sides in pixels
LONGER = 10  # how much longer `train` is measured: it chooses its threads after seconds
EMBEDDED = 128  # images of a batch of `embed`
PARTS = ("data wait", "copy", "augmentation", "forward", "backward", "step")


def networks() -> dict[str, tuple[StageConfig, ModelConfig, InferenceConfig]]:
    """Stage, network and inference of each name."""
    mini, photos = profile("mini"), profile("photos")
    plain = dataclasses.replace(photos.model, weights="", neck="linear")
    small = dataclasses.replace(photos.stages[0], size=128)
    return {
        "mini": (mini.stages[1], mini.model, mini.inference),
        "lite0": (small, plain, dataclasses.replace(photos.inference, size=128)),
    }


def write_images(root: Path, sides: tuple[int, int] = (SIDE, SIDE)) -> pd.DataFrame:
    """Write smooth random JPEG files and return them as a training list."""
    generator = rng(0, "images")
    for number in range(IMAGES):
        noise = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(sides).save(root / f"{number}.jpg", quality=90)
    numbers = np.arange(IMAGES)
    columns = {"id": numbers.astype(str), "path": [f"{i}.jpg" for i in numbers]}
    places = {"landmark_id": numbers % CLASSES, "label": numbers % CLASSES}
    return pd.DataFrame(columns | places | {"is_clean": True, "continent": "Europe"})


def rate(work: Callable[[], int], seconds: float) -> float:
    """Images/s of `work`, which returns how many it took, after a first call."""
    work()
    wait()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
        done += work()
    wait()
    return done / (time.perf_counter() - started)


def wait() -> None:
    """Wait for what a GPU was given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(name: str, seconds: float) -> dict[str, float]:
    """Rates in images/s, times of a step's parts in ms, and what the process took."""
    limit_threads()
    stage, model, inference = networks()[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        table = write_images(root)
        found = measure_training(stage, model, table, root, seconds, LONGER * seconds)
        found |= measure_embedding(inference, table, root, seconds)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return found | {
        "peak MiB": usage.ru_maxrss / 1024,
        "kernel share": usage.ru_stime / sum(usage[:2]),
    }


def measure_training(
    stage: StageConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    root: Path,
    seconds: float,
    train_seconds: float,
) -> dict[str, float]:
    """Images/s of the bare step and of `train`, milliseconds of a step's parts.

    The checkpoint stays in the folder `stage` of `root`.
    """
    counts = torch.bincount(torch.tensor(table["label"].to_numpy()))
    classifier = build_classification_model(stage, model, counts, start=None, seed=0)
    classifier = classifier.to(memory_format=torch.channels_last)
    autocast = AutocastKwargs(enabled=not is_slow_in_half(classifier.model.backbone))
    accelerator = Accelerator(mixed_precision=precision(), kwargs_handlers=[autocast])
    optimizer = build_optimizer(stage, classifier)
    classifier, optimizer = accelerator.prepare(classifier, optimizer)
    network = accelerator.unwrap_model(classifier).model
    augment = Augment(stage.augment, network.mean, network.std, size=stage.size)
    images = data.SquareImages(
        data.ImageSource(root), table["path"].tolist(), stage.decode_size or stage.size
    )
    labels = torch.tensor(table["label"].to_numpy(), device=accelerator.device)
    generator = torch.Generator().manual_seed(0)
    starts = range(0, IMAGES - stage.batch_size + 1, stage.batch_size)
    batches = [range(start, start + stage.batch_size) for start in starts]
    times: dict[str, list[float]] = {}

    def timed(part: str, work: Callable[..., Any], *arguments: Any) -> Any:
        if part not in times:
            return work(*arguments)
        started = time.perf_counter()
        result = work(*arguments)
        wait()
        times[part].append(1000 * (time.perf_counter() - started))
        return result

    def forward(inputs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        with accelerator.autocast():
            return classifier(*inputs)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    def prepared() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        loaded = chain.from_iterable(data.load_batches(images, batches) for _ in count())
        while True:
            pixels, rows = timed("data wait", next, loaded)
            pixels = timed("copy", pixels.to, accelerator.device)
            pixels = timed("augmentation", augment, pixels, generator)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            yield pixels, labels[rows.to(accelerator.device)]

    def train_on(source: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> int:
        loss = timed("forward", forward, next(source))
        timed("backward", accelerator.backward, loss)
        timed("step", step)
        return stage.batch_size

    in_memory = cycle(list(islice(prepared(), 4)))
    bare = rate(lambda: train_on(in_memory), seconds)
    times |= {part: [] for part in PARTS}
    source = prepared()
    rate(lambda: train_on(source), seconds)
    steps = round(bare * seconds / stage.batch_size)
    long = dataclasses.replace(stage, epochs=1000, epoch_images=max(1, steps) * stage.batch_size)
    with contextlib.redirect_stdout(None):
        until = time.time() + train_seconds
        checkpoint = training.train(
            long, model, table, root, root / "stage", until=until, processes=1
        )
    facts = read_manifest(checkpoint.parent)
    parts = {f"{part} ms": float(np.median(spent)) for part, spent in times.items()}
    return {"bare step": bare, "train": facts["images_seen"] / facts["seconds"], **parts}


def measure_embedding(
    inference: InferenceConfig, table: pd.DataFrame, root: Path, seconds: float
) -> dict[str, float]:
    """Images/s of the bare forward pass and of `embed`, with the checkpoint in `stage`."""
    accelerator = Accelerator(mixed_precision=precision())
    device = accelerator.device
    network = models.load(root / "stage" / training.CHECKPOINT, device=device).model
    network = network.to(memory_format=torch.channels_last)
    pixels = torch.randint(256, (EMBEDDED, 3, inference.size, inference.size), dtype=torch.uint8)
    pixels = pixels.to(device)

    def forward(batch: torch.Tensor) -> int:
        with torch.inference_mode(), accelerator.autocast():
            extract_embeddings(network, batch, inference)
        return len(batch)

    one_batch = rate(lambda: forward(pixels), seconds)

    def side_by_side() -> int:
        return sum(pool.map(forward, pixels.chunk(threads) * 4))

    threads = torch.get_num_threads() if device.type == "cpu" else 1
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        in_threads = rate(side_by_side, seconds)
    torch.set_num_threads(threads)
    paths, size = table["path"].tolist(), inference.size
    batches = [range(i, i + EMBEDDED) for i in range(0, IMAGES, EMBEDDED)]

    def decode() -> int:
        images = data.SquareImages(data.ImageSource(root), paths, size, keep=False)
        return sum(len(found) for found, _ in data.load_batches(images, batches))

    decoded = rate(decode, seconds)
    copies = max(1, round(in_threads * seconds / IMAGES))
    table = pd.concat([table.assign(id=table["id"] + f" {i}") for i in range(copies)])
    started = time.perf_counter()
    with contextlib.redirect_stdout(None):
        checkpoint = root / "stage" / training.CHECKPOINT
        retrieval.embed(checkpoint, table, root, root / "rows", inference, batch_size=EMBEDDED)
    embedded = len(table) / (time.perf_counter() - started)
    found = {"forward": one_batch, "forward in threads": in_threads}
    return found | {"decode": decoded, "embed": embedded}


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes beside that never wait."""
    code = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def in_a_process(name: str, seconds: float, variables: Mapping[str, str]) -> dict[str, float]:
    """`measure` with these of the `VARIABLES` and no others."""
    own = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    command = [sys.executable, "-m", "tests.benchmarks.bench_step", "--seconds", str(seconds)]
    found = subprocess.run(
        [*command, "--measure", name], env=own | variables, stdout=subprocess.PIPE, check=True
    )
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Measure every combination and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measured loop")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 3], help="processes beside")
    parser.add_argument("--networks", nargs="+", default=list(networks()), choices=networks())
    parser.add_argument("--measure", choices=networks(), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.seconds)))
        return
    rows = []
    for name in args.networks:
        for beside in args.busy:
            for kind, variables in {"default": {}, "set": VARIABLES}.items():
                with busy(beside):
                    found = in_a_process(name, args.seconds, variables)
                rows.append({"network": name, "busy": beside, "variables": kind, **found})
    table = pd.DataFrame(rows).set_index(["network", "busy", "variables"])
    table["train / bare"] = table["train"] / table["bare step"]
    fastest = table[["forward", "forward in threads"]].max(axis=1)
    # Decoding and the network share the cores: what is left is the loss of `embed`.
    table["embed / both"] = table["embed"] * (1 / fastest + 1 / table["decode"])
    times = [column for column in table if column.endswith(" ms")]
    print(f"{cores()} cores, {torch.get_num_threads()} threads, images/s")
    print(table.drop(columns=times).round(2).to_string())
    print("\nmilliseconds of a training step")
    print(table[times].rename(columns=lambda column: column[:-3]).round(1).to_string())


if __name__ == "__main__":
    main()

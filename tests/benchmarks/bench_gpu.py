"""Everything that only a GPU can show, in one run of at most 8 minutes.

    python -m tests.benchmarks.bench_gpu [--tiny] [--device cpu] [--parts checks rates rerank]

Checks: the search on the GPU against the CPU, a training step in float32 on both, a killed training
that goes on, half precision. Rates of the networks of GLR21's ablations (ResNet50, 256 px), GLR20
(ResNet152, 448 px) and a ViT-B (384 px), as their recipes have them for one GPU: images/s of the
bare step and of `train` over it (0.90 is asked for), the share of what a matrix product reaches,
peak memory; `embed` from JPEG files over the bare forward pass. Last, GLR21's whole reranking of
1,129 queries × 761,757 images with 4,132,914 references, exact on the GPU (9 GB on disk). `--tiny`
takes small relatives and tables, to see that all of it runs. GLR20 = 3rd place, Google Landmark
Retrieval 2020 (Mei et al.), GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

import argparse
import contextlib
import dataclasses
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from unittest import mock

import faiss
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from lib import training
from lib.config import StageConfig
from lib.distributed import limit_threads, precision
from lib.recipes import GPUS, recipe
from lib.reranking import RetrievalData, landmark_country_rerank
from lib.retrieval import search
from lib.training.checkpoint import TrainingState
from lib.training.stage import ClassificationModel, build_classification_model
from tests.benchmarks.bench_cost import BACKWARD, count
from tests.benchmarks.bench_rerank import make_world
from tests.benchmarks.bench_step import measure_embedding, measure_training, wait, write_images
from tests.made_up import unit_rows

RECIPES = ("glr21-resnet50", "glr20-resnet152", "modern-vit-b")
SIDES = (800, 600)  # of JPEG files, as a typical image of GLDv2
ASKED = 0.90  # of the bare step's rate
SEARCHED = (300, 200_000, 512)  # queries, gallery, dimensions
RERANKED = (1_129, 761_757, 4_132_914)  # queries, gallery, references
TINY_RERANKED = (50, 3_000, 60_000)
SIDE = 4096  # of the square matrices that tell what the card reaches
STEP_ERROR = 2e-3  # of the gradient, relative to its length, from another order of the sums
HALF_COSINE = 0.9  # of a gradient in half precision with that in float32


class Table:
    """Lines of what was found; `failed` names the checks that did not pass."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def check(self, what: str, *, passed: bool, found: str) -> None:
        """Print a check."""
        self.failed += [] if passed else [what]
        print(f"{'ok    ' if passed else 'FAILED'} {what}: {found}", flush=True)


def small(name: str, *, is_tiny: bool) -> StageConfig:
    """The first stage of a recipe, with its images per GPU and none of its pretrained weights."""
    if is_tiny:
        return dataclasses.replace(recipe(f"{name}-mini").stages[0], batch_size=8, epochs=1)
    stage = recipe(name).stages[0]
    return dataclasses.replace(stage, batch_size=stage.batch_size // GPUS, epochs=1)


def network_of(name: str, *, is_tiny: bool) -> tuple[str, object]:
    """Title and model of a recipe, without pretrained weights."""
    found = recipe(f"{name}-mini" if is_tiny else name)
    return found.model.backbone, dataclasses.replace(found.model, weights="")


def check_search(table: Table, *, is_tiny: bool) -> None:
    """Exact search with the GPUs that faiss finds, and without."""
    queries, images, dimensions = (20, 3_000, 64) if is_tiny else SEARCHED
    generator = np.random.default_rng(0)
    rows = [unit_rows(generator, n, dimensions).astype(np.float16) for n in (queries, images)]
    found = search(*rows, 100)
    with mock.patch.object(faiss, "get_num_gpus", return_value=0):
        expected = search(*rows, 100)
    same = np.array_equal(found.positions, expected.positions)
    same &= np.array_equal(found.scores, expected.scores)
    text = f"{queries} × {images:,}, {faiss.get_num_gpus()} GPUs against the CPU"
    table.check("search", passed=same, found=text)


def gradients(classifier: ClassificationModel, images: torch.Tensor, labels: torch.Tensor):
    """Loss and gradient, as one vector on the CPU in float64."""
    classifier.zero_grad()
    loss = classifier(images, labels)
    loss.backward()
    parts = [value.grad for value in classifier.parameters() if value.grad is not None]
    return float(loss.detach()), torch.cat([part.flatten().double().cpu() for part in parts])


def check_step(table: Table, device: torch.device, *, is_tiny: bool) -> None:
    """Loss and gradient of one batch on the CPU and on the device, in all precisions."""
    stage, (_, model) = small(RECIPES[0], is_tiny=is_tiny), network_of(RECIPES[0], is_tiny=is_tiny)
    classes = torch.full((64,), 8)
    on_cpu = build_classification_model(stage, model, classes, start=None, seed=0)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, stage.size, stage.size, generator=generator)
    labels = torch.randint(64, (16,), generator=generator)
    expected, reference = gradients(on_cpu, images, labels)
    there, batch = deepcopy(on_cpu).to(device), (images.to(device), labels.to(device))
    with torch.backends.cudnn.flags(allow_tf32=False):
        loss, found = gradients(there, *batch)
    error = float((found - reference).norm() / reference.norm())
    passed = abs(loss - expected) < STEP_ERROR * expected and error < STEP_ERROR
    text = f"loss {loss:.6f} and {expected:.6f}, gradients {error:.1e} apart"
    table.check("step in float32", passed=passed, found=text)
    for name in ("float16", "bfloat16"):
        if name == "float16" and device.type == "cpu":
            continue  # a CPU trains in bfloat16 or float32
        scale = 1024.0 if name == "float16" else 1.0  # or small gradients become 0
        with torch.autocast(device.type, getattr(torch, name)):
            loss = there(*batch)
        there.zero_grad()
        (scale * loss).backward()
        parts = [p.grad for p in there.parameters() if p.grad is not None]
        found = torch.cat([part.flatten().double().cpu() for part in parts])
        cosine = float(torch.cosine_similarity(found, reference, dim=0))
        is_finite = bool(found.isfinite().all()) and bool(torch.isfinite(loss))
        text = f"finite: {is_finite}, cosine with float32 {cosine:.4f}"
        table.check(f"step in {name}", passed=is_finite and cosine > HALF_COSINE, found=text)


def check_resume(table: Table, root: Path, images: pd.DataFrame, *, is_tiny: bool) -> None:
    """A training that is killed after its first epoch, against two that are not."""
    stage, (_, model) = small(RECIPES[0], is_tiny=is_tiny), network_of(RECIPES[0], is_tiny=is_tiny)
    stage = dataclasses.replace(stage, epochs=2, epoch_images=4 * stage.batch_size)
    save = TrainingState.save

    def train(name: str) -> torch.Tensor:
        path = training.train(stage, model, images, root, root / name, processes=1)
        weights = load_file(path)
        return torch.cat([weights[key].flatten().double() for key in sorted(weights)])

    def killed(state: TrainingState, *given: object) -> None:
        save(state, *given)
        raise KeyboardInterrupt

    with contextlib.redirect_stdout(None):
        first, again = train("first"), train("again")
        with (
            contextlib.suppress(KeyboardInterrupt),
            mock.patch.object(TrainingState, "save", killed),
        ):
            train("killed")
        resumed = train("killed")
    usual, apart = (float((one - first).norm() / first.norm()) for one in (again, resumed))
    text = f"weights {apart:.1e} from an unbroken training, two of which are {usual:.1e} apart"
    table.check("resume", passed=apart <= 10 * usual, found=text)


def matrix_rate(device: torch.device, seconds: float, *, is_tiny: bool) -> float:
    """Operations per second of a matrix product in the precision of training."""
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
    side = 512 if is_tiny else SIDE
    a = torch.randn(side, side, device=device).to(kinds[precision()])
    a @ a
    wait()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(10):
            a @ a
        done += 10
        wait()
    return 2 * side**3 * done / (time.perf_counter() - began)


def rates(name: str, seconds: float, peak: float, *, is_tiny: bool) -> dict[str, object]:
    """Rates and memory of a recipe; fewer images a batch where they do not fit."""
    stage, (title, model) = small(name, is_tiny=is_tiny), network_of(name, is_tiny=is_tiny)
    inference = recipe(f"{name}-mini" if is_tiny else name).inference
    while True:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            images = write_images(root, SIDES)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            try:
                found = measure_training(stage, model, images, root, seconds, 2 * seconds)
            except torch.OutOfMemoryError:
                stage = dataclasses.replace(stage, batch_size=stage.batch_size // 2)
                torch.cuda.empty_cache()
                continue
            memory = peak_gib()
            found |= measure_embedding(inference, images, root, seconds)
            break
    operations = (1 + BACKWARD) * count(model, stage.size).operations
    row = {"network": title, "pixels": stage.size, "batch": stage.batch_size}
    row |= {"bare step": found["bare step"], "train": found["train"]}
    row |= {"train / bare": found["train"] / found["bare step"]}
    row |= {"of the product": found["train"] * operations / peak, "GiB": memory}
    forward = max(found["forward"], found["forward in threads"])
    row |= {
        "forward": forward,
        "embed": found["embed"],
        "embed / forward": found["embed"] / forward,
    }
    return row | {key: value for key, value in found.items() if key.endswith(" ms")}


def peak_gib() -> float:
    """Memory of the GPU at most so far, or of this process without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rerank(*, is_tiny: bool) -> None:
    """GLR21's reranking as a whole, the nearest references found exactly."""
    sizes = TINY_RERANKED if is_tiny else RERANKED
    with tempfile.TemporaryDirectory() as folder, timed("made-up embeddings"):
        world = make_world(Path(folder), *sizes, np.random.default_rng(0))
        labels = world.references, world.landmarks, world.countries
        data = RetrievalData(world.queries, world.gallery, *labels)
        with timed("whole rerank, {:,} × {:,} with {:,} references".format(*sizes)):
            landmark_country_rerank(data)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the seconds of a block."""
    began = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began:.1f} s", flush=True)


def main() -> int:
    """Run the parts and print what was found; 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts: dict[str, Callable[[], None]] = {}
    parser.add_argument("--parts", nargs="+", default=["checks", "rates", "rerank"])
    parser.add_argument("--tiny", action="store_true", help="small relatives: does all of it run?")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measured loop")
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ |= {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "yes"}
    elif not torch.cuda.is_available():
        raise SystemExit("error: expected a CUDA device, found none; --device cpu --tiny tries all")
    limit_threads()
    device, is_tiny, table = torch.device(args.device), args.tiny, Table()
    name = torch.cuda.get_device_name() if args.device == "cuda" else "a CPU"
    print(
        f"{name}, torch {torch.__version__}, faiss {faiss.__version__}, {precision()}", flush=True
    )

    def checks() -> None:
        check_search(table, is_tiny=is_tiny)
        check_step(table, device, is_tiny=is_tiny)
        with tempfile.TemporaryDirectory() as folder:
            check_resume(table, Path(folder), write_images(Path(folder)), is_tiny=is_tiny)

    def all_rates() -> None:
        peak = matrix_rate(device, min(args.seconds, 2.0), is_tiny=is_tiny)
        print(f"matrix product: {peak:.2e} operations/s")
        rows = [rates(one, args.seconds, peak, is_tiny=is_tiny) for one in RECIPES]
        found = pd.DataFrame(rows).set_index("network")
        steps = [column for column in found if column.endswith(" ms")]
        print(found.drop(columns=steps).round(2).to_string())
        print(
            f"\nmilliseconds of a training step\n{found[steps].round(1).to_string()}\n", flush=True
        )
        lowest = float(found["train / bare"].min())
        passed = is_tiny or lowest >= ASKED  # small networks tell nothing of rates
        table.check("train / bare", passed=passed, found=f"at least {lowest:.2f}")

    parts |= {"checks": checks, "rates": all_rates, "rerank": lambda: rerank(is_tiny=is_tiny)}
    with timed("all of it"):
        for part in args.parts:
            parts[part]()
    print(f"failed: {', '.join(table.failed) or 'nothing'}")
    return bool(table.failed)


if __name__ == "__main__":
    raise SystemExit(main())

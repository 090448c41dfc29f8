"""Training a stage: images and labels in, a checkpoint out.

One plain loop for every stage of both systems: SGD with momentum, a schedule per step, the heads of
`lib.training.losses`, batch augmentation on the device, and the dual stream of Corner-Cutmix (GLR20
§2.1). It
runs on whatever `accelerate` finds: CPU, one GPU, or one process per GPU, which a notebook starts
itself. What every step draws depends only on the seed and the step's number, so a killed run goes
on from its last saved step as if nothing had happened.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, gather_object
from torch import nn

from lib import models
from lib.artifacts import fingerprint, read_fingerprint, start_over, stream_seed, write_csv
from lib.config import ModelConfig, StageConfig
from lib.data import (
    ImageSource,
    ImageStore,
    SquareImages,
    check_readable,
    images_key,
    load_batches,
    mark_stage_complete,
    report_unreadable,
    work_left,
)
from lib.distributed import launch, precision, work_alone
from lib.training.augmentation import Augment, corner_cutmix
from lib.training.checkpoint import TrainingState
from lib.training.classification_model import (
    build_classification_model,
    parameter_groups,
    set_learning_rates,
)
from lib.training.samplers import EpochSampler, build_sampler

VERSION = 3  # raise it when the same settings would train another network
CHECKPOINT, HISTORY, STATE = "model.safetensors", "history.csv", "state.pt"


@dataclass(frozen=True)
class TrainingJob:
    """Everything that a training process needs to know."""

    stage: StageConfig
    model: ModelConfig
    table: pd.DataFrame
    root: Path
    folder: Path
    start: Path | None
    seed: int
    settings: str  # the fingerprint without that of the images
    key: str


def train(
    stage: StageConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    *,
    start: str | Path | None = None,
    seed: int = 0,
    processes: int | None = None,
) -> Path:
    """Train one stage on `table` and return the path of its checkpoint.

    Does nothing when `folder` already holds the result of the same settings and images, and goes on
    from the last saved step when it holds a part of it. Beside the checkpoint lies `history.csv`
    (epoch, step, learning_rate, loss). With `stage.epochs` 0 the network is saved as it starts.

    Args:
        stage: what to do.
        model: the network, when it does not come from `start`.
        table: a training list of `lib.data` (columns path, label, is_clean, continent).
        root: the data folder that the paths are relative to.
        folder: receives checkpoint, history and manifest.
        start: a checkpoint to go on from; its head's rows too from one of GLR21's nested lists to
            the next, whose class ids are the same ones.
        seed: of initial weights, sampling and augmentation.
        processes: processes to train in; one per GPU by default. Without GPUs they run on the CPU.

    Raises:
        ValueError: if the list, or what an epoch draws of it, is smaller than one batch; if more
            than a few per cent of the images are missing or unreadable; or if a loss is not finite.
    """
    folder = Path(folder)
    count = min(len(table), stage.epoch_images or len(table))
    if count < stage.batch_size:
        raise ValueError(
            f"expected at least one batch of {stage.batch_size} images for stage {stage.name!r}, "
            f"found {count}; lower batch_size or give more images"
        )
    settings = stage_key(stage, model, table, start=start, seed=seed)
    store, paths = ImageStore(root), table["path"].tolist()
    with work_alone(
        folder, lambda: work_left(f"stage {stage.name!r}", folder, settings, store, paths)
    ) as key:
        if key:
            places = Path(root), folder, Path(start) if start else None
            launch(
                _train, TrainingJob(stage, model, table, *places, seed, settings, key), processes
            )
        else:  # it may have been killed between the signature and this removal
            (folder / STATE).unlink(missing_ok=True)
    return folder / CHECKPOINT


def stage_key(
    stage: StageConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    *,
    start: str | Path | None = None,
    seed: int = 0,
    root: str | Path | None = None,
) -> str:
    """The fingerprint of a training: all that decides its result, and nothing about places.

    With `root` the images that lie there count too (`lib.data.images_key`), as in a stage's
    manifest. The
    network is the checkpoint's where there is one, so `model` counts only without `start`; a
    weight file counts by its content. The number of processes, which decides what each of them
    draws, is not looked at: a training that is done is not done again for it.
    """
    origin = (read_fingerprint(Path(start).parent) or str(start)) if start else model
    if not start and Path(model.weights).is_file():
        content = fingerprint(np.fromfile(model.weights, np.uint8))
        origin = dataclasses.replace(model, weights=content)
    columns = table[["path", "label", "is_clean", "continent"]]
    settings = fingerprint(VERSION, stage, columns, origin, seed)
    return images_key(settings, ImageStore(root), table["path"].tolist()) if root else settings


def is_slow_in_half(backbone: nn.Module) -> bool:
    """Whether a backbone trains faster in float32: on CPUs with depthwise convolutions.

    Their gradients are slow there in bfloat16: EfficientNet-Lite0 trains half again as fast in
    float32, at 44 instead of 29 images of 128 pixels per second and core.
    """
    convolutions = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    is_depthwise = any(1 < layer.groups == layer.in_channels for layer in convolutions)
    return is_depthwise and not torch.cuda.is_available()


def _train(job: TrainingJob) -> None:
    stage, folder = job.stage, job.folder
    classifier = build_classification_model(
        stage,
        job.model,
        torch.bincount(torch.tensor(job.table["label"].to_numpy())),
        start=job.start,
        seed=job.seed,
    )
    classifier = classifier.to(memory_format=torch.channels_last)
    # A process has one precision for all its stages; autocast is what can be left out.
    autocast = AutocastKwargs(enabled=not is_slow_in_half(classifier.model.backbone))
    accelerator = Accelerator(mixed_precision=precision(), kwargs_handlers=[autocast])
    if accelerator.is_main_process:
        start_over(folder)
    optimizer = torch.optim.SGD(
        parameter_groups(stage, classifier),
        lr=stage.learning_rate,
        momentum=stage.momentum,
        weight_decay=stage.weight_decay,
    )
    source = ImageSource(job.root)
    images = SquareImages(source, job.table["path"].tolist(), stage.size)
    what = f"stage {stage.name!r}"
    # A small set has been read by now.
    check_readable(what, job.root, source.unreadable, len(images))
    labels = torch.tensor(job.table["label"].to_numpy(), device=accelerator.device)
    place = {"rank": accelerator.process_index, "world_size": accelerator.num_processes}
    samplers = [build_sampler(stage, job.table, seed=job.seed, **place)]
    if stage.cutmix:  # the partners have an order of their own: GLR20's code has a second loader
        seed = stream_seed(job.seed, "partners")
        samplers.append(build_sampler(stage, job.table, seed=seed, **place))
    classifier, optimizer = accelerator.prepare(classifier, optimizer)
    plain = accelerator.unwrap_model(classifier)
    if plain.model.weight_report and accelerator.is_main_process:
        account = plain.model.weight_report
        print(f"{stage.name}: weights from {job.model.weights}: {account}", flush=True)
    augment = Augment(stage.augment, plain.model.mean, plain.model.std)
    generator = torch.Generator()
    per_process = stage.batch_size // accelerator.num_processes
    steps = len(samplers[0]) // per_process
    progress = TrainingState(stage, steps, job.key, folder / STATE, precision=precision())
    progress.restore(plain, optimizer)
    # More threads than free cores slow a step down tenfold, so who sets their number is obeyed.
    if accelerator.num_processes == 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(joblib.cpu_count())  # by affinity and quota

    for epoch in range(progress.step // max(steps, 1), stage.epochs):
        batches = _batches(samplers, epoch, per_process, steps, skip=progress.step - epoch * steps)
        for pixels, positions in load_batches(images, batches):
            generator.manual_seed(
                stream_seed(job.seed, "augment", progress.step, accelerator.process_index)
            )
            rate = set_learning_rates(optimizer, stage, progress.step / (steps * stage.epochs))
            pixels = pixels.to(accelerator.device, non_blocking=True)
            target = labels[positions.to(accelerator.device)]
            inputs = (_channels_last(augment(pixels, generator)), target)
            if stage.cutmix:
                (base, partners), (target, others) = (part.chunk(2) for part in inputs)
                mixed = corner_cutmix(base, partners, generator=generator)
                inputs = (base, target, mixed, others)
            with accelerator.autocast():
                loss = classifier(*inputs)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            progress.note(loss.detach(), rate, len(target) * accelerator.num_processes)
            if accelerator.is_main_process and progress.is_due():
                progress.save(plain, optimizer)
        progress.fetch()  # in every process, so that none goes on with a loss that is not finite
        progress.unreadable.update(source.unreadable)
        check_readable(what, job.root, progress.unreadable, len(images))
        if accelerator.is_main_process:
            print(progress.epoch_line(epoch), flush=True)
            progress.save(plain, optimizer)

    progress.unreadable.update(gather_object([*source.unreadable]))
    check_readable(what, job.root, progress.unreadable, len(images))
    if accelerator.is_main_process:
        report_unreadable(progress.unreadable)
        progress.check_weights(plain)
        write_csv(progress.history(), folder / HISTORY)
        facts = {"train_list": stage.train_list, "stage": stage.name}
        models.save(folder / CHECKPOINT, plain.model, plain.head, **facts)
        facts = {
            "images_seen": progress.step * per_process * accelerator.num_processes,
            "seconds": round(progress.seconds(), 1),
        }
        files = CHECKPOINT, HISTORY
        mark_stage_complete(
            folder, job.key, job.settings, progress.unreadable, files=files, **facts
        )
        progress.path.unlink(missing_ok=True)  # not before the signature, or a kill loses all
    accelerator.wait_for_everyone()


def _batches(
    samplers: Sequence[EpochSampler], epoch: int, size: int, steps: int, *, skip: int
) -> list[list[int]]:
    """The epoch's full batches of positions, without the first `skip`.

    Of two samplers, `size` positions of the second follow those of the first in every batch.
    """
    for sampler in samplers:
        sampler.set_epoch(epoch)
    orders = [list(sampler) for sampler in samplers]
    return [
        [row for order in orders for row in order[i * size : (i + 1) * size]]
        for i in range(skip, steps)
    ]


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)

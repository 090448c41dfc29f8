"""Training a stage of GLR20 (3rd place, Google Landmark Retrieval 2020, Mei et al.) or GLR21 (2nd
place, Google Landmark Retrieval 2021, Zhang et al.): images and labels in, a checkpoint out.

What a step draws depends only on the seed and its number, so a killed run goes on from its last
saved step with the same result.
"""

import copy
import dataclasses
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, gather_object, is_tensorboard_available
from sklearn.metrics import average_precision_score
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from lib import artifacts, data, models
from lib.artifacts import (
    CHECKPOINT,
    fingerprint,
    progress,
    read_fingerprint,
    rng,
    stream_seed,
    write_csv,
)
from lib.config import ModelConfig, StageConfig, chosen, nearest
from lib.distributed import (
    ThreadChoice,
    launch,
    limit_threads,
    precision,
    processes_to_start,
    total_processes,
    work_alone,
)
from lib.models import normalise
from lib.time_limit import OVER, TimeUp, deadline
from lib.training.augmentation import AUGMENTATIONS, Augment, corner_cutmix
from lib.training.checkpoint import TrainingState
from lib.training.losses import (
    LOSSES,
    SAMPLED_OPTIMIZERS,
    batch_hard_triplet,
    dual_stream_loss,
    grow_head,
    sample_classes,
)
from lib.training.samplers import SAMPLERS, EpochSampler, images_per_epoch
from lib.training.schedules import OPTIMIZERS, SCHEDULES, build_optimizer, set_learning_rates

CHECKED = 8  # steps after which several processes agree on the time
VERSION = 3  # raise it when the same settings would train another network
TABLE = "table.npy"  # the training list, for the processes that are started
HISTORY, STATE, CURVES = "history.csv", "state.pt", "tensorboard"
BATCH_NORM = nn.modules.batchnorm._BatchNorm  # of any number of dimensions
PCA_IMAGES = 4096  # that the neck `pca` is fitted to
NESTED_LISTS = ("clean", "c2x", "full", "all")  # class ids of each are the first of the next


@dataclass(frozen=True)
class TrainingJob:
    """What a training process needs to know; arguments of `train`."""

    stage: StageConfig
    model: ModelConfig
    rows: np.ndarray | Path  # of `data.pack_list`, or the file that has them
    words: Mapping[str, Sequence[str]]
    root: Path
    folder: Path
    start: Path | None
    seed: int
    augment: Any
    facts: Mapping[str, Any]
    settings: str  # the fingerprint without that of the images
    key: str
    until: float  # when to stop with what there is, in seconds since 1970


def train(
    stage: StageConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    root: str | Path,
    folder: str | Path,
    *,
    start: str | Path | None = None,
    seed: int = 0,
    augment: Any = None,
    facts: Mapping[str, Any] | None = None,
    until: float = math.inf,
    processes: int | None = None,
) -> Path:
    """Train one stage on `table` and return the path of its checkpoint.

    Does nothing when `folder` holds the result of the same settings and images; goes on from the
    last saved step of a part. Beside the checkpoint lies `history.csv` (epoch, step, learning_rate,
    loss, and held_out_map where the stage holds landmarks out: the checkpoint is then the best
    epoch's, 0 the network that it starts from). Where TensorBoard is installed it shows the same,
    epoch by epoch, from the folder `tensorboard`.

    Args:
        stage: with 0 epochs the network is saved as it starts.
        model: the network, when it does not come from `start`.
        table: a training list of `lib.data`, with paths relative to `root`.
        start: a checkpoint to go on from, between GLR21's nested lists with its head.
        augment: an `albumentations.Compose` that keeps size and type of uint8 images, in the place
            of `stage.augment`.
        facts: what else the checkpoint tells, such as the `inference` that it is meant for.
        until: when to stop, in seconds since 1970, with a checkpoint of the steps so far; the same
            call goes on from there another time.
        processes: one per GPU by default; more than there are GPUs run on the CPU.

    Raises:
        TimeUp: at the run's time limit, after training has saved its state.
    """
    check_stage(stage)
    parts_of_batch(stage, total_processes(processes))
    if lacking := {"path", "label", "landmark_id"} - {*table.columns}:
        raise ValueError(
            f"expected a training list with a {' and a '.join(sorted(lacking))} for each image, "
            "found none; make it with lib.data.training_list"
        )
    folder = Path(folder)
    images = np.count_nonzero(~held_out_rows(stage, table, seed))
    count = images_per_epoch(stage, images)
    count = min(images, count) if stage.epoch_images else count
    if count < stage.batch_size:
        raise ValueError(
            f"expected at least one batch of {stage.batch_size} images for stage {stage.name!r}, "
            f"found {count}; lower batch_size or give more images"
        )
    settings = stage_key(stage, model, table, start=start, seed=seed, augment=augment)
    store, paths = data.ImageStore(root), table["path"].tolist()
    what = f"stage {stage.name!r}"
    work_left = partial(data.work_left, what, folder, settings, store, paths)
    with work_alone(folder, work_left) as key:
        if key:
            rows, words = data.pack_list(table)
            if processes_to_start(processes) > 1:
                with artifacts.atomic_path(folder / TABLE) as temporary:
                    np.save(temporary, rows)
                rows = folder / TABLE
            places = Path(root), folder, Path(start) if start else None
            told = seed, augment, facts or {}, settings, key, until
            job = TrainingJob(stage, model, rows, words, *places, *told)
            try:
                launch(_train, job, processes)
            finally:
                (folder / TABLE).unlink(missing_ok=True)
            if read_fingerprint(folder) is None:
                raise TimeUp(f"{what}: {OVER}")
        else:  # it may have been killed between the signature and this removal
            (folder / STATE).unlink(missing_ok=True)
    return folder / CHECKPOINT


def check_stage(stage: StageConfig) -> None:
    """Raise ValueError where a setting names nothing known, or settings contradict each other."""
    optimizer, steps, decoded = stage.optimizer, stage.augment.steps, stage.decode_size
    try:
        if optimizer not in OPTIMIZERS:
            hint = f"found {optimizer!r}; {nearest(optimizer, OPTIMIZERS)}"
            raise ValueError(f"setting 'optimizer' expects a name of timm.optim, {hint}")
        for setting, known in {"loss": LOSSES, "sampler": SAMPLERS, "schedule": SCHEDULES}.items():
            chosen(setting, getattr(stage, setting), known)
        for step in steps:
            chosen("augment.steps", step, {"normalise": None, **AUGMENTATIONS})
        if steps.count("normalise") != 1:
            raise ValueError(f"expected the step 'normalise' once in augment.steps, found {steps}")
        if decoded and (decoded < stage.size or "affine" not in steps):
            raise ValueError(
                f"expected decode_size 0, or at least size {stage.size} together with the step "
                f"'affine', found {decoded}"
            )
        if stage.class_share < 1 and optimizer not in SAMPLED_OPTIMIZERS:
            known = ", ".join(SAMPLED_OPTIMIZERS)
            raise ValueError(
                f"expected an optimizer among {known} for class_share below 1, found {optimizer!r}"
            )
    except ValueError as error:
        raise ValueError(f"stage {stage.name!r}: {error}") from None
    parts_of_batch(stage)


def parts_of_batch(stage: StageConfig, processes: int = 1) -> int:
    """In how many equal parts each of so many processes takes its share of a batch.

    As few as `images_per_gpu` allows, and `accumulate` at least, so that a recipe keeps its total
    batch on fewer GPUs; ValueError where the batch cannot be divided.

    >>> [parts_of_batch(StageConfig(batch_size=192, images_per_gpu=24), n) for n in (8, 2, 1)]
    [1, 4, 8]
    """
    if stage.batch_size % (processes * stage.accumulate):
        raise ValueError(
            f"expected a batch_size of stage {stage.name!r} that divides into {processes} "
            f"processes of {stage.accumulate} parts (accumulate), found {stage.batch_size}; "
            "change one of them"
        )
    own = stage.batch_size // processes
    most = stage.images_per_gpu or own
    counts = range(stage.accumulate, own + 1)
    return next(parts for parts in counts if own % parts == 0 and own // parts <= most)


def stage_key(
    stage: StageConfig,
    model: ModelConfig,
    table: pd.DataFrame,
    *,
    start: str | Path | None = None,
    seed: int = 0,
    augment: Any = None,
    root: str | Path | None = None,
) -> str:
    """The fingerprint of a training: all that decides its result, and nothing about places.

    With `root` the images that lie there count too, as in a stage's manifest. `model` counts only
    without `start`, a weight file by its content. The number of processes does not count.
    """
    origin = (read_fingerprint(Path(start).parent) or str(start)) if start else model
    if not start and Path(model.weights).is_file():
        content = fingerprint(np.fromfile(model.weights, np.uint8))
        origin = dataclasses.replace(model, weights=content)
    columns = table[["path", "label", "is_clean", "continent"]]
    parts = [VERSION, stage, columns, origin, seed]
    if augment is not None:
        try:
            parts.append(fingerprint(augment.to_dict()))
        except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
            raise ValueError(
                "expected an albumentations.Compose whose to_dict tells what it does, found "
                f"{type(augment).__name__}: {error}; give each A.Lambda a name"
            ) from None
    if augment is not None or stage.augment.chain:
        parts.append("a seed for each image")  # unlike versions before
    settings = fingerprint(*parts)
    if not root:
        return settings
    return data.images_key(settings, data.ImageStore(root), table["path"].tolist())


def held_out_rows(stage: StageConfig, table: pd.DataFrame, seed: int) -> np.ndarray:
    """Which rows of a training list the stage holds out, (N,) bool: whole landmarks.

    They depend on `seed` and the landmarks alone, so that all stages hold out the same ones.
    """
    if not stage.hold_out:
        return np.zeros(len(table), bool)
    ids = table["landmark_id"].unique().tolist()
    ids.sort(key=lambda landmark: stream_seed(seed, "hold out", landmark))
    rows = table["landmark_id"].isin(ids[: round(stage.hold_out * len(ids))]).to_numpy()
    if not 2 <= table["landmark_id"][rows].nunique() < len(ids):
        raise ValueError(
            f"expected at least two landmarks to hold out and one to train on for stage "
            f"{stage.name!r}, found {len(ids)} in all; change hold_out ({stage.hold_out:g})"
        )
    return rows


class ClassificationModel(nn.Module):
    """Network and head as one module, whose forward is the loss; `image_counts` (C,) per class."""

    def __init__(self, stage: StageConfig, model: nn.Module, image_counts: Tensor) -> None:
        super().__init__()
        self.stage, self.model = stage, model
        head = partial(LOSSES[stage.loss], stage, image_counts, model.training_dim)
        self.head, self.mixed_head = head(), head() if stage.cutmix == "code" else None

    def train(self, mode: bool = True) -> "ClassificationModel":
        """Set training mode, in which `freeze_norm` leaves the backbone's BatchNorm as it is."""
        super().train(mode)
        for module in self.model.backbone.modules() if self.stage.freeze_norm else ():
            if isinstance(module, BATCH_NORM):
                module.eval()
        return self

    def forward(self, images: Tensor, labels: Tensor, *stream: Tensor) -> Tensor:
        """The mean loss of a batch (B, 3, H, W); `stream` is mixed images, partners' labels."""
        stage = self.stage
        if not stream:
            base = self.model(images)
            loss = self.head(base, labels)
        else:
            mixed, partner_labels = stream
            base, both = self.model(torch.cat([images, mixed])).chunk(2)
            weight = 0.5 if stage.cutmix == "paper" else 1.0
            streams = base, both, labels, partner_labels
            loss = dual_stream_loss(self.head, *streams, weight=weight, mixed_head=self.mixed_head)
        loss = stage.loss_weight * loss
        if stage.triplet_weight:
            triplet = batch_hard_triplet(base, labels, margin=stage.triplet_margin)
            loss = loss + stage.triplet_weight * triplet
        return loss


def build_classification_model(
    stage: StageConfig, model: ModelConfig, image_counts: Tensor, *, start: Path | None, seed: int
) -> ClassificationModel:
    """Network and head of a stage; the head's rows too come from `start` where lists are nested."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights", stage.name))
        known = models.load(start) if start else None
        network = known.model if known else models.build_model(model)
        network.check_size(stage.size)
        classifier = ClassificationModel(stage, network, image_counts).train()
        if known and {known.facts.get("train_list"), stage.train_list} <= {*NESTED_LISTS}:
            grow_head(known.head, classifier.head)
    return classifier


@torch.inference_mode()
def held_out_map(
    model: models.EmbeddingNetwork, images: data.SquareImages, landmarks: np.ndarray, batch: int
) -> float:
    """mAP of a network in evaluation mode, each image as a query against all others.

    An image that is alone with its landmark (`landmarks` is (N,)) is no query.
    """
    embeddings = F.normalize(_outputs(model, model, images, range(len(images)), batch)).numpy()
    precisions = []
    for query, landmark in enumerate(landmarks):
        is_relevant = np.delete(landmarks == landmark, query)
        if is_relevant.any():
            scores = np.delete(embeddings @ embeddings[query], query)
            precisions.append(average_precision_score(is_relevant, scores))
    return float(np.mean(precisions)) if precisions else 0.0


def _fit_neck(model: models.EmbeddingNetwork, images: data.SquareImages, batch: int) -> None:
    """Fit the neck `pca` to training images, all or evenly spread ones."""
    places = np.linspace(0, len(images) - 1, min(len(images), PCA_IMAGES)).astype(int).tolist()
    rows = _outputs(model, model.pooled, images, places, batch, what="fitting the PCA")
    models.fit_pca_neck(model, rows.numpy())


@torch.inference_mode()
def _outputs(
    model: models.EmbeddingNetwork,
    compute: Callable[[Tensor], Tensor],
    images: data.SquareImages,
    places: Sequence[int],
    batch: int,
    *,
    what: str = "scoring images held out",
) -> Tensor:
    """What `compute` of a network in evaluation mode gives for the images at `places`, float32."""
    device = next(model.parameters()).device
    batches = [places[i : i + batch] for i in range(0, len(places), batch)]
    loaded = progress(data.load_batches(images, batches), what, len(batches))
    rows = (compute(normalise(pixels.to(device), model.mean, model.std)) for pixels, _ in loaded)
    return torch.cat([part.float().cpu() for part in rows])


def is_slow_in_half(backbone: nn.Module) -> bool:
    """Whether a backbone trains faster in float32: on CPUs with depthwise convolutions."""
    convolutions = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    is_depthwise = any(1 < layer.groups == layer.in_channels for layer in convolutions)
    return is_depthwise and not torch.cuda.is_available()


def _can_be_halved(stage: StageConfig, classifier: nn.Module) -> bool:
    """Whether both halves of a batch can be computed side by side, with the same gradients.

    Two threads of one core each train small batches up to half again as fast as OpenMP's threads,
    which wait for each other in every layer. Not where images of a batch meet, in BatchNorm's
    statistics or triplets, or where layers draw numbers (dropout, timm's stochastic depth).
    """
    is_apart = not stage.triplet_weight and not any(
        (isinstance(module, BATCH_NORM) and module.training)
        or (isinstance(module, nn.modules.dropout._DropoutNd) and module.p)
        or getattr(module, "drop_prob", 0)
        for module in classifier.modules()
    )
    is_even = stage.batch_size // parts_of_batch(stage) % 2 == 0
    return is_apart and is_even and torch.get_num_threads() > 1


def _backward_in_halves(
    classifier: nn.Module,
    inputs: Sequence[Tensor],
    share: float,
    autocast: Callable[[], AbstractContextManager],
    pool: ThreadPoolExecutor,
) -> Tensor:
    trained = [value for value in classifier.parameters() if value.requires_grad]

    def of_half(half: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        with autocast():
            torch.set_autocast_cache_enabled(False)  # of both threads: one would clear the other's
            loss = 0.5 * share * classifier(*half)
        return loss.detach(), torch.autograd.grad(loss, trained, allow_unused=True)

    halves = zip(*(x.chunk(2) for x in inputs), strict=True)
    (first, ones), (second, others) = pool.map(of_half, halves)
    for value, one, other in zip(trained, ones, others, strict=True):
        for gradient in (one, other):
            if gradient is not None:
                value.grad = gradient if value.grad is None else value.grad + gradient
    return first + second


def _train(job: TrainingJob) -> None:
    stage, folder, what = job.stage, job.folder, f"stage {job.stage.name!r}"
    rows = job.rows
    if isinstance(rows, Path):
        rows = np.asarray(np.load(rows, mmap_mode="r"))  # element access on np.memmap is slow
    every = data.unpack_list(rows, job.words)
    # The head has a class for landmarks held out, too: class ids of the lists stay nested.
    classes = torch.bincount(torch.tensor(every["label"].to_numpy()))
    classifier = build_classification_model(
        stage, job.model, classes, start=job.start, seed=job.seed
    )
    is_held_out = held_out_rows(stage, every, job.seed)
    table = every[~is_held_out].reset_index(drop=True)
    landmarks = every["landmark_id"][is_held_out].to_numpy()
    paths = rows["path"][~is_held_out] if is_held_out.any() else rows["path"]
    sample = sample_classes(stage, classifier)
    classifier = classifier.to(memory_format=torch.channels_last)
    # A process has one precision for all its stages; autocast is what can be left out.
    autocast = AutocastKwargs(enabled=not is_slow_in_half(classifier.model.backbone))
    accelerator = Accelerator(
        mixed_precision=precision(),
        kwargs_handlers=[autocast],
        log_with="tensorboard" if is_tensorboard_available() else None,
        project_dir=folder,
    )
    device, rank = accelerator.device, accelerator.process_index
    world_size = accelerator.num_processes
    part_count = parts_of_batch(stage, world_size)
    if accelerator.is_main_process:
        artifacts.start_over(folder)
    optimizer = build_optimizer(stage, classifier)
    source = data.ImageSource(job.root)
    size = stage.size if job.augment is not None else stage.decode_size or stage.size
    images = data.SquareImages(source, paths, size)
    judged = data.SquareImages(source, rows["path"][is_held_out], stage.size)
    # A small set has been read by now.
    data.check_readable(what, job.root, source.unreadable, len(rows))
    labels = torch.tensor(table["label"].to_numpy(), device=device)
    seeds = [job.seed]
    if stage.cutmix:  # the partners have an order of their own: GLR20's code has a second loader
        seeds.append(stream_seed(job.seed, "partners"))
    sampler = partial(SAMPLERS[stage.sampler], stage, table, world_size=world_size)
    samplers = [sampler(seed=seed) for seed in seeds]
    classifier, optimizer = accelerator.prepare(classifier, optimizer)
    if sample:
        sample.whole.to(device)
    plain = accelerator.unwrap_model(classifier)
    if (report := plain.model.weight_report) and accelerator.is_main_process:
        print(f"{stage.name}: weights from {job.model.weights}: {report}", flush=True)
    ema = ModelEmaV3(plain, decay=stage.ema) if stage.ema else None
    start = copy.deepcopy(plain.model) if stage.average_start else None
    augment = Augment(
        stage.augment, plain.model.mean, plain.model.std, pipeline=job.augment, size=stage.size
    )
    if augment.has_each:
        augment.each(np.zeros((1, 3, size, size), np.uint8), [0])  # imported before workers fork
    per_process = stage.batch_size // world_size
    steps = len(samplers[0]) // per_process
    total = steps * stage.epochs
    state = TrainingState(stage, steps, job.key, folder / STATE, precision=precision())
    parts = {"classifier": plain, "optimizer": optimizer, "classes": sample}
    parts |= {"ema": ema and ema.module, "scaler": accelerator.scaler}
    state.parts = {name: part for name, part in parts.items() if part is not None}
    state.restore()
    if accelerator.is_main_process and not state.step:
        shutil.rmtree(folder / CURVES, ignore_errors=True)  # of other settings
    accelerator.init_trackers(CURVES)
    limit_threads()

    pool = threads = None
    if world_size == 1 and device.type == "cpu":  # several processes wait for the slowest anyway
        if _can_be_halved(stage, plain):
            pool = ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,))
        else:
            threads = ThreadChoice()

    def backward(inputs: Sequence[Tensor], share: float) -> Tensor:
        """Add a share of the gradients of a part of a batch, and return that of its loss."""
        if pool:
            return _backward_in_halves(classifier, inputs, share, accelerator.autocast, pool)
        with accelerator.autocast():
            loss = share * classifier(*inputs)
        accelerator.backward(loss)
        return loss.detach()

    def images_of(step: int) -> list[str]:
        """Paths of the images of a step, of all processes."""
        epoch, place = divmod(step, steps)
        batches = [
            _batches(samplers, epoch, rank, per_process, place + 1, skip=place)[0]
            for rank in range(world_size)
        ]
        return [os.fsdecode(path) for path in paths[np.concatenate(batches)]]

    trained = ema.module if ema else plain

    def as_kept(found: ClassificationModel) -> ClassificationModel:
        """Make of `trained` or a copy of it what a checkpoint holds, in evaluation mode."""
        for name, head in sample.whole.items() if sample else ():
            setattr(found, name, head)
        if start is not None:
            # (1 - α)·θ + α·θ_0 (WiSE-FT, Wortsman et al., CVPR 2022, eq. 1, whose α is the other
            # network's share); heads have no θ_0.
            initial = start.state_dict()
            for name, value in found.model.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(initial[name], stage.average_start)
        return found.eval()

    def judge() -> None:
        """Score the network on the images held out, unless that is done for this epoch."""
        if accelerator.is_main_process and state.is_unscored():
            found = as_kept(copy.deepcopy(trained))
            score = held_out_map(found.model, judged, landmarks, per_process)
            state.add_score(score, found.state_dict())
        accelerator.wait_for_everyone()

    end = min(job.until, deadline())

    def is_over() -> bool:
        """Whether training stops here, by the clock of the main process."""
        if world_size == 1:
            return time.time() > end and state.step < total
        if end == math.inf or state.step == total or state.step % CHECKED:
            return False
        if accelerator.is_main_process and time.time() > end:
            accelerator.set_trigger()
        return accelerator.check_trigger()

    stopped = False
    state.images_of = images_of
    if stage.hold_out and stage.epochs:
        judge()
    for epoch in range(state.step // steps, stage.epochs):
        skip = state.step - epoch * steps
        batches = _batches(samplers, epoch, rank, per_process, steps, skip=skip)
        change = partial(_augment_each, augment, job.seed, rank, state.step)
        loaded = data.load_batches(images, batches, change if augment.has_each else None)
        if accelerator.is_main_process:
            shown = f"{stage.name} {epoch + 1}/{stage.epochs}"
            loaded = progress(loaded, shown, len(batches), note=state.note)
        if threads:
            threads.start()
        for pixels, positions in loaded:
            own_seed = stream_seed(job.seed, "augment", state.step, rank)
            generator = torch.Generator().manual_seed(own_seed)
            rate = set_learning_rates(optimizer, stage, state.step / total)
            pixels = augment(pixels.to(device, non_blocking=True), generator)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            inputs = (pixels, labels[positions.to(device)])
            if stage.cutmix:
                (base, partners), (base_labels, partner_labels) = (x.chunk(2) for x in inputs)
                mixed = corner_cutmix(base, partners, generator=generator)
                inputs = (base, base_labels, mixed, partner_labels)
            if sample:  # the same classes in all processes
                shared_seed = stream_seed(job.seed, "classes", state.step)
                drawing = torch.Generator(device).manual_seed(shared_seed)
                sample.draw(accelerator.gather(torch.cat(inputs[1::2])), drawing, optimizer)
                inputs = [sample.places(x) if i % 2 else x for i, x in enumerate(inputs)]
            loss = torch.zeros((), device=device)
            parts = list(zip(*(x.chunk(part_count) for x in inputs), strict=True))
            for number, part in enumerate(parts, start=1):
                is_last = number == len(parts)
                with nullcontext() if is_last else accelerator.no_sync(classifier):
                    loss += backward(part, 1 / len(parts))
            if stage.clip_grad:
                accelerator.clip_grad_norm_(classifier.parameters(), stage.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            if sample:
                sample.keep(optimizer)
            if ema:
                ema.update(plain)
            state.add_step(loss, rate)
            if threads:
                threads.after_step()
            stopped = is_over()
            if accelerator.is_main_process and (stopped or state.is_due()):
                state.save()
            if stopped:
                break
        state.fetch()  # in every process, so that none goes on with a loss that is not finite
        state.unreadable.update(source.unreadable)
        data.check_readable(what, job.root, state.unreadable, len(rows))
        if stopped:
            break
        if stage.hold_out:
            judge()
        if accelerator.is_main_process:
            print(state.epoch_line(epoch), flush=True)
            state.save()
            history = state.history()
            write_csv(history, folder / HISTORY)
            for row in history[history["epoch"] == epoch + 1].to_dict("records"):
                step = int(row.pop("step"))
                accelerator.log({k: v for k, v in row.items() if not np.isnan(v)}, step)

    for tracker in accelerator.trackers:
        tracker.finish()
    state.unreadable.update(gather_object([*source.unreadable]))
    data.check_readable(what, job.root, state.unreadable, len(rows))
    if pool:
        pool.shutdown()
    if threads:
        threads.stop()
    if stopped and accelerator.is_main_process:
        print(f"{stage.name}: stopped in time, {state.step / total:.0%} of its steps", flush=True)
    if accelerator.is_main_process and not (stopped and job.until == math.inf):
        data.report_unreadable(state.unreadable)
        found = as_kept(trained)
        if state.best:
            found.load_state_dict(state.best)
        if found.model.config.neck == "pca":
            _fit_neck(found.model, images, per_process)
        state.check_weights(found)
        write_csv(state.history(), folder / HISTORY)
        facts = {"train_list": stage.train_list, "stage": stage.name, **job.facts}
        models.save(folder / CHECKPOINT, found.model, found.head, **facts)
        facts = {"files": (CHECKPOINT, HISTORY), "seconds": round(state.seconds(), 1)}
        facts["images_seen"] = state.step * stage.batch_size
        if stopped:  # signed with another key, under which only later stages know it
            facts["stopped"] = state.step
            artifacts.mark_complete(folder, fingerprint(job.key, state.step), **facts)
        else:
            data.mark_stage_complete(folder, job.key, job.settings, state.unreadable, **facts)
            state.path.unlink(missing_ok=True)  # not before the signature, or a kill loses all
    accelerator.wait_for_everyone()


def _augment_each(
    augment: Augment, seed: int, rank: int, first: int, pixels: np.ndarray, number: int
) -> np.ndarray:
    """Augment the images of a step, the one of this `number` after the `first`, one by one."""
    seeds = rng(seed, "augment", first + number, rank).integers(2**31, size=len(pixels))
    return augment.each(pixels, seeds.tolist())


def _batches(
    samplers: Sequence[EpochSampler], epoch: int, rank: int, size: int, steps: int, *, skip: int
) -> list[list[int]]:
    """The epoch's batches from `skip` on, each of `size` positions of every sampler in turn."""
    orders = [sampler.rows_of(epoch, rank) for sampler in samplers]
    return [
        [row for order in orders for row in order[i * size : (i + 1) * size]]
        for i in range(skip, steps)
    ]

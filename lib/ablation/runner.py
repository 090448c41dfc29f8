"""How long one image takes at test time, as GLR20 Table 2 has it: the mean of 200 images.

Networks that are compared take turns, so that a machine which is slow for a while is so for all.

Where the rows of an ablation are trained and scored, every stage once.

Chains share what they have in common, because every stage is kept under the fingerprint of all that
decides it; so do rows of different tables. Cluster lists are made anew for every seed, by the
profile's own network trained with that seed, so that intervals over seeds hold the chance in
cleaning too.

Tables that show by how much each trick helps: their rows trained and scored, seed by seed.

A row is a chain of stages, or an ensemble of other rows. Seeds share nothing, so on a machine
without GPUs they run side by side, a process and a core each, which small networks use far better
than several threads. A killed table goes on where it stopped (`lib.ablation.runner`). What the
tables hold is in `lib.ablation.tables` and `lib.ablation.tables`, how rows are compared in
`lib.ablation.statistics`."""

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils import patch_environment
from joblib import cpu_count

from lib import data, models, retrieval
from lib.ablation.rows import AblationRow, AblationTable, unique_rows
from lib.artifacts import end_with, fingerprint, read_csv_or_none, read_fingerprint, write_csv
from lib.cleaning import CLUSTERS, make_cluster_list, write_true_clusters
from lib.config import CleanConfig, InferenceConfig, Profile, StageConfig
from lib.reranking import concatenate
from lib.retrieval import Ranking, embed, extract_embeddings, largest_size, search
from lib.training import stage_key, train

WARM_UP = 10  # images before the clock starts
TURN = 10  # images of one network before the next


def milliseconds_per_image(
    networks: Mapping[str, tuple[str | Path, InferenceConfig]],
    *,
    images: int = 200,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Measure the mean time to describe one image, images one by one, decoding left out.

    Args:
        networks: name → a checkpoint written by `lib.training.stage`, and sizes and views.
        images: how many are timed of each.
        device: where the networks run.
    """
    timed = {name: _Timed(*network, device) for name, network in networks.items()}
    for network in timed.values():
        network.describe(WARM_UP)
    seconds = dict.fromkeys(timed, 0.0)
    for begin in range(0, images, TURN):
        for name, network in timed.items():
            began = time.perf_counter()
            network.describe(min(TURN, images - begin))
            seconds[name] += time.perf_counter() - began
    return {name: 1000 * total / images for name, total in seconds.items()}


class _Timed:
    """A network and an image of the size that it looks at."""

    def __init__(
        self, checkpoint: str | Path, inference: InferenceConfig, device: str | torch.device
    ) -> None:
        model = models.load(checkpoint, device=device).model
        self.model = model.to(memory_format=torch.channels_last)
        self.inference = inference
        side = largest_size(inference)
        self.pixels = torch.full((1, 3, side, side), 127, dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def describe(self, images: int) -> None:
        """Describe so many images, waiting for each."""
        for _ in range(images):
            extract_embeddings(self.model, self.pixels, self.inference).cpu()


# What a row may change in the profile's cleaning. "twice" cleans again by the network that was
# fine-tuned on the first cluster list, of which GLR20 §2.1 warns; "truth" is perfect cleaning,
# which may know landmarks alone or their views too.
CLEANINGS: Mapping[str, Mapping[str, object]] = {
    "": {},
    "paper": {
        "suspects": False,
        "faces": False,
        "relaxation": CleanConfig.relaxation,
        "split": True,
    },
    "no rescue": {"rescue": False},
    "no split": {"split": False},
    "split": {"split": True},
    "twice": {},
    "truth": {"split": True},
    "truth no split": {"split": False},
}


@dataclass(frozen=True)
class AblationRunner:
    """Where rows are trained and scored.

    Attributes:
        profile: gives the network and stages that clean, the cleaning, and the usual inference.
        dataset: whose lists are trained on.
        evaluation: queries, gallery and solution.
        folder: receives a folder per trained stage, cluster lists and scores.
        known: stage folders trained elsewhere, which rows may reuse.
    """

    profile: Profile
    dataset: data.Dataset
    evaluation: data.Evaluation
    folder: Path
    known: Sequence[Path] = ()

    def train(self, row: AblationRow, seed: int) -> Path:
        """Train the stages of a row one after the other; the last checkpoint."""
        known = {read_fingerprint(folder): folder for folder in self.known}
        checkpoint = None
        for stage in self.stages(row, seed):
            table = self.training_list(stage.train_list, seed, row.cleaning)
            data.refuse_leak(table, self.evaluation, allow=row.is_leaked)
            key = stage_key(
                stage, row.model, table, start=checkpoint, seed=seed, root=self.dataset.root
            )
            folder = known.get(key, self.folder / f"{stage.name}-{key}")
            checkpoint = train(
                stage, row.model, table, self.dataset.root, folder, start=checkpoint, seed=seed
            )
        return checkpoint

    def stages(self, row: AblationRow, seed: int) -> tuple[StageConfig, ...]:
        """The stages of a row, the last with as many images per epoch as its budget says."""
        if not row.budget:
            return row.stages
        images = len(self.training_list(row.budget, seed))
        return (*row.stages[:-1], dataclasses.replace(row.stages[-1], epoch_images=images))

    def training_list(self, name: str, seed: int, cleaning: str = "") -> pd.DataFrame:
        """A training list; `cluster` is made by the profile's own network, trained with `seed`."""
        clusters = self._clusters(seed, cleaning) if name == "cluster" else None
        return data.training_list(self.dataset, name, clusters=clusters, without=self.evaluation)

    def _clusters(self, seed: int, cleaning: str) -> Path:
        profile, raw = self.profile, self.training_list("full", seed)
        place = self.folder / "cleaning" / f"{cleaning.replace(' ', '_') or 'profile'}-{seed}"
        config = dataclasses.replace(profile.clean, **CLEANINGS[cleaning])
        if cleaning.startswith("truth"):
            root = self.dataset.root
            return write_true_clusters(raw, root, place / CLUSTERS, split=config.split)
        stages = profile.stage_one
        if cleaning == "twice":
            stages += tuple(stage for stage in profile.stages if stage.train_list == "cluster")
        cleaner = AblationRow("cleaner", profile.model, stages)
        checkpoint = self.train(cleaner, seed)
        folder = checkpoint.parent / "embeddings" / "raw"
        embed(checkpoint, raw, self.dataset.root, folder, profile.inference)
        return make_cluster_list(folder, raw, config, place).path

    def score(self, row: AblationRow, rows: Mapping[str, AblationRow], seed: int) -> pd.DataFrame:
        """Train and score one row with one seed (`lib.retrieval.score`); a finished one is read."""
        members = [rows[name] for name in row.members] or [row]
        inference = row.inference or self.profile.inference
        checkpoints = [self.train(member, seed) for member in members]
        asked = [self.evaluation.queries["id"], self.evaluation.gallery["id"]]
        asked += [self.profile.top_k, self.evaluation.solution]
        key = fingerprint([read_fingerprint(path.parent) for path in checkpoints], inference, asked)
        path = self.folder / "scores" / f"{key}.csv"
        scores = read_csv_or_none(path, ["id", "average_precision"])
        if scores is None:
            scores = retrieval.score(self._rank(checkpoints, inference), self.evaluation)
            scores = read_csv_or_none(write_csv(scores, path), scores.columns)
        return scores

    def test_times(self, table: AblationTable, seed: int) -> dict[str, float]:
        """Milliseconds per image of every row that trains a network; empty if the table has none.

        They differ from run to run, so they are no part of what is cached.
        """
        if not table.has_times:
            return {}
        return milliseconds_per_image(
            {
                row.name: (self.train(row, seed), row.inference or self.profile.inference)
                for row in table.rows
                if not row.members
            }
        )

    def _rank(self, checkpoints: Sequence[Path], inference: InferenceConfig) -> Ranking:
        asked = fingerprint(inference, self.evaluation.queries["id"], self.evaluation.gallery["id"])
        seen = [
            retrieval.embed_evaluation(
                path,
                self.evaluation,
                self.dataset.root,
                path.parent / "embeddings" / asked,
                inference,
            )
            for path in checkpoints
        ]
        return search(
            concatenate([queries.rows for queries, _ in seen]),
            concatenate([gallery.rows for _, gallery in seen]),
            self.profile.top_k,
            query_ids=seen[0][0].ids,
            gallery_ids=seen[0][1].ids,
        )


FINISHED = 5.0  # seconds; a row that takes less was trained before and only read


def run(
    tables: Iterable[AblationTable],
    bench: AblationRunner,
    *,
    seeds: Sequence[int] = (0,),
    processes: int = 0,
) -> dict[str, pd.DataFrame]:
    """Train and score every row of the tables with every seed; finished ones are read.

    After each row a line tells how far its seed is and about how long the rest takes.

    Args:
        tables: their rows, those that several tables share once.
        bench: where they are trained.
        seeds: of everything random in a row.
        processes: seeds at a time; 0 for about one per core, or one alone where there are GPUs,
            which a single training then has to itself.

    Returns:
        Row name → scores of all its queries (`lib.retrieval.scoring.score`) with the column `seed`.

    Raises:
        ValueError: if two different rows have one name.
    """
    rows = unique_rows(tables)
    at_once = processes or (1 if torch.cuda.is_available() else _at_once(len(seeds)))
    if at_once == 1:
        parts = [_run_seed(rows, bench, seed) for seed in seeds]
    else:
        parts = _side_by_side(rows, bench, seeds, at_once)
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in rows}


def _at_once(seeds: int, cores: int | None = None) -> int:
    """How many seeds run at a time: rounds of equal size, so that no core waits for the last seed.

    >>> [_at_once(seeds, cores=2) for seeds in range(1, 6)]
    [1, 2, 3, 2, 3]
    """
    rounds = max(1, seeds // (cores or cpu_count()))
    return -(-seeds // rounds)


def _side_by_side(
    rows: Mapping[str, AblationRow], bench: AblationRunner, seeds: Sequence[int], processes: int
) -> list[dict[str, pd.DataFrame]]:
    """What `_run_seed` finds for each seed, in processes of one thread that end with the call.

    The first error ends the others too. (joblib would keep its processes for later calls, and a
    notebook's kernel that ends with them leaks their semaphores.)
    """
    threads = {"omp_num_threads": 1, "openblas_num_threads": 1, "mkl_num_threads": 1}
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    with patch_environment(**threads), pool:
        work = [pool.submit(_run_apart, os.getpid(), rows, bench, seed) for seed in seeds]
        done, _ = wait(work, return_when=FIRST_EXCEPTION)
        errors = [error for error in (one.exception() for one in done) if error]
        if errors:
            for process in active_children():
                process.terminate()
            raise errors[0]
        return [one.result() for one in work]


def _run_apart(
    parent: int, rows: Mapping[str, AblationRow], bench: AblationRunner, seed: int
) -> dict[str, pd.DataFrame]:
    end_with(parent)
    return _run_seed(rows, bench, seed)


def _run_seed(
    rows: Mapping[str, AblationRow], bench: AblationRunner, seed: int
) -> dict[str, pd.DataFrame]:
    """The scores of every row with one seed."""
    found, clock = {}, _Clock(rows, bench, seed)
    for name, row in rows.items():
        found[name] = bench.score(row, rows, seed).assign(seed=seed)
        print(clock.line(name), flush=True)
    return found


class _Clock:
    """Tells how long the rest takes, from the pixels that are still to be trained on."""

    def __init__(self, rows: Mapping[str, AblationRow], bench: AblationRunner, seed: int) -> None:
        sizes = {name: len(bench.training_list(name, seed)) for name in ("clean", "c2x", "full")}
        self.sizes = sizes | {"cluster": sizes["full"], "all": sizes["full"]}
        self.bench, self.seed = bench, seed
        self.seen: set[str] = set()
        self.waiting = {name: self._new_work(row) for name, row in rows.items()}
        self.count = len(rows)
        self.seconds = self.work = 0.0  # of what was trained by now
        self.last = time.monotonic()

    def _new_work(self, row: AblationRow) -> float:
        """Pixels of the row's stages that no row before it has trained on."""
        total = 0.0
        stages = self.bench.stages(row, self.seed)
        for place, stage in enumerate(stages, start=1):
            lists = {earlier.train_list for earlier in stages[:place]}
            cleaning = row.cleaning if "cluster" in lists else ""  # the rest does not hang on it
            chain = fingerprint(row.model, stages[:place], cleaning)
            if chain not in self.seen:
                self.seen.add(chain)
                images = stage.epochs * (stage.epoch_images or self.sizes[stage.train_list])
                total += images * stage.size**2 * (2 if stage.cutmix else 1)
        return total

    def line(self, name: str) -> str:
        """`seed 0, row 3 of 12, ResNet152 ArcFace clean: about 250 s left`."""
        now = time.monotonic()
        took, self.last = now - self.last, now
        work = self.waiting.pop(name)
        if took > FINISHED:
            self.seconds, self.work = self.seconds + took, self.work + work
        where = f"seed {self.seed}, row {self.count - len(self.waiting)} of {self.count}, {name}"
        left = self.seconds / max(self.work, 1.0) * sum(self.waiting.values())
        return f"{where}: about {left:.0f} s left" if self.work else f"{where}: done before"

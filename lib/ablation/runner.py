"""Train and score the rows of ablation tables, seed by seed.

Every stage is stored under the fingerprint of all that decides it, so that rows share stages and an
interrupted run goes on. Cluster lists are made anew for every seed, by the profile's own network
trained with it. GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.).
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from accelerate.utils.memory import clear_device_cache

from lib import data, models, retrieval
from lib.ablation.tables import AblationRow, AblationTable, unique_rows
from lib.artifacts import fingerprint, read_csv_or_none, read_fingerprint, rng, write_csv
from lib.cleaning import CLUSTERS, make_cluster_list, perfect_cluster_list
from lib.config import CleanConfig, InferenceConfig, Profile, StageConfig
from lib.distributed import side_by_side
from lib.environment import cores
from lib.reranking import concatenate
from lib.retrieval import Ranking, embed, extract_embeddings, largest_size, search
from lib.training import stage_key, train

WARM_UP = 10  # images before the clock starts
TURN = 10  # images of one network before the next
FINISHED = 5.0  # seconds; a row that takes less was trained before and only read

# What a row may change in the profile's cleaning. "twice" cleans again with the network fine-tuned
# on the first cluster list; "truth" is perfect cleaning, with views apart unless "no split".
_PAPER = ("drop_suspected_mislabels", "split_two_views", "relaxation", "split")
CLEANINGS: Mapping[str, Mapping[str, object]] = {
    "": {},
    "paper": {name: getattr(CleanConfig, name) for name in _PAPER},
    "no rescue": {"rescue": False},
    "no split": {"split": False},
    "split": {"split": True},
    "twice": {},
    "truth": {"split": True},
    "truth no split": {"split": False},
}


@dataclass(frozen=True)
class AblationRunner:
    """What rows are trained and scored with."""

    profile: Profile  # gives the network that cleans, the cleaning, and the usual inference
    dataset: data.Dataset
    evaluation: data.Evaluation
    folder: Path  # receives a folder per trained stage, cluster lists and scores
    known: Sequence[Path] = ()  # folders of stages trained elsewhere, which rows may reuse

    def train(self, row: AblationRow, seed: int) -> Path:
        """Train the stages of a row one after the other; the last checkpoint."""
        known = {read_fingerprint(folder): folder for folder in self.known}
        checkpoint = None
        for stage in self.stages(row, seed):
            table = self.training_list(stage.train_list, seed, row.cleaning)
            if 0 < row.images < len(table):
                table = table.sample(row.images, random_state=rng(seed, "images"))
                table = table.sort_index(ignore_index=True)
            data.refuse_leak(table, self.evaluation, allow=row.is_leaked)
            start = {"start": checkpoint, "seed": seed}
            key = stage_key(stage, row.model, table, root=self.dataset.root, **start)
            folder = known.get(key, self.folder / f"{stage.name}-{key}")
            checkpoint = train(stage, row.model, table, self.dataset.root, folder, **start)
        return checkpoint

    def stages(self, row: AblationRow, seed: int) -> tuple[StageConfig, ...]:
        """The stages of a row, the last with as many images per epoch as its budget says."""
        if not row.budget:
            return row.stages
        images = len(self.training_list(row.budget, seed))
        return (*row.stages[:-1], replace(row.stages[-1], epoch_images=images))

    def training_list(self, name: str, seed: int, cleaning: str = "") -> pd.DataFrame:
        """A training list; `cluster` is made by the profile's own network, trained with `seed`."""
        clusters = self._clusters(seed, cleaning) if name == "cluster" else None
        return data.training_list(self.dataset, name, clusters=clusters, without=self.evaluation)

    def _clusters(self, seed: int, cleaning: str) -> Path:
        profile, root = self.profile, self.dataset.root
        raw = self.training_list("full", seed)
        folder = self.folder / "cleaning" / f"{cleaning.replace(' ', '_') or 'profile'}-{seed}"
        config = replace(profile.clean, **CLEANINGS[cleaning])
        if cleaning.startswith("truth"):
            return perfect_cluster_list(raw, root, folder / CLUSTERS, split=config.split)
        stages = profile.stage_one
        if cleaning == "twice":
            stages += tuple(stage for stage in profile.stages if stage.train_list == "cluster")
        checkpoint = self.train(AblationRow("cleaner", profile.model, stages), seed)
        embeddings = checkpoint.parent / "embeddings" / "raw"
        embed(checkpoint, raw, root, embeddings, profile.inference)
        return make_cluster_list(embeddings, raw, config, folder).path

    def score(self, row: AblationRow, rows: Mapping[str, AblationRow], seed: int) -> pd.DataFrame:
        """Train and score (`score_queries`) one row with one seed; a finished one is read."""
        members = [rows[name] for name in row.members] or [row]
        inference = row.inference or self.profile.inference
        checkpoints = [self.train(member, seed) for member in members]
        evaluated = [self.evaluation.queries["id"], self.evaluation.gallery["id"]]
        evaluated += [self.profile.top_k, self.evaluation.solution]
        trained = [read_fingerprint(path.parent) for path in checkpoints]
        path = self.folder / "scores" / f"{fingerprint(trained, inference, evaluated)}.csv"
        scores = read_csv_or_none(path, ["id", "average_precision"])
        if scores is None:
            scores = retrieval.score_queries(self._rank(checkpoints, inference), self.evaluation)
            scores = read_csv_or_none(write_csv(scores, path), scores.columns)
        return scores

    def _rank(self, checkpoints: Sequence[Path], inference: InferenceConfig) -> Ranking:
        evaluation, root = self.evaluation, self.dataset.root
        name = fingerprint(inference, evaluation.queries["id"], evaluation.gallery["id"])
        pairs = []
        for path in checkpoints:
            folder = path.parent / "embeddings" / name
            pairs.append(retrieval.embed_evaluation(path, evaluation, root, folder, inference))
        queries, gallery = zip(*pairs, strict=True)
        rows = [concatenate([one.rows for one in models]) for models in (queries, gallery)]
        ids = {"query_ids": queries[0].ids, "gallery_ids": gallery[0].ids}
        return search(*rows, self.profile.top_k, **ids)

    def test_times(self, table: AblationTable, seed: int) -> dict[str, float]:
        """Milliseconds per image of the rows whose time the paper reports."""
        rows = [row for row in table.rows if math.isfinite(row.paper_milliseconds)]
        usual = self.profile.inference
        return milliseconds_per_image(
            {row.name: (self.train(row, seed), row.inference or usual) for row in rows}
        )


@torch.inference_mode()
def milliseconds_per_image(
    networks: Mapping[str, tuple[str | Path, InferenceConfig]], *, images: int = 200
) -> dict[str, float]:
    """Measure the mean time to embed one image, one by one, without decoding (GLR20 Table 2).

    The networks (name → checkpoint and inference) take turns, so that slow moments hit all alike.
    """
    timed = {}
    for name, (checkpoint, inference) in networks.items():
        model = models.load(checkpoint).model.to(memory_format=torch.channels_last)
        side = largest_size(inference)
        pixels = torch.full((1, 3, side, side), 127, dtype=torch.uint8)
        timed[name] = partial(extract_embeddings, model, pixels, inference)
        for _ in range(WARM_UP):
            timed[name]()
    seconds = dict.fromkeys(timed, 0.0)
    for begin in range(0, images, TURN):
        for name, embed_one in timed.items():
            began = time.perf_counter()
            for _ in range(min(TURN, images - begin)):
                embed_one()
            seconds[name] += time.perf_counter() - began
    return {name: 1000 * total / images for name, total in seconds.items()}


def run(
    tables: Iterable[AblationTable],
    runner: AblationRunner,
    *,
    seeds: Sequence[int] = (0,),
    processes: int = 0,
) -> dict[str, pd.DataFrame]:
    """Train and score every row of the tables with every seed; finished ones are read.

    `processes` are seeds at a time: 0 for about one per core, or one alone where there are GPUs.
    Returns row name → scores of all its queries (`lib.retrieval.score_queries`) with the column
    `seed`.
    """
    rows = unique_rows(tables)
    if not processes:  # rounds of equal size, so that no core waits for the last seed
        rounds = max(1, len(seeds) // cores())
        processes = 1 if torch.cuda.is_available() else math.ceil(len(seeds) / rounds)
    jobs = [(rows, runner, seed) for seed in seeds]
    parts = side_by_side(_run_seed, jobs, processes)
    return {name: pd.concat([part[name] for part in parts], ignore_index=True) for name in rows}


def _run_seed(
    rows: Mapping[str, AblationRow], runner: AblationRunner, seed: int
) -> dict[str, pd.DataFrame]:
    """The scores of every row with one seed."""
    found, seconds, trained = {}, 0.0, 0
    for place, (name, row) in enumerate(rows.items(), start=1):
        began = time.monotonic()
        found[name] = runner.score(row, rows, seed).assign(seed=seed)
        took = time.monotonic() - began
        clear_device_cache(garbage_collection=True)  # a training leaves circles with its network
        if took > FINISHED:
            seconds, trained = seconds + took, trained + 1
        left = seconds / max(trained, 1) * (len(rows) - place)
        rest = f"about {left:.0f} s left" if trained else "done before"
        print(f"seed {seed}, row {place} of {len(rows)}, {name}: {rest}", flush=True)
    return found

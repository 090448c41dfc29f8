"""Where the rows of an ablation are trained and scored, every stage once.

Chains share what they have in common, because every stage is kept under the fingerprint of all that
decides it; so do rows of different tables. Cluster lists are made anew for every seed, by the
profile's own network trained with that seed, so that intervals over seeds hold the chance in
cleaning too.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lib import gldv2, scoring
from lib.ablation_rows import AblationRow, AblationTable
from lib.cluster_list import CLUSTERS, make_cluster_list
from lib.config import CleanConfig, InferenceConfig, Profile, StageConfig
from lib.embed import embed
from lib.ensemble import concatenate
from lib.latency import milliseconds_per_image
from lib.oracle import write_true_clusters
from lib.ranking import Ranking
from lib.runs import fingerprint, read_csv_or_none, read_key, write_csv
from lib.search import search
from lib.train import stage_key, train

# What a row may change in the profile's cleaning. "twice" cleans again by the network that was
# fine-tuned on the first cluster list, of which [20] §2.1 warns; "truth" is perfect cleaning, which
# may know landmarks alone or their views too.
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
class Bench:
    """Where rows are trained and scored.

    Attributes:
        profile: gives the network and stages that clean, the cleaning, and the usual inference.
        dataset: whose lists are trained on.
        evaluation: queries, gallery and solution.
        folder: receives a folder per trained stage, cluster lists and scores.
        known: stage folders trained elsewhere, which rows may reuse.
    """

    profile: Profile
    dataset: gldv2.Dataset
    evaluation: gldv2.Evaluation
    folder: Path
    known: Sequence[Path] = ()

    def train(self, row: AblationRow, seed: int) -> Path:
        """Train the stages of a row one after the other; the last checkpoint."""
        known = {read_key(folder): folder for folder in self.known}
        checkpoint = None
        for stage in self.stages(row, seed):
            table = self.training_list(stage.train_list, seed, row.cleaning)
            gldv2.refuse_leak(table, self.evaluation, allow=row.is_leaked)
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
        return gldv2.training_list(self.dataset, name, clusters=clusters, without=self.evaluation)

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
        """Train and score one row with one seed (`lib.scoring.score`); a finished one is read."""
        members = [rows[name] for name in row.members] or [row]
        inference = row.inference or self.profile.inference
        checkpoints = [self.train(member, seed) for member in members]
        asked = [self.evaluation.queries["id"], self.evaluation.gallery["id"]]
        asked += [self.profile.neighbours, self.evaluation.solution]
        key = fingerprint([read_key(path.parent) for path in checkpoints], inference, asked)
        path = self.folder / "scores" / f"{key}.csv"
        scores = read_csv_or_none(path, ["id", "average_precision"])
        if scores is None:
            scores = scoring.score(self._rank(checkpoints, inference), self.evaluation)
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
            scoring.embed_evaluation(
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
            self.profile.neighbours,
            query_ids=seen[0][0].ids,
            gallery_ids=seen[0][1].ids,
        )

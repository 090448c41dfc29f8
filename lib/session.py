"""What every notebook starts with: its parameters checked, its data, profile and run folder.

Papermill only logs a parameter that a notebook does not declare, and Jupyter checks nothing, so
`start` reads the notebook's own parameters cell and refuses what is not in it. Real data comes from
DATA_DIR; without it the profile's miniature world is generated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from lib import config, embed, gldv2, miniworld, profiles, runs, scoring, train
from lib.embed import Embeddings
from lib.images import ImageSource
from lib.parameters import check_parameters, declared_parameters
from lib.paths import ROOT, existing_folder, run_folder, world_root
from lib.ranking import Ranking


@dataclass(frozen=True)
class Session:
    """One notebook's view of a run: settings, data, and where results go.

    Attributes:
        notebook: stem of the notebook's file, such as `01_eda`.
        profile: all settings, the notebook's parameters applied.
        folder: the run folder that the notebooks of a profile share.
        root: the data folder.
        is_miniature: whether the data is the generated world, whose truth is known.
    """

    notebook: str
    profile: config.Profile
    folder: Path
    root: Path
    is_miniature: bool

    @cached_property
    def dataset(self) -> gldv2.Dataset:
        """The validated tables of the data folder; warnings are printed."""
        dataset = gldv2.read(self.root)
        for warning in dataset.warnings:
            print(f"warning: {warning}")
        return dataset

    @cached_property
    def evaluation(self) -> gldv2.Evaluation:
        """Queries, gallery and solution."""
        return gldv2.evaluation(self.dataset, seed=self.profile.seed)

    def training_list(self, name: str) -> pd.DataFrame:
        """A training list; `cluster` is what notebook 03 left in the run folder."""
        clusters = self.folder / "cleaning" / "train_cluster.csv" if name == "cluster" else None
        return gldv2.training_list(self.dataset, name, clusters=clusters, without=self.evaluation)

    @cached_property
    def source(self) -> ImageSource:
        """Reads the data folder's images."""
        return ImageSource(self.root, cache=self.folder / "cache")

    def train(
        self, stage: config.StageConfig, *, start: Path | None = None, name: str = ""
    ) -> Path:
        """Train a stage into its folder (`stage.name`, or `name`); the checkpoint's path."""
        table = self.training_list(stage.train_list)
        gldv2.refuse_leak(table, self.evaluation)
        folder = self.stage(name or stage.name)
        seed = self.profile.seed
        return train.train(
            stage, self.profile.model, table, self.root, folder, start=start, seed=seed
        )

    def checkpoint(self, stage: str) -> Path:
        """The checkpoint that an earlier notebook trained.

        Raises:
            ValueError: if it was not.
        """
        path = self.stage(stage) / train.CHECKPOINT
        if runs.read_key(path.parent) is None:
            raise ValueError(
                f"expected the trained stage {stage!r} in {self.folder.name}, found none; "
                "run the earlier notebooks first"
            )
        return path

    def embed(self, checkpoint: Path, table: pd.DataFrame, what: str) -> Path:
        """Embed the images of `table` beside their checkpoint, in a folder called `what`."""
        folder = checkpoint.parent / "embeddings" / what
        size, flip = self.profile.test_size, self.profile.flip
        return embed.embed(checkpoint, table, self.root, folder, size=size, flip=flip)

    def rank(self, checkpoint: Path) -> Ranking:
        """The gallery ranked for every query of the evaluation."""
        return scoring.rank(
            checkpoint,
            self.evaluation,
            self.root,
            checkpoint.parent / "embeddings",
            size=self.profile.test_size,
            flip=self.profile.flip,
            k=self.profile.neighbours,
        )

    def score(self, ranking: Ranking) -> pd.DataFrame:
        """Average precision of every query of the evaluation."""
        return scoring.score(ranking, self.evaluation, k=self.profile.neighbours)

    def submission_embeddings(self, checkpoint: Path) -> tuple[Embeddings, Embeddings]:
        """Queries and gallery that a submission is about, embedded by `checkpoint`.

        The dataset's test and index images; the evaluation's where a dataset has none.
        """
        tables = {"test": self.dataset.test, "index": self.dataset.index["id"]}
        if tables["test"].empty or tables["index"].empty:
            parts = {"query": self.evaluation.queries, "gallery": self.evaluation.gallery}
        else:
            parts = {
                split: pd.DataFrame({"id": ids, "path": gldv2.image_paths(split, ids)})
                for split, ids in tables.items()
            }
            if self.evaluation.source == "solution":
                parts = {"test": parts["test"], "gallery": self.evaluation.gallery}
        test, index = (
            embed.read_embeddings(self.embed(checkpoint, table, name))
            for name, table in parts.items()
        )
        return test, index

    @property
    def truth(self) -> pd.DataFrame | None:
        """What each image really shows, where the data comes with it; only for scoring."""
        path = self.root / "truth.csv"
        if not path.is_file():
            return None
        return pd.read_csv(path, dtype={"id": str}, keep_default_na=False)

    def stage(self, name: str) -> Path:
        """The folder of a stage's results."""
        return self.folder / name

    def record(self, **values: float | int | str) -> pd.DataFrame:
        """Keep named numbers, and show all that this notebook has recorded."""
        runs.record(self.folder, self.notebook, **values)
        records = runs.read_records(self.folder)
        return records[records["notebook"] == self.notebook].drop(columns="notebook")

    def show(self, figure: Figure, name: str) -> Image:
        """Save a figure under `figures/` and show exactly what was saved."""
        path = self.folder / "figures" / f"{self.notebook[:2]}_{name}.png"
        with runs.atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=100, bbox_inches="tight")
        return Image(filename=str(path))

    def table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Save a table under `tables/` and return it for showing."""
        runs.write_csv(table, self.folder / "tables" / f"{self.notebook[:2]}_{name}.csv")
        return table


# The profile's setting behind each parameter. Left at its default, it keeps the profile's value.
SETTINGS = {
    "TRUNK": "model.trunk",
    "WEIGHTS": "model.weights",
    "SOFTMAX_EPOCHS": "stage_one.softmax.epochs",
    "ARCFACE_EPOCHS": "stage_one.arcface.epochs",
    "CLUSTER_EPOCHS": "stage_two.epochs",
    "EPS": "clean.eps",
    "RELAXED_EPS": "clean.relaxed_eps",
    "MIN_SAMPLES": "clean.min_samples",
    "TEST_SIZE": "test_size",
}


def start(notebook: str, names: Mapping[str, Any]) -> Session:
    """Check a notebook's parameters and open its session.

    Args:
        notebook: stem of the notebook's file.
        names: the notebook's `globals()`.

    Raises:
        ValueError: for an unknown or ill-typed parameter, profile or data folder.
    """
    declared = declared_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    given = {name: value for name, value in names.items() if name.isupper() and name[0] != "_"}
    check_parameters(given, declared)
    changes = {
        SETTINGS[name]: value
        for name, value in given.items()
        if name in SETTINGS and value != declared[name]
    }
    profile = profiles.profile(given["PROFILE"], seed=given["SEED"], **changes)
    data_dir = given["DATA_DIR"]
    folder = run_folder(profile.name, data_dir)
    if data_dir:
        return Session(notebook, profile, folder, existing_folder(data_dir), is_miniature=False)
    if profile.world is None:
        raise ValueError(
            f"expected a data folder for profile {profile.name!r}, found none; give one in GLDv2's "
            "layout with --data-dir (DATA_DIR in a notebook), or use the profile mini"
        )
    root = miniworld.generate(world_root(profile.name), profile.world)
    return Session(notebook, profile, folder, root, is_miniature=True)

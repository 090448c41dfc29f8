"""What every notebook starts with: `start` checks its parameters and opens the data.

The `Session` that it returns trains, embeds, ranks and scores with the profile's settings and keeps
results in the run folder.
"""

import dataclasses
import math
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Image
from matplotlib.figure import Figure

from lib import artifacts, config, data, miniworld, retrieval, training
from lib.artifacts import KEPT, ROOT, caller_path, existing_folder, run_folder
from lib.cleaning import read_truth
from lib.data import OTHER, ImageSource
from lib.environment import cores
from lib.parameters import chosen_profile, declared_parameters, with_new_names, world_folder
from lib.retrieval import Embeddings, Ranking
from lib.time_limit import start_clock, time_left

INFERENCE = "inference.json"  # of a network copied from another run: how that run embeds
TRAINING = 0.6  # of a notebook's time under a limit; the rest is for embedding
EMBEDDED = ("query", "gallery", "test", "index")  # copied with it
MANY_IMAGES = 20_000  # seen in trainings for which it pays to start processes
ON_CLEAN = "_on_clean"  # ends the names of controls


@dataclass(frozen=True)
class Session:
    """One notebook's view of a run: settings, data, and where results go."""

    NO_COUNTRIES = (  # printed by sections that need countries
        "No country of any landmark is known, so there is nothing to show here; data/README.md "
        "tells where country files come from."
    )
    NO_TRUTH = "What each image really shows is not known, so there is nothing to compare with."
    # printed by what a profile leaves out
    NO_CONTROL = (
        "The control, a training on the clean list as long as the other, is left out of this "
        "profile; -p ABLATION True adds it."
    )
    NO_LABEL_NOISE = (
        "Suspected mislabels are not searched for, as in GLR20; "
        '-p SET "clean.drop_suspected_mislabels=True" finds and drops them.'
    )
    NO_COMPARISON = (
        "The other rerankers, hours with the largest galleries, are left out of this profile; "
        "-p COMPARE True adds them, and -p LOCAL rootsift those that need local features."
    )

    notebook: str  # stem of the notebook's file, such as 01_eda
    profile: config.Profile  # with the notebook's parameters applied
    folder: Path  # run folder, shared by the notebooks of a profile
    root: Path  # data folder
    is_miniature: bool  # generated data, whose truth is known
    may_leak: bool = False  # allow training on lists that hold the queries; such stages are marked
    recipe: str = ""  # asked for instead of the profile's
    name: str = ""  # asked for instead of the run folder's usual one

    @cached_property
    def dataset(self) -> data.Dataset:
        """The validated tables of the data folder; warnings are printed."""
        dataset = data.read(self.root)
        for warning in dataset.warnings:
            print(f"warning: {warning}")
        return dataset

    @cached_property
    def evaluation(self) -> data.Evaluation:
        """Queries, gallery and solution."""
        return data.evaluation(self.dataset, seed=self.profile.seed)

    @cached_property
    def names(self) -> dict[int, str]:
        """A name for each training landmark: its category, or its number if it has none."""
        known = self.dataset.landmarks.set_index("landmark_id")["category"].str.replace("_", " ")
        return {landmark: name or f"landmark {landmark}" for landmark, name in known.items()}

    @cached_property
    def knows_countries(self) -> bool:
        """Whether the country of any training landmark is known."""
        return bool((self.dataset.landmarks["country"] != OTHER).any())

    @property
    def _clusters(self) -> Path:
        return self.folder / "cleaning" / "train_cluster.csv"

    def training_list(self, name: str) -> pd.DataFrame:
        """A training list; `cluster` is the file that notebook 03 wrote, without it an error."""
        clusters = self._clusters if name == "cluster" else None
        if clusters and not clusters.is_file():
            raise self._too_early("the cluster list", "03")
        return data.training_list(self.dataset, name, clusters=clusters, without=self.evaluation)

    def references(self) -> pd.DataFrame:
        """The labelled images that vote in reranking, of the profile's list; prints which."""
        name = self.profile.rerank.references
        if name == "cluster" and not self._clusters.is_file() and time_left() < math.inf:
            print("the cluster list is not there in time: the clean list votes")
            name = "clean"
        found = self.training_list(name)
        shown = int(found["id"].isin(self.evaluation.gallery["id"]).sum())
        print(f"{len(found):,} references: the list {name}")
        if shown and self.evaluation.source == "solution":
            print(
                f"{shown:,} of them are in the gallery, under the labels that they are known by: "
                "what reranking gains tells nothing of a gallery without labels"
            )
        return found

    @cached_property
    def source(self) -> ImageSource:
        """Reads the data folder's images."""
        return ImageSource(self.root)

    def train(
        self,
        stage: config.StageConfig,
        *,
        start: Path | None = None,
        name: str = "",
        until: float = math.inf,
    ) -> Path:
        """Train a stage into the folder `name` or its own; the checkpoint's path.

        It stops at `until`, in seconds since 1970, with what there is. Raises ValueError if its
        list holds images that the evaluation asks for, unless `may_leak`.
        """
        table = self.training_list(stage.train_list)
        data.refuse_leak(table, self.evaluation, allow=self.may_leak)
        model, folder, seed = self.profile.model, self.stage(name or stage.name), self.profile.seed
        inference = dataclasses.asdict(self.profile.inference)
        told = {"recipe": self.profile.recipe, "data": self.root.name, "inference": inference}
        options = {"start": start, "seed": seed, "facts": told, "until": until}
        return training.train(stage, model, table, self.root, folder, **options)

    def train_chain(
        self, stages: Sequence[config.StageConfig], *, start: Path | None = None
    ) -> dict[str, Path]:
        """Train stages one after the other; stage in words → checkpoint, in their order.

        The name of a stage whose list holds the queries is marked: its scores mean nothing. So is
        that of one which the time limit stopped: they share a part of the time that is left.
        """
        found, end = {}, time.time() + TRAINING * time_left()
        for place, stage in enumerate(stages):
            until, now = end, time.time()
            if end < math.inf:
                epochs = sum(one.epochs for one in stages[place:])
                until = now + (end - now) * stage.epochs / max(epochs, 1)
            start = self.train(stage, start=start, until=until)
            leaked = data.is_leaked(self.training_list(stage.train_list), self.evaluation)
            stopped = "stopped" in (artifacts.read_manifest(start.parent) or {})
            found[f"{_in_words(stage)}{' (leaked)' * leaked}{' (stopped)' * stopped}"] = start
        return found

    def train_chains(
        self, *chains: Sequence[config.StageConfig], start: Path | None = None
    ) -> list[dict[str, Path]]:
        """`train_chain` of each, side by side where it is faster: long ones on a CPU, not yet done.

        With half the threads a network with BatchNorm trains at two thirds of the speed, as threads
        wait for each other in every layer.
        """
        import torch  # after notebooks' first cells

        from lib.distributed import side_by_side

        stages = [stage for chain in chains for stage in chain]
        images = [
            stage.epochs
            * training.images_per_epoch(stage, len(self.training_list(stage.train_list)))
            for stage in stages
        ]
        is_faster = (
            all(chains)
            and not torch.cuda.is_available()
            and cores() >= len(chains)
            and sum(images) > MANY_IMAGES
            and not any(stage.freeze_norm or self._is_trained(stage.name) for stage in stages)
        )
        jobs = [(self, chain) for chain in chains]
        train = partial(Session.train_chain, start=start)
        return side_by_side(train, jobs, len(chains) if is_faster else 1)

    def controls(self, stages: Sequence[config.StageConfig]) -> tuple[config.StageConfig, ...]:
        """The same stages on the clean list, at the same rates and with as many images."""
        return tuple(
            dataclasses.replace(
                stage,
                name=f"{stage.name}{ON_CLEAN}",
                train_list="clean",
                epoch_images=training.images_per_epoch(
                    stage, len(self.training_list(stage.train_list))
                ),
            )
            for stage in stages
        )

    def checkpoint(self, stage: str) -> Path:
        """The checkpoint that an earlier notebook trained; ValueError if it did not run."""
        if not self._is_trained(stage):
            of_stage_two = stage in [one.name for one in self.profile.stage_two]
            raise self._too_early(f"the trained stage {stage!r}", "04" if of_stage_two else "02")
        return self.stage(stage) / training.CHECKPOINT

    def _is_trained(self, stage: str) -> bool:
        return artifacts.read_fingerprint(self.stage(stage)) is not None

    def _too_early(self, what: str, notebook: str) -> ValueError:
        """The error that names what is missing and the first notebook that has to run for it."""
        if not all(self._is_trained(one.name) for one in self.profile.stage_one):
            notebook = "02"
        elif notebook > "03" and self.profile.needs_clusters and not self._clusters.is_file():
            notebook = "03"
        command = ["./run_all.sh", self.profile.name, "--from", notebook]
        command += [] if self.is_miniature else ["--data-dir", str(self.root)]
        command += ["--recipe", self.recipe] if self.recipe else []
        command += ["--name", self.name] if self.name else []
        return ValueError(
            f"expected {what} in {self.folder.name}, found none; run notebook {notebook} first: "
            f"{shlex.join(command)}"
        )

    def keep(
        self, scores: Mapping[str, pd.DataFrame], checkpoints: Mapping[str, Path], stage: str
    ) -> str:
        """Keep the network that finds most on Public queries, the last of equals; its name.

        Later notebooks go on from it in the place of `stage`, so that no training falls behind the
        network that it started from. Without Public queries it is the last one.
        """
        public = {name: retrieval.map_of_usage(table, "Public") for name, table in scores.items()}
        best = max(reversed(public), key=lambda name: np.nan_to_num(public[name], nan=-1.0))
        kept = artifacts.read_json_or_none(self.folder / KEPT) or {}
        kept[stage] = checkpoints[best].parent.name
        artifacts.write_json(kept, self.folder / KEPT)
        told = ", ".join(f"{name} {value:.3f}" for name, value in public.items())
        print(f"mAP@{self.profile.top_k} on Public queries: {told}; kept: {best}")
        return best

    def _kept(self, stage: str) -> Path:
        kept = artifacts.read_json_or_none(self.folder / KEPT) or {}
        return self.checkpoint(kept.get(stage, stage))

    @property
    def after_stage_one(self) -> Path:
        """The checkpoint that notebook 02 keeps, where stage two starts."""
        return self._kept(self.profile.stage_one[-1].name)

    @property
    def after_stage_two(self) -> Path:
        """The checkpoint that notebook 04 keeps, used for the submission.

        Where the time limit left no time for notebook 04 it is that of notebook 02.
        """
        last = self.profile.stages[-1].name
        if time_left() < math.inf and not self._is_trained(last):
            print(f"the stage {last!r} was not begun in time: what notebook 02 kept goes on")
            return self.after_stage_one
        return self._kept(last)

    def second_networks(self, stage: str = "", place: str = "") -> list[Path]:
        """Checkpoints of which Public queries choose the second network of ensembles.

        That of a `stage`, or of another run's folder or a checkpoint at `place`; where neither is
        given, those before the last training if rerankers are compared, otherwise none.
        """
        if place:
            return [self._copied(place)]
        if stage:
            return [self.checkpoint(stage)]
        both = [self.after_stage_one, self.checkpoint("untrained")]
        return both if self.profile.rerank.compare else []

    def _copied(self, place: str) -> Path:
        """Another run's network as a stage of this one, with what that run embedded.

        Nothing is written into the other run's folder, which may be read-only.
        """
        path, inference, embedded = caller_path(place), self.profile.inference, []
        if path.is_dir():
            kept = artifacts.read_json_or_none(path / KEPT) or {"": ""}  # or the folder of a stage
            path = path / [*kept.values()][-1] / training.CHECKPOINT
            folders = [path.parent / "embeddings" / name for name in EMBEDDED]
            embedded = [one for one in folders if artifacts.read_fingerprint(one) is not None]
        if not path.is_file():
            raise ValueError(
                f"expected a trained network of another run in {place}, found none; run notebooks "
                f"02 to 04 of it first, or give a checkpoint ({training.CHECKPOINT})"
            )
        for folder in embedded:
            self._refuse_other_images(folder, place)
            if (known := artifacts.read_manifest(folder).get("inference")) is not None:
                inference = config.override(config.InferenceConfig(), known)
        trained = artifacts.read_manifest(path.parent) or {}
        origin = trained.get("key") or [path.stat().st_size, path.stat().st_mtime_ns]
        copy = self.stage(f"second_{artifacts.fingerprint(origin, inference)[:6]}")
        if not copy.is_dir():
            with artifacts.atomic_path(copy) as temporary:
                temporary.mkdir()
                for name in (artifacts.MANIFEST, *trained["files"]) if trained else ():
                    shutil.copy2(path.parent / name, temporary)
                shutil.copy2(path, temporary / training.CHECKPOINT)
                for folder in embedded:
                    shutil.copytree(folder, temporary / "embeddings" / folder.name)
                artifacts.write_json(inference, temporary / INFERENCE)
        return copy / training.CHECKPOINT

    def _refuse_other_images(self, folder: Path, place: str) -> None:
        """Raise ValueError where `folder`, of another run, has embedded other queries or images."""
        wanted = {"query": self.evaluation.queries, "gallery": self.evaluation.gallery}
        if folder.name not in wanted:
            return
        ids, own = retrieval.read_embeddings(folder).ids, wanted[folder.name]["id"]
        if ids.tolist() != own.tolist():
            raise ValueError(
                f"expected the {len(own):,} {folder.name} images of this run in {place}, found "
                f"{len(ids):,}, of which {own.isin(ids).sum():,} are the same; give a run of the "
                "same data folder, or a checkpoint, which embeds them anew"
            )

    def _inference(self, checkpoint: Path) -> config.InferenceConfig:
        """The profile's, or that of the run which a copied network comes from."""
        known = artifacts.read_json_or_none(checkpoint.parent / INFERENCE)
        if known is None:
            return self.profile.inference
        return config.override(config.InferenceConfig(), known)

    def embed(self, checkpoint: Path, table: pd.DataFrame, what: str) -> Path:
        """Embed the images of `table` beside their checkpoint, in a folder called `what`."""
        folder, inference = checkpoint.parent / "embeddings" / what, self._inference(checkpoint)
        return retrieval.embed(checkpoint, table, self.root, folder, inference)

    def rank(self, checkpoint: Path) -> Ranking:
        """The gallery ranked for every query of the evaluation."""
        folder, inference = checkpoint.parent / "embeddings", self._inference(checkpoint)
        return retrieval.embed_and_search(
            checkpoint, self.evaluation, self.root, folder, inference, k=self.profile.top_k
        )

    def score(self, ranking: Ranking) -> pd.DataFrame:
        """Average precision of every query of the evaluation."""
        return retrieval.score_queries(ranking, self.evaluation)

    def steps(self, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
        """The table of `retrieval.compare_steps`, saved as `steps` with every query as `queries`.

        `scores` are tables of `score` by step.
        """
        first = next(iter(scores.values()))
        queries = first.filter(["id", "usage", "country", "is_seen"])
        precision = {name: one["average_precision"].to_numpy() for name, one in scores.items()}
        self.table(queries.assign(**precision), "queries")
        return self.table(retrieval.compare_steps(scores, seed=self.profile.seed), "steps")

    def submission_images(self) -> dict[str, pd.DataFrame]:
        """Tables (id, path) of test and index images, or the evaluation's if there are none.

        Their names are those of the folders that hold what is computed of them.
        """
        test, index = self.dataset.test, self.dataset.index
        if test.empty or index.empty:
            return {"query": self.evaluation.queries, "gallery": self.evaluation.gallery}
        found = {"test": test.to_frame("id").assign(path=data.image_paths("test", test))}
        if self.evaluation.source == "solution":
            return found | {"gallery": self.evaluation.gallery}
        paths = data.image_paths("index", index["id"])
        return found | {"index": index[["id", "landmark_id", "category"]].assign(path=paths)}

    def submission_embeddings(self, checkpoint: Path) -> tuple[Embeddings, Embeddings]:
        """The embedded images of `submission_images`."""
        test, index = (
            retrieval.read_embeddings(self.embed(checkpoint, table, name))
            for name, table in self.submission_images().items()
        )
        return test, index

    @property
    def truth(self) -> pd.DataFrame | None:
        """What each image really shows, if the data has it; only for scoring."""
        return read_truth(self.root)

    def stage(self, name: str) -> Path:
        """The folder of a stage's results."""
        return self.folder / name

    def record(self, **values: float | int | str) -> pd.DataFrame:
        """Keep named numbers, replacing those recorded before; the table that a notebook shows."""
        artifacts.record(self.folder, self.notebook, **values)
        forms = {str: "", float: ".4f", np.float64: ".4f"}  # others are whole numbers
        shown = {name: format(value, forms.get(type(value), ",")) for name, value in values.items()}
        return pd.Series(shown, name=f"recorded by notebook {self.notebook[:2]}").to_frame()

    def show(self, figure: Figure | None, name: str, *, otherwise: str = "") -> Image | None:
        """Save a figure under `figures/` and return the saved image; of None print `otherwise`."""
        if figure is None:
            print(otherwise)
            return None
        path = self.folder / "figures" / f"{self.notebook[:2]}_{name}.png"
        with artifacts.atomic_path(path) as temporary:
            fast = {"compress_level": 4}  # half the time of the usual 6, 2 % larger
            figure.savefig(temporary, dpi=100, bbox_inches="tight", pil_kwargs=fast)
        return Image(filename=str(path))

    def table(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        """Save a table under `tables/` and return it."""
        artifacts.write_csv(table, self.folder / "tables" / f"{self.notebook[:2]}_{name}.csv")
        return table


def _in_words(stage: config.StageConfig) -> str:
    """What figures call a stage: a list, the control of one, or the stage's own name."""
    if stage.name.endswith(ON_CLEAN):
        return f"clean list (control of {stage.name.removesuffix(ON_CLEAN)})"
    return f"{stage.name} list" if stage.name == stage.train_list else stage.name


def start(notebook: str, names: Mapping[str, Any]) -> Session:
    """Check a notebook's parameters, in its `globals()`, and open its session."""
    declared = declared_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    upper = {name: value for name, value in names.items() if name.isupper() and name[0] != "_"}
    given = with_new_names(upper)
    if lacking := [name for name in declared if name not in given]:
        raise ValueError(
            f"expected the parameters of {notebook}, found no {', '.join(lacking[:3])}; run the "
            "notebook's first cell of code, which gives them"
        )
    profile, data_dir = chosen_profile(given, declared), given["DATA_DIR"]
    start_clock(given.get("TIME_LIMIT_HOURS", 0))
    from lib.distributed import check_gpus  # with torch, which `import lib.session` does without

    check_gpus()
    recipe, name = given["RECIPE"], given["NAME"]
    folder = run_folder(profile.name, data_dir, recipe, name)
    options = {"may_leak": given.get("LEAKED", False), "recipe": recipe, "name": name}
    if data_dir:
        root = existing_folder(data_dir)
    else:
        root = miniworld.generate(world_folder(profile, given, declared), profile.world)
    return Session(notebook, profile, folder, root, is_miniature=not data_dir, **options)

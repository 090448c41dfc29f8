"""The rows of an ablation table, as plain data: what to train, and what to compare it with.

How rows of the papers' tables are made from a profile.

Where a profile follows a recipe of GLR20, the papers' networks compete (in the miniature world
their relatives); elsewhere the profile's own network stands for all."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lib.config import InferenceConfig, ModelConfig, Profile, Recipe, StageConfig, override
from lib.recipes import recipe


@dataclass(frozen=True)
class AblationRow:
    """One line of a table: how to train it, what it is compared with, what the paper reports.

    Attributes:
        name: unique over all tables that are run together.
        model: the network.
        stages: trained one after the other.
        against: name of the reference row, from which it differs in one thing.
        paper_public, paper_private: mAP@100 as a share, NaN where there is none.
        paper_milliseconds: test time of one image, NaN where there is none.
        cleaning: which cluster list its stages train on, a name of `lib.ablation.runner.CLEANINGS`.
        budget: name of the list whose number of images an epoch of the last stage has, so that rows
            on different lists see equally many; each its own by default.
        members: names of the rows whose descriptors are concatenated instead of training one.
        inference: how it looks at images; the bench's way by default.
        is_leaked: whether it trains on the queries, so that its numbers mean nothing.
        note: in what it departs from the paper, for the reader of its table.
    """

    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[StageConfig, ...] = ()
    against: str = ""
    paper_public: float = np.nan
    paper_private: float = np.nan
    paper_milliseconds: float = field(default=np.nan, kw_only=True)
    cleaning: str = ""
    budget: str = ""
    members: tuple[str, ...] = ()
    inference: InferenceConfig | None = None
    is_leaked: bool = False
    note: str = ""


# What a row may differ in from table to table: with what it is compared.
_COMPARED = {"against": "", "paper_public": 0.0, "paper_private": 0.0, "paper_milliseconds": 0.0}


@dataclass(frozen=True)
class AblationTable:
    """Rows that belong together, and where the paper has them."""

    name: str  # of files
    title: str
    rows: tuple[AblationRow, ...]
    has_times: bool = False  # whether the test time per image is a column
    note: str = ""  # why it stands here, where that is not plain


def unique_rows(tables: Iterable[AblationTable]) -> dict[str, AblationRow]:
    """All rows by name, a row that several tables share once.

    Raises:
        ValueError: if two different rows have one name.
    """
    rows: dict[str, AblationRow] = {}
    for row in (row for table in tables for row in table.rows):
        known = rows.setdefault(row.name, row)
        if dataclasses.replace(known, **_COMPARED) != dataclasses.replace(row, **_COMPARED):
            raise ValueError(
                f"expected one row called {row.name!r}, found two that differ; rename one"
            )
    return rows


def describe_stages(row: AblationRow) -> str:
    """The stages of a row, or its members, for a reader.

    >>> describe_stages(AblationRow("a", stages=(StageConfig("a", epochs=4), StageConfig("b"))))
    'a (4), b (24)'
    """
    return ", ".join(row.members or [f"{stage.name} ({stage.epochs})" for stage in row.stages])


BASELINE, CONTINENT = "baseline", "continent-aware"
NOT_TOLD = (math.nan, math.nan)  # where the papers have no figure


def clustered_row(
    profile: Profile,
    name: str,
    backbone: str,
    stages: tuple[StageConfig, ...],
    against: str = "",
    paper: tuple[float, float] = NOT_TOLD,
) -> AblationRow:
    """A row of GLR20, trained as its network is and tested at the size of that training.

    Where networks do not compete it is the profile's own, trained and tested as the profile says.
    """
    if not has_relatives(profile):
        return AblationRow(name, profile.model, stages, against, *paper)
    own = f"glr20-{backbone.strip().lower().replace('se-', 'se')}"
    stages, note = _own_length(profile, own, stages)
    model, inference = relative(profile, own).model, trained_size(profile)
    return AblationRow(name, model, stages, against, *paper, inference=inference, note=note)


def _own_length(
    profile: Profile, own: str, stages: tuple[StageConfig, ...]
) -> tuple[tuple[StageConfig, ...], str]:
    """Stages of a profile as long, and in such batches, as another network has them (GLR20 §3.1).

    In the miniature all networks have one length, which a note tells where GLR20's differ.
    """
    usual, wanted = recipe(profile.recipe.removesuffix("-mini")).stages, recipe(own).stages
    if [stage.epochs for stage in wanted] == [stage.epochs for stage in usual]:
        return stages, ""
    if profile.recipe.endswith("-mini"):
        on_clean = sum(stage.epochs for stage in wanted[:-1])
        note = f"trained as long as others; GLR20: {on_clean} + {wanted[-1].epochs} epochs"
        return stages, note
    return tuple(
        dataclasses.replace(
            stage,
            epochs=math.floor(stage.epochs * new.epochs / old.epochs + 0.5),
            batch_size=stage.batch_size * new.batch_size // old.batch_size,
        )
        for stage, old, new in zip(stages, usual, wanted, strict=False)
    ), ""


def on_clusters(profile: Profile) -> tuple[StageConfig, ...]:
    """Softmax, ArcFace, then the cluster list without Corner-Cutmix."""
    return (*profile.stages[:2], dataclasses.replace(profile.stages[2], cutmix=""))


def mixed(profile: Profile, form: str) -> tuple[StageConfig, ...]:
    """Softmax, ArcFace, then the cluster list with Corner-Cutmix as the "paper" or the "code"."""
    stage = dataclasses.replace(profile.stages[2], name=f"cutmix_{form}", cutmix=form)
    return (*profile.stages[:2], stage)


def trained_row(
    profile: Profile,
    name: str,
    against: str,
    paper: tuple[float, float],
    changes: Mapping[str, Any] | None = None,
) -> AblationRow:
    """A row of GLR21: one stage on the clean list, without Random Erasing unless changed.

    GLR21's ablations are of ResNet50; elsewhere the profile's network takes its ArcFace stage.
    """
    if has_relatives(profile):
        small = relative(profile, "glr21-resnet50")
        model, stage, inference = small.model, small.stages[0], small.inference
    else:
        model, stage, inference = profile.model, profile.stages[1], None
        stage = dataclasses.replace(stage, name="clean")
    stage = override(stage, {"augment.erasing": 0.0, **(changes or {})})
    return AblationRow(name, model, (stage,), against, *paper, inference=inference)


def uniform_row(
    profile: Profile,
    against: str,
    paper: tuple[float, float] = NOT_TOLD,
    *,
    images: int = 1,
    has_triplets: bool = False,
) -> AblationRow:
    """A row of GLR21 whose batches show every class equally often, with `images` of each (K).

    Without a number in its name K is 1, as in GLR21's published configuration; the paper tells
    none.
    """
    name = f"{'+ triplet loss' if has_triplets else 'id-uniform'}{f', K = {images}' * (images > 1)}"
    changes = {"sampler": "class_uniform", "images_per_class": images}
    if has_triplets:
        changes["triplet_weight"] = 1.0
    return trained_row(profile, name, against, paper, changes)


def continued_row(
    profile: Profile,
    name: str,
    against: str,
    paper: tuple[float, float],
    changes: Mapping[str, Any],
) -> AblationRow:
    """A row of GLR21 that goes on from the baseline, by default on the full list, shuffled.

    Whatever the list, an epoch has as many images as the full one.
    """
    base = trained_row(profile, name, against, paper)
    if has_relatives(profile):
        stage = relative(profile, "glr21-resnet50").stages[-1]
    else:
        stage = dataclasses.replace(profile.stages[2], cutmix="")
    usual = {"name": "continued", "train_list": "full", "sampler": "shuffle"}
    stage = override(stage, {**usual, "augment.erasing": 0.0, **changes})
    return dataclasses.replace(base, stages=(*base.stages, stage), budget="full")


def has_relatives(profile: Profile) -> bool:
    """Whether the papers' networks stand behind the profile's, rather than one of its own."""
    if not profile.recipe.startswith("glr20-"):
        return False
    own = recipe(profile.recipe).model
    model = profile.model
    return (model.backbone, model.backbone_options) == (own.backbone, own.backbone_options)


def relative(profile: Profile, name: str) -> Recipe:
    """The recipe called `name`, as small as the profile's."""
    return recipe(f"{name}-mini" if profile.recipe.endswith("-mini") else name)


def label(profile: Profile, backbone: str) -> str:
    """How a row's name begins: the network, where networks compete."""
    return f"{backbone} " if has_relatives(profile) else ""


def trained_size(profile: Profile) -> InferenceConfig:
    """The profile's way to look at images, at the size that its last stage trains at."""
    return dataclasses.replace(profile.inference, size=profile.stages[-1].size)

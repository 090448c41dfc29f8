"""Rows of ablation tables, and the tables of both papers and further ones as plain data.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.); GLR21 = 2nd place, Google Landmark
Retrieval 2021 (Zhang et al.). Where a profile follows a recipe of GLR20, the papers' networks (or
small relatives) compete; elsewhere the profile's own network stands for all.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from lib.config import InferenceConfig, ModelConfig, Profile, Recipe, StageConfig, override
from lib.recipes import recipe

NAN = math.nan  # where the papers have no figure


@dataclass(frozen=True)
class AblationRow:
    """One line of a table: how to train it, what it is compared with, what the paper reports."""

    name: str  # unique over all tables that are run together
    model: ModelConfig = field(default_factory=ModelConfig)
    stages: tuple[StageConfig, ...] = ()  # trained one after the other
    # The reference row, from which it differs in one thing, and the paper's mAP@100 (0 to 1) and
    # test time of one image, NaN where it has none. Tables that share a row may differ in these.
    against: str = field(default="", compare=False)
    paper_public: float = field(default=NAN, compare=False)
    paper_private: float = field(default=NAN, compare=False)
    paper_milliseconds: float = field(default=NAN, compare=False)
    cleaning: str = ""  # how its cluster list is made, a name in `lib.ablation.runner.CLEANINGS`
    # The list whose number of images an epoch of the last stage has, so that rows on different
    # lists see equally many images; empty for its own list.
    budget: str = ""
    images: int = 0  # training images, drawn anew with each seed; 0: all
    members: tuple[str, ...] = ()  # rows whose embeddings are concatenated, instead of stages
    inference: InferenceConfig | None = None  # None for the profile's
    is_leaked: bool = False  # whether it trains on the queries, so that its numbers mean nothing
    note: str = ""  # in what it departs from the paper


@dataclass(frozen=True)
class AblationTable:
    """Rows that belong together."""

    name: str  # of files
    title: str
    rows: tuple[AblationRow, ...]
    note: str = ""  # printed above the table


def unique_rows(tables: Iterable[AblationTable]) -> dict[str, AblationRow]:
    """All rows by name, shared ones once; ValueError if two different rows have one name."""
    rows: dict[str, AblationRow] = {}
    for row in (row for table in tables for row in table.rows):
        if rows.setdefault(row.name, row) != row:
            found = "found two that differ; rename one"
            raise ValueError(f"expected one row called {row.name!r}, {found}")
    return rows


def describe_stages(row: AblationRow) -> str:
    """The stages of a row with their epochs (`a (4), b (24)`), or the members of an ensemble."""
    return ", ".join(row.members or [f"{stage.name} ({stage.epochs})" for stage in row.stages])


Staged = TypeVar("Staged", Profile, AblationRow)

# Changes to the stages of GLR20 by training: softmax, ArcFace, cluster list. The softmax row goes
# on with softmax where the others change to ArcFace. As in the paper, cluster rows go on from the
# clean rows and so train longer; the table `cleaning` and notebook 04 have controls of equal
# length. Corner-Cutmix is that of the paper (one head) or of its code (two heads).
TRAININGS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "softmax clean": ({}, {"name": "softmax_on", "loss": "softmax"}),
    "ArcFace clean": ({}, {}),
    "cluster": ({}, {}, {"cutmix": ""}),
    "cluster cutmix": ({}, {}, {"name": "cutmix_paper", "cutmix": "paper"}),
    "cluster cutmix, two heads": ({}, {}, {"name": "cutmix_code", "cutmix": "code"}),
}
# Network, training, reference row, and the paper's Public and Private mAP@100.
GLR20_TABLE_1 = (
    ("ResNeSt101", "softmax clean", "", 0.305, 0.266),
    ("ResNeSt101", "ArcFace clean", "ResNeSt101 softmax clean", 0.315, 0.276),
    ("ResNet152", "ArcFace clean", "ResNeSt101 ArcFace clean", 0.329, 0.293),
    ("ResNet152", "cluster", "ResNet152 ArcFace clean", 0.356, 0.321),
    ("ResNeSt200", "cluster", "ResNet152 cluster", 0.364, 0.327),
    ("ResNeSt200", "cluster cutmix", "ResNeSt200 cluster", 0.374, 0.334),
)
# The steps with one network, that which cleans: few epochs cannot tell networks apart. The paper
# has no softmax for it.
GLR20_QUICK = (
    ("ResNet152", "softmax clean", ""),
    ("ResNet152", "ArcFace clean", "ResNet152 softmax clean", 0.329, 0.293),
    GLR20_TABLE_1[3],
)
# The same, and the test time of one image in milliseconds.
GLR20_TABLE_2 = (
    ("ResNet152", "cluster", "", 0.356, 0.321, 26.3),
    ("SE-ResNeXt101", "cluster", "ResNet152 cluster", 0.344, 0.307, 59.8),
    ("ResNeSt101", "cluster", "ResNet152 cluster", 0.328, 0.294, 41.2),
    ("ResNeSt200", "cluster", "ResNet152 cluster", 0.364, 0.327, 74.1),
)
ENSEMBLE = "ensemble of ResNet152 and ResNeSt200"
MIXING = (
    ("ResNeSt200", "cluster", ""),
    ("ResNeSt200", "cluster cutmix", "ResNeSt200 cluster"),
    ("ResNeSt200", "cluster cutmix, two heads", "ResNeSt200 cluster"),
)
# Name, reference row, list of the last stage, and how its clusters are made
# (`lib.ablation.runner.CLEANINGS`). All start from one network and see equally many images.
CLEANING = (
    ("raw labels", "", "full", ""),
    ("clean list", "raw labels", "clean", ""),
    ("cleaned", "raw labels", "cluster", ""),
    ("cleaned, nothing beyond GLR20", "cleaned", "cluster", "paper"),
    ("cleaned, no rescue pass", "cleaned", "cluster", "no rescue"),
    ("cleaned, no splitting", "cleaned", "cluster", "no split"),
    ("cleaned, with splitting", "cleaned", "cluster", "split"),
    ("cleaned twice", "cleaned", "cluster", "twice"),
    ("true labels", "raw labels", "cluster", "truth"),
    ("true labels, no splitting", "raw labels", "cluster", "truth no split"),
)

# Name, reference row, Public and Private mAP@100, changes to the baseline's stage, and changes to a
# second stage where there is one.
GLR21_TRICKS = (  # slide 3
    ("baseline", "", 0.2844, 0.3059),
    ("+ Random Erasing", "baseline", 0.2929, 0.3060, {"augment.erasing": 1.0}),
    ("+ label smoothing", "baseline", 0.2821, 0.2979, {"label_smoothing": 0.1}),
)
ONE, TWO, FOUR = ({"sampler": "class_uniform", "images_per_class": k} for k in (1, 2, 4))
# Slide 4. GLR21 has one image of a class in a batch (K = 1). The paper's continent-aware row goes
# on with the list `all`, which holds the queries; here with `full`, and without a stage on c2x.
GLR21_SAMPLERS = (
    ("baseline", "", 0.2844, 0.3059),
    ("id-uniform", "baseline", 0.2478, 0.2728, ONE),
    ("id-uniform, K = 2", "id-uniform", NAN, NAN, TWO),
    ("id-uniform, K = 4", "id-uniform, K = 2", NAN, NAN, FOUR),
    ("continent-aware", "baseline", 0.3137, 0.3244, {}, {"sampler": "continent"}),
)
# What the continent-aware row mixes: longer training, more data, the sampler, the leak.
LEAKED = "list all, continent-aware (leaked)"
GLR21_APART = (
    ("baseline", ""),
    ("clean list, continued", "baseline", NAN, NAN, {}, {"train_list": "clean"}),
    ("full list, shuffled", "clean list, continued", NAN, NAN, {}, {"train_list": "full"}),
    ("continent-aware", "full list, shuffled", NAN, NAN, {}, {"sampler": "continent"}),
    (LEAKED, "continent-aware", NAN, NAN, {}, {"sampler": "continent", "train_list": "all"}),
)
# Parts of the network: name and changes to the baseline's, which has one of the first two.
POOLINGS = (
    ("average pooling", {"pooling": "gap"}),
    ("GeM pooling", {"pooling": "gem"}),
    ("GeM, trained", {"pooling": "gem", "gem_trained": True}),
)
RESNET_PARTS = (
    ("+ IBN-a", {"backbone_options": {"ibn": True}}),
    ("last stride 2", {"backbone_options": {"last_stride": 2}}),
)
MODERN = {"ViT-B cluster": "modern-vit-b", "ConvNeXt-B cluster": "modern-convnext-b"}
# Triplets need classes with several images in a batch, so id-uniform sampling is the reference.
TRIPLETS = (
    ("id-uniform, K = 4", "baseline", NAN, NAN, FOUR),
    ("+ triplet loss, K = 4", "id-uniform, K = 4", NAN, NAN, {**FOUR, "triplet_weight": 1.0}),
)
# Sampled softmax (partial FC) on the list of most classes; a batch's classes are always in it.
FULL = {"name": "full", "train_list": "full"}
HEADS = (
    ("all classes", "", NAN, NAN, FULL),
    ("30 % of the classes", "all classes", NAN, NAN, {**FULL, "class_share": 0.3}),
    ("10 % of the classes", "all classes", NAN, NAN, {**FULL, "class_share": 0.1}),
)

# One stage on the cluster list from pretrained weights: name, changes to the network and the stage.
FINE_TUNING: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
    ("statistics of BatchNorm trained", {}, {"freeze_norm": False}),
    ("softmax", {}, {"loss": "softmax"}),
    ("cosine softmax, no margin", {}, {"margin": 0.0}),
    ("sub-centers, dynamic margin", {}, {"loss": "subcenter_arcface", "dynamic_margin": True}),
    ("SGD of rate 0.01", {}, {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 5e-4}),
    ("rate of the backbone × 3", {}, {"backbone_lr": 0.3}),
    ("layers decay by 0.8", {}, {"layer_decay": 0.8}),
    ("linear probe first", {}, {"freeze_backbone": 0.2}),
    ("moving average of weights", {}, {"ema": 0.99}),
    ("averaged with the start", {}, {"average_start": 0.3}),
    ("stretched, no crops", {}, {"augment.crop_area": (1.0, 1.0), "decode_size": 0}),
    ("images of 128 px", {}, {"size": 128, "decode_size": 160}),
    ("Random Erasing", {}, {"augment.erasing": 0.5}),
    ("Corner-Cutmix", {}, {"cutmix": "paper"}),
    ("average pooling", {"pooling": "gap"}, {}),
    ("neck with BatchNorm", {"neck": "linear_bn"}, {}),
    ("linear neck", {"neck": "linear"}, {}),
    ("no neck", {"neck": "none"}, {}),
    ("PCA without whitening", {"whitening": 0.0}, {}),
)
SIZES = (300, 1000, 3000)  # training images of the raw list

GLR20_STAGES = "softmax on clean, arcface on clean, arcface on cluster"
TEST_TIMES = "Test times: GLR20's are of a GPU, ours of the CPU, both the mean of 200 images."
STRIDE = 32  # pixels of an image per cell of the last feature map of GLR20's networks


def _losses_and_lists(profile: Profile) -> str:
    return ", ".join(f"{stage.loss} on {stage.train_list}" for stage in profile.stages)


def _shortened(staged: Staged, share: float) -> Staged:
    """A profile or row with a share of its stages' epochs, halves rounded up, at least 1 of any."""
    stages = tuple(
        replace(stage, epochs=stage.epochs and max(1, math.floor(share * stage.epochs + 0.5)))
        for stage in staged.stages
    )
    return replace(staged, stages=stages)


def _stage_by_stage(profile: Profile) -> AblationTable:
    """What each stage of a recipe adds to those before it."""
    rows: list[AblationRow] = []
    for count, stage in enumerate(profile.stages, start=1):
        stages = profile.stages[:count]
        is_leaked = any(earlier.train_list == "all" for earlier in stages)
        name = f"{'+ ' if rows else ''}{stage.name}{' (leaked)' if is_leaked else ''}"
        against = rows[-1].name if rows else ""
        rows.append(AblationRow(name, profile.model, stages, against, is_leaked=is_leaked))
    note = f"Not GLR20 Table 1, of {GLR20_STAGES}: the stages are {_losses_and_lists(profile)}."
    return AblationTable("stages", f"{profile.recipe}, stage by stage", tuple(rows), note=note)


def _rows(
    make: Callable[..., AblationRow], table: Sequence[tuple[Any, ...]], profile: Profile
) -> list[AblationRow]:
    """Rows of a table of plain data; those that are one and the same for one network, once."""
    found: dict[str, AblationRow] = {}
    for row in (make(profile, *values) for values in table):
        found.setdefault(row.name, row)
    return list(found.values())


def _networks_compete(profile: Profile) -> bool:
    """Whether the papers' networks are compared, not one that the user chose."""
    if not profile.recipe.startswith("glr20-"):
        return False
    own, model = recipe(profile.recipe).model, profile.model
    return (model.backbone, model.backbone_options) == (own.backbone, own.backbone_options)


def _relative(profile: Profile, name: str) -> Recipe:
    """The recipe called `name`, in miniature where the profile's is."""
    return recipe(f"{name}-mini" if profile.recipe.endswith("-mini") else name)


def _glr20_row(
    profile: Profile,
    network: str,
    name: str,
    against: str = "",
    *figures: float,
    changes: Sequence[Mapping[str, Any]] = (),
) -> AblationRow:
    """A row of GLR20, with its network's own epochs and batches (§3.1), at its train size."""
    changes = changes or TRAININGS[name]
    stages = [override(stage, new) for stage, new in zip(profile.stages, changes, strict=False)]
    if not _networks_compete(profile):
        against = against.partition(" ")[2]  # without the network
        return AblationRow(name, profile.model, tuple(stages), against, *figures[:2])
    own = f"glr20-{network.lower().replace('se-', 'se')}"
    usual, wanted = recipe(profile.recipe.removesuffix("-mini")).stages, recipe(own).stages
    note = ""
    if [stage.epochs for stage in wanted] != [stage.epochs for stage in usual]:
        if profile.recipe.endswith("-mini"):
            on_clean = sum(stage.epochs for stage in wanted[:-1])
            note = f"trained as long as others; GLR20: {on_clean} + {wanted[-1].epochs} epochs"
        else:
            stages = [
                replace(
                    stage,
                    epochs=math.floor(stage.epochs * new.epochs / old.epochs + 0.5),
                    batch_size=stage.batch_size * new.batch_size // old.batch_size,
                    images_per_gpu=stage.images_per_gpu * new.batch_size // old.batch_size,
                )
                for stage, old, new in zip(stages, usual, wanted, strict=False)
            ]
    model, name = _relative(profile, own).model, f"{network} {name}"
    inference = replace(profile.inference, size=profile.stages[-1].size)
    facts = {"inference": inference, "note": note}
    return AblationRow(name, model, tuple(stages), against, *figures, **facts)


def _table_2(profile: Profile) -> list[AblationRow]:
    """Networks at one training, their ensemble by concatenation, and a larger test size."""
    if not _networks_compete(profile):
        return []
    rows = _rows(_glr20_row, GLR20_TABLE_2, profile)
    both, usual = (rows[0].name, rows[-1].name), rows[0].inference
    # The images are larger in the paper's proportion, 512 to 448, or more: the next multiple of the
    # networks' stride, because padding in between costs small networks up to 0.1 mAP.
    larger = replace(usual, size=STRIDE * math.ceil(usual.size * 512 / 448 / STRIDE))
    for name, against, figures, inference in (
        (ENSEMBLE, both[1], (0.376, 0.342), usual),
        (f"{ENSEMBLE}, larger images", ENSEMBLE, (0.381, 0.346), larger),
    ):
        model, options = ModelConfig(""), {"members": both, "inference": inference}
        rows.append(AblationRow(name, model, (), against, *figures, **options))
    return rows


def _cleaning_rows(profile: Profile) -> list[AblationRow]:
    left_out = {"split" if profile.clean.split else "no split"}
    if not profile.world:  # views are known in the miniature world alone
        left_out.add("truth no split")
    rows = []
    for name, against, train_list, cleaning in CLEANING:
        if cleaning not in left_out:
            last = {"name": f"on_{train_list}", "train_list": train_list, "cutmix": ""}
            against = against and f"ResNet152 {against}"
            changes = (*({} for _ in profile.stages[1:]), last)
            row = _glr20_row(profile, "ResNet152", name, against, changes=changes)
            rows.append(replace(row, cleaning=cleaning, budget="full"))
    return rows


def _glr21_row(
    profile: Profile,
    name: str,
    against: str = "",
    public: float = NAN,
    private: float = NAN,
    changes: Mapping[str, Any] | None = None,
    continued: Mapping[str, Any] | None = None,
) -> AblationRow:
    """A row of GLR21: one stage on the clean list, without Random Erasing unless changed."""
    if _networks_compete(profile):
        small = _relative(profile, "glr21-resnet50")
        model, inference, (first, *_, second) = small.model, small.inference, small.stages
    else:
        model, inference = profile.model, None
        first = replace(profile.stages[1], name="clean")
        second = replace(profile.stages[2], cutmix="")
    stages = [override(first, {"augment.erasing": 0.0, **(changes or {})})]
    if continued is not None:
        usual = {"name": "continued", "train_list": "full", "sampler": "shuffle"}
        stages.append(override(second, {"augment.erasing": 0.0, **usual, **continued}))
    budget, is_leaked = "" if continued is None else "full", stages[-1].train_list == "all"
    facts = {"budget": budget, "inference": inference, "is_leaked": is_leaked}
    return AblationRow(name, model, tuple(stages), against, public, private, **facts)


def _network_rows(profile: Profile) -> list[AblationRow]:
    """Parts of GLR21's network and its triplet loss, which it used or tried and does not report."""
    base = _glr21_row(profile, "baseline")
    rows = [base]
    for name, change in (*POOLINGS, *(RESNET_PARTS if _networks_compete(profile) else ())):
        options = base.model.backbone_options | change.get("backbone_options", {})
        model = override(base.model, change | {"backbone_options": options})
        if model != base.model:
            rows.append(replace(base, name=name, against="baseline", model=model))
    return rows + _rows(_glr21_row, TRIPLETS, profile)


def _modern_rows(profile: Profile) -> list[AblationRow]:
    """GLR20's network beside those of today, each with its own training, on the same two lists."""
    if not _networks_compete(profile):
        return []
    base = _glr20_row(profile, "ResNet152", "cluster")
    rows = [base]
    for name, own in MODERN.items():
        found = _relative(profile, own)
        options = {"against": base.name, "inference": found.inference}
        rows.append(AblationRow(name, found.model, found.stages, **options))
    return rows


def _fine_tuning(profile: Profile) -> list[AblationRow]:
    """The last stage from pretrained weights alone, and with one change in each row."""
    stage = replace(profile.stages[-1], name="fine_tuned")
    start = AblationRow("before training", profile.model, (replace(stage, epochs=0),))
    base = AblationRow("as configured", profile.model, (stage,), start.name)
    rows = [start, base]
    for name, network, training in FINE_TUNING:
        model, stages = override(profile.model, network), (override(stage, training),)
        rows.append(AblationRow(name, model, stages, base.name))
    small = replace(stage, name="small", epochs=1, size=128, decode_size=160)
    last = replace(stage, epochs=max(1, stage.epochs - small.epochs))
    rows.append(AblationRow("128 px, then more", profile.model, (small, last), base.name))
    name, both = "with the start, concatenated", (base.name, start.name)
    return [*rows, AblationRow(name, ModelConfig(""), against=base.name, members=both)]


def _sizes(profile: Profile) -> list[AblationRow]:
    """The last stage on so many images of the raw list, against the network that it starts from."""
    stage = replace(profile.stages[-1], name="of_raw", train_list="full")
    rows: list[AblationRow] = []
    for images in SIZES:
        name, stages = f"{images:,} images", (replace(stage, epochs=0),)
        start = AblationRow(f"{name}, before training", profile.model, stages, images=images)
        rows += [start, replace(start, name=name, stages=(stage,), against=start.name)]
    return rows


# Title, and the rows that a profile can fill, in the order of the report.
TABLES: Mapping[str, tuple[str, Callable[[Profile], list[AblationRow]]]] = {
    "glr20_table_1": ("GLR20 Table 1", partial(_rows, _glr20_row, GLR20_TABLE_1)),
    "glr20_table_2": ("GLR20 Table 2", _table_2),
    "glr21_tricks": ("GLR21 bag of tricks", partial(_rows, _glr21_row, GLR21_TRICKS)),
    "glr21_samplers": ("GLR21 samplers", partial(_rows, _glr21_row, GLR21_SAMPLERS)),
    "glr21_apart": ("GLR21 sampler and data taken apart", partial(_rows, _glr21_row, GLR21_APART)),
    "networks": ("beyond: network and loss", _network_rows),
    "modern": ("beyond: networks of today", _modern_rows),
    "heads": ("beyond: softmax over a share of the classes", partial(_rows, _glr21_row, HEADS)),
    "mixing": ("beyond: Corner-Cutmix in both forms", partial(_rows, _glr20_row, MIXING)),
    "cleaning": ("beyond: cleaning, part by part, at equal length", _cleaning_rows),
    "fine_tuning": ("beyond: fine-tuning pretrained weights, one change at a time", _fine_tuning),
    "sizes": ("beyond: fine-tuning by the number of training images", _sizes),
}
TITLES = {name: title for name, (title, _) in TABLES.items()}


def paper_tables(profile: Profile) -> dict[str, AblationTable]:
    """Every table that a profile can fill, by name."""
    if profile.recipe == "photos" and profile.stages[-1].train_list == "cluster":
        names = ["cleaning", "fine_tuning", "sizes"]
    elif _losses_and_lists(profile) == GLR20_STAGES:
        names = [name for name in TABLES if name not in ("fine_tuning", "sizes")]
    else:
        raise ValueError(
            f"expected the stages of GLR20, {GLR20_STAGES}, found {_losses_and_lists(profile)}; "
            "run the tables without --recipe and with these stages"
        )
    tables = {}
    for name in names:
        title, make = TABLES[name]
        rows, note = tuple(make(profile)), TEST_TIMES if name == "glr20_table_2" else ""
        if len(rows) > 1:
            tables[name] = AblationTable(name, title, rows, note)
    return tables


def chosen_tables(
    profile: Profile, names: str, share: float = 0.0, only: str = ""
) -> tuple[Profile, dict[str, AblationTable]]:
    """The tables called `names`, and the profile, at a share of its epochs, that fills them.

    `names` is "quick" for GLR20's steps with one network (with a recipe of other stages, these one
    by one), "all", or names between commas. A `share` of 0 is 1, with "quick" the profile's own.
    `only` names rows between semicolons, where not all are to be trained.
    """
    is_quick = names == "quick"
    share = share or (profile.quick if is_quick else 1.0)
    shorter = _shortened(profile, share)
    if is_quick and _losses_and_lists(profile) != GLR20_STAGES:
        return shorter, {"stages": _stage_by_stage(shorter)}
    tables = paper_tables(profile)
    wanted = list(tables) if names == "all" else [name.strip() for name in names.split(",")]
    if is_quick:
        wanted, rows = ["glr20_table_1"], tuple(_rows(_glr20_row, GLR20_QUICK, profile))
        tables["glr20_table_1"] = replace(tables["glr20_table_1"], rows=rows)
    if unknown := [name for name in wanted if name not in tables]:
        hint = "correct TABLES"
        if unknown[0] == "glr20_table_2":  # of a profile where networks do not compete
            hint += ", which compares the papers' networks, or run it without BACKBONE"
        known = ", ".join(tables)
        raise ValueError(
            f"expected quick, all or tables among {known}, found {unknown[0]!r}; {hint}"
        )
    known = unique_rows(tables[name] for name in wanted)
    kept = [name.strip() for name in only.split(";") if name.strip()] or known
    if unknown := [name for name in kept if name not in known]:
        raise ValueError(
            f"expected rows among {'; '.join(known)}, found {unknown[0]!r}; correct ROWS"
        )
    found = {}
    for name in wanted:
        rows = tuple(_shortened(row, share) for row in tables[name].rows if row.name in kept)
        if rows:
            found[name] = replace(tables[name], rows=rows)
    return shorter, found

"""The tables of both papers as rows to be trained, with the papers' figures beside them.

GLR20 Tables 1 and 2, GLR21's tricks and samplers. Where networks do not compete
(`lib.ablation.rows`),
rows that would differ in the network alone are left out. What goes beyond the papers is in
`lib.ablation.tables`.

What the papers leave open, as rows to be trained.

Sampler and data of GLR21 taken apart, parts of its network and its triplet loss, Corner-Cutmix in
both forms, and what each part of cleaning is worth."""

import dataclasses
import math
from typing import Any, TypeVar

from lib.ablation.rows import (
    BASELINE,
    CONTINENT,
    NOT_TOLD,
    AblationRow,
    AblationTable,
    clustered_row,
    continued_row,
    has_relatives,
    label,
    mixed,
    on_clusters,
    trained_row,
    trained_size,
    uniform_row,
)
from lib.config import ModelConfig, Profile, override

Staged = TypeVar("Staged", Profile, AblationRow)
GLR20_STAGES = "softmax on clean, arcface on clean, arcface on cluster"
STRIDE = 32  # pixels of an image per cell of the last map of GLR20's networks


def paper_tables(profile: Profile) -> dict[str, AblationTable]:
    """Every table that a profile can fill, by name.

    Raises:
        ValueError: if the profile's stages are not softmax, ArcFace and cluster, as in GLR20.
    """
    if not _has_stages_of_glr20(profile):
        raise ValueError(
            f"expected the stages of GLR20, {GLR20_STAGES}, found {_in_words(profile)}; "
            "run the tables without --recipe and with these stages"
        )
    makers = [glr20_table_1, glr20_table_2, glr21_tricks, glr21_samplers, glr21_apart]
    tables = [make(profile) for make in (*makers, networks, mixing, cleaning)]
    return {table.name: table for table in tables if len(table.rows) > 1}


def chosen_tables(
    profile: Profile, names: str, share: float = 0.0
) -> tuple[Profile, dict[str, AblationTable]]:
    """The tables called `names`, and the profile, at a share of its epochs, that fills them.

    Args:
        profile: of the run.
        names: "quick" for the first rows of GLR20 Table 1 (with a recipe of other stages, these
            stages one by one), "all", or names between commas.
        share: of every stage's epochs; 0 for the profile's own share with "quick", else for all.

    Raises:
        ValueError: an unknown name, a negative share, and as `paper_tables`.
    """
    if share < 0:
        raise ValueError(f"expected a share of the epochs from 0, found {share}; 1 is all of them")
    is_quick = names == "quick"
    share = share or (profile.quick if is_quick else 1.0)
    if is_quick and not _has_stages_of_glr20(profile):
        shorter = _shortened(profile, share)
        table = stage_by_stage(shorter)
        return shorter, {table.name: table}
    tables = paper_tables(profile)
    if is_quick:
        tables["glr20_table_1"] = glr20_table_1(profile, is_quick=True)
    wanted = ["glr20_table_1"] if is_quick else [name.strip() for name in names.split(",")]
    if names == "all":
        wanted = list(tables)
    for name in wanted:
        if name not in tables:
            hint = "correct TABLES"
            if name == "glr20_table_2":  # of a profile where networks do not compete
                hint += ", which compares the papers' networks, or run it without BACKBONE"
            raise ValueError(
                f"expected quick, all or tables among {', '.join(tables)}, found {name!r}; {hint}"
            )
    shorter = {name: _shortened_table(tables[name], share) for name in wanted}
    return _shortened(profile, share), shorter


def _has_stages_of_glr20(profile: Profile) -> bool:
    return _in_words(profile) == GLR20_STAGES


def _in_words(profile: Profile) -> str:
    return ", ".join(f"{stage.loss} on {stage.train_list}" for stage in profile.stages)


def stage_by_stage(profile: Profile) -> AblationTable:
    """What each stage of a recipe adds to those before it."""
    rows: list[AblationRow] = []
    for place, stage in enumerate(profile.stages, start=1):
        stages = profile.stages[:place]
        is_leaked = any(earlier.train_list == "all" for earlier in stages)
        name = f"{'+ ' if rows else ''}{stage.name}{' (leaked)' if is_leaked else ''}"
        against = rows[-1].name if rows else ""
        rows.append(AblationRow(name, profile.model, stages, against, is_leaked=is_leaked))
    note = f"Not GLR20 Table 1, of {GLR20_STAGES}: the stages are {_in_words(profile)}."
    return AblationTable("stages", f"{profile.recipe}, stage by stage", tuple(rows), note=note)


def _shortened_table(table: AblationTable, share: float) -> AblationTable:
    rows = tuple(_shortened(row, share) for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def _shortened(staged: Staged, share: float) -> Staged:
    """A profile, or a row, that takes a share of the epochs of its stages, halves rounded up."""
    stages = tuple(
        dataclasses.replace(stage, epochs=max(1, math.floor(share * stage.epochs + 0.5)))
        for stage in staged.stages
    )
    return dataclasses.replace(staged, stages=stages)


def glr20_table_1(profile: Profile, *, is_quick: bool = False) -> AblationTable:
    """GLR20 Table 1: softmax or ArcFace, clean or cluster list, Corner-Cutmix, three networks.

    The softmax row goes on with softmax where the others change to ArcFace, for as many epochs at
    the same rates. As in the paper, the cluster rows go on from the clean rows and so train longer;
    the table `cleaning` and notebook 04 have the controls of equal length. The quick table leaves
    the deepest network out, and with it Corner-Cutmix: they need more than a quarter of the epochs.
    """
    softmax, arcface = profile.stages[:2]
    on = dataclasses.replace(arcface, name="softmax_on", loss="softmax")
    a, b, c = (label(profile, name) for name in ("ResNeSt101", "ResNet152", "ResNeSt200"))
    clean, clusters = (softmax, arcface), on_clusters(profile)
    rows = [
        clustered_row(profile, f"{a}softmax clean", a, (softmax, on), "", (0.305, 0.266)),
        clustered_row(profile, f"{a}ArcFace clean", a, clean, f"{a}softmax clean", (0.315, 0.276)),
        clustered_row(profile, f"{b}ArcFace clean", b, clean, f"{a}ArcFace clean", (0.329, 0.293)),
        clustered_row(profile, f"{b}cluster", b, clusters, f"{b}ArcFace clean", (0.356, 0.321)),
        clustered_row(profile, f"{c}cluster", c, clusters, f"{b}cluster", (0.364, 0.327)),
        clustered_row(
            profile, f"{c}cluster cutmix", c, mixed(profile, "paper"), f"{c}cluster", (0.374, 0.334)
        ),
    ]
    if is_quick:  # nor does so short a training tell the two networks apart
        rows = [*rows[:2], dataclasses.replace(rows[2], against=""), rows[3]]
    return AblationTable("glr20_table_1", "GLR20 Table 1", _without_repeats(rows))


def glr20_table_2(profile: Profile) -> AblationTable:
    """GLR20 Table 2: networks at one training, their ensemble by concatenation, a larger test size.

    The last row's images are larger in the paper's proportion, 512 to 448, or more: the next
    multiple of the networks' stride. In between, padding costs small networks up to 0.1 mAP.
    """
    if not has_relatives(profile):
        return AblationTable("glr20_table_2", "GLR20 Table 2", ())
    stages = on_clusters(profile)
    best, deep = "ResNet152 cluster", "ResNeSt200 cluster"
    rows = [
        dataclasses.replace(
            clustered_row(profile, f"{name} cluster", name, stages, against, paper),
            paper_milliseconds=milliseconds,
        )
        for name, against, paper, milliseconds in (
            ("ResNet152", "", (0.356, 0.321), 26.3),
            ("SE-ResNeXt101", best, (0.344, 0.307), 59.8),
            ("ResNeSt101", best, (0.328, 0.294), 41.2),
            ("ResNeSt200", best, (0.364, 0.327), 74.1),
        )
    ]
    usual = trained_size(profile)
    larger = dataclasses.replace(usual, size=STRIDE * math.ceil(usual.size * 512 / 448 / STRIDE))
    both, one = (best, deep), "ensemble of ResNet152 and ResNeSt200"
    rows += [
        AblationRow(one, ModelConfig(""), (), deep, 0.376, 0.342, members=both, inference=usual),
        AblationRow(
            f"{one}, larger images", ModelConfig(""), (), one, 0.381, 0.346,
            members=both, inference=larger,
        ),
    ]  # fmt: skip
    note = "Test times: GLR20's are of a GPU, ours of the CPU, both the mean of 200 images."
    return AblationTable("glr20_table_2", "GLR20 Table 2", tuple(rows), has_times=True, note=note)


def glr21_tricks(profile: Profile) -> AblationTable:
    """GLR21, slide 3: Random Erasing and label smoothing, each added to the baseline."""
    rows = (
        trained_row(profile, BASELINE, "", (0.2844, 0.3059)),
        trained_row(
            profile, "+ Random Erasing", BASELINE, (0.2929, 0.3060), {"augment.erasing": 1.0}
        ),
        trained_row(
            profile, "+ label smoothing", BASELINE, (0.2821, 0.2979), {"label_smoothing": 0.1}
        ),
    )
    return AblationTable("glr21_tricks", "GLR21 Bag of tricks", rows)


def glr21_samplers(profile: Profile) -> AblationTable:
    """GLR21, slide 4: three samplers.

    The paper's id-uniform row has one image of a class in a batch; with K of each, batches also
    show fewer classes, and the rows with K = 2 and 4 tell what that costs.

    The paper's continent-aware row goes on with the list `all`, which holds the queries; here it
    goes on with `full`, so that its numbers mean something. It also had a stage on c2x in between,
    which is left out, as is what the code's shortcuts pool (`lib.recipes`).
    """
    rows = (
        trained_row(profile, BASELINE, "", (0.2844, 0.3059)),
        one := uniform_row(profile, BASELINE, (0.2478, 0.2728)),
        two := uniform_row(profile, one.name, images=2),
        uniform_row(profile, two.name, images=4),
        continued_row(profile, CONTINENT, BASELINE, (0.3137, 0.3244), {"sampler": "continent"}),
    )
    return AblationTable("glr21_samplers", "GLR21 Samplers", rows)


def _without_repeats(rows: list[AblationRow]) -> tuple[AblationRow, ...]:
    """Rows with different names; where networks do not compete, some rows are one and the same."""
    return tuple({row.name: row for row in reversed(rows)}.values())[::-1]


def glr21_apart(profile: Profile) -> AblationTable:
    """What GLR21's continent-aware row mixes: longer training, more data, the sampler, the leak."""
    on_clean, full = "clean list, continued", "full list, shuffled"
    leaked = continued_row(
        profile,
        "list all, continent-aware (leaked)",
        CONTINENT,
        NOT_TOLD,
        {"train_list": "all", "sampler": "continent"},
    )
    rows = (
        trained_row(profile, BASELINE, "", NOT_TOLD),
        continued_row(profile, on_clean, BASELINE, NOT_TOLD, {"train_list": "clean"}),
        continued_row(profile, full, on_clean, NOT_TOLD, {}),
        continued_row(profile, CONTINENT, full, NOT_TOLD, {"sampler": "continent"}),
        dataclasses.replace(leaked, is_leaked=True),
    )
    return AblationTable("glr21_apart", "GLR21 Sampler and data taken apart", rows)


def networks(profile: Profile) -> AblationTable:
    """Parts of GLR21's network and its triplet loss, which it used or tried and does not report.

    Triplets need classes with several images in a batch, so their row is compared with id-uniform
    sampling of the same K.
    """
    base = trained_row(profile, BASELINE, "", NOT_TOLD)
    other = "gap" if base.model.pooling == "gem" else "gem"
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"{'average' if other == 'gap' else 'GeM'} pooling", {"pooling": other}),
        ("GeM, trained", {"pooling": "gem", "gem_trained": True}),
    ]
    if has_relatives(profile):
        options = base.model.backbone_options
        changes += [
            ("+ IBN-a", {"backbone_options": {**options, "ibn": True}}),
            ("last stride 2", {"backbone_options": {**options, "last_stride": 2}}),
        ]
    rows = [base]
    for name, change in changes:
        model = override(base.model, change)
        rows.append(dataclasses.replace(base, name=name, against=BASELINE, model=model))
    uniform = uniform_row(profile, BASELINE, images=4)
    rows += [uniform, uniform_row(profile, uniform.name, images=4, has_triplets=True)]
    return AblationTable("networks", "Network and loss, beyond the papers", tuple(rows))


def mixing(profile: Profile) -> AblationTable:
    """Corner-Cutmix as the paper has it (one head, 0.5 each) and as its code (two heads, 1)."""
    c = label(profile, "ResNeSt200")
    plain, one, two = (f"{c}cluster{form}" for form in ("", " cutmix", " cutmix, two heads"))
    rows = (
        clustered_row(profile, plain, c, on_clusters(profile)),
        clustered_row(profile, one, c, mixed(profile, "paper"), plain),
        clustered_row(profile, two, c, mixed(profile, "code"), plain),
    )
    return AblationTable("mixing", "Corner-Cutmix in both forms", rows)


def cleaning(profile: Profile) -> AblationTable:
    """Which list to fine-tune on: raw, clean, cleaned, cleaned in part, and the truth.

    All rows start from one network and see equally many images.
    """
    b = label(profile, "ResNet152")
    start, stage = on_clusters(profile)[:2], on_clusters(profile)[2]

    def row(name: str, against: str, train_list: str = "cluster", variant: str = "") -> AblationRow:
        last = dataclasses.replace(stage, name=f"on_{train_list}", train_list=train_list)
        found = clustered_row(profile, f"{b}{name}", b, (*start, last), against and f"{b}{against}")
        return dataclasses.replace(found, cleaning=variant, budget="full")

    is_split = profile.clean.split
    other, variant = ("no splitting", "no split") if is_split else ("with splitting", "split")
    rows = [
        row("raw labels", "", "full"),
        row("clean list", "raw labels", "clean"),
        row("cleaned", "raw labels"),
        row("cleaned, nothing beyond GLR20", "cleaned", variant="paper"),
        row("cleaned, no rescue pass", "cleaned", variant="no rescue"),
        row(f"cleaned, {other}", "cleaned", variant=variant),
        row("cleaned twice", "cleaned", variant="twice"),
        row("true labels", "raw labels", variant="truth"),
    ]
    if profile.world:  # where views are known
        rows.append(row("true labels, no splitting", "raw labels", variant="truth no split"))
    return AblationTable("cleaning", "Cleaning, part by part, at equal length", tuple(rows))

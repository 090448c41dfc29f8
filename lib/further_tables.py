"""What the papers leave open, as rows to be trained.

Sampler and data of [21] taken apart, parts of its network and its triplet loss, Corner-Cutmix in
both forms, and what each part of cleaning is worth.
"""

import dataclasses
from typing import Any

from lib.ablation_rows import AblationRow, AblationTable
from lib.config import Profile, override
from lib.table_rows import (
    BASELINE,
    CONTINENT,
    NOT_TOLD,
    clustered_row,
    continued_row,
    has_relatives,
    label,
    mixed,
    on_clusters,
    trained_row,
    uniform_row,
)


def glr21_apart(profile: Profile) -> AblationTable:
    """What [21]'s continent-aware row mixes: longer training, more data, the sampler, the leak."""
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
    return AblationTable("glr21_apart", "[21] Sampler and data taken apart", rows)


def networks(profile: Profile) -> AblationTable:
    """Parts of [21]'s network and its triplet loss, which it used or tried and does not report.

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
        options = base.model.trunk_options
        changes += [
            ("+ IBN-a", {"trunk_options": {**options, "ibn": True}}),
            ("last stride 2", {"trunk_options": {**options, "last_stride": 2}}),
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
        row("cleaned, nothing beyond [20]", "cleaned", variant="paper"),
        row("cleaned, no rescue pass", "cleaned", variant="no rescue"),
        row(f"cleaned, {other}", "cleaned", variant=variant),
        row("cleaned twice", "cleaned", variant="twice"),
        row("true labels", "raw labels", variant="truth"),
    ]
    if profile.world:  # where views are known
        rows.append(row("true labels, no splitting", "raw labels", variant="truth no split"))
    return AblationTable("cleaning", "Cleaning, part by part, at equal length", tuple(rows))

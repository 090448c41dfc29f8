"""The tables: the papers' figures, rows that differ in one thing, further rows at equal length."""

import dataclasses

import numpy as np
import pytest
import torch

from lib.ablation.tables import (
    AblationRow,
    AblationTable,
    chosen_tables,
    describe_stages,
    paper_tables,
    unique_rows,
)
from lib.config import StageConfig
from lib.recipes import profile, recipe
from lib.training.schedules import build_optimizer
from lib.training.stage import build_classification_model

PROFILES = {name: profile(name) for name in ("smoke", "mini", "full")}
# A network of the user's own, on photographs: classes are landmarks, views are not known.
CHANGES = {"model.backbone": "tf_efficientnet_lite0", "clean.split": False}
PROFILES["own"] = profile("full", **CHANGES)
MINI, OWN = (paper_tables(PROFILES[name]) for name in ("mini", "own"))


def by_name(table):
    return {row.name: row for row in table.rows}


def difference(one, other):
    """The settings in which two configurations differ, by dotted name."""
    found = {}
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a == b:
            continue
        if dataclasses.is_dataclass(a):
            inner = difference(a, b).items()
            found |= {f"{field.name}.{name}": value for name, value in inner}
        else:
            found[field.name] = b
    return found


@pytest.mark.parametrize("name", PROFILES)
def test_every_row_is_compared_with_a_row_of_its_table(name):
    tables = paper_tables(PROFILES[name])
    for table in tables.values():
        rows = by_name(table)
        assert len(rows) == len(table.rows)
        for row in table.rows:
            assert row.against in ("", *rows)
            assert row.against != row.name
            assert all(member in rows for member in row.members)
            assert bool(row.members) != bool(row.stages)
    assert len(unique_rows(tables.values())) > 15


def test_table_1_has_the_figures_of_the_paper():
    rows = MINI["glr20_table_1"].rows
    paper = [(0.305, 0.266), (0.315, 0.276), (0.329, 0.293), (0.356, 0.321), (0.364, 0.327)]
    assert [(r.paper_public, r.paper_private) for r in rows] == [*paper, (0.374, 0.334)]
    assert [row.against for row in rows[1:]] == [
        "ResNeSt101 softmax clean",
        "ResNeSt101 ArcFace clean",
        "ResNet152 ArcFace clean",
        "ResNet152 cluster",
        "ResNeSt200 cluster",
    ]


def test_table_1_changes_one_thing_from_row_to_row():
    a, b, c, d, e, f = MINI["glr20_table_1"].rows
    assert [stage.loss for stage in a.stages] == ["softmax", "softmax"]
    assert difference(b.stages[1], a.stages[1]) == {"name": "softmax_on", "loss": "softmax"}
    assert a.model == b.model != c.model == d.model != e.model == f.model
    assert b.stages == c.stages == d.stages[:2]
    assert d.stages == e.stages
    assert difference(e.stages[2], f.stages[2]) == {"name": "cutmix_paper", "cutmix": "paper"}


def test_table_1_of_one_network_leaves_out_rows_that_would_be_the_same():
    rows = OWN["glr20_table_1"].rows
    assert [row.name for row in rows] == [
        "softmax clean", "ArcFace clean", "cluster", "cluster cutmix",
    ]  # fmt: skip
    assert [row.against for row in rows] == ["", "softmax clean", "ArcFace clean", "cluster"]
    assert [row.paper_private for row in rows] == [0.266, 0.276, 0.321, 0.334]


def test_table_2_has_ensembles_of_its_best_two_rows_and_times():
    table = MINI["glr20_table_2"]
    private = [row.paper_private for row in table.rows]
    assert private == [0.321, 0.307, 0.294, 0.327, 0.342, 0.346]
    assert [row.paper_milliseconds for row in table.rows[:4]] == [26.3, 59.8, 41.2, 74.1]
    *networks, both, larger = table.rows
    assert len({row.model.backbone + str(row.model.backbone_options) for row in networks}) == 4
    assert both.members == larger.members == ("ResNet152 cluster", "ResNeSt200 cluster")
    assert (both.inference.size, larger.inference.size) == (64, 96)
    full = paper_tables(PROFILES["full"])["glr20_table_2"].rows
    assert [row.inference.size for row in full] == [*[448] * 5, 512]
    assert "glr20_table_2" not in OWN


def test_table_1_trains_resnest200_half_as_long_as_the_paper_does():
    *_, shallow, deep, mixed = paper_tables(PROFILES["full"])["glr20_table_1"].rows
    own = recipe("glr20-resnest200").stages
    for row in (deep, mixed):
        found = [(stage.epochs, stage.batch_size) for stage in row.stages]
        assert found == [(stage.epochs, stage.batch_size) for stage in own]
        assert [epochs for epochs, _ in found] == [2, 10, 6]
        assert row.note == ""
    assert [stage.epochs for stage in shallow.stages] == [4, 20, 12]
    assert shallow.stages[0].batch_size == 192
    # What the run sets counts in proportion, and no stage vanishes.
    fewer = profile("full", **{"stages.arcface.epochs": 1, "stages.cluster.epochs": 4})
    deep = by_name(paper_tables(fewer)["glr20_table_1"])["ResNeSt200 cluster"]
    assert [stage.epochs for stage in deep.stages] == [2, 1, 2]
    other = paper_tables(profile("full", recipe_name="glr20-resnest200"))["glr20_table_1"]
    usual = paper_tables(PROFILES["full"])["glr20_table_1"]
    assert [describe_stages(row) for row in other.rows] == [
        describe_stages(row) for row in usual.rows
    ]


def test_miniature_rows_of_resnest200_note_that_they_are_as_long_as_the_rest():
    notes = {name: row.note for name, row in by_name(MINI["glr20_table_2"]).items() if row.note}
    assert notes == {"ResNeSt200 cluster": "trained as long as others; GLR20: 12 + 6 epochs"}
    assert [row.note != "" for row in MINI["glr20_table_1"].rows] == [*[False] * 4, True, True]
    lengths = {tuple(stage.epochs for stage in row.stages) for row in MINI["mixing"].rows}
    assert len(lengths) == 1


@pytest.mark.parametrize(
    ("table", "figures"),
    [
        ("glr21_tricks", [(0.2844, 0.3059), (0.2929, 0.3060), (0.2821, 0.2979)]),
        ("glr21_samplers", [(0.2844, 0.3059), (0.2478, 0.2728), (0.3137, 0.3244)]),
        (
            "glr20_table_2",
            [
                *[(0.356, 0.321), (0.344, 0.307), (0.328, 0.294)],
                *[(0.364, 0.327), (0.376, 0.342), (0.381, 0.346)],
            ],
        ),
    ],
)
def test_tables_have_the_figures_of_the_papers(table, figures):
    found = [(row.paper_public, row.paper_private) for row in MINI[table].rows]
    assert [pair for pair in found if not np.isnan(pair).any()] == figures


def test_tricks_add_one_thing_to_the_baseline():
    baseline, erasing, smoothing = MINI["glr21_tricks"].rows
    assert baseline.stages[0].augment.erasing == 0.0
    assert difference(baseline.stages[0], erasing.stages[0]) == {"augment.erasing": 1.0}
    assert difference(baseline.stages[0], smoothing.stages[0]) == {"label_smoothing": 0.1}
    assert baseline.model.backbone_options["last_stride"] == 1
    assert baseline.model.pooling == "gem"


def test_samplers_take_classes_apart_from_the_diversity_of_batches():
    baseline, *uniform, _ = MINI["glr21_samplers"].rows
    found = [(row.name, row.against, row.stages[0].images_per_class) for row in uniform]
    assert found == [
        ("id-uniform", "baseline", 1),  # GLR21's configuration
        ("id-uniform, K = 2", "id-uniform", 2),
        ("id-uniform, K = 4", "id-uniform, K = 2", 4),
    ]
    assert uniform[0].paper_private == 0.2728
    assert all(np.isnan(row.paper_private) for row in uniform[1:])
    for row in uniform:
        changes = difference(baseline.stages[0], row.stages[0])
        assert set(changes) <= {"sampler", "images_per_class"}
        assert changes["sampler"] == "class_uniform"


def test_samplers_never_train_on_what_they_are_asked():
    baseline, *_, continent = MINI["glr21_samplers"].rows
    assert continent.stages[0] == baseline.stages[0]
    assert continent.stages[1].sampler == "continent"
    assert continent.stages[1].train_list == "full"


@pytest.mark.parametrize(
    ("names", "share", "found", "epochs"),
    [
        ("quick", 0.0, ["glr20_table_1"], 0.12),
        ("quick", 0.5, ["glr20_table_1"], 0.5),
        ("glr21_tricks, cleaning", 0.0, ["glr21_tricks", "cleaning"], 1.0),
        ("glr21_tricks, cleaning", 0.5, ["glr21_tricks", "cleaning"], 0.5),
        ("all", 0.0, list(MINI), 1.0),
    ],
)
def test_chosen_tables_takes_names_and_a_share_of_the_epochs(names, share, found, epochs):
    shortened, tables = chosen_tables(PROFILES["mini"], names, share)
    assert list(tables) == found
    before = [stage.epochs for stage in PROFILES["mini"].stages]
    assert [s.epochs for s in shortened.stages] == [max(1, round(epochs * e)) for e in before]
    for name, table in tables.items():
        if names == "quick":
            usual = [PROFILES["mini"].stages[:2], PROFILES["mini"].stages]  # ArcFace, cluster
            rows = table.rows[1:]
            assert [row.against for row in table.rows] == ["", table.rows[0].name, rows[0].name]
            assert [row.paper_private for row in rows] == [0.293, 0.321]
        else:
            usual, rows = [row.stages for row in MINI[name].rows], table.rows
        for row, stages in zip(rows, usual, strict=True):
            wanted = [max(1, round(epochs * stage.epochs)) for stage in stages]
            assert [stage.epochs for stage in row.stages] == wanted


def test_a_share_of_the_epochs_leaves_rows_before_training_untrained():
    start, base, *_ = chosen_tables(profile("photos"), "fine_tuning", 0.34)[1]["fine_tuning"].rows
    assert [row.stages[0].epochs for row in (start, base)] == [0, 1]


def test_chosen_tables_takes_rows_by_name():
    names, only = "glr21_tricks, cleaning", "baseline; ResNet152 raw labels"
    _, tables = chosen_tables(PROFILES["mini"], names, only=only)
    assert [[row.name for row in table.rows] for table in tables.values()] == [
        ["baseline"],
        ["ResNet152 raw labels"],
    ]
    assert list(chosen_tables(PROFILES["mini"], names, only="baseline")[1]) == ["glr21_tricks"]
    with pytest.raises(ValueError, match=r"rows among baseline; .*found 'nothing'"):
        chosen_tables(PROFILES["mini"], names, only="nothing")


def test_a_recipe_of_other_stages_is_taken_stage_by_stage():
    other = profile("mini", recipe_name="glr21-seresnet101-ibn")
    same, tables = chosen_tables(other, "quick", 1.0)
    assert same == other
    clean, *later = tables["stages"].rows
    assert (clean.name, clean.stages, clean.against) == ("clean", other.stages[:1], "")
    assert [row.name for row in later] == ["+ c2x", "+ full", "+ all (leaked)"]
    assert [row.against for row in later] == ["clean", "+ c2x", "+ full"]
    assert [row.stages for row in later] == [other.stages[:place] for place in (2, 3, 4)]
    assert [row.is_leaked for row in (clean, *later)] == [False, False, False, True]
    shorter, tables = chosen_tables(other, "quick")
    assert tables["stages"].rows[-1].stages == shorter.stages
    assert shorter.stages[0].epochs == round(other.stages[0].epochs * other.quick) == 5
    with pytest.raises(ValueError, match="run the tables without --recipe"):
        chosen_tables(other, "all")


def test_other_stages_than_the_papers_keep_the_share_and_are_told():
    fourth = dataclasses.replace(PROFILES["mini"].stages[-1], name="again")
    changed = [
        profile("mini", **{"stages.arcface.loss": "cosine"}),
        dataclasses.replace(PROFILES["mini"], stages=(*PROFILES["mini"].stages, fourth)),
    ]
    notes = ("cosine on clean", "arcface on cluster, arcface on")
    for other, told in zip(changed, notes, strict=True):
        _, tables = chosen_tables(other, "quick")
        (table,) = tables.values()
        assert table.rows[0].stages[0].epochs == 1
        assert [stage.epochs for stage in table.rows[-1].stages[1:3]] == [5, 2]
        assert table.note.startswith(
            "Not GLR20 Table 1, of softmax on clean, arcface on clean, arc"
        )
        assert told in table.note
    assert chosen_tables(PROFILES["mini"], "quick")[1]["glr20_table_1"].note == ""


def test_a_backbone_of_its_own_stands_for_all_networks():
    tables = paper_tables(profile("mini", **{"model.backbone": "resnet18"}))
    with pytest.raises(
        ValueError, match=r"found 'glr20_table_2'; correct TABLES, .* without BACKBONE"
    ):
        chosen_tables(profile("mini", **{"model.backbone": "resnet18"}), "glr20_table_2")
    rows = unique_rows(tables.values())
    assert {row.model.backbone for row in rows.values()} == {"resnet18"}
    assert "cluster" in rows


def test_half_an_epoch_counts_as_one():
    _, tables = chosen_tables(PROFILES["mini"], "glr20_table_1,glr21_samplers", 0.25)
    assert MINI["glr20_table_1"].rows[3].stages[-1].epochs == 14
    assert tables["glr20_table_1"].rows[3].stages[-1].epochs == 4
    assert MINI["glr21_samplers"].rows[-1].stages[-1].epochs == 10
    assert tables["glr21_samplers"].rows[-1].stages[-1].epochs == 3


def test_chosen_tables_refuses_what_there_is_not():
    with pytest.raises(ValueError, match="found 'glr20_table_3'; correct TABLES"):
        chosen_tables(PROFILES["mini"], "glr20_table_3")
    other = profile("mini", recipe_name="glr21-resnet50")
    with pytest.raises(ValueError, match=r"found arcface on clean, .* on c2x, .* on all; run the"):
        paper_tables(other)


def test_apart_goes_from_the_baseline_to_the_leak_in_single_steps():
    baseline, on_clean, full, continent, leaked = MINI["glr21_apart"].rows
    lists = [row.stages[1].train_list for row in (on_clean, full, continent, leaked)]
    assert lists == ["clean", "full", "full", "all"]
    assert [row.against for row in (on_clean, full, continent)] == [
        baseline.name, on_clean.name, full.name,
    ]  # fmt: skip
    assert [row.stages[1].sampler for row in (full, continent)] == ["shuffle", "continent"]
    assert {row.budget for row in (on_clean, full, continent, leaked)} == {"full"}
    assert leaked.is_leaked
    assert not any(row.is_leaked for row in (baseline, on_clean, full, continent))


def test_networks_change_one_part_each():
    rows = {row.name: row for row in MINI["networks"].rows}
    base = rows["baseline"]
    assert rows["average pooling"].model.pooling == "gap"
    assert rows["GeM, trained"].model.gem_trained
    assert rows["+ IBN-a"].model.backbone_options == {**base.model.backbone_options, "ibn": True}
    assert rows["last stride 2"].model.backbone_options["last_stride"] == 2
    uniform, triplets = rows["id-uniform, K = 4"], rows["+ triplet loss, K = 4"]
    assert triplets.against == uniform.name
    assert uniform.stages[0].images_per_class == triplets.stages[0].images_per_class == 4
    assert (uniform.stages[0].triplet_weight, triplets.stages[0].triplet_weight) == (0.0, 1.0)
    assert all(row.stages == base.stages for name, row in rows.items() if "uniform" not in name
               and "triplet" not in name)  # fmt: skip


def test_networks_of_today_train_as_their_recipes_do_beside_glr20s():
    first, *modern = MINI["modern"].rows
    assert first == by_name(MINI["glr20_table_1"])["ResNet152 cluster"]
    for row, name in zip(modern, ("modern-vit-b-mini", "modern-convnext-b-mini"), strict=True):
        found = recipe(name)
        assert (row.model, row.stages, row.inference) == (
            found.model,
            found.stages,
            found.inference,
        )
        assert row.against == first.name
        assert [stage.train_list for stage in row.stages] == ["clean", "cluster"]
    assert "modern" not in OWN


@pytest.mark.parametrize("row", MINI["modern"].rows[1:], ids=lambda row: row.model.backbone)
def test_networks_of_today_learn_one_batch(row):
    stage = dataclasses.replace(row.stages[0], freeze_backbone=0.0)
    model = build_classification_model(stage, row.model, torch.full((4,), 2), start=None, seed=0)
    optimizer = build_optimizer(stage, model)
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(8):
        losses.append(model(images, torch.arange(8) % 4))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.stack(losses).isfinite().all()
    assert losses[-1] < losses[0]


def test_networks_of_a_backbone_without_bottlenecks_are_left_out():
    names = [row.name for row in OWN["networks"].rows]
    assert "+ IBN-a" not in names
    assert "last stride 2" not in names
    assert "GeM pooling" in names


def test_mixing_compares_both_forms_with_none():
    assert [row.stages[-1].cutmix for row in MINI["mixing"].rows] == ["", "paper", "code"]
    assert len({row.against for row in MINI["mixing"].rows[1:]}) == 1


def test_heads_differ_in_the_share_of_the_classes_alone():
    whole, *few = MINI["heads"].rows
    assert whole.stages[0].train_list == "full"
    assert [row.stages[0].class_share for row in few] == [0.3, 0.1]
    for row in few:
        assert dataclasses.replace(row.stages[0], class_share=1.0) == whole.stages[0]
        assert (row.against, row.model) == (whole.name, whole.model)


def test_cleaning_compares_lists_at_one_length():
    rows = MINI["cleaning"].rows
    assert {row.budget for row in rows} == {"full"}
    lists = [row.stages[-1].train_list for row in rows]
    assert lists == ["full", "clean", *["cluster"] * 7]
    kinds = [row.cleaning for row in rows]
    parts = ["", "", "", "paper", "no rescue", "no split", "twice", "truth"]
    assert kinds == [*parts, "truth no split"]
    assert len({row.stages[:2] for row in rows}) == 1
    parts[parts.index("no split")] = "split"  # photographs are not split unless a row says so
    assert [row.cleaning for row in OWN["cleaning"].rows] == parts  # no views are known there


def test_fine_tuning_changes_one_thing_in_each_row():
    start, base, *changed, sizes, joint = paper_tables(profile("photos"))["fine_tuning"].rows
    assert (start.stages[0].epochs, base.stages[0].train_list) == (0, "cluster")
    assert base.against == start.name
    for row in changed:
        assert row.against == base.name
        parts = difference(base.stages[0], row.stages[0]), difference(base.model, row.model)
        assert any(parts), row.name
        assert not all(parts), row.name
    assert [stage.size for stage in sizes.stages] == [128, base.stages[0].size]
    assert sum(stage.epochs for stage in sizes.stages) == base.stages[0].epochs
    assert joint.members == (base.name, start.name)


def test_sizes_compare_each_number_of_images_with_the_start():
    rows = paper_tables(profile("photos"))["sizes"].rows
    assert [row.images for row in rows] == [300, 300, 1000, 1000, 3000, 3000]
    assert [row.against for row in rows[1::2]] == [row.name for row in rows[::2]]
    assert {row.stages[0].train_list for row in rows} == {"full"}


TWO_STAGES = (StageConfig("softmax", epochs=2), StageConfig("arcface", epochs=3))
TWO_STAGE_ROW = AblationRow("a", stages=TWO_STAGES)


def test_unique_rows_shares_a_row_that_is_compared_with_another():
    again = dataclasses.replace(TWO_STAGE_ROW, against="b", paper_private=0.9)
    assert unique_rows([AblationTable("t", "T", (TWO_STAGE_ROW, again))]) == {"a": TWO_STAGE_ROW}


def test_unique_rows_refuses_two_rows_of_one_name():
    other = dataclasses.replace(TWO_STAGE_ROW, stages=TWO_STAGES[:1])
    with pytest.raises(ValueError, match="one row called 'a', found two that differ"):
        unique_rows([AblationTable("t", "T", (TWO_STAGE_ROW, other))])


def test_describe_stages_names_stages_or_members():
    assert describe_stages(TWO_STAGE_ROW) == "softmax (2), arcface (3)"
    assert describe_stages(AblationRow("e", members=("a", "b"))) == "a, b"

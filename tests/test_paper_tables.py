"""The papers' tables: their figures, and rows that differ in one thing."""

import dataclasses

import pytest

from lib.ablation_rows import unique_rows
from lib.paper_tables import chosen_tables, paper_tables
from lib.profiles import profile

PROFILES = {name: profile(name) for name in ("smoke", "mini", "photos", "full")}
MINI = paper_tables(PROFILES["mini"])


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
    rows = paper_tables(PROFILES["photos"])["glr20_table_1"].rows
    assert [row.name for row in rows] == [
        "softmax clean", "ArcFace clean", "cluster", "cluster cutmix",
    ]  # fmt: skip
    assert [row.against for row in rows] == ["", "softmax clean", "ArcFace clean", "cluster"]
    assert [row.paper_private for row in rows] == [0.266, 0.276, 0.321, 0.334]


def test_table_2_has_ensembles_of_its_best_two_rows_and_times():
    table = MINI["glr20_table_2"]
    assert table.has_times
    private = [row.paper_private for row in table.rows]
    assert private == [0.321, 0.307, 0.294, 0.327, 0.342, 0.346]
    assert [row.paper_milliseconds for row in table.rows[:4]] == [26.3, 59.8, 41.2, 74.1]
    *networks, both, larger = table.rows
    assert len({row.model.trunk + str(row.model.trunk_options) for row in networks}) == 4
    assert both.members == larger.members == ("ResNet152 cluster", "ResNeSt200 cluster")
    assert (both.inference.size, larger.inference.size) == (64, 96)
    full = paper_tables(PROFILES["full"])["glr20_table_2"].rows
    assert [row.inference.size for row in full] == [*[448] * 5, 512]
    assert "glr20_table_2" not in paper_tables(PROFILES["photos"])


def test_tricks_add_one_thing_to_the_baseline():
    baseline, erasing, smoothing = MINI["glr21_tricks"].rows
    assert baseline.stages[0].augment.erasing == 0.0
    assert difference(baseline.stages[0], erasing.stages[0]) == {"augment.erasing": 1.0}
    assert difference(baseline.stages[0], smoothing.stages[0]) == {"label_smoothing": 0.1}
    assert baseline.model.trunk_options["last_stride"] == 1
    assert baseline.model.pooling == "gem"


def test_samplers_never_train_on_what_they_are_asked():
    baseline, uniform, continent = MINI["glr21_samplers"].rows
    assert difference(baseline.stages[0], uniform.stages[0]) == {"sampler": "class_uniform"}
    assert continent.stages[0] == baseline.stages[0]
    assert continent.stages[1].sampler == "continent"
    assert continent.stages[1].train_list == "full"


@pytest.mark.parametrize(
    ("names", "share", "found", "epochs"),
    [
        ("quick", 0.0, ["glr20_table_1"], 0.25),
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
    if names == "quick":
        assert tables["glr20_table_1"].rows[2].stages == shortened.stages[:2]
    for name, table in tables.items():
        for row, usual in zip(table.rows, MINI[name].rows, strict=True):
            wanted = [max(1, round(epochs * stage.epochs)) for stage in usual.stages]
            assert [stage.epochs for stage in row.stages] == wanted


def test_a_recipe_of_other_stages_is_taken_stage_by_stage():
    other = profile("mini", recipe_name="glr21-seresnet101-ibn")
    same, tables = chosen_tables(other, "quick")
    assert same == other
    clean, *later = tables["stages"].rows
    assert (clean.name, clean.stages, clean.against) == ("clean", other.stages[:1], "")
    assert [row.name for row in later] == ["+ c2x", "+ full", "+ all (leaked)"]
    assert [row.against for row in later] == ["clean", "+ c2x", "+ full"]
    assert [row.stages for row in later] == [other.stages[:place] for place in (2, 3, 4)]
    assert [row.is_leaked for row in (clean, *later)] == [False, False, False, True]
    shorter, tables = chosen_tables(other, "quick", 0.5)
    assert tables["stages"].rows[-1].stages == shorter.stages
    assert shorter.stages[0].epochs == other.stages[0].epochs / 2
    with pytest.raises(ValueError, match="run the tables without --recipe"):
        chosen_tables(other, "all")


def test_half_an_epoch_counts_as_one():
    _, tables = chosen_tables(PROFILES["mini"], "glr20_table_1,glr21_samplers", 0.25)
    assert MINI["glr20_table_1"].rows[3].stages[-1].epochs == 14
    assert tables["glr20_table_1"].rows[3].stages[-1].epochs == 4
    assert MINI["glr21_samplers"].rows[2].stages[-1].epochs == 10
    assert tables["glr21_samplers"].rows[2].stages[-1].epochs == 3


def test_chosen_tables_refuses_what_there_is_not():
    with pytest.raises(ValueError, match="found 'glr20_table_3'; correct TABLES"):
        chosen_tables(PROFILES["mini"], "glr20_table_3")
    with pytest.raises(ValueError, match="a share of the epochs from 0, found -1"):
        chosen_tables(PROFILES["mini"], "all", -1.0)
    other = profile("mini", recipe_name="glr21-resnet50")
    with pytest.raises(ValueError, match="found those of 'glr21-resnet50-mini'; run the tables"):
        paper_tables(other)

"""Beyond the papers: rows that take one thing away or add one, at equal length."""

from lib.ablation.tables import cleaning, glr21_apart, mixing, networks
from lib.recipes import profile

MINI, PHOTOS = profile("mini"), profile("photos")


def test_apart_goes_from_the_baseline_to_the_leak_in_single_steps():
    baseline, on_clean, full, continent, leaked = glr21_apart(MINI).rows
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
    rows = {row.name: row for row in networks(MINI).rows}
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


def test_networks_of_a_backbone_without_bottlenecks_are_left_out():
    names = [row.name for row in networks(PHOTOS).rows]
    assert "+ IBN-a" not in names
    assert "last stride 2" not in names
    assert "GeM pooling" in names


def test_mixing_compares_both_forms_with_none():
    assert [row.stages[-1].cutmix for row in mixing(MINI).rows] == ["", "paper", "code"]
    assert len({row.against for row in mixing(MINI).rows[1:]}) == 1


def test_cleaning_compares_lists_at_one_length():
    rows = cleaning(MINI).rows
    assert {row.budget for row in rows} == {"full"}
    lists = [row.stages[-1].train_list for row in rows]
    assert lists == ["full", "clean", *["cluster"] * 7]
    kinds = [row.cleaning for row in rows]
    parts = ["", "", "", "paper", "no rescue", "no split", "twice", "truth"]
    assert kinds == [*parts, "truth no split"]
    assert len({row.stages[:2] for row in rows}) == 1
    parts[parts.index("no split")] = "split"  # photographs are not split unless a row says so
    assert [row.cleaning for row in cleaning(PHOTOS).rows] == parts  # no views are known there

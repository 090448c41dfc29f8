"""Strict overrides, and profiles of which every part can be built."""

import dataclasses

import pytest

from lib.config import (
    CleanConfig,
    Profile,
    RerankConfig,
    StageConfig,
    WorldConfig,
    override,
)
from lib.profiles import PROFILES, profile


@pytest.mark.parametrize("name", PROFILES)
def test_profile_of_every_name_builds(name):
    found = profile(name)
    assert found.name == name
    assert [stage.name for stage in found.stages] == ["softmax", "arcface", "cluster"]
    assert [stage.loss for stage in found.stages] == ["softmax", "arcface", "arcface"]
    assert found.stage_one == found.stages[:2]
    assert [stage.train_list for stage in found.stage_two] == ["cluster"]
    assert profile(name) == found


@pytest.mark.parametrize("name", PROFILES)
def test_profile_has_no_value_of_another_type(name):
    def walk(config):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            # Setting a value to itself passes override's own check, whatever it holds.
            assert override(config, {field.name: value}) == config
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if dataclasses.is_dataclass(part):
                    walk(part)

    walk(profile(name))


def test_profile_applies_dotted_settings():
    changes = {
        "seed": 3,
        "model.trunk": "resnet18",
        "stages.arcface.epochs": 1,
        "stages.cluster.augment.erasing": 0,
        "clean.eps": 1,
    }
    found, plain = profile("mini", **changes), profile("mini")
    assert (found.seed, found.model.trunk, found.clean.eps) == (3, "resnet18", 1.0)
    assert isinstance(found.clean.eps, float)
    assert found.stages[-1].augment.erasing == 0.0
    assert [stage.epochs for stage in found.stage_one] == [plain.stage_one[0].epochs, 1]
    assert (
        dataclasses.replace(found.stage_one[1], epochs=plain.stage_one[1].epochs)
        == (plain.stage_one[1])
    )
    assert found.stage_one[0] == plain.stage_one[0]


def test_profile_refuses_an_unknown_name():
    with pytest.raises(ValueError, match="among smoke, mini, photos, full, found 'maxi'"):
        profile("maxi")


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("sead", 1, "Profile has no setting 'sead'; did you mean seed?"),
        ("model.trnk", "x", "ModelConfig has no setting 'trnk'; did you mean trunk?"),
        ("clean.zzz", 1, "CleanConfig has no setting 'zzz'; it has eps, min_samples"),
        ("stages.sofmax.epochs", 1, "a stage among softmax, arcface, cluster, found 'sofmax'"),
        ("stages.softmax.epoch", 1, "no setting 'epoch'; did you mean epochs?"),
        ("stages.softmax", 1, "StageConfig has no setting ''"),
        ("seed", "1", r"'seed' expects int, found '1' \(str\)"),
        ("seed", True, r"'seed' expects int, found True \(bool\)"),
        ("seed", 1.0, r"'seed' expects int, found 1.0 \(float\)"),
        ("clean.eps", "0.3", r"'eps' expects float, found '0.3' \(str\)"),
        ("clean.eps", False, r"'eps' expects float, found False \(bool\)"),
        ("clean.rescue", 1, r"'rescue' expects bool, found 1 \(int\)"),
        ("model.trunk", 18, r"'trunk' expects str, found 18 \(int\)"),
        ("model", "resnet18", r"'model' expects ModelConfig, found 'resnet18' \(str\)"),
        ("world", 5, r"'world' expects WorldConfig or None, found 5 \(int\)"),
        ("stages.cluster.augment.scale", 0.7, r"'scale' expects tuple, found 0.7 \(float\)"),
        ("stages.cluster.augment.scale", (0.7,), r"'scale' expects 2 values, found \(0.7,\)"),
        ("seed.x", 1, "'seed' is 0, which has no setting 'x'"),
        ("stages.cluster.augment.aspect.low", 1, "'aspect' is .*, which has no setting 'low'"),
    ],
)
def test_override_refuses_what_does_not_exist_or_fit(setting, value, message):
    with pytest.raises(ValueError, match=message):
        profile("mini", **{setting: value})


def test_override_explains_a_world_that_is_not_there():
    with pytest.raises(ValueError, match="'world' is None, which has no setting 'seed'"):
        profile("full", **{"world.seed": 1})


def test_override_sets_whole_parts():
    world = WorldConfig(landmarks=5)
    stages = (StageConfig(name="only"),)
    found = override(profile("full"), {"world": world, "stages": stages, "rerank": RerankConfig()})
    assert found.world == world
    assert found.stages == stages
    assert override(found, {"world": None}).world is None


def test_override_leaves_the_original_as_it_was():
    original = profile("mini")
    override(original, {"stages.softmax.epochs": 1, "world.seed": 9})
    assert original == profile("mini")


def test_configs_are_frozen():
    for config in (profile("mini"), StageConfig(), CleanConfig()):
        name = dataclasses.fields(config)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, None)


def test_profiles_that_run_alone_are_those_with_a_world():
    assert [name for name in PROFILES if profile(name).world] == ["smoke", "mini"]
    assert all(isinstance(profile(name), Profile) for name in PROFILES)


def test_full_profile_is_the_network_of_the_paper():
    full = profile("full")
    assert full.recipe == "glr20-resnet152"
    assert (full.model.trunk, full.model.embedding_dim) == ("resnet152", 512)
    assert not any(stage.cutmix for stage in full.stages)


def test_profile_takes_another_recipe_or_its_relative():
    full = profile("full", recipe_name="glr21-seresnet101-ibn")
    assert [stage.train_list for stage in full.stage_two] == ["c2x", "full", "all"]
    mini = profile("mini", recipe_name="glr21-seresnet101-ibn")
    assert mini.recipe == "glr21-seresnet101-ibn-mini"
    assert mini == profile("mini", recipe_name="glr21-seresnet101-ibn-mini")
    assert mini.clean == profile("mini").clean
    smoke = profile("smoke", recipe_name="glr21-resnet50")
    assert {stage.size for stage in smoke.stages} == {smoke.inference.size} == {48}
    assert max(stage.epochs for stage in smoke.stages) == 2


def test_profile_refuses_an_unknown_recipe():
    with pytest.raises(ValueError, match=r"found 'glr20-resnet125'; did you mean glr20-resnet152"):
        profile("full", recipe_name="glr20-resnet125")

"""Strict overrides, and profiles of which every part can be built."""

import dataclasses
import math
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import timm
import torch

from lib.config import (
    BASIC_DEPTHS,
    RESNET_LIKE,
    CleanConfig,
    ModelConfig,
    Profile,
    RerankConfig,
    Settings,
    StageConfig,
    WorldConfig,
    override,
)
from lib.models.backbones import build_backbone
from lib.models.network import build_model
from lib.recipes import PROFILES, profile


@pytest.mark.parametrize("name", PROFILES)
def test_profile_of_every_name_builds(name):
    found = profile(name)
    assert found.name == name
    first = [] if name == "photos" else ["softmax"]
    assert [stage.name for stage in found.stages] == [*first, "arcface", "cluster"]
    assert [stage.loss for stage in found.stages] == [*first, "arcface", "arcface"]
    assert found.stage_one == found.stages[:-1]
    assert [stage.train_list for stage in found.stage_two] == ["cluster"]
    assert profile(name) == found


@pytest.mark.parametrize("name", PROFILES)
def test_profile_has_no_value_of_another_type(name):
    def walk(config):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            # Setting a value to itself passes override's own check, whatever it holds.
            found = override(config, {field.name: value})
            assert found == config or field.name == "backbone"  # named, it comes in full
            parts = value if isinstance(value, tuple) else (value,)
            for part in parts:
                if dataclasses.is_dataclass(part):
                    walk(part)

    walk(profile(name))


def test_profile_applies_dotted_settings():
    changes = {
        "seed": 3,
        "model.backbone": "resnet18",
        "rerank.reciprocal": "off",
        "stages.arcface.epochs": 1,
        "stages.cluster.augment.erasing": 0,
        "clean.eps": 1,
    }
    found, plain = profile("mini", **changes), profile("mini")
    assert (found.seed, found.model.backbone, found.clean.eps) == (3, "resnet18", 1.0)
    assert isinstance(found.clean.eps, float)
    assert (found.rerank.reciprocal, plain.rerank.reciprocal) == (False, True)
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
        ("model.backbne", "x", "ModelConfig has no setting 'backbne'; did you mean backbone?"),
        ("clean.zzz", 1, "CleanConfig has no setting 'zzz'; it has eps, min_samples"),
        ("stages.sofmax.epochs", 1, "a stage among softmax, arcface, cluster, found 'sofmax'"),
        ("stages.softmax.epoch", 1, "no setting 'epoch'; did you mean epochs?"),
        ("stages.softmax", 1, "StageConfig has no setting ''"),
        ("seed", "1", r"'seed' expects int, found '1' \(str\)"),
        ("seed", True, r"'seed' expects int, found True \(bool\)"),
        ("seed", 1.0, r"'seed' expects int, found 1.0 \(float\)"),
        ("clean.eps", "0.3", r"'eps' expects float, found '0.3' \(str\)"),
        ("clean.eps", False, r"'eps' expects float, found False \(bool\)"),
        ("clean.rescue", 1, r"'rescue' expects bool \(on or off\), found 1 \(int\)"),
        ("model.backbone", 18, r"'backbone' expects str \(in quotes\), found 18 \(int\)"),
        ("model", "resnet18", r"'model' expects ModelConfig, found 'resnet18' \(str\)"),
        ("world", 5, r"'world' expects WorldConfig or None, found 5 \(int\)"),
        ("stages.cluster.augment.scale", 0.7, r"'scale' expects tuple, found 0.7 \(float\)"),
        ("stages.cluster.augment.scale", (0.7,), r"'scale' expects 2 values, found \(0.7,\)"),
        ("seed.x", 1, "'seed' is 0, which has no setting 'x'"),
        ("stages.cluster.augment.aspect.low", 1, "'aspect' is .*, which has no setting 'low'"),
        ("stages.arcface.epochs", -1, "'epochs' expects a number from 0 on, found -1"),
        ("stages.arcface.train_list", "clena", "one of 'clean', .*, found 'clena'; did you mean"),
        ("stages.arcface.scale", 0, "'scale' expects a number above 0, found 0.0"),
        ("stages.arcface.margin", float("nan"), "'margin' expects a number from 0 to .*found nan"),
        ("stages.arcface.weight_decay", float("inf"), "a number from 0 on, found inf"),
        ("stages.cluster.augment.scale", (1.3, 0.7), "smaller value first, found"),
        ("inference.scales", (1.0, 0.0), "'scales' expects a number above 0, found 0.0"),
        ("rerank.reciprocal", "yes", r"'reciprocal' expects bool \(on or off\), found 'yes'"),
    ],
)
def test_override_refuses_what_does_not_exist_or_fit(setting, value, message):
    with pytest.raises(ValueError, match=message):
        profile("mini", **{setting: value})


CLASSES = [kind for kind in Settings.__subclasses__() if kind.__module__ == "lib.config"]
NEEDED = {"name": "x", "summary": "x", "recipe": "x", "source": "x", "stages": ()}
NEEDED |= {"model": ModelConfig()}


def wrong_values(kind):
    """For each number among the settings of a class, values just outside its range."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        length = len(get_args(hint)) if get_origin(hint) is tuple else 0
        part = get_args(hint)[0] if length else hint
        number, *allowed = get_args(part) if get_origin(part) is Annotated else (part,)
        if number in (int, float):
            assert allowed, f"{kind.__name__}.{name} has no range"
            low, high = allowed[0].low, allowed[0].high
            wrong = [low if allowed[0].is_open else low - 1]
            wrong += [high + 1] if high < math.inf else []
            wrong += [math.nan, math.inf] if number is float else []
            yield from ((name, (value,) * length if length else value) for value in wrong)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range_and_is_refused_outside_it(kind):
    names = {field.name for field in dataclasses.fields(kind)}
    usual = {name: value for name, value in NEEDED.items() if name in names}
    for name, wrong in wrong_values(kind):
        with pytest.raises(ValueError, match=f"setting '{name}' expects a number"):
            kind(**usual | {name: wrong})


def parameters_of(name, backbone):
    model = profile(name, **{"model.backbone": backbone, "model.weights": ""}).model
    with torch.device("meta"):
        backbone = build_model(model).backbone
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("backbone", "millions"),
    [
        ("resnet18", 11.18),
        ("resnet26d", 13.97),  # the miniature's own relative, which is smaller there
        ("resnet50", 23.51),
        ("mobilenetv3_small_050", None),
        ("convnext_atto", None),
        ("tf_efficientnet_lite0", None),
        ("resnetv2_50", None),
    ],
)
@pytest.mark.parametrize("name", ["mini", "full"])
def test_a_named_backbone_is_that_network(name, backbone, millions):
    with torch.device("meta"):
        whole = timm.create_model(backbone, num_classes=0)
    found = parameters_of(name, backbone)
    assert found == sum(parameter.numel() for parameter in whole.parameters())
    if millions:
        assert found / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_named_backbone_keeps_the_recipes_changes_where_it_can_take_them():
    recipe = {"recipe_name": "glr21-seresnet101-ibn"}
    options = {
        backbone: dict(
            profile("full", **recipe, **{"model.backbone": backbone}).model.backbone_options
        )
        for backbone in ("resnet50.tv_in1k", "resnet18", "convnext_atto", "resnetv2_50")
    }
    assert options == {
        "resnet50.tv_in1k": {"last_stride": 1, "ibn": True},
        "resnet18": {"last_stride": 1},
        "convnext_atto": {},
        "resnetv2_50": {},
    }
    assert profile("full", **recipe, **{"model.backbone": "resnet50"}).model.mean == ()


SMALL = timm.list_models(
    ["*resne[xst]*14*", "*resne*26*", "resnet?*18*"], exclude_filters=["*269*"]
)


@pytest.mark.parametrize("name", SMALL)
def test_resnet_like_names_take_the_changes_that_are_kept(name):
    found = RESNET_LIKE.match(name)
    if found:
        with torch.device("meta"):
            build_backbone(name, {"last_stride": 1, "ibn": found["depth"] not in BASIC_DEPTHS})


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
    assert (full.model.backbone, full.model.embedding_dim) == ("resnet152.tv_in1k", 512)
    assert not any(stage.cutmix for stage in full.stages)


def test_networks_of_glr21_rerank_as_it_does_outside_of_the_miniature():
    recipe_name = "glr21-resnest269"
    for name in ("full", "photos"):
        found = profile(name, recipe_name=recipe_name).rerank
        usual = profile(name).rerank
        assert found == dataclasses.replace(usual, reciprocal=True, references="full+index")
    assert profile("full", recipe_name="glr20-resnest200").rerank == profile("full").rerank
    assert profile("mini", recipe_name=recipe_name).rerank == profile("mini").rerank
    assert {profile(name).rerank.references for name in PROFILES} == {"cluster"}
    with pytest.raises(ValueError, match=r"one of 'cluster', 'full', .*, found 'index'"):
        profile("full", **{"rerank.references": "index"})


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

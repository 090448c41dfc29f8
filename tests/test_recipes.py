"""Recipes: every one can be built, and holds what is known of its system."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.config import ModelConfig, Recipe, override
from lib.models.backbones import IBN_NET_FILES
from lib.models.network import build_model
from lib.recipes import GLR20_AUGMENT, RECIPES, recipe
from tests.golden_recipes import FILE, as_text, golden

PLAIN = [name for name in RECIPES if not name.endswith("-code")]


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_names_a_network_that_timm_has(name):
    found = recipe(name)
    assert isinstance(found, Recipe)
    assert found.name == name
    assert timm.is_model(found.model.backbone)
    assert found.stages[0].train_list == "clean"
    names = [stage.name for stage in found.stages]
    assert len(set(names)) == len(names)
    assert recipe(name) == found


@pytest.mark.parametrize("name", PLAIN)
def test_every_recipe_has_a_relative_that_two_cores_can_train(name):
    small = recipe(f"{name}-mini")
    model = build_model(small.model).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) < 5e6
    side = small.inference.size
    with torch.no_grad():
        assert model.embed(torch.zeros(2, 3, side, side)).shape == (2, 512)
    full = recipe(name)
    for small_stage, stage in zip(small.stages, full.stages, strict=True):
        kept = ("name", "train_list", "loss", "margin", "scale", "sampler", "cutmix", "bias_lr")
        assert [getattr(small_stage, k) for k in kept] == [getattr(stage, k) for k in kept]
        assert 32 <= small_stage.size <= side == 64
        assert small_stage.augment.erasing == stage.augment.erasing
    assert small.model.pooling == full.model.pooling
    kept = ("last_stride", "ibn")
    assert all(
        small.model.backbone_options.get(k) == full.model.backbone_options.get(k) for k in kept
    )


def test_relatives_are_as_deep_in_proportion_as_the_networks():
    depths = {
        name: sum(recipe(f"glr20-{name}-mini").model.backbone_options["layers"])
        for name in ("resnest101", "resnet152", "resnest200")
    }
    assert depths["resnest101"] < depths["resnet152"] < depths["resnest200"]


def test_relatives_of_table_2_cost_as_much_in_proportion_as_the_networks():
    def cost(name: str, **options) -> int:
        """Operations for one image of 64 px."""
        with torch.device("meta"), FlopCounterMode(display=False) as count:
            timm.create_model(name, num_classes=0, **options).eval()(torch.zeros(1, 3, 64, 64))
        return count.get_total_flops()

    full, small = {}, {}
    for name in ("resnet152", "seresnext101", "resnest101", "resnest200"):
        full[name] = cost(recipe(f"glr20-{name}").model.backbone)
        model = recipe(f"glr20-{name}-mini").model
        small[name] = cost(model.backbone, **model.backbone_options)
    for name in full:
        proportion = full[name] / full["resnet152"]
        assert small[name] / small["resnet152"] == pytest.approx(proportion, rel=0.1)


def test_recipe_refuses_what_there_is_not_and_names_the_nearest():
    with pytest.raises(ValueError, match="found 'glr21-resnest296'; did you mean glr21-resnest269"):
        recipe("glr21-resnest296")
    with pytest.raises(ValueError, match="found 'zzz'; there are glr20-resnet152, "):
        recipe("zzz")


@pytest.mark.parametrize(
    ("name", "epochs", "batch"),
    [("resnet152", (24, 12), 192), ("resnest101", (24, 12), 192), ("resnest200", (12, 6), 96)],
)
def test_glr20_recipes_follow_the_paper(name, epochs, batch):
    found = recipe(f"glr20-{name}")
    softmax, arcface, cluster = found.stages
    assert [stage.loss for stage in found.stages] == ["softmax", "arcface", "arcface"]
    assert (softmax.epochs + arcface.epochs, cluster.epochs) == epochs
    settings = {(s.margin, s.scale, s.size, s.batch_size, s.schedule) for s in found.stages}
    assert settings == {(0.3, 30.0, 448, batch, "lambda_poly")}
    assert {(s.learning_rate, s.backbone_lr) for s in found.stages} == {(0.01, 1.0)}
    assert cluster.train_list == "cluster"
    assert cluster.cutmix == ("paper" if name == "resnest200" else "")
    assert found.model.pooling == "gap"
    assert found.inference.size == 512
    assert all(stage.augment == GLR20_AUGMENT for stage in found.stages)


def test_glr20_code_starts_with_arcface_and_mixes_in_two_heads():
    found = recipe("glr20-resnest200-code")
    assert [stage.name for stage in found.stages] == ["arcface", "cluster"]
    assert found.stages[1].cutmix == "code"
    assert all(stage.augment.chain for stage in found.stages)
    assert {(s.schedule, s.backbone_lr) for s in found.stages} == {("lambda_range", 0.1)}


@pytest.mark.parametrize(
    ("name", "clean", "cluster"), [("resnet152", 24, 27), ("resnest200", 12, 14)]
)
def test_glr20_code_takes_the_steps_of_its_scripts(name, clean, cluster):
    found = recipe(f"glr20-{name}-code")
    assert [stage.epochs for stage in found.stages] == [clean, cluster]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_starts_from_weights_that_exist(name):
    model = recipe(name).model
    assert model.weights == "pretrained"
    if model.backbone_options.get("ibn"):
        assert model.backbone in IBN_NET_FILES
    else:
        assert timm.get_pretrained_cfg(model.backbone).has_weights


@pytest.mark.parametrize("name", ["seresnet101-ibn", "resnext101-ibn", "resnest101", "resnest269"])
def test_glr21_recipes_follow_the_paper(name):
    found, code = recipe(f"glr21-{name}"), recipe(f"glr21-{name}-code")
    assert [s.train_list for s in found.stages] == ["clean", "c2x", "full", "all"]
    assert [s.epochs for s in found.stages] == [10, 6, 2, 2]
    rates = [s.learning_rate for s in found.stages]
    assert rates == pytest.approx([0.01, 0.001, 0.0001, 0.0001])
    assert [s.learning_rate for s in code.stages] == pytest.approx([8 * rate for rate in rates])
    assert [s.sampler for s in found.stages] == [*["shuffle"] * 3, "continent"]
    assert [s.size for s in found.stages[2:]] == [512, 512]
    assert {s.augment.erasing for s in found.stages} == {1.0}
    assert (found.stages[0].warmup, found.stages[1].warmup) == (0.1, 0.0)
    assert found.model.pooling == "gem"
    assert found.model.gem_p == 3.0
    assert not found.model.gem_trained
    assert found.model.backbone_options == {"last_stride": 1, "ibn": name.endswith("ibn")}
    assert found.model.std == pytest.approx((0.22353,) * 3, abs=1e-5)


def test_glr21_code_of_resnest269_has_no_margin_at_512_pixels():
    found = recipe("glr21-resnest269-code")
    assert [(s.size, s.margin, s.scale) for s in found.stages] == [
        *[(448, 0.3, 30.0)] * 2,
        *[(512, 0.0, 60.0)] * 2,
    ]
    assert {s.weight_decay for s in found.stages} == {5e-4}
    paper = recipe("glr21-resnest269")
    assert {(s.margin, s.scale, s.weight_decay) for s in paper.stages} == {(0.3, 30.0, 5e-4)}


@pytest.mark.parametrize(
    ("name", "paper", "code"),
    [  # images per GPU: the configurations' notes for 16 GB, and what they set
        ("seresnet101-ibn", (40, 40, 18, 18), (96, 96, 18, 18)),
        ("resnext101-ibn", (40, 40, 18, 18), (40, 40, 18, 18)),
        ("resnest101", (36, 36, 40, 40), (36, 88, 40, 40)),
        ("resnest269", (12, 12, 6, 6), (28, 28, 6, 6)),
        ("resnet50", (128,) * 3, (128,) * 3),
    ],
)
def test_glr21_recipes_take_the_images_per_gpu_of_the_configurations(name, paper, code):
    for found, expected in ((f"glr21-{name}", paper), (f"glr21-{name}-code", code)):
        assert tuple(stage.batch_size / 8 for stage in recipe(found).stages) == expected


@pytest.mark.parametrize("name", ["seresnet101-ibn", "resnext101-ibn", "resnest101", "resnet50"])
def test_glr21_weight_decay_is_the_papers_or_the_configurations(name):
    # GLR21 §2.1: 5e-4; the configurations of the 512 px stages: 1e-5.
    assert {s.weight_decay for s in recipe(f"glr21-{name}").stages} == {5e-4}
    code = recipe(f"glr21-{name}-code").stages
    assert [s.weight_decay for s in code] == [1e-5 if s.size == 512 else 5e-4 for s in code]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("glr21-")])
def test_glr21_stages_pad_by_their_size_and_double_the_rate_of_biases(name):
    pads = {256: 10, 384: 15, 448: 18, 512: 20}  # published code
    for stage in recipe(name).stages:
        assert stage.augment.pad == pads[stage.size]
        assert (stage.bias_lr, stage.momentum, stage.schedule) == (2.0, 0.9, "cosine")


def test_glr21_ablation_network_has_a_stage_before_its_last():
    found = recipe("glr21-resnet50-code")
    stages = [(stage.train_list, stage.epochs) for stage in found.stages]
    assert stages == [("clean", 10), ("c2x", 6), ("all", 2)]
    assert [s.learning_rate for s in found.stages] == pytest.approx([0.08, 0.008, 0.008])
    assert found.model.backbone == "resnet50.tv_in1k"  # torchvision's weights


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("glr20-")])
def test_glr20_recipes_take_the_codes_settings_that_the_paper_does_not_tell(name):
    first, *_, cluster = recipe(name).stages
    assert {(s.sampler, s.at_least, s.weight_decay) for s in (first, cluster)} == {
        ("at_least", 5, 5e-4)
    }
    assert (first.freeze_backbone, cluster.freeze_backbone) == (
        0.0,
        0.05,
    )  # 20,000 of 400,000 steps
    # The code's 5,000 of 200,000 steps; of the paper's softmax stage, a sixth as long, as many.
    assert first.warmup == (0.025 if name.endswith("-code") else 0.15)
    assert cluster.warmup == 0.0


def test_neck_starts_with_xaviers_weights():
    weight = build_model(ModelConfig("test_resnet")).reduce.weight.detach()  # GLR21, code
    bound = (6 / (weight.shape[0] + weight.shape[1])) ** 0.5
    assert 0.99 * bound < weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_recipes_are_those_that_were_looked_at_last():
    # After a change on purpose: python -m tests.golden_recipes
    assert golden().splitlines() == FILE.read_text().splitlines()


def test_golden_recipes_change_with_every_number():
    stage = recipe("glr21-resnest269").stages[0]
    for setting in ("weight_decay", "batch_size", "augment.pad", "bias_lr", "margin"):
        assert as_text(override(stage, {setting: 1})) != as_text(stage)


def test_photos_recipe_is_small():
    found = recipe("photos")
    assert sum(stage.epochs for stage in found.stages) < 12
    assert found.inference.size == 224
    assert all(stage.freeze_norm and stage.optimizer == "adamw" for stage in found.stages)

"""Schedules are the published formulas, and every part of the network has its rate."""

import dataclasses
import itertools
import math

import pytest
import torch

from lib.models import build_model
from lib.training.schedules import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    cosine,
    learning_rate_factor,
    parameter_groups,
    set_learning_rates,
)
from lib.training.stage import ClassificationModel

STEPS = [step / 1000 for step in range(1001)]


@pytest.mark.parametrize("schedule", ["poly", "lambda_poly", "lambda_range", "cosine"])
def test_learning_rate_factor_falls_from_one_to_almost_nothing(schedule):
    factors = [learning_rate_factor(schedule, t) for t in STEPS]
    assert factors[0] == 1.0
    assert factors[-1] <= 0.002
    assert all(later < earlier for earlier, later in itertools.pairwise(factors))


@pytest.mark.parametrize("total", [7, 200_000])
def test_lambda_range_is_the_published_formula(total):
    for step in range(0, total, max(1, total // 50)):
        expected = (1 - step / total) ** (2 * step / total)
        assert SCHEDULES["lambda_range"](step / total) == pytest.approx(expected)


def test_poly_has_the_published_powers():
    assert [SCHEDULES["poly"](t) for t in STEPS] == [(1 - t) ** 0.9 for t in STEPS]
    assert SCHEDULES["lambda_poly"](0.75) == 0.5


def test_cosine_is_symmetric_about_its_middle():
    for t in STEPS:
        assert cosine(t) + cosine(1 - t) == pytest.approx(1.002)
        assert cosine(t, end=0.0) == pytest.approx(math.cos(math.pi * t / 2) ** 2)


def test_one_cycle_is_that_of_torch():
    steps = 5000
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=steps)
    for step in range(steps):
        expected = optimizer.param_groups[0]["lr"]
        assert SCHEDULES["one_cycle"](step / steps) == pytest.approx(expected, abs=1e-3), step
        optimizer.step()
        if step + 1 < steps:
            cycle.step()
    ends = [SCHEDULES["one_cycle"](t) for t in (0.0, 0.3, 1.0)]
    assert ends == pytest.approx([1 / 25, 1.0, 1 / 25 / 1e4])


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_learning_rate_factor_rises_linearly_then_follows_the_schedule(schedule):
    for t in STEPS:
        factor = learning_rate_factor(schedule, t, warmup=0.2, start=0.1)
        expected = 0.1 + 0.9 * t / 0.2 if t < 0.2 else SCHEDULES[schedule](t)
        assert factor == pytest.approx(expected)


def test_set_learning_rates_frees_the_backbone_after_its_share(tiny_stage, tiny_model):
    stage = dataclasses.replace(tiny_stage, freeze_backbone=0.25, backbone_lr=0.1, bias_lr=2.0)
    classifier = ClassificationModel(stage, build_model(tiny_model), torch.ones(6))
    optimizer = torch.optim.SGD(parameter_groups(stage, classifier), lr=1.0)
    for t in (0.0, 0.2, 0.25, 0.75):
        factor = (1 - t) ** 0.9
        assert set_learning_rates(optimizer, stage, t) == pytest.approx(0.1 * factor)
        for group in optimizer.param_groups:
            frozen = group["is_backbone"] and t < 0.25
            assert group["lr"] == pytest.approx(0.0 if frozen else group["peak"] * factor)


@pytest.mark.parametrize("loss", ["softmax", "arcface"])
def test_parameter_groups_give_backbone_and_biases_their_rates(tiny_stage, tiny_model, loss):
    stage = dataclasses.replace(tiny_stage, loss=loss, backbone_lr=0.25, bias_lr=2.0)
    classifier = ClassificationModel(stage, build_model(tiny_model), torch.ones(6))
    rates = {id(p): g["peak"] for g in parameter_groups(stage, classifier) for p in g["params"]}
    for name, parameter in classifier.named_parameters():
        expected = 0.1
        if name.startswith("model.backbone."):
            expected *= 0.25
        if name.endswith("bias"):
            expected *= 2.0
        if parameter.requires_grad:
            assert rates.pop(id(parameter)) == pytest.approx(expected), name
        else:
            assert id(parameter) not in rates
    assert rates == {}


def classifier_of(stage, model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClassificationModel(stage, build_model(model), torch.ones(6))


def steps_of(classifier, optimizer, count=3):
    """Weights after steps on fixed images."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        images = torch.randn(6, 3, 32, 32, generator=generator)
        classifier(images, torch.arange(6)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])


def test_build_optimizer_has_the_sgd_of_the_papers(tiny_stage, tiny_model):
    first, second = (classifier_of(tiny_stage, tiny_model) for _ in range(2))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    expected = steps_of(first, torch.optim.SGD(first.parameters(), **settings))
    found = steps_of(second, build_optimizer(tiny_stage, second))
    torch.testing.assert_close(found, expected)


def test_build_optimizer_has_the_adamw_of_torch(tiny_stage, tiny_model):
    settings = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.05}
    stage = dataclasses.replace(tiny_stage, **settings)
    first, second = (classifier_of(stage, tiny_model) for _ in range(2))
    expected = steps_of(first, torch.optim.AdamW(first.parameters(), lr=1e-3, weight_decay=0.05))
    torch.testing.assert_close(steps_of(second, build_optimizer(stage, second)), expected)


@pytest.mark.parametrize(
    "name",
    ["nesterov", "adamw", "nadamw", "radam", "adopt", "adan", "lamb", "lars", "lion", "adafactor",
     "rmsprop", "madgrad", "muon"],
)  # fmt: skip
def test_build_optimizer_takes_each_family_of_timm(tiny_stage, tiny_model, name):
    assert name in OPTIMIZERS
    stage = dataclasses.replace(tiny_stage, optimizer=name, learning_rate=1e-4)
    classifier = classifier_of(stage, tiny_model)
    before = steps_of(classifier, None, count=0)
    optimizer = build_optimizer(stage, classifier)
    set_learning_rates(optimizer, stage, 0.5)
    after = steps_of(classifier, optimizer, count=2)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)


def test_decay_bias_spares_biases_and_norms_alone(tiny_stage, tiny_model):
    stage = dataclasses.replace(tiny_stage, decay_bias=False)
    classifier = classifier_of(stage, tiny_model)
    groups = build_optimizer(stage, classifier).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    norms = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)
    spared = {id(p) for m in classifier.modules() if isinstance(m, norms) for p in m.parameters()}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            is_spared = id(parameter) in spared or name.endswith("bias")
            assert decays[id(parameter)] == (0.0 if is_spared else stage.weight_decay), name


def test_layer_decay_falls_from_the_end_to_the_stem(tiny_stage, tiny_model):
    stage = dataclasses.replace(tiny_stage, layer_decay=0.5, backbone_lr=0.1)
    classifier = classifier_of(stage, tiny_model)
    rates = {id(p): g["peak"] for g in parameter_groups(stage, classifier) for p in g["params"]}
    stem = ("conv1", "bn1")
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        expected = 0.1
        if name.startswith("model.backbone."):
            part = name.split(".")[2]
            layer = 0 if part in stem else int(part.removeprefix("layer"))
            expected = 0.1 * 0.1 * 0.5 ** (4 - layer)
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_layer_decay_refuses_a_backbone_without_known_layers(tiny_stage, tiny_model):
    stage = dataclasses.replace(tiny_stage, layer_decay=0.5)
    classifier = classifier_of(stage, tiny_model)
    classifier.model.backbone = torch.nn.Conv2d(3, 8, 1)
    with pytest.raises(ValueError, match=r"group_matcher.* found Conv2d; set layer_decay to 1"):
        parameter_groups(stage, classifier)

"""Schedules are the published formulas, and every part of the network has its rate."""

import dataclasses
import itertools
import math

import pytest
import torch

from lib.models import build_model
from lib.training.schedules import (
    SCHEDULES,
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

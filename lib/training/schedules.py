"""Learning rates: schedules by name, and the rate of each part of the network.

A schedule is a function of progress t, from 0 to 1, by which base rates are multiplied. GLR20 = 3rd
place, Google Landmark Retrieval 2020 (Mei et al.) trains with "lambda poly", its published scripts
with "lambda range"; GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.) with a cosine.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lib.config import StageConfig


def cosine(t: float, *, end: float = 0.002) -> float:
    """Half a cosine wave from 1 to `end` (GLR21)."""
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * t))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "poly": lambda t: (1.0 - t) ** 0.9,
    "lambda_poly": lambda t: (1.0 - t) ** 0.5,  # GLR20 §3.1; the power is the published code's
    "lambda_range": lambda t: (1.0 - t) ** (2.0 * t),  # scripts of GLR20's published code
    "cosine": cosine,
}


def learning_rate_factor(
    schedule: str, t: float, *, warmup: float = 0.0, start: float = 0.01
) -> float:
    """The factor of a schedule at progress `t` (0 to 1), after a linear warm-up from `start` to 1.

    After the `warmup` share of all steps the schedule applies at its absolute progress, as in
    GLR21.

    >>> [round(learning_rate_factor("cosine", t, warmup=0.1), 3) for t in (0.0, 0.05, 0.1, 1.0)]
    [0.01, 0.505, 0.976, 0.002]
    """
    return start + (1.0 - start) * t / warmup if t < warmup else SCHEDULES[schedule](t)


def parameter_groups(stage: StageConfig, classifier: nn.Module) -> list[dict[str, Any]]:
    """Groups for SGD with their base rate `peak`: the backbone at its share, biases at theirs."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in classifier.named_parameters():
        if parameter.requires_grad:
            group = (name.startswith("model.backbone."), name.endswith("bias"))
            groups.setdefault(group, []).append(parameter)
    return [
        {
            "params": parameters,
            "is_backbone": is_backbone,
            "peak": stage.learning_rate
            * (stage.backbone_lr if is_backbone else 1.0)
            * (stage.bias_lr if is_bias else 1.0),
        }
        for (is_backbone, is_bias), parameters in groups.items()
    ]


def set_learning_rates(optimizer: torch.optim.Optimizer, stage: StageConfig, t: float) -> float:
    """Set every group's rate for progress `t` in [0, 1); return the rate of neck and head."""
    factor = learning_rate_factor(stage.schedule, t, warmup=stage.warmup)
    for group in optimizer.param_groups:
        is_frozen = group["is_backbone"] and t < stage.freeze_backbone
        group["lr"] = 0.0 if is_frozen else group["peak"] * factor
    return stage.learning_rate * factor

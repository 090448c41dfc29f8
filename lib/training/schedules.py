"""Optimisers and learning rates: schedules by name, and the rate of each part of the network.

A schedule is a function of progress t, from 0 to 1, by which base rates are multiplied. GLR20 = 3rd
place, Google Landmark Retrieval 2020 (Mei et al.) trains with "lambda poly", its published scripts
with "lambda range"; GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.) with a cosine.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn

from lib.config import StageConfig


def cosine(t: float, *, end: float = 0.002) -> float:
    """Half a cosine wave from 1 to `end` (GLR21)."""
    return end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * t))


def one_cycle(t: float, *, rise: float = 0.3, start: float = 1 / 25, end: float = 1e-4) -> float:
    """Half cosine waves from `start` to 1 and down to `start * end`: torch's OneCycleLR."""
    low, share = (start, 1.0 - t / rise) if t < rise else (start * end, (t - rise) / (1.0 - rise))
    return cosine(share, end=low)


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "poly": lambda t: (1.0 - t) ** 0.9,
    "lambda_poly": lambda t: (1.0 - t) ** 0.5,  # GLR20 §3.1; the power is the published code's
    "lambda_range": lambda t: (1.0 - t) ** (2.0 * t),  # scripts of GLR20's published code
    "cosine": cosine,
    "one_cycle": one_cycle,
}
# Not those that need other packages, a compiler, or derivatives of the gradient.
OTHERS = ["sgd", "fused*", "bnb*", "kron*", "adahessian"]
OPTIMIZERS = ("sgd", *list_optimizers(exclude_filters=OTHERS))
FUSED = ("sgd", "adam", "adamw")  # torch's, whose step on a CPU is one operation


def learning_rate_factor(
    schedule: str, t: float, *, warmup: float = 0.0, start: float = 0.01
) -> float:
    """The factor of a schedule at progress `t` (0 to 1), after a linear warm-up from `start` to 1.

    After the `warmup` share of all steps the schedule applies at its absolute progress (GLR21).

    >>> [round(learning_rate_factor("cosine", t, warmup=0.1), 3) for t in (0.0, 0.05, 0.1, 1.0)]
    [0.01, 0.505, 0.976, 0.002]
    """
    return start + (1.0 - start) * t / warmup if t < warmup else SCHEDULES[schedule](t)


def build_optimizer(stage: StageConfig, classifier: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a stage, whose groups have a base rate `peak` (see `parameter_groups`)."""
    is_fused = stage.optimizer in FUSED and not torch.cuda.is_available()
    return create_optimizer_v2(
        parameter_groups(stage, classifier),
        opt="momentum" if stage.optimizer == "sgd" else stage.optimizer,  # timm's sgd is Nesterov's
        lr=stage.learning_rate,
        weight_decay=stage.weight_decay,
        momentum=stage.momentum,
        **({"fused": True} if is_fused else {}),
    )


def parameter_groups(stage: StageConfig, classifier: nn.Module) -> list[dict[str, Any]]:
    """Groups with their base rate `peak`: the backbone at its share, biases at theirs.

    With `layer_decay` d the rate of the backbone's layer i of L is d^(L - i) of that (BEiT, Bao et
    al., 2022); layers are timm's, 0 for the stem.
    """
    backbone, layers = classifier.model.backbone, {}
    if stage.layer_decay < 1.0:
        if not hasattr(backbone, "group_matcher"):
            raise ValueError(
                "expected a backbone whose layers timm can tell apart (group_matcher) for "
                f"layer_decay, found {type(backbone).__name__}; set layer_decay to 1"
            )
        layers = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    last = max(layers.values(), default=0)
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for name, parameter in classifier.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias, is_backbone = name.endswith("bias"), name.startswith("model.backbone.")
        is_decayed = stage.decay_bias or (parameter.ndim > 1 and not is_bias)
        decay = stage.weight_decay if is_decayed else 0.0
        peak = stage.learning_rate * (stage.backbone_lr if is_backbone else 1.0)
        peak *= stage.bias_lr if is_bias else 1.0
        peak *= stage.layer_decay ** (last - layers.get(name.removeprefix("model.backbone."), last))
        group = {"params": [], "is_backbone": is_backbone, "peak": peak, "weight_decay": decay}
        groups.setdefault((is_backbone, peak, decay), group)["params"].append(parameter)
    return [*groups.values()]


def set_learning_rates(optimizer: torch.optim.Optimizer, stage: StageConfig, t: float) -> float:
    """Set every group's rate for progress `t` in [0, 1); return the rate of neck and head."""
    factor = learning_rate_factor(stage.schedule, t, warmup=stage.warmup)
    for group in optimizer.param_groups:
        is_frozen = group["is_backbone"] and t < stage.freeze_backbone
        group["lr"] = 0.0 if is_frozen else group["peak"] * factor
    return stage.learning_rate * factor

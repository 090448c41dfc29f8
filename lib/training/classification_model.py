"""What a training step moves: network and head as one module, and their learning rates.

The dual stream of Corner-Cutmix (GLR20 §2.1) passes both batches through one network; heads grow by
copying rows where class ids are nested (GLR21).
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib import models
from lib.artifacts import stream_seed
from lib.config import ModelConfig, StageConfig
from lib.training.losses import batch_hard_triplet, build_head, dual_stream_loss, grow_head
from lib.training.schedules import learning_rate_factor

NESTED_LISTS = ("clean", "c2x", "full", "all")


class ClassificationModel(nn.Module):
    """Network and head as one module whose forward is the loss, so that one wrapper serves both."""

    def __init__(self, stage: StageConfig, model: nn.Module, image_counts: torch.Tensor) -> None:
        """`image_counts` (C,) tells how many training images each class has."""
        super().__init__()
        self.stage = stage
        self.model = model
        dim = model.config.embedding_dim
        self.head = build_head(stage, image_counts, dim)
        has_two = stage.cutmix == "code"
        self.mixed_head = build_head(stage, image_counts, dim) if has_two else None

    def forward(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        mixed: torch.Tensor | None = None,
        partner_labels: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The mean loss of a batch (B, 3, H, W), with the mixed stream where there is one."""
        stage = self.stage
        if mixed is None:
            base = self.model(images)
            loss = self.head(base, labels)
        else:
            base, both = self.model(torch.cat([images, mixed])).chunk(2)
            weight = 0.5 if stage.cutmix == "paper" else 1.0
            streams = base, both, labels, partner_labels
            loss = dual_stream_loss(self.head, *streams, weight=weight, mixed_head=self.mixed_head)
        if stage.loss_weight != 1.0:
            loss = stage.loss_weight * loss
        if stage.triplet_weight:
            triplet = batch_hard_triplet(base, labels, margin=stage.triplet_margin)
            loss = loss + stage.triplet_weight * triplet
        return loss


def build_classification_model(
    stage: StageConfig,
    model: ModelConfig,
    image_counts: torch.Tensor,
    *,
    start: Path | None,
    seed: int,
) -> ClassificationModel:
    """Network and head of a stage, from the checkpoint `start` or from random weights of `seed`.

    The head's rows come from the checkpoint too where its classes are the stage's first ones.
    `image_counts` (C,) tells how many training images each class has.
    """
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(seed, "weights", stage.name))
        known = models.load(start) if start else None
        network = known.model if known else models.build_model(model)
        network.check_size(stage.size)
        classifier = ClassificationModel(stage, network.train(), image_counts)
        if known and _same_classes(stage, known):
            grow_head(known.head, classifier.head)
    return classifier


def _same_classes(stage: StageConfig, known: models.Checkpoint) -> bool:
    """Whether class ids of the checkpoint's list are the first ids of the stage's list."""
    before = known.facts.get("train_list")
    return before in NESTED_LISTS and stage.train_list in NESTED_LISTS and "weight" in known.head


def parameter_groups(stage: StageConfig, classifier: ClassificationModel) -> list[dict[str, Any]]:
    """SGD groups with their learning rates: the backbone at its share, biases at theirs."""
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

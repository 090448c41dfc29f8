"""Losses by name: classification heads with and without a margin, and the triplet loss.

GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), and GLR21 = 2nd place, Google
Landmark Retrieval 2021 (Zhang et al.), train with softmax or ArcFace, margin 0.3 and scale 30.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.config import StageConfig


class Head(nn.Module):
    """Raw embeddings (B, D) and labels (B,) → mean cross entropy over C classes; base of all.

    `scores` does not depend on labels and `logits` does: an image of Corner-Cutmix has two labels.
    Every parameter has a row per class.
    """

    def __init__(self, stage: StageConfig, image_counts: Tensor, dim: int) -> None:
        """Take the settings that a loss needs from `stage`; `image_counts` (C,) are per class."""
        super().__init__()
        self.stage = stage
        self.weight = nn.Parameter(torch.empty(len(image_counts), dim))
        nn.init.xavier_uniform_(self.weight)
        # Not persistent: margins follow from the training list, not from training.
        margins = torch.full(image_counts.shape, stage.margin)
        margins = dynamic_margins(image_counts) if stage.dynamic_margin else margins
        self.register_buffer("margin", margins, persistent=False)

    def scores(self, embeddings: Tensor) -> Tensor:
        """Scores (B, C) of all classes."""
        raise NotImplementedError

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, C) of the cross entropy: scores with scale, and margin of the labels."""
        return scores

    def score_loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of scores (B, C) against labels (B,)."""
        logits = self.logits(scores, labels)
        return F.cross_entropy(logits, labels, label_smoothing=self.stage.label_smoothing)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.score_loss(self.scores(embeddings), labels)


class SoftmaxHead(Head):
    """W·x + b on raw embeddings."""

    def __init__(self, stage: StageConfig, image_counts: Tensor, dim: int) -> None:
        super().__init__(stage, image_counts, dim)
        self.bias = nn.Parameter(torch.zeros(len(image_counts)))

    def scores(self, embeddings: Tensor) -> Tensor:
        return F.linear(embeddings, self.weight, self.bias)


class CosineHead(Head):
    """s·cos θ, with θ between embedding and class weight."""

    def scores(self, embeddings: Tensor) -> Tensor:
        """Cosines, at least in float32: half precision cannot tell small angles apart."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(unit_rows(embeddings), unit_rows(self.weight.flatten(0, -2)))

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        return self.stage.scale * scores


class MarginHead(CosineHead):
    """s·cos θ, made smaller by a margin for the label; base of such losses."""

    def with_margin(self, cosine: Tensor, margin: Tensor) -> Tensor:
        """The label's cosines (B, 1) with its margins (B, 1)."""
        raise NotImplementedError

    def logits(self, scores: Tensor, labels: Tensor) -> Tensor:
        target = scores.gather(1, labels[:, None])
        margin = self.margin[labels][:, None].to(scores.dtype)
        return self.stage.scale * scores.scatter(
            1, labels[:, None], self.with_margin(target, margin)
        )


class ArcFaceHead(MarginHead):
    """s·cos(θ + m) for the label, s·cos θ for other classes (Deng et al., 2019); m in radians."""

    def with_margin(self, cosine: Tensor, margin: Tensor) -> Tensor:
        """cos(θ + m), and cos θ − m·sin m where θ + m > π, which goes on decreasing."""
        # Clamped, or the gradient is infinite at cos θ = ±1; other cosines in float32 lie above.
        sine = (1.0 - cosine.square()).clamp(min=1e-12).sqrt()
        widened = cosine * margin.cos() - sine * margin.sin()  # cos(θ + m)
        return torch.where(cosine > -margin.cos(), widened, cosine - margin * margin.sin())


class SubCenterArcFaceHead(ArcFaceHead):
    """ArcFace with K weights (C, K, D) per class; the nearest counts (Deng et al., 2020)."""

    def __init__(self, stage: StageConfig, image_counts: Tensor, dim: int) -> None:
        super().__init__(stage, image_counts, dim)
        self.weight = nn.Parameter(torch.empty(len(image_counts), stage.centers, dim))
        nn.init.xavier_uniform_(self.weight.flatten(0, 1))

    def scores(self, embeddings: Tensor) -> Tensor:
        return super().scores(embeddings).unflatten(1, self.weight.shape[:2]).amax(dim=2)


class CosFaceHead(MarginHead):
    """s·(cos θ − m) for the label, s·cos θ for other classes (Wang et al., 2018)."""

    def with_margin(self, cosine: Tensor, margin: Tensor) -> Tensor:
        return cosine - margin


LOSSES: dict[str, type[Head]] = {
    "softmax": SoftmaxHead,
    "cosine": CosineHead,
    "arcface": ArcFaceHead,
    "cosface": CosFaceHead,
    "subcenter_arcface": SubCenterArcFaceHead,
}


def dynamic_margins(image_counts: Tensor, *, low: float = 0.05, high: float = 0.50) -> Tensor:
    """Margins from `low` for the largest class to `high` for the smallest, linear in n^(-1/4).

    `image_counts` (C,) are the images of each class; empty classes count as one image, and classes
    of one size all get the middle.

    >>> dynamic_margins(torch.tensor([1, 16, 256]), low=0.0, high=1.0)
    tensor([1.0000, 0.3333, 0.0000])
    """
    rarity = image_counts.clamp(min=1).double() ** -0.25
    spread = rarity.max() - rarity.min()
    share = (rarity - rarity.min()) / spread if spread > 0 else torch.full_like(rarity, 0.5)
    return (low + (high - low) * share).float()


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of unit length, in float32 unless they are float64."""
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=1)


# Whose state of a weight has its shape and starts from 0, as `ClassSample` needs it.
SAMPLED_OPTIMIZERS = ("sgd", "adam", "adamw", "lion")


class ClassSample:
    """The classes of a step's softmax: those of its images and random others, `size` in all.

    Partial FC (An et al., 2021, arXiv 2010.05222; 2022, arXiv 2203.15565). `heads` stand in the
    network in the place of `whole` ones of the same names: `draw` fills their rows, and `keep` puts
    them back after the step, the optimiser's state included. So a step computes and changes these
    rows alone, and others stay as they are, without decay and momentum (as in insightface's SGD
    version); Adam's bias correction counts all steps. Label smoothing goes over the drawn classes.
    """

    def __init__(self, whole: nn.ModuleDict, heads: nn.ModuleDict) -> None:
        """`heads` are built for `size` classes; what they hold is overwritten."""
        self.whole, self.heads = whole, heads
        self.count, self.size = (len(next(one.parameters())) for one in (whole, heads))
        self.index = torch.arange(self.size)  # classes of the rows, sorted
        self.states: dict[str, Tensor] = {}  # of the optimiser, a row for each of all classes

    @torch.no_grad()
    def draw(
        self, labels: Tensor, generator: torch.Generator, optimizer: torch.optim.Optimizer
    ) -> None:
        """Fill the heads with the classes of `labels` and random others."""
        order = torch.rand(self.count, generator=generator, device=labels.device)
        order[labels] = 2.0
        self.index = order.topk(self.size, sorted=False).indices.sort().values
        for name, head in self.heads.items():
            torch.index_select(self.whole[name].margin, 0, self.index, out=head.margin)
        for rows, every in self._pairs(optimizer):
            torch.index_select(every, 0, self.index, out=rows)

    def places(self, labels: Tensor) -> Tensor:
        """The rows of `labels`, which `draw` was given, in the heads."""
        return torch.searchsorted(self.index, labels)

    @torch.no_grad()
    def keep(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the heads' rows and the optimiser's state of them back, after its step."""
        for rows, every in self._pairs(optimizer):
            every.index_copy_(0, self.index, rows)

    def _pairs(self, optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows of the heads and of all classes, then what the optimiser keeps of every element."""
        for name, rows in self.heads.named_parameters():
            every = self.whole.get_parameter(name).detach()
            yield rows.detach(), every
            for key, value in optimizer.state.get(rows, {}).items():
                if torch.is_tensor(value) and value.shape == rows.shape:
                    place = f"{name} {key}"
                    if place not in self.states:
                        self.states[place] = torch.zeros_like(every, dtype=value.dtype)
                    yield value, self.states[place]

    def state_dict(self) -> dict[str, Any]:
        """All rows and the optimiser's state of them."""
        return {"whole": self.whole.state_dict(), "states": self.states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.whole.load_state_dict(state["whole"])
        device = next(self.whole.parameters()).device
        self.states = {name: value.to(device) for name, value in state["states"].items()}


def sample_classes(stage: StageConfig, network: nn.Module) -> ClassSample | None:
    """Leave the heads of a network the classes of a step's softmax; None where these are all.

    They are `stage.class_share` of them, and at least as many as a step has images.
    """
    whole = {name: head for name, head in network.named_children() if isinstance(head, Head)}
    classes, dim = len(network.head.margin), network.head.weight.shape[-1]
    images = stage.batch_size * (2 if stage.cutmix else 1)
    count = min(classes, max(math.ceil(round(stage.class_share * classes, 6)), images))
    if count == classes:
        return None
    with torch.random.fork_rng():
        heads = {name: type(head)(stage, torch.ones(count), dim) for name, head in whole.items()}
    for name, head in heads.items():
        setattr(network, name, head)
    return ClassSample(nn.ModuleDict(whole), nn.ModuleDict(heads))


@torch.no_grad()
def grow_head(old: Mapping[str, Tensor], new: Head) -> None:
    """Copy an old head's tensors over the first rows of `new` (GLR21, load_param).

    Right only where class ids are nested: old class i is new class i. Rows and tensors that `old`
    lacks keep their initial values. A single weight becomes the first of several centers; several
    become their mean. A smaller `new` raises ValueError.
    """
    for name, target in new.named_parameters():
        if name not in old:
            continue
        source = old[name]
        if source.dim() > target.dim():
            source = source.mean(dim=1)
        elif source.dim() < target.dim():
            target = target[:, 0]
        if len(source) > len(target) or source.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"expected a new head of at least {tuple(source.shape)}, found "
                f"{tuple(target.shape)}; a head only grows, at one dimension"
            )
        target[: len(source)] = source


def dual_stream_loss(
    head: Head,
    base: Tensor,
    mixed: Tensor,
    base_labels: Tensor,
    partner_labels: Tensor,
    *,
    weight: float = 0.5,
    mixed_head: Head | None = None,
) -> Tensor:
    """Corner-Cutmix loss of GLR20 §2.1: CE(base, A) + w·CE(mixed, A) + w·CE(mixed, B).

    `base` (B, D) are raw embeddings of images A, `mixed` of images B with A pasted on a corner. The
    paper has w = 0.5 and one head, the published code w = 1 and a head of its own for `mixed`.
    """
    mixed_head = mixed_head or head
    scores = mixed_head.scores(mixed)
    ce_a = mixed_head.score_loss(scores, base_labels)
    ce_b = mixed_head.score_loss(scores, partner_labels)
    return head(base, base_labels) + weight * (ce_a + ce_b)


def batch_hard_triplet(embeddings: Tensor, labels: Tensor, *, margin: float = 0.3) -> Tensor:
    """Mean of max(0, farthest positive - nearest negative + margin) over the anchors of a batch.

    Euclidean distances of unit rows of `embeddings` (B, D) (Hermans et al., 2017; an option of
    GLR21's code). Anchors without a positive do not count; without any anchor or negative the loss
    is 0.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = unit_rows(embeddings)
        # Clamped, or the gradient is infinite where two rows coincide.
        distances = (2.0 - 2.0 * unit @ unit.T).clamp(min=1e-12).sqrt()
    is_same = labels[:, None] == labels
    is_positive = is_same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    farthest = distances.masked_fill(~is_positive, 0.0).amax(dim=1)
    nearest = distances.masked_fill(is_same, 2.0 + margin).amin(dim=1)  # no negative: no loss
    is_anchor = is_positive.any(dim=1)
    losses = F.relu(farthest - nearest + margin) * is_anchor
    return losses.sum() / is_anchor.sum().clamp(min=1)

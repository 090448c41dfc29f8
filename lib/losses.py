"""Losses on embeddings and labels: a stage's head, how it grows, and what combines streams.

The heads themselves are in `lib.heads`. Corner-Cutmix ([20] §2.1) adds the loss of a mixed stream;
the triplet loss is an option of [21], to be added to a head's loss.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from lib.config import StageConfig
from lib.heads import (
    ArcFaceHead,
    CosineHead,
    Head,
    SoftmaxHead,
    SubCenterArcFaceHead,
    dynamic_margins,
    unit_rows,
)


def build_head(stage: StageConfig, image_counts: torch.Tensor, dim: int) -> Head:
    """The head that `stage.loss` names.

    Args:
        stage: gives loss, margin, scale, centers and label smoothing.
        image_counts: (C,) training images per class.
        dim: of the embeddings.

    Raises:
        ValueError: an unknown loss.
    """
    class_count = len(image_counts)
    smoothing = {"label_smoothing": stage.label_smoothing}
    if stage.loss == "softmax":
        return SoftmaxHead(class_count, dim, **smoothing)
    if stage.loss == "cosine":
        return CosineHead(class_count, dim, scale=stage.scale, **smoothing)
    if stage.loss == "arcface":
        return ArcFaceHead(class_count, dim, scale=stage.scale, margin=stage.margin, **smoothing)
    if stage.loss == "subcenter":
        margin = dynamic_margins(image_counts) if stage.dynamic_margin else stage.margin
        options = {"centers": stage.centers, "scale": stage.scale, "margin": margin, **smoothing}
        return SubCenterArcFaceHead(class_count, dim, **options)
    raise ValueError(
        f"expected loss 'softmax', 'cosine', 'arcface' or 'subcenter', found {stage.loss!r}; "
        "correct the stage"
    )


@torch.no_grad()
def grow_head(old: nn.Module | Mapping[str, torch.Tensor], new: Head) -> Head:
    """Copy the old head's rows over the first rows of `new`, and return `new` ([21], load_param).

    Right only where class ids are nested: old class i is new class i. The remaining rows keep their
    initial values, and so does what `old` (a head, or a checkpoint's tensors) lacks.

    Raises:
        ValueError: `new` has fewer classes or another dimension.
    """
    known = dict(old.named_parameters()) if isinstance(old, nn.Module) else old
    for name, target in new.named_parameters():
        source = known.get(name)
        if source is None:
            continue
        if len(source) > len(target) or source.shape[1:] != target.shape[1:]:
            raise ValueError(
                f"expected a new head of at least {tuple(source.shape)}, found "
                f"{tuple(target.shape)}; a head only grows, at one dimension"
            )
        target[: len(source)] = source
    return new


def dual_stream_loss(
    head: Head,
    base: torch.Tensor,
    mixed: torch.Tensor,
    base_labels: torch.Tensor,
    partner_labels: torch.Tensor,
    *,
    weight: float = 0.5,
    mixed_head: Head | None = None,
) -> torch.Tensor:
    """Corner-Cutmix loss of [20] §2.1: CE(base, A) + w·CE(mixed, A) + w·CE(mixed, B).

    The paper has w = 0.5 and one head for both streams. The published code has w = 1 and a head of
    its own for the mixed stream: `weight=1.0, mixed_head=...`.

    Args:
        head: classifies the base stream, and the mixed one without `mixed_head`.
        base: (B, D) raw embeddings of the images A.
        mixed: (B, D) raw embeddings of the images B with A pasted on a corner.
        base_labels: (B,) labels of A, the pasted images.
        partner_labels: (B,) labels of B, the images under them.
        weight: w, of each of the two mixed terms.
        mixed_head: a head for the mixed stream.
    """
    reader = head if mixed_head is None else mixed_head
    scores = reader.scores(mixed)
    mixed_loss = reader.score_loss(scores, base_labels) + reader.score_loss(scores, partner_labels)
    return head(base, base_labels) + weight * mixed_loss


def batch_hard_triplet(
    embeddings: torch.Tensor, labels: torch.Tensor, *, margin: float = 0.3
) -> torch.Tensor:
    """Mean of max(0, farthest positive − nearest negative + margin) over the anchors of a batch.

    Distances are Euclidean between unit rows (Hermans et al., 2017; an option of [21]'s code, for
    batches of the class-uniform sampler). Anchors without a positive do not count; a batch
    without any anchor, or of a single class, has loss 0.

    Args:
        embeddings: (B, D) raw embeddings.
        labels: (B,).
        margin: between the two distances.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        unit = unit_rows(embeddings)
        # The floor keeps the slope of the root finite where two rows coincide.
        distances = (2.0 - 2.0 * unit @ unit.T).clamp(min=1e-12).sqrt()
    is_same = labels[:, None] == labels
    is_positive = is_same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    farthest = distances.masked_fill(~is_positive, 0.0).amax(dim=1)
    nearest = distances.masked_fill(is_same, 2.0 + margin).amin(dim=1)  # no negative: no loss
    is_anchor = is_positive.any(dim=1)
    losses = F.relu(farthest - nearest + margin) * is_anchor
    return losses.sum() / is_anchor.sum().clamp(min=1)

"""Classification heads that turn embeddings and labels into a loss.

Softmax first, then ArcFace with margin 0.3 and scale 30 (GLR20 §2.2, GLR21); cosine softmax is
ArcFace without its margin. Every head holds a weight with one row per class, so that a head grows
by copying its first rows (class ids are nested, GLR21). `scores` does not look at labels and
`score_loss` does: Corner-Cutmix (GLR20 §2.1) reads two losses, one per mixed label, off one matrix
of scores.

Losses on embeddings and labels: a stage's head, how it grows, and what combines streams.

The heads themselves are in `lib.training.losses`. Corner-Cutmix (GLR20 §2.1) adds the loss of a
mixed stream; the triplet loss is an option of GLR21, to be added to a head's loss."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from lib.config import StageConfig


class Head(nn.Module):
    """Embeddings (B, D) and labels (B,) → mean cross entropy over C classes; base of all heads."""

    def __init__(self, class_count: int, dim: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(class_count, dim))
        nn.init.xavier_uniform_(self.weight)
        self.label_smoothing = label_smoothing

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Per-class scores (B, C), the same whatever the labels."""
        raise NotImplementedError

    def logits(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What cross entropy reads, (B, C): the scores with the labels' margin and the scale."""
        raise NotImplementedError

    def score_loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean cross entropy of scores (B, C) against labels (B,)."""
        logits = self.logits(scores, labels)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of raw embeddings (B, D) for labels (B,), a scalar."""
        return self.score_loss(self.scores(embeddings), labels)


class SoftmaxHead(Head):
    """An ordinary linear classifier on the embeddings as they are."""

    def __init__(self, class_count: int, dim: int, *, label_smoothing: float = 0.0) -> None:
        super().__init__(class_count, dim, label_smoothing=label_smoothing)
        self.bias = nn.Parameter(torch.zeros(class_count))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits of the linear classifier, (B, C)."""
        return F.linear(embeddings, self.weight, self.bias)

    def logits(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The scores themselves."""
        return scores


class CosineHead(Head):
    """Softmax of scaled cosines between embeddings and class weights."""

    def __init__(
        self, class_count: int, dim: int, *, scale: float = 30.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(class_count, dim, label_smoothing=label_smoothing)
        self.scale = scale

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Cosines (B, C), at least in float32: half precision cannot tell small angles apart."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return F.linear(unit_rows(embeddings), unit_rows(self.weight))

    def logits(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cosines times the scale."""
        return self.scale * scores


class ArcFaceHead(CosineHead):
    """Cosine softmax whose target angle is widened by a margin (ArcFace; m = 0.3, s = 30)."""

    def __init__(
        self,
        class_count: int,
        dim: int,
        *,
        margin: float | torch.Tensor = 0.3,
        scale: float = 30.0,
        label_smoothing: float = 0.0,
    ) -> None:
        """`margin` in radians, one for all classes or (C,) one for each."""
        super().__init__(class_count, dim, scale=scale, label_smoothing=label_smoothing)
        # Not persistent: margins follow from the training list, not from training.
        margins = torch.as_tensor(margin, dtype=torch.float64).expand(class_count)
        self.register_buffer("margin", margins.float(), persistent=False)

    def logits(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Scaled cosines, the target's with its margin."""
        target = scores.gather(1, labels[:, None])
        widened = add_margin(target, self.margin[labels][:, None].to(scores.dtype))
        return self.scale * scores.scatter(1, labels[:, None], widened)


class SubCenterArcFaceHead(ArcFaceHead):
    """ArcFace with K weights per class, of which the nearest counts (Deng et al., 2020).

    Images unlike the rest of their class gather at a center of their own. The 2021 winner used
    three, without dropping any later, and margins by class size (`dynamic_margins`).
    """

    def __init__(
        self,
        class_count: int,
        dim: int,
        *,
        centers: int = 3,
        margin: float | torch.Tensor = 0.3,
        scale: float = 30.0,
        label_smoothing: float = 0.0,
    ) -> None:
        """The weight is (C, K, D)."""
        super().__init__(
            class_count, dim, margin=margin, scale=scale, label_smoothing=label_smoothing
        )
        self.weight = nn.Parameter(torch.empty(class_count, centers, dim))
        nn.init.xavier_uniform_(self.weight.flatten(0, 1))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Cosines with the nearest center of each class, (B, C)."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.linear(unit_rows(embeddings), unit_rows(self.weight.flatten(0, 1)))
            return cosines.unflatten(1, self.weight.shape[:2]).amax(dim=2)


def add_margin(cosine: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """cos θ → cos(θ + m); where θ + m > π, cos θ − m·sin(π − m), which goes on decreasing.

    The gradient is finite everywhere, cos θ = ±1 included. Shapes broadcast.

    >>> add_margin(torch.tensor([1.0, 0.0, -1.0]), torch.tensor(0.5))
    tensor([ 0.8776, -0.4794, -1.2397])
    """
    # The floor keeps the square root's slope finite; a float32 cosine short of 1 lies far above it.
    sine = (1.0 - cosine.square()).clamp(min=1e-12).sqrt()
    widened = cosine * margin.cos() - sine * margin.sin()
    return torch.where(cosine > -margin.cos(), widened, cosine - margin * margin.sin())


def dynamic_margins(
    image_counts: torch.Tensor, *, low: float = 0.05, high: float = 0.50
) -> torch.Tensor:
    """Margins from `low` for the largest class to `high` for the smallest, linear in n^(-1/4).

    As in sub-center solutions of 2020 and 2021. Classes of one size all get the middle.

    Args:
        image_counts: (C,) images per class; empty classes count as one image.
        low: smallest margin.
        high: largest margin.

    >>> dynamic_margins(torch.tensor([1, 16, 256]), low=0.0, high=1.0)
    tensor([1.0000, 0.3333, 0.0000])
    """
    rarity = image_counts.clamp(min=1).double() ** -0.25
    spread = rarity.max() - rarity.min()
    share = (rarity - rarity.min()) / spread if spread > 0 else torch.full_like(rarity, 0.5)
    return (low + (high - low) * share).float()


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Rows of unit length, in float32 unless they are float64."""
    return F.normalize(rows if rows.dtype == torch.float64 else rows.float(), dim=1)


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
    """Copy the old head's rows over the first rows of `new`, and return `new` (GLR21, load_param).

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
    """Corner-Cutmix loss of GLR20 §2.1: CE(base, A) + w·CE(mixed, A) + w·CE(mixed, B).

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

    Distances are Euclidean between unit rows (Hermans et al., 2017; an option of GLR21's code, for
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

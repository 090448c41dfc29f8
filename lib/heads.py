"""Classification heads that turn embeddings and labels into a loss.

Softmax first, then ArcFace with margin 0.3 and scale 30 ([20] §2.2, [21]); cosine softmax is
ArcFace without its margin. Every head holds a weight with one row per class, so that a head grows
by copying its first rows (class ids are nested, [21]). `scores` does not look at labels and
`score_loss` does: Corner-Cutmix ([20] §2.1) reads two losses, one per mixed label, off one matrix
of scores.
"""

import torch
import torch.nn.functional as F
from torch import nn


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

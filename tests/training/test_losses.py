import dataclasses

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer

from lib.config import StageConfig
from lib.training.losses import (
    ArcFaceHead,
    CosineHead,
    SoftmaxHead,
    SubCenterArcFaceHead,
    batch_hard_triplet,
    build_head,
    dual_stream_loss,
    grow_head,
)


def random_case(seed, heads=5):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, heads, (6,), generator=generator)
    return rows, labels


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("softmax", SoftmaxHead),
        ("cosine", CosineHead),
        ("arcface", ArcFaceHead),
        ("subcenter", SubCenterArcFaceHead),
    ],
)
def test_build_head_follows_the_stage(loss, kind):
    head = build_head(StageConfig(loss=loss, label_smoothing=0.1, scale=12.0), torch.ones(7), 4)
    assert type(head) is kind
    assert (len(head.weight), head.weight.shape[-1]) == (7, 4)
    assert head.label_smoothing == 0.1
    assert getattr(head, "scale", 12.0) == 12.0


def test_build_head_refuses_an_unknown_loss():
    with pytest.raises(ValueError, match="found 'hinge'"):
        build_head(StageConfig(loss="hinge"), torch.ones(7), 4)


def test_grow_head_keeps_old_scores_and_new_rows():
    rows, _ = random_case(4)
    old, new = SoftmaxHead(5, 4).double(), SoftmaxHead(9, 4).double()
    torch.nn.init.normal_(old.bias)
    tail = new.weight[5:].clone()
    assert grow_head(old, new) is new
    torch.testing.assert_close(new.scores(rows)[:, :5], old.scores(rows))
    torch.testing.assert_close(new.weight[5:], tail)


def test_grow_head_passes_weights_from_softmax_to_arcface():
    old, new = SoftmaxHead(5, 4), ArcFaceHead(5, 4)
    grow_head(old, new)
    torch.testing.assert_close(new.weight, old.weight)


@pytest.mark.parametrize("shape", [(4, 4), (9, 3)])
def test_grow_head_refuses_a_smaller_head(shape):
    with pytest.raises(ValueError, match="only grows"):
        grow_head(CosineHead(5, 4), CosineHead(*shape))


@pytest.mark.parametrize("kind", [SoftmaxHead, ArcFaceHead])
def test_dual_stream_loss_is_the_equation_of_the_paper(kind):
    base, a = random_case(5)
    mixed, b = random_case(6)
    head = kind(5, 4).double()
    loss = dual_stream_loss(head, base, mixed, a, b)

    def entropy(rows, labels):  # CE of the logits that the head gives for these labels
        return F.cross_entropy(head.logits(head.scores(rows), labels), labels)

    expected = entropy(base, a) + 0.5 * entropy(mixed, a) + 0.5 * entropy(mixed, b)
    torch.testing.assert_close(loss, expected)


def test_dual_stream_loss_with_a_second_head_is_the_published_code():
    base, a = random_case(5)
    mixed, b = random_case(6)
    head, other = ArcFaceHead(5, 4).double(), ArcFaceHead(5, 4).double()
    loss = dual_stream_loss(head, base, mixed, a, b, weight=1.0, mixed_head=other)
    torch.testing.assert_close(loss, head(base, a) + other(mixed, b) + other(mixed, a))


def test_build_head_gives_subcenters_margins_by_class_size():
    counts = torch.tensor([1, 100, 10_000])
    stage = StageConfig(loss="subcenter", centers=2, dynamic_margin=True)
    head = build_head(stage, counts, 4)
    assert head.weight.shape == (3, 2, 4)
    assert head.margin[0] > head.margin[1] > head.margin[2]
    assert head.margin[[0, 2]].tolist() == pytest.approx([0.5, 0.05])
    plain = build_head(dataclasses.replace(stage, dynamic_margin=False), counts, 4)
    assert plain.margin.tolist() == pytest.approx([0.3] * 3)


@pytest.mark.parametrize("kind", [SoftmaxHead, ArcFaceHead, SubCenterArcFaceHead])
def test_grow_head_takes_the_tensors_of_a_checkpoint(kind):
    old, new = kind(5, 4), kind(8, 4)
    rows, _ = random_case(1)
    grow_head(old.state_dict(), new)
    torch.testing.assert_close(new.scores(rows.float())[:, :5], old.scores(rows.float()))


def naive_triplet(rows, labels, margin):
    unit = F.normalize(rows, dim=1)
    losses = []
    for i, anchor in enumerate(unit):
        distances = [(float((anchor - other).norm()), j) for j, other in enumerate(unit)]
        positives = [d for d, j in distances if j != i and labels[j] == labels[i]]
        negatives = [d for d, j in distances if labels[j] != labels[i]]
        if positives and negatives:
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
    return sum(losses) / max(len(losses), 1)


@pytest.mark.parametrize("seed", range(20))
def test_batch_hard_triplet_equals_naive_loops(seed):
    rows, labels = random_case(seed, heads=1 + seed % 5)
    expected = naive_triplet(rows, labels.tolist(), 0.3)
    assert batch_hard_triplet(rows, labels).item() == pytest.approx(expected, abs=1e-6)


def test_batch_hard_triplet_is_zero_without_anchors():
    rows = torch.randn(4, 3, requires_grad=True)
    for labels in (torch.arange(4), torch.zeros(4, dtype=torch.long)):
        loss = batch_hard_triplet(rows, labels)
        loss.backward()
        assert loss.item() == 0.0
    assert rows.grad.isfinite().all()


def test_batch_hard_triplet_has_a_finite_gradient_at_equal_rows():
    rows = torch.ones(4, 3).requires_grad_()
    loss = batch_hard_triplet(rows, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(5))
def test_batch_hard_triplet_agrees_with_pytorch_metric_learning(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(24, 8, generator=generator)
    labels = torch.arange(6).repeat_interleave(4)
    theirs = TripletMarginLoss(margin=0.3, reducer=MeanReducer())
    hardest = BatchHardMiner()(rows, labels)
    expected = theirs(rows, labels, hardest)
    torch.testing.assert_close(batch_hard_triplet(rows, labels), expected)

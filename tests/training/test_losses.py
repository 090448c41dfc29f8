"""Losses equal naive loops and pytorch-metric-learning; heads grow; the registry builds them."""

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import (
    ArcFaceLoss,
    CosFaceLoss,
    NormalizedSoftmaxLoss,
    SubCenterArcFaceLoss,
    TripletMarginLoss,
)
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import nn

from lib.config import StageConfig
from lib.training.losses import (
    LOSSES,
    SAMPLED_OPTIMIZERS,
    ArcFaceHead,
    ClassSample,
    CosFaceHead,
    CosineHead,
    SoftmaxHead,
    SubCenterArcFaceHead,
    batch_hard_triplet,
    dual_stream_loss,
    dynamic_margins,
    grow_head,
    sample_classes,
)
from lib.training.schedules import build_optimizer


def head_of(kind, classes, dim, *, margin=0.3, **settings):
    """A head of these settings, with one margin or one for each class."""
    head = kind(StageConfig(**settings), torch.ones(classes), dim)
    head.margin.copy_(torch.as_tensor(margin))
    return head


def random_case(seed, heads=5):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, heads, (6,), generator=generator)
    return rows, labels


def naive_cross_entropy(logits, labels, smoothing):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for c, value in enumerate(row):
            share = (1 - smoothing) * (c == label) + smoothing / len(row)
            total += share * (log_sum - value)
    return total / len(labels)


def naive_arcface_logits(rows, weight, labels, margin, scale):
    logits = []
    for row, label in zip(rows.tolist(), labels, strict=True):
        values = []
        for c, w in enumerate(weight.tolist()):
            dot = sum(a * b for a, b in zip(row, w, strict=True))
            cosine = dot / math.hypot(*row) / math.hypot(*w)
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            if c == label and theta + margin <= math.pi:
                cosine = math.cos(theta + margin)
            elif c == label:
                cosine -= margin * math.sin(math.pi - margin)
            values.append(scale * cosine)
        logits.append(values)
    return logits


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_arcface_head_equals_naive_loops(seed, smoothing):
    rows, labels = random_case(seed)
    margin, scale = (0.25, 30.0) if seed % 2 else (1.5, 4.0)  # the wide one needs the fallback
    head = head_of(
        ArcFaceHead, 5, 4, margin=margin, scale=scale, label_smoothing=smoothing
    ).double()
    logits = naive_arcface_logits(rows, head.weight, labels.tolist(), margin, scale)
    expected = naive_cross_entropy(logits, labels.tolist(), smoothing)
    assert head(rows, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cosine_head_equals_naive_loops(smoothing):
    rows, labels = random_case(7)
    head = head_of(CosineHead, 5, 4, scale=10.0, label_smoothing=smoothing).double()
    logits = naive_arcface_logits(rows, head.weight, labels.tolist(), 0.0, 10.0)
    expected = naive_cross_entropy(logits, labels.tolist(), smoothing)
    assert head(rows, labels).item() == pytest.approx(expected, rel=1e-9)


def test_softmax_head_equals_naive_loops():
    rows, labels = random_case(3)
    head = head_of(SoftmaxHead, 5, 4, label_smoothing=0.1).double()
    torch.nn.init.normal_(head.bias)
    logits = [
        [sum(a * b for a, b in zip(row, w, strict=True)) + bias for w, bias in weights]
        for row in rows.tolist()
        for weights in [list(zip(head.weight.tolist(), head.bias.tolist(), strict=True))]
    ]
    expected = naive_cross_entropy(logits, labels.tolist(), 0.1)
    assert head(rows, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5, 1.0])
def test_arcface_margin_decreases_with_the_angle(margin):
    theta = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    widened = head_of(ArcFaceHead, 1, 1).with_margin(theta.cos(), torch.tensor(margin))
    assert (widened.diff() < 0).all()
    assert (widened < theta.cos()).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_head_gradient_is_finite_at_parallel_rows(sign, dtype):
    head = head_of(ArcFaceHead, 3, 8).to(dtype)
    rows = (sign * head.weight.detach().clone()).requires_grad_()
    head(rows, torch.arange(3)).backward()
    assert rows.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_arcface_margin_has_a_finite_slope_at_the_ends():
    cosine = torch.tensor([1.0, -1.0, 1.0 + 1e-7, -1.0 - 1e-7], requires_grad=True)
    head_of(ArcFaceHead, 1, 1).with_margin(cosine, torch.tensor(0.3)).sum().backward()
    assert cosine.grad.isfinite().all()


def test_arcface_head_is_exact_under_autocast():
    rows, labels = random_case(1)
    head = head_of(ArcFaceHead, 5, 4)
    expected = head(rows.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(rows.float(), labels).item() == expected.item()


def test_arcface_head_accepts_half_precision_embeddings():
    rows, labels = random_case(2)
    head = head_of(ArcFaceHead, 5, 4)
    half = rows.to(torch.bfloat16).requires_grad_()
    loss = head(half, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert half.grad.isfinite().all()


def test_arcface_margin_tightens_classes():
    labels = torch.arange(4).repeat(8)
    similarity = {}
    for margin in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(32, 6, generator=generator, requires_grad=True)
        head = head_of(ArcFaceHead, 4, 6, margin=margin, scale=30.0)
        torch.nn.init.normal_(head.weight, generator=generator)
        optimizer = torch.optim.Adam([rows, *head.parameters()], lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            head(rows, labels).backward()
            optimizer.step()
        unit = F.normalize(rows.detach(), dim=1)
        similarity[margin] = (unit @ unit.T)[labels[:, None] == labels].mean().item()
    assert similarity[0.5] > similarity[0.0] + 0.1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_subcenter_head_equals_naive_loops(seed, smoothing):
    rows, labels = random_case(seed)
    margins = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.5])
    options = {"margin": margins, "scale": 8.0, "label_smoothing": smoothing}
    head = head_of(SubCenterArcFaceHead, 5, 4, centers=3, **options).double()
    weight, logits = head.weight.detach(), []
    for row, label in zip(rows, labels.tolist(), strict=True):
        cosines = [max(F.cosine_similarity(row, w, dim=0) for w in weight[c]) for c in range(5)]
        theta, m = math.acos(cosines[label]), float(margins[label])
        is_wide = theta + m > math.pi
        cosines[label] = cosines[label] - m * math.sin(m) if is_wide else math.cos(theta + m)
        logits.append([8.0 * float(c) for c in cosines])
    expected = naive_cross_entropy(logits, labels.tolist(), smoothing)
    assert head(rows, labels).item() == pytest.approx(expected, rel=1e-9)


def test_subcenter_head_with_one_center_is_arcface():
    rows, labels = random_case(8)
    head, plain = (
        head_of(SubCenterArcFaceHead, 5, 4, centers=1).double(),
        head_of(ArcFaceHead, 5, 4).double(),
    )
    plain.load_state_dict({"weight": head.weight[:, 0]})
    torch.testing.assert_close(head(rows, labels), plain(rows, labels))


def test_arcface_head_gives_each_class_its_margin():
    rows, labels = random_case(9)
    margins = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    head = head_of(ArcFaceHead, 5, 4, margin=margins).double()
    scores = head.scores(rows)
    for row, label in enumerate(labels.tolist()):
        single = head_of(ArcFaceHead, 5, 4, margin=float(margins[label])).double()
        expected = single.logits(scores[row : row + 1], labels[row : row + 1])
        torch.testing.assert_close(head.logits(scores, labels)[row : row + 1], expected)


@pytest.mark.parametrize("seed", range(10))
def test_dynamic_margins_follow_the_published_formula(seed):
    counts = torch.randint(1, 5000, (50,), generator=torch.Generator().manual_seed(seed))
    roots = [math.sqrt(1 / math.sqrt(n)) for n in counts.tolist()]
    expected = [(r - min(roots)) / (max(roots) - min(roots)) * 0.45 + 0.05 for r in roots]
    assert dynamic_margins(counts).tolist() == pytest.approx(expected, abs=1e-6)


def test_dynamic_margins_of_equal_and_empty_classes():
    assert dynamic_margins(torch.tensor([7, 7, 7])).tolist() == pytest.approx([0.275] * 3)
    assert dynamic_margins(torch.tensor([0, 1, 9])).tolist()[:2] == pytest.approx([0.5] * 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("margin", [0.3, 1.2])
def test_arcface_head_agrees_with_pytorch_metric_learning(seed, margin):
    rows, labels = random_case(seed)
    ours = head_of(ArcFaceHead, 5, 4, margin=margin, scale=30.0)
    theirs = ArcFaceLoss(5, 4, margin=math.degrees(margin), scale=30.0)
    theirs.W.data.copy_(ours.weight.T)
    torch.testing.assert_close(ours(rows.float(), labels), theirs(rows.float(), labels))


@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_cosface_head_agrees_with_pytorch_metric_learning(margin):
    rows, labels = random_case(6)
    ours = head_of(CosFaceHead, 5, 4, margin=margin, scale=30.0)
    theirs = CosFaceLoss(5, 4, margin=margin, scale=30.0)
    theirs.W.data.copy_(ours.weight.T)
    torch.testing.assert_close(ours(rows.float(), labels), theirs(rows.float(), labels))


def test_cosine_head_agrees_with_pytorch_metric_learning():
    rows, labels = random_case(4)
    ours, theirs = (
        head_of(CosineHead, 5, 4, scale=20.0),
        NormalizedSoftmaxLoss(5, 4, temperature=0.05),
    )
    theirs.W.data.copy_(ours.weight.T)
    torch.testing.assert_close(ours(rows.float(), labels), theirs(rows.float(), labels))


def test_subcenter_head_agrees_with_pytorch_metric_learning():
    rows, labels = random_case(5)
    ours = head_of(SubCenterArcFaceHead, 5, 4, centers=3, margin=0.5, scale=64.0)
    theirs = SubCenterArcFaceLoss(
        num_classes=5, embedding_size=4, margin=math.degrees(0.5), scale=64.0, sub_centers=3
    )
    theirs.W.data.copy_(ours.weight.flatten(0, 1).T)
    torch.testing.assert_close(ours(rows.float(), labels), theirs(rows.float(), labels))


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_follow_the_stage(loss):
    stage = StageConfig(label_smoothing=0.1, scale=12.0, margin=0.2, centers=2)
    head = LOSSES[loss](stage, torch.ones(7), 4)
    shape = (7, 2, 4) if loss == "subcenter_arcface" else (7, 4)
    assert head.weight.shape == shape
    rows, labels = random_case(0)
    scores = head.scores(rows.float())
    logits = head.logits(scores, labels)
    is_other = torch.ones(6, 7).scatter(1, labels[:, None], 0.0).bool()
    scale = 1.0 if loss == "softmax" else 12.0
    torch.testing.assert_close(logits[is_other], scale * scores[is_other])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(head(rows.float(), labels), expected)
    assert head.margin.tolist() == pytest.approx([0.2] * 7)


@pytest.mark.parametrize("kind", [SoftmaxHead, ArcFaceHead, SubCenterArcFaceHead])
def test_grow_head_keeps_old_scores_and_new_rows(kind):
    rows, _ = random_case(4)
    old, new = head_of(kind, 5, 4).double(), head_of(kind, 9, 4).double()
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter)
    tail = new.weight[5:].clone()
    grow_head(old.state_dict(), new)
    torch.testing.assert_close(new.scores(rows)[:, :5], old.scores(rows))
    torch.testing.assert_close(new.weight[5:], tail)


def test_grow_head_passes_weights_from_softmax_to_arcface():
    old, new = head_of(SoftmaxHead, 5, 4), head_of(ArcFaceHead, 5, 4)
    grow_head(old.state_dict(), new)
    torch.testing.assert_close(new.weight, old.weight)


@pytest.mark.parametrize("shape", [(4, 4), (9, 3)])
def test_grow_head_refuses_a_smaller_head(shape):
    with pytest.raises(ValueError, match="only grows"):
        grow_head(head_of(CosineHead, 5, 4).state_dict(), head_of(CosineHead, *shape))


@pytest.mark.parametrize("kind", [SoftmaxHead, ArcFaceHead])
def test_dual_stream_loss_is_the_equation_of_the_paper(kind):
    base, a = random_case(5)
    mixed, b = random_case(6)
    head = head_of(kind, 5, 4).double()
    loss = dual_stream_loss(head, base, mixed, a, b)

    def entropy(rows, labels):  # CE of the logits that the head gives for these labels
        return F.cross_entropy(head.logits(head.scores(rows), labels), labels)

    expected = entropy(base, a) + 0.5 * entropy(mixed, a) + 0.5 * entropy(mixed, b)
    torch.testing.assert_close(loss, expected)


def test_dual_stream_loss_with_a_second_head_is_the_published_code():
    base, a = random_case(5)
    mixed, b = random_case(6)
    head, other = head_of(ArcFaceHead, 5, 4).double(), head_of(ArcFaceHead, 5, 4).double()
    loss = dual_stream_loss(head, base, mixed, a, b, weight=1.0, mixed_head=other)
    torch.testing.assert_close(loss, head(base, a) + other(mixed, b) + other(mixed, a))


@pytest.mark.parametrize("loss", ["arcface", "cosface", "subcenter_arcface"])
def test_losses_have_margins_by_class_size(loss):
    counts = torch.tensor([1, 100, 10_000])
    stage = StageConfig(dynamic_margin=True)
    head = LOSSES[loss](stage, counts, 4)
    assert head.margin[0] > head.margin[1] > head.margin[2]
    assert head.margin[[0, 2]].tolist() == pytest.approx([0.5, 0.05])
    plain = LOSSES[loss](dataclasses.replace(stage, dynamic_margin=False), counts, 4)
    assert plain.margin.tolist() == pytest.approx([0.3] * 3)


def test_grow_head_makes_a_weight_the_first_of_several_centers():
    old, new = head_of(SoftmaxHead, 5, 4), head_of(SubCenterArcFaceHead, 7, 4)
    before = new.weight.clone()
    grow_head(old.state_dict(), new)
    torch.testing.assert_close(new.weight[:5, 0], old.weight)
    torch.testing.assert_close(new.weight[:, 1:], before[:, 1:])
    torch.testing.assert_close(new.weight[5:], before[5:])


def test_grow_head_makes_the_mean_of_several_centers_one_weight():
    old, new = head_of(SubCenterArcFaceHead, 5, 4), head_of(CosFaceHead, 5, 4)
    grow_head(old.state_dict(), new)
    torch.testing.assert_close(new.weight, old.weight.mean(dim=1))
    with pytest.raises(ValueError, match="only grows"):
        grow_head(old.state_dict(), head_of(SubCenterArcFaceHead, 5, 4, centers=2))


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


def sampled(kind, count, size, **settings):
    """Random heads of `count` classes and their sample of `size`; (whole, head, sample)."""
    whole, head = head_of(kind, count, 4, **settings).double(), head_of(kind, size, 4).double()
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return whole, head, ClassSample(*(nn.ModuleDict({"head": one}) for one in (whole, head)))


def steps_of(sample, head, optimizer, *, steps=6, classes=9, seed=0):
    """Train the drawn rows on random embeddings and labels; yield what each step drew."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randn(5, 4, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, classes, (5,), generator=generator)
        sample.draw(labels, torch.Generator().manual_seed(step), optimizer)
        optimizer.zero_grad()
        head(rows, sample.places(labels)).backward()
        optimizer.step()
        sample.keep(optimizer)
        yield rows, labels, sample.index.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_class_sample_draws_the_labels_and_others_evenly(seed):
    whole, head, sample = sampled(ArcFaceHead, 40, 12, margin=torch.linspace(0, 1, 40))
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 40, (7,), generator=generator)
    counts = torch.zeros(40)
    for _ in range(500):
        sample.draw(labels, generator, optimizer)
        assert sample.index.unique().tolist() == sample.index.tolist()
        assert len(sample.index) == 12
        assert torch.equal(sample.index[sample.places(labels)], labels)
        counts[sample.index] += 1
    others = counts[~torch.isin(torch.arange(40), labels)] / 500
    expected = (12 - len(labels.unique())) / (40 - len(labels.unique()))
    assert (counts[labels] == 500).all()
    assert (others - expected).abs().max() < 0.1
    assert torch.equal(head.weight, whole.weight[sample.index])
    assert torch.equal(head.margin, whole.margin[sample.index])


def naive_row_step(row, gradient, state, step, optimizer):
    """One step of a row with its own state, by the formulas of SGD and AdamW."""
    if optimizer == "sgd":
        state["v"] = 0.9 * state.get("v", 0.0) + gradient + 0.1 * row
        return row - 0.05 * state["v"]
    state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * gradient
    state["s"] = 0.999 * state.get("s", 0.0) + 0.001 * gradient**2
    m, s = state["m"] / (1 - 0.9**step), state["s"] / (1 - 0.999**step)
    return row * (1 - 0.05 * 0.1) - 0.05 * m / (s.sqrt() + 1e-8)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", [SoftmaxHead, CosineHead, ArcFaceHead, SubCenterArcFaceHead])
def test_class_sample_trains_the_drawn_rows_alone(kind, optimizer):
    whole, head, sample = sampled(kind, 9, 6, margin=torch.linspace(0.1, 0.5, 9))
    rows_of = {name: list(value.detach().clone()) for name, value in whole.named_parameters()}
    states = {name: [{} for _ in range(9)] for name in rows_of}
    options = {"lr": 0.05, "weight_decay": 0.1}
    if optimizer == "sgd":
        chosen = torch.optim.SGD(head.parameters(), momentum=0.9, **options)
    else:
        chosen = torch.optim.AdamW(head.parameters(), **options)
    steps = steps_of(sample, head, chosen)
    for step, (rows, labels, drawn) in enumerate(steps, start=1):
        naive = head_of(kind, len(drawn), 4, margin=whole.margin[drawn]).double()
        naive.load_state_dict(
            {name: torch.stack([own[c] for c in drawn]) for name, own in rows_of.items()}
        )
        naive(rows, torch.tensor([drawn.index(c) for c in labels.tolist()])).backward()
        for name, parameter in naive.named_parameters():
            for c, gradient in zip(drawn, parameter.grad, strict=True):
                rows_of[name][c] = naive_row_step(
                    rows_of[name][c], gradient, states[name][c], step, optimizer
                )
    for name, value in whole.named_parameters():
        torch.testing.assert_close(value.detach(), torch.stack(rows_of[name]))


@pytest.mark.parametrize("optimizer", SAMPLED_OPTIMIZERS)
def test_class_sample_of_all_classes_is_the_whole_head(optimizer):
    stage = StageConfig(optimizer=optimizer, learning_rate=0.01)
    whole, head, sample = sampled(ArcFaceHead, 9, 9)
    plain = head_of(ArcFaceHead, 9, 4).double()
    plain.load_state_dict(whole.state_dict())

    def built(module):
        network = nn.Module()
        network.model, network.head = nn.Module(), module
        network.model.backbone = nn.Module()
        return build_optimizer(stage, network)

    other = built(plain)
    for rows, labels, _ in steps_of(sample, head, built(head)):
        other.zero_grad()
        plain(rows, labels).backward()
        other.step()
    torch.testing.assert_close(whole.weight, plain.weight)


def test_class_sample_goes_on_from_its_state():
    def trained(stops):
        whole, head, sample = sampled(CosFaceHead, 9, 6)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9)
        for step, _ in enumerate(steps_of(sample, head, optimizer), start=1):
            if step in stops:
                kept, options = copy.deepcopy(sample.state_dict()), optimizer.state_dict()
                other = {"head.weight": torch.zeros(9, 4)}
                sample.load_state_dict({"whole": other, "states": {}})
                sample.load_state_dict(kept)
                optimizer.load_state_dict(options)
        return whole.weight

    assert torch.equal(trained([]), trained([2, 4]))


@pytest.mark.parametrize(
    ("share", "batch", "cutmix", "expected"),
    [(1.0, 8, "", 100), (0.1, 8, "", 10), (0.1, 8, "paper", 16), (0.1, 200, "", 100)],
)
def test_sample_classes_leaves_a_head_the_classes_of_a_batch(share, batch, cutmix, expected):
    stage = StageConfig(class_share=share, batch_size=batch, cutmix=cutmix)
    network = nn.Module()
    network.head = whole = ArcFaceHead(stage, torch.ones(100), 4)
    sample = sample_classes(stage, network)
    assert (sample is None) == (expected == 100)
    assert network.head.weight.shape == (expected, 4)
    assert sample is None or sample.whole["head"] is whole

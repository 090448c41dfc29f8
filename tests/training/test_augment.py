import dataclasses
import math
import random

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import functional as reference

from lib.config import AugmentConfig
from lib.models.network import normalise
from lib.recipes import GLR20_AUGMENT
from lib.training.albumentations_chain import ImageChain
from lib.training.augmentation import (
    Augment,
    corner_cutmix,
    pad_and_crop,
    random_erasing,
    random_flip,
    random_turn,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EVERYTHING = AugmentConfig(
    rotate=30.0, scale=(0.7, 1.3), aspect=(0.9, 1.1), pad=3,
    brightness=0.3, contrast=0.3, saturation=0.3, erasing=1.0,
)  # fmt: skip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=8, height=20, width=16, seed=0):
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


def erased_boxes(count, height, width, **options):
    """Heights, widths and corners of the rectangles erased from images of ones."""
    images = torch.ones(count, 1, height, width)
    holes = random_erasing(images, generator=seeded(1), **options)[:, 0] == 0
    boxes = []
    for hole in holes[holes.any(dim=(1, 2))]:
        rows, columns = hole.any(1).nonzero()[:, 0], hole.any(0).nonzero()[:, 0]
        h, w = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert hole.sum() == h * w  # one full rectangle
        boxes.append((h, w, int(rows[0]), int(columns[0])))
    return boxes


def test_normalise_equals_torchvision():
    expected = reference.normalize(pixels().float() / 255, MEAN, STD)
    torch.testing.assert_close(normalise(pixels(), MEAN, STD), expected)


def test_random_flip_mirrors_some_images():
    images = pixels(400)
    flipped = random_flip(images, 0.3, generator=seeded())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 80 < mirrored.sum() < 160
    assert torch.equal(random_flip(images, 1.0, generator=seeded()), images.flip(-1))
    assert torch.equal(random_flip(images, 0.0, generator=seeded()), images)


def test_random_turn_mirrors_or_turns_with_equal_odds():
    images = pixels(600, 8, 8)
    turned = random_turn(images, 0.6, generator=seeded())
    views = [images, images.flip(-1), images.rot90(1, (2, 3)), images.rot90(3, (2, 3))]
    counts = [int((turned == view).flatten(1).all(1).sum()) for view in views]
    assert sum(counts) == 600
    assert counts[0] == pytest.approx(240, abs=45)
    assert counts[1:] == pytest.approx([120] * 3, abs=35)
    assert torch.equal(random_turn(images, 0.0, generator=seeded()), images)


def test_random_turn_asks_for_squares():
    with pytest.raises(ValueError, match=r"square images to turn, found \(8, 3, 20, 16\)"):
        random_turn(pixels(), generator=seeded())


def test_augment_runs_the_chain_of_the_code_where_it_is_asked_to():
    config = AugmentConfig(chain=True, flip=0.0)
    images = pixels(6, 24, 24)
    augment = Augment(config, MEAN, STD)
    first, again, other = (augment(images, seeded(seed)) for seed in (1, 1, 2))
    expected = normalise(ImageChain(24)(images, seeded(1)), MEAN, STD)
    torch.testing.assert_close(first, expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_augment_takes_every_part_of_the_colour_and_geometry_of_2020():
    images = pixels(6, 24, 24)
    found = Augment(GLR20_AUGMENT, MEAN, STD)(images, seeded())
    assert found.shape == images.shape
    assert found.isfinite().all()
    settings = {f.name: getattr(GLR20_AUGMENT, f.name) for f in dataclasses.fields(AugmentConfig)}
    for name in ("quarter_turns", "hue", "channel_shuffle", "blur"):
        less = dataclasses.replace(GLR20_AUGMENT, **{name: type(settings[name])(0)})
        assert not torch.equal(Augment(less, MEAN, STD)(images, seeded()), found), name


def test_pad_and_crop_shows_a_window_of_the_padded_image():
    images, pad = pixels(200, 6, 5), 2
    cropped = pad_and_crop(images, pad, generator=seeded())
    assert cropped.shape == images.shape
    windows = F.pad(images, (pad,) * 4).unfold(2, 6, 1).unfold(3, 5, 1)  # (B, 3, 5, 5, 6, 5)
    is_window = (windows == cropped[:, :, None, None]).all(dim=1).all(dim=(-1, -2))
    assert is_window.flatten(1).any(1).all()
    assert is_window.any(0).all()  # every place occurs


def test_pad_and_crop_without_padding_changes_nothing():
    assert torch.equal(pad_and_crop(pixels(), 0, generator=seeded()), pixels())


def test_random_erasing_takes_one_rectangle_of_the_right_size():
    boxes = erased_boxes(600, 60, 80)
    assert len(boxes) == 600
    for h, w, _, _ in boxes:
        slack = 0.5 * (h + w) + 0.25  # both sides are rounded to whole pixels
        assert 0.02 * 4800 - slack <= h * w <= 0.20 * 4800 + slack
        assert (h - 0.5) / (w + 0.5) <= 1 / 0.3
        assert (h + 0.5) / (w - 0.5) >= 0.3


def test_random_erasing_reaches_every_place():
    boxes = erased_boxes(3000, 20, 20)
    assert min(top for _, _, top, _ in boxes) == 0
    assert min(left for *_, left in boxes) == 0
    assert max(h + top for h, _, top, _ in boxes) == 20
    assert max(w + left for _, w, _, left in boxes) == 20


def test_random_erasing_has_the_distribution_of_the_sequential_procedure():
    height, width, draw = 16, 48, random.Random(0)  # flat: tall rectangles are drawn again

    def sequential():
        for _ in range(100):
            share, ratio = draw.uniform(0.02, 0.2) * height * width, draw.uniform(0.3, 1 / 0.3)
            h, w = round(math.sqrt(share * ratio)), round(math.sqrt(share / ratio))
            if h < height and w < width:
                return h, w, draw.randint(0, height - h), draw.randint(0, width - w)
        return None

    ours = torch.tensor(erased_boxes(8000, height, width), dtype=torch.float64)
    theirs = torch.tensor([sequential() for _ in range(8000)], dtype=torch.float64)
    error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 4.5 * error).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.06, atol=0)


def test_random_erasing_keeps_its_probability_and_the_other_pixels():
    images = torch.randn(1000, 3, 12, 12, generator=seeded())
    erased = random_erasing(images, 0.25, value=7.0, generator=seeded())
    hole = (erased == 7.0).all(1)
    assert 190 < hole.any(dim=(1, 2)).sum() < 310
    assert torch.equal(
        erased[~hole[:, None].expand_as(images)], images[~hole[:, None].expand_as(images)]
    )
    assert torch.equal(random_erasing(images, 0.0, generator=seeded()), images)


def test_random_erasing_spares_images_too_small_for_any_rectangle():
    images = torch.ones(5, 1, 1, 30)  # no rectangle is lower than one pixel
    assert torch.equal(random_erasing(images, 1.0, area=(0.2, 0.3), generator=seeded()), images)


def test_corner_cutmix_by_hand():
    images, partners = torch.full((1, 1, 4, 4), 9.0), torch.zeros(1, 1, 4, 4)
    mixed = corner_cutmix(images, partners, low=0.5, high=0.5, generator=seeded())
    patch = torch.full((2, 2), 9.0)
    corners = [F.pad(patch, p) for p in ((0, 2, 0, 2), (2, 0, 0, 2), (0, 2, 2, 0), (2, 0, 2, 0))]
    assert any(torch.equal(mixed[0, 0], corner) for corner in corners)


def test_corner_cutmix_pastes_the_whole_image_on_one_corner():
    images, partners = torch.rand(3, 2, 30, 50, generator=seeded(1)), torch.zeros(3, 2, 30, 50)
    corners, sizes = set(), set()
    for seed in range(60):
        mixed = corner_cutmix(images, partners - 1.0, generator=seeded(seed))
        inside = (mixed != -1.0).all(dim=(0, 1))
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        top, left, h, w = int(rows[0]), int(columns[0]), len(rows), len(columns)
        assert top in (0, 30 - h)
        assert left in (0, 50 - w)
        assert 12 <= h <= 18
        assert 20 <= w <= 30
        patch = F.interpolate(images, size=(h, w), mode="bilinear", align_corners=False)
        assert torch.equal(mixed[:, :, top : top + h, left : left + w], patch)
        assert inside.sum() == h * w
        corners.add((top > 0, left > 0))
        sizes.add((h, w))
    assert len(corners) == 4
    assert len(sizes) > 20


def test_corner_cutmix_leaves_its_inputs_alone_and_passes_gradients():
    images = torch.rand(2, 3, 10, 10, requires_grad=True)
    partners = torch.rand(2, 3, 10, 10)
    before = partners.clone()
    corner_cutmix(images, partners, generator=seeded()).sum().backward()
    assert torch.equal(partners, before)
    assert images.grad.sum() > 0


def test_corner_cutmix_refuses_different_shapes():
    with pytest.raises(ValueError, match="pair the batches first"):
        corner_cutmix(torch.zeros(2, 3, 8, 8), torch.zeros(3, 3, 8, 8), generator=seeded())


def test_augment_without_options_only_normalises():
    augment = Augment(AugmentConfig(flip=0.0), MEAN, STD)
    assert torch.equal(augment(pixels(), seeded()), normalise(pixels(), MEAN, STD))


def test_augment_depends_on_the_generator_alone():
    augment = Augment(EVERYTHING, MEAN, STD)
    first, again, other = (augment(pixels(), seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (8, 3, 20, 16)
    assert first.dtype == torch.float32
    assert first.isfinite().all()


def test_augment_is_blind_to_the_memory_format():
    augment = Augment(EVERYTHING, MEAN, STD)
    last = pixels().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(augment(last, seeded()), augment(pixels(), seeded()))


def test_augment_leaves_its_input_alone():
    images = pixels()
    Augment(EVERYTHING, MEAN, STD)(images, seeded())
    assert torch.equal(images, pixels())


def test_augment_borders_have_the_mean_colour():
    config = AugmentConfig(flip=0.0, scale=(0.5, 0.5))
    white = torch.full((16, 3, 20, 20), 255, dtype=torch.uint8)
    shrunken = Augment(config, MEAN, STD)(white, seeded())
    assert ((shrunken == 0).all(1).sum((1, 2)) > 250).all()  # three quarters of 400
    assert shrunken.min() == 0

"""Steps equal torchvision, naive loops and sequential procedures; the pipeline as a whole."""

import dataclasses
import math
import random

import albumentations as A
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as reference

from lib.config import AugmentConfig
from lib.models import normalise
from lib.recipes import GLR20_AUGMENT
from lib.training.augmentation import (
    AUGMENTATIONS,
    MEAN_COLOUR,
    Augment,
    affine,
    build_chain,
    colour_jitter,
    corner_cutmix,
    hue_matrix,
    pad_and_crop,
    random_affine,
    random_blur,
    random_erasing,
    random_flip,
    random_windows,
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


def erased_boxes(count, height, width):
    """Heights, widths and corners of the rectangles erased from images of ones."""
    images = torch.ones(count, 1, height, width)
    holes = random_erasing(images, AugmentConfig(erasing=1.0), seeded(1))[:, 0] == 0
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
    flipped = random_flip(images, AugmentConfig(flip=0.3), seeded())
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 80 < mirrored.sum() < 160
    assert torch.equal(random_flip(images, AugmentConfig(flip=1.0), seeded()), images.flip(-1))
    assert torch.equal(random_flip(images, AugmentConfig(flip=0.0), seeded()), images)


def test_random_flip_mirrors_or_turns_with_equal_odds():
    images = pixels(600, 8, 8)
    turned = random_flip(images, AugmentConfig(flip=0.6, quarter_turns=True), seeded())
    views = [images, images.flip(-1), images.rot90(1, (2, 3)), images.rot90(3, (2, 3))]
    counts = [int((turned == view).flatten(1).all(1).sum()) for view in views]
    assert sum(counts) == 600
    assert counts[0] == pytest.approx(240, abs=45)
    assert counts[1:] == pytest.approx([120] * 3, abs=35)
    never = AugmentConfig(flip=0.0, quarter_turns=True)
    assert torch.equal(random_flip(images, never, seeded()), images)
    with pytest.raises(ValueError, match=r"square images to turn, found \(8, 3, 20, 16\)"):
        random_flip(pixels(), never, seeded())


def test_augment_runs_the_chain_of_the_code_where_it_is_asked_to():
    config = AugmentConfig(chain=True, flip=0.0)
    images = pixels(6, 24, 24)
    augment = Augment(config, MEAN, STD)
    first, again, other = (augment.each(images.numpy(), range(s, s + 6)) for s in (1, 1, 7))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != images.numpy()).any()
    begun = torch.from_numpy(first)
    assert torch.equal(augment(begun, seeded(1)), normalise(begun, MEAN, STD))
    assert not Augment(AugmentConfig(), MEAN, STD).has_each


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
    cropped = pad_and_crop(images, AugmentConfig(pad=pad), seeded())
    assert cropped.shape == images.shape
    windows = F.pad(images, (pad,) * 4).unfold(2, 6, 1).unfold(3, 5, 1)  # (B, 3, 5, 5, 6, 5)
    is_window = (windows == cropped[:, :, None, None]).all(dim=1).all(dim=(-1, -2))
    assert is_window.flatten(1).any(1).all()
    assert is_window.any(0).all()  # every place occurs


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
    erased = random_erasing(images, AugmentConfig(erasing=0.25), seeded())
    hole = (erased == 0.0).all(1)
    assert 190 < hole.any(dim=(1, 2)).sum() < 310
    assert torch.equal(
        erased[~hole[:, None].expand_as(images)], images[~hole[:, None].expand_as(images)]
    )


def test_random_erasing_spares_images_too_small_for_any_rectangle():
    images = torch.ones(5, 1, 1, 30)  # no rectangle is lower than one pixel
    config = AugmentConfig(erasing=1.0, erasing_area=(0.2, 0.3))
    assert torch.equal(random_erasing(images, config, seeded()), images)


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


def naive_affine(image, angle, zoom_x, zoom_y, shift_x, shift_y):
    """Bilinear resampling of an (H, W) image, pixel by pixel; 0 outside."""
    height, width = image.shape
    result = torch.zeros_like(image)

    def at(row, column):
        inside = 0 <= row < height and 0 <= column < width
        return image[row, column].item() if inside else 0.0

    for i in range(height):
        for j in range(width):
            # Pixels from the middle of the result, undoing crop and zoom, then the turn.
            x = (j + 0.5 - width / 2) / zoom_x + shift_x * width / 2
            y = (i + 0.5 - height / 2) / zoom_y + shift_y * height / 2
            u = math.cos(angle) * x - math.sin(angle) * y + width / 2 - 0.5
            v = math.sin(angle) * x + math.cos(angle) * y + height / 2 - 0.5
            left, top = math.floor(u), math.floor(v)
            for row, row_weight in ((top, 1 - (v - top)), (top + 1, v - top)):
                for column, weight in ((left, 1 - (u - left)), (left + 1, u - left)):
                    result[i, j] += row_weight * weight * at(row, column)
    return result


@pytest.mark.parametrize("seed", range(4))
def test_affine_equals_naive_resampling(seed):
    generator = seeded(seed)
    images = torch.rand(3, 1, 9, 7, generator=generator, dtype=torch.float64)
    angle = torch.rand(3, generator=generator, dtype=torch.float64) * 2 - 1
    zooms = torch.rand(3, 2, generator=generator, dtype=torch.float64) + 0.5
    shifts = torch.rand(3, 2, generator=generator, dtype=torch.float64) - 0.5
    result = affine(images, angle, zooms, shifts)
    for k in range(3):
        expected = naive_affine(images[k, 0], float(angle[k]), *zooms[k], *shifts[k])
        torch.testing.assert_close(result[k, 0], expected)


def test_affine_turns_as_torchvision_does():
    images = pixels(2, 15, 11).float()
    turned = affine(images, torch.full((2,), math.radians(25)), torch.ones(2, 2), torch.zeros(2, 2))
    bilinear = reference.InterpolationMode.BILINEAR
    torch.testing.assert_close(turned, reference.rotate(images, 25, bilinear), atol=1e-2, rtol=1e-4)


def test_random_affine_without_ranges_is_the_identity():
    assert torch.equal(random_affine(pixels(), AugmentConfig(), seeded()), pixels())
    nearly = random_affine(pixels(), AugmentConfig(rotate=1e-6), seeded())
    torch.testing.assert_close(nearly, pixels().float(), atol=1e-3, rtol=0)


def test_random_affine_shows_all_of_a_shrunken_image():
    images = torch.ones(64, 1, 40, 40)
    shrunken = random_affine(images, AugmentConfig(scale=(0.5, 0.5)), seeded())
    torch.testing.assert_close(shrunken.sum((1, 2, 3)), torch.full((64,), 400.0), rtol=0.01, atol=0)
    middle = shrunken.sum((1, 2)) @ torch.arange(40.0) / 400  # (B,) where it stands
    assert middle.min() < 12
    assert middle.max() > 27


def test_random_affine_shows_only_the_inside_of_a_magnified_image():
    config = AugmentConfig(scale=(1.5, 1.5))
    enlarged = random_affine(torch.ones(64, 1, 40, 40), config, seeded())
    assert (enlarged > 0.49).all()  # half weight at the very border of the image


CROP = AugmentConfig(crop_area=(0.2, 0.9))


def test_random_windows_are_those_of_torchvision():
    sides, centres = random_windows(torch.empty(5000, 1, 1, 1), CROP, seeded())
    image = torch.empty(1, 10_000, 10_000, device="meta")
    torch.manual_seed(0)
    draws = [RandomResizedCrop.get_params(image, (0.2, 0.9), (3 / 4, 4 / 3)) for _ in range(5000)]
    top, left, height, width = torch.tensor(draws, dtype=torch.float64).T / 10_000
    width_found, height_found = sides.double().T
    x, y = centres.double().T
    pairs = {
        "area": (width_found * height_found, width * height),
        "aspect": (width_found / height_found, width / height),
        "left": ((x - width_found + 1) / 2, left),
        "top": ((y - height_found + 1) / 2, top),
    }
    for name, (found, expected) in pairs.items():
        assert ks_2samp(found, expected).pvalue > 0.01, name
    assert (sides <= 1).all()
    assert (centres.abs() <= 1 - sides + 1e-6).all()


def test_random_windows_that_never_fit_are_the_largest_in_the_middle():
    config = AugmentConfig(crop_area=(1.0, 1.0), crop_aspect=(2.0, 2.0))
    sides, centres = random_windows(torch.empty(3, 1, 1, 1), config, seeded())
    assert sides.tolist() == [[1.0, 0.5]] * 3
    assert centres.tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize("size", [0, 8, 4])
def test_affine_with_a_window_cuts_it_out(size):
    images = torch.rand(2, 3, 16, 16, generator=seeded())
    windows = torch.full((2, 2), 0.5), torch.tensor([[0.25, -0.25]] * 2)
    still = torch.zeros(2), torch.ones(2, 2), torch.zeros(2, 2)
    found = affine(images, *still, windows=windows, size=size)
    window = images[:, :, 2:10, 6:14]
    assert found.shape[-1] == (size or 16)
    if size == 8:
        torch.testing.assert_close(found, window)
    elif size == 4:
        torch.testing.assert_close(found, F.avg_pool2d(window, 2))
    else:
        inner = (..., slice(1, -1), slice(1, -1))  # outside of the window lie its neighbours
        larger = F.interpolate(window, scale_factor=2, mode="bilinear")
        torch.testing.assert_close(found[inner], larger[inner])


def test_affine_with_a_window_turns_what_it_cuts_out():
    ramp = torch.arange(32.0)
    images = (ramp[:, None] * 3 + ramp[None, :]).expand(2, 1, 32, 32)  # linear: resampled exactly
    windows = torch.tensor([[0.6, 0.7], [0.5, 0.4]]), torch.tensor([[0.1, -0.2], [-0.3, 0.4]])
    still = torch.zeros(2), torch.ones(2, 2), torch.zeros(2, 2)
    turn = torch.tensor([0.2, -0.3]), torch.full((2, 2), 1.5), torch.full((2, 2), 0.05)
    cut = affine(images, *still, windows=windows)
    torch.testing.assert_close(affine(images, *turn, windows=windows), affine(cut, *turn))


def test_augment_crops_decoded_images_to_the_size_of_the_stage():
    images = pixels(6, 24, 24)
    augment = Augment(CROP, MEAN, STD, size=16)
    found = augment(images, seeded())
    assert found.shape == (6, 3, 16, 16)
    assert torch.equal(found, augment(images, seeded()))
    whole = Augment(AugmentConfig(flip=0.0), MEAN, STD, size=12)(images, seeded())
    torch.testing.assert_close(whole, F.avg_pool2d(normalise(images, MEAN, STD), 2))


def test_crop_area_changes_no_draw_of_other_settings():
    config = AugmentConfig(rotate=20.0, scale=(0.8, 1.2), aspect=(0.9, 1.1))
    generator, other = seeded(), seeded()
    random_affine(pixels(), config, generator)
    torch.rand(8 * 6, generator=other)  # angle, its coin, zoom, aspect and two places
    assert torch.equal(generator.get_state(), other.get_state())


def test_random_affine_rotates_some_images():
    images = torch.ones(300, 1, 20, 20)
    turned = random_affine(images, AugmentConfig(rotate=30.0), seeded())
    loses_corners = turned.flatten(1).min(1).values < 0.9
    assert 100 < loses_corners.sum() < 180


def narrow(count):
    """Images so grey that nothing a test does is clipped."""
    return 100 + pixels(count).float() / 8


def test_colour_jitter_equals_torchvision_step_by_step():
    images = narrow(6)
    config = AugmentConfig(brightness=0.3, contrast=0.4, saturation=0.5)
    jittered = colour_jitter(images, config, seeded(3))
    generator = seeded(3)
    b, c, s = (1 + w * (2 * torch.rand(6, generator=generator) - 1) for w in (0.3, 0.4, 0.5))
    for k in range(6):
        step = images[k] / 255
        step = reference.adjust_brightness(step, float(b[k]))
        step = reference.adjust_contrast(step, float(c[k]))
        step = reference.adjust_saturation(step, float(s[k]))
        torch.testing.assert_close(jittered[k], step * 255, atol=0.1, rtol=0)


def test_colour_jitter_stays_in_range_and_differs_between_images():
    images = pixels(1).expand(16, -1, -1, -1)
    config = AugmentConfig(brightness=0.9, contrast=0.9, saturation=0.9)
    jittered = colour_jitter(images, config, seeded())
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert len(jittered.mean((1, 2, 3)).unique()) == 16


def test_colour_jitter_leaves_a_share_of_images_alone():
    images = narrow(1).expand(400, -1, -1, -1)
    jittered = colour_jitter(images, AugmentConfig(brightness=0.2, colour_p=0.25), seeded())
    changed = ((jittered - images).abs().amax((1, 2, 3)) > 1e-3).sum()
    assert 70 < changed < 130


def test_colour_jitter_turns_hue_and_keeps_grey():
    grey = torch.linspace(50, 200, 12).view(1, 1, 3, 4).expand(5, 3, -1, -1)
    turned = colour_jitter(grey, AugmentConfig(hue=90.0), seeded())
    torch.testing.assert_close(turned, grey, atol=1e-2, rtol=0)
    images = narrow(5)
    turned = colour_jitter(images, AugmentConfig(hue=40.0), seeded(2))
    torch.testing.assert_close(turned.mean(1), images.mean(1), atol=1e-2, rtol=0)
    assert (turned - images).abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_colour_jitter_reorders_channels_of_a_share_of_images(p):
    images = pixels(600).float()
    changed = colour_jitter(images, AugmentConfig(channel_shuffle=p), seeded())
    orders = [[i, j, 3 - i - j] for i in range(3) for j in range(3) if i != j]
    found = torch.stack(
        [(changed - images[:, order]).abs().amax((1, 2, 3)) < 1e-2 for order in orders]
    )
    assert (found.sum(0) == 1).all()
    # A random order is the given one in one case of six.
    assert found[0].float().mean().item() == pytest.approx(1 - p * 5 / 6, abs=0.07)


def test_hue_matrix_is_a_rotation_about_grey():
    angles = torch.linspace(-3, 3, 7)
    matrices = hue_matrix(angles)
    identity = torch.eye(3).expand(7, -1, -1)
    torch.testing.assert_close(matrices @ matrices.mT, identity, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrices.sum(2), torch.ones(7, 3))
    torch.testing.assert_close(hue_matrix(angles[:1]) @ hue_matrix(-angles[:1]), identity[:1])
    third = hue_matrix(torch.tensor([2 * math.pi / 3]))[0] @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(third, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_random_blur_equals_torchvision_where_it_blurs():
    images = pixels(64, 64, 64).float()
    blurred = random_blur(images, AugmentConfig(blur=0.5), seeded(4))
    generator, largest = seeded(4), 3 / 448 * 64
    sigma = torch.rand(64, generator=generator) * largest
    chosen = torch.rand(64, generator=generator) < 0.5
    reach = math.ceil(3 * largest)
    for k in range(64):
        expected = images[k]
        if chosen[k]:
            size = 2 * reach + 1
            expected = reference.gaussian_blur(expected, [size, size], float(sigma[k]))
        torch.testing.assert_close(blurred[k], expected, atol=0.05, rtol=0)
    assert 20 < chosen.sum() < 44


def test_random_blur_keeps_the_brightness():
    images = narrow(6)
    blurred = random_blur(images, AugmentConfig(blur=1.0), seeded())
    torch.testing.assert_close(blurred.mean((2, 3)), images.mean((2, 3)), atol=0.5, rtol=0)


def through_chain(images, pipeline=None):
    augment = Augment(AugmentConfig(chain=True), MEAN, STD, pipeline=pipeline)
    return torch.from_numpy(augment.each(images.numpy(), range(len(images))))


def test_augment_each_depends_on_an_images_seed_alone():
    images = pixels(16, 32, 32)
    found = through_chain(images)
    assert torch.equal(found, through_chain(images, build_chain.__wrapped__(32)))
    augment = Augment(AugmentConfig(chain=True), MEAN, STD)
    backwards = augment.each(images.numpy()[::-1], range(15, -1, -1))
    np.testing.assert_array_equal(backwards[::-1], found)


def test_augment_each_keeps_type_and_shape_and_draws_for_each_image():
    same = pixels(1, 32, 32).expand(16, -1, -1, -1)
    changed = through_chain(same)
    assert changed.shape == same.shape
    assert changed.dtype == torch.uint8
    assert len(changed.flatten(1).unique(dim=0)) == 16


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (A.Resize(16, 16), r"found uint8 \(16, 16, 3\); crop to this size"),
        (A.Normalize(), r"found float32 \(20, 20, 3\); .* leave Normalize"),
    ],
    ids=["size", "type"],
)
def test_augment_each_refuses_results_of_another_size_or_type(step, message):
    with pytest.raises(ValueError, match=message):
        through_chain(pixels(2, 20, 20), A.Compose([step]))


def test_augment_takes_an_own_pipeline_in_the_place_of_all_steps():
    own = A.Compose([A.HorizontalFlip(p=1.0)])
    augment = Augment(EVERYTHING, MEAN, STD, pipeline=own)
    mirrored = torch.from_numpy(augment.each(pixels().numpy(), range(8)))
    assert torch.equal(mirrored, pixels().flip(-1))
    torch.testing.assert_close(augment(mirrored, seeded()), normalise(mirrored, MEAN, STD))
    assert own.seed is None  # the user's object stays as it is


def test_augment_runs_the_steps_that_the_settings_name_in_their_order(monkeypatch):
    def solarize(images, config, generator):
        return torch.where(images < 128, images, 255 - images)

    monkeypatch.setitem(AUGMENTATIONS, "solarize", solarize)
    images = pixels()
    plain = Augment(AugmentConfig(flip=0.0), MEAN, STD)(images, seeded())
    assert torch.equal(plain, normalise(images, MEAN, STD))  # registered is not chosen
    config = AugmentConfig(steps=("solarize", "normalise"))
    found = Augment(config, MEAN, STD)(images, seeded())
    assert torch.equal(found, normalise(solarize(images, None, None), MEAN, STD))


def test_default_steps_are_registered_in_their_order():
    steps = AugmentConfig().steps
    assert [name for name in AUGMENTATIONS if name in steps] == [
        name for name in steps if name != "normalise"
    ]


def test_glr20_chain_fills_borders_with_the_mean_colour():
    white = torch.full((300, 3, 32, 32), 255, dtype=torch.uint8)
    changed = through_chain(white)
    mean = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)[:, None, None]
    border = (changed == mean).all(1).float().mean((1, 2))
    assert 0.4 < (border > 0.01).float().mean() < 0.95  # half of all zooms shrink, others turn
    assert border.max() < 0.7  # a zoom of 0.7 still covers half of the square


def test_glr20_chain_turns_and_mirrors_half_of_the_images():
    ramp = torch.arange(32, dtype=torch.uint8).mul(6).expand(3, 32, 32)  # bright at the right
    changed = through_chain(ramp.expand(400, -1, -1, -1).contiguous()).float().numpy()
    middle = changed[:, :, 8:24, 8:24].mean(1)
    across = np.diff(middle, axis=2).mean((1, 2))
    down = np.diff(middle, axis=1).mean((1, 2))
    way = np.where(abs(across) > abs(down), np.sign(across), 2 * np.sign(down))
    shares = {value: (way == value).mean() for value in (1, -1, 2, -2)}
    assert 0.4 < shares[1] < 0.6
    assert all(0.1 < shares[value] < 0.24 for value in (-1, 2, -2))


def test_glr20_chain_swaps_channels_and_shifts_brightness():
    grey = torch.full((300, 3, 32, 32), 100, dtype=torch.uint8)
    grey[:, 0] = 160
    centre = through_chain(grey)[:, :, 16, 16]
    brightest = centre.argmax(1)
    assert 0.5 < (brightest == 0).float().mean() < 0.85  # half are shuffled, a third of them back
    assert set(brightest.tolist()) == {0, 1, 2}
    assert centre.float().mean(1).std() > 15

"""Colour of a batch: equal to torchvision's steps, a matrix per image, and blur."""

import math

import pytest
import torch
from torchvision.transforms import functional as reference

from lib.training.augmentation import colour_jitter, hue_matrix, random_blur


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=8, height=20, width=16, seed=0):
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


def narrow(count):
    """Images so grey that nothing a test does is clipped."""
    return 100 + pixels(count).float() / 8


def test_colour_jitter_equals_torchvision_step_by_step():
    images = narrow(6)
    jittered = colour_jitter(
        images, brightness=0.3, contrast=0.4, saturation=0.5, generator=seeded(3)
    )
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
    jittered = colour_jitter(
        images, brightness=0.9, contrast=0.9, saturation=0.9, generator=seeded()
    )
    assert jittered.min() >= 0
    assert jittered.max() <= 255
    assert len(jittered.mean((1, 2, 3)).unique()) == 16


def test_colour_jitter_leaves_a_share_of_images_alone():
    images = narrow(1).expand(400, -1, -1, -1)
    jittered = colour_jitter(images, brightness=0.2, p=0.25, generator=seeded())
    changed = ((jittered - images).abs().amax((1, 2, 3)) > 1e-3).sum()
    assert 70 < changed < 130


def test_colour_jitter_turns_hue_and_keeps_grey():
    grey = torch.linspace(50, 200, 12).view(1, 1, 3, 4).expand(5, 3, -1, -1)
    turned = colour_jitter(grey, hue=90.0, generator=seeded())
    torch.testing.assert_close(turned, grey, atol=1e-2, rtol=0)
    images = narrow(5)
    turned = colour_jitter(images, hue=40.0, generator=seeded(2))
    torch.testing.assert_close(turned.mean(1), images.mean(1), atol=1e-2, rtol=0)
    assert (turned - images).abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_colour_jitter_reorders_channels_of_a_share_of_images(p):
    images = pixels(600).float()
    changed = colour_jitter(images, channel_shuffle=p, generator=seeded()) if p else images
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
    blurred = random_blur(images, 0.5, generator=seeded(4))
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
    blurred = random_blur(images, 1.0, generator=seeded())
    torch.testing.assert_close(blurred.mean((2, 3)), images.mean((2, 3)), atol=0.5, rtol=0)

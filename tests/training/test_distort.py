import math

import pytest
import torch
from torchvision.transforms import functional as reference

from lib.training.augmentation import affine, random_affine


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=8, height=20, width=16, seed=0):
    shape = (count, 3, height, width)
    return torch.randint(0, 256, shape, generator=seeded(seed), dtype=torch.uint8)


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
    result = random_affine(pixels(), degrees=0.0, scale=(1.0, 1.0), generator=seeded())
    torch.testing.assert_close(result, pixels().float(), atol=1e-3, rtol=0)


def test_random_affine_shows_all_of_a_shrunken_image():
    images = torch.ones(64, 1, 40, 40)
    shrunken = random_affine(images, scale=(0.5, 0.5), generator=seeded())
    torch.testing.assert_close(shrunken.sum((1, 2, 3)), torch.full((64,), 400.0), rtol=0.01, atol=0)
    middle = shrunken.sum((1, 2)) @ torch.arange(40.0) / 400  # (B,) where it stands
    assert middle.min() < 12
    assert middle.max() > 27


def test_random_affine_shows_only_the_inside_of_a_magnified_image():
    enlarged = random_affine(torch.ones(64, 1, 40, 40), scale=(1.5, 1.5), generator=seeded())
    assert (enlarged > 0.49).all()  # half weight at the very border of the image


def test_random_affine_rotates_some_images():
    images = torch.ones(300, 1, 20, 20)
    turned = random_affine(images, degrees=30.0, scale=(1.0, 1.0), rotate_p=0.5, generator=seeded())
    loses_corners = turned.flatten(1).min(1).values < 0.9
    assert 100 < loses_corners.sum() < 180

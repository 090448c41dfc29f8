import numpy as np
import pytest
import torch

from lib.training.albumentations_chain import MEAN_COLOUR, ImageChain


@pytest.fixture(scope="module")
def chain():
    return ImageChain(32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(count=16):
    return torch.randint(0, 256, (count, 3, 32, 32), generator=seeded(), dtype=torch.uint8)


def test_image_chain_depends_on_the_generator_alone(chain):
    first, again, other = (chain(pixels(), seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, ImageChain(32)(pixels(), seeded(0)))
    assert not torch.equal(first, other)


def test_image_chain_keeps_type_and_shape_and_draws_for_each_image(chain):
    same = pixels(1).expand(16, -1, -1, -1)
    changed = chain(same, seeded())
    assert changed.shape == same.shape
    assert changed.dtype == torch.uint8
    assert len(changed.flatten(1).unique(dim=0)) == 16


def test_image_chain_fills_borders_with_the_mean_colour(chain):
    white = torch.full((300, 3, 32, 32), 255, dtype=torch.uint8)
    changed = chain(white, seeded())
    mean = torch.tensor(MEAN_COLOUR, dtype=torch.uint8)[:, None, None]
    border = (changed == mean).all(1).float().mean((1, 2))
    assert 0.4 < (border > 0.01).float().mean() < 0.95  # half of all zooms shrink, others turn
    assert border.max() < 0.7  # a zoom of 0.7 still covers half of the square


def test_image_chain_turns_and_mirrors_half_of_the_images(chain):
    ramp = torch.arange(32, dtype=torch.uint8).mul(6).expand(3, 32, 32)  # bright at the right
    changed = chain(ramp.expand(400, -1, -1, -1).contiguous(), seeded()).float().numpy()
    middle = changed[:, :, 8:24, 8:24].mean(1)
    across = np.diff(middle, axis=2).mean((1, 2))
    down = np.diff(middle, axis=1).mean((1, 2))
    way = np.where(abs(across) > abs(down), np.sign(across), 2 * np.sign(down))
    shares = {value: (way == value).mean() for value in (1, -1, 2, -2)}
    assert 0.4 < shares[1] < 0.6
    assert all(0.1 < shares[value] < 0.24 for value in (-1, 2, -2))


def test_image_chain_swaps_channels_and_shifts_brightness(chain):
    grey = torch.full((300, 3, 32, 32), 100, dtype=torch.uint8)
    grey[:, 0] = 160
    centre = chain(grey, seeded())[:, :, 16, 16]
    brightest = centre.argmax(1)
    assert 0.5 < (brightest == 0).float().mean() < 0.85  # half are shuffled, a third of them back
    assert set(brightest.tolist()) == {0, 1, 2}
    assert centre.float().mean(1).std() > 15


def test_image_chain_refuses_other_images(chain):
    with pytest.raises(ValueError, match="resize them first"):
        chain(torch.zeros(2, 3, 32, 40, dtype=torch.uint8), seeded())
    with pytest.raises(ValueError, match=r"torch\.float32"):
        chain(torch.zeros(2, 3, 32, 32), seeded())

"""Views of one image: their sizes, and that their mean is what a descriptor is."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from lib.config import InferenceConfig
from lib.models.network import build_model, normalise
from lib.retrieval.embedding import extract_embeddings, largest_size, sizes


@pytest.fixture
def model(tiny_model):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(tiny_model).eval()


def squares(side, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (InferenceConfig(100), (100,)),
        (InferenceConfig(64, scales=(0.5, 1.0, 2.0)), (32, 64, 128)),
        (InferenceConfig(70, scales=(0.01, 1.0)), (16, 70)),
    ],
)
def test_sizes_are_multiples_of_sixteen_but_for_the_size_itself(config, expected):
    assert sizes(config) == expected
    assert largest_size(config) == max(expected)


def test_largest_size_refuses_what_is_no_view():
    with pytest.raises(ValueError, match="one or more positive scales, found"):
        largest_size(InferenceConfig(64, scales=()))


def test_describe_of_one_view_is_the_networks_own_row(model):
    pixels = squares(64)
    with torch.no_grad():
        expected = model.embed(normalise(pixels, model.mean, model.std))
        torch.testing.assert_close(extract_embeddings(model, pixels, InferenceConfig(64)), expected)


def test_describe_averages_mirrored_and_rescaled_views(model):
    config = InferenceConfig(64, flip=True, scales=(0.5, 1.0))
    pixels = squares(64)
    images = normalise(pixels, model.mean, model.std)
    smaller = F.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        rows = [model.embed(v) for view in (images, smaller) for v in (view, view.flip(3))]
        found = extract_embeddings(model, pixels, config)
    torch.testing.assert_close(found, F.normalize(torch.stack(rows).mean(0), dim=1))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


def test_describe_does_not_tell_an_image_from_its_mirror_image_with_flip(model):
    config = InferenceConfig(64, flip=True)
    pixels = squares(64)
    with torch.no_grad():
        found, mirrored = (
            extract_embeddings(model, pixels, config),
            extract_embeddings(model, pixels.flip(3), config),
        )
        plain = extract_embeddings(model, pixels.flip(3), dataclasses.replace(config, flip=False))
    torch.testing.assert_close(found, mirrored)
    assert not torch.allclose(found, plain, atol=1e-3)

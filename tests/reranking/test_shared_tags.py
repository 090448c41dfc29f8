import numpy as np
import pytest

from lib.reranking.tag_index import TagIndex


@pytest.mark.parametrize("width", [1, 3])
def test_carriers_agree_with_naive_reference(width):
    generator = np.random.default_rng(width)
    tags = generator.integers(-1, 9, (50, width))
    index = TagIndex(tags)
    for _ in range(20):
        wanted = generator.integers(-1, 12, 4)
        found = list(zip(*(part.tolist() for part in index.images_with_tags(wanted)), strict=True))
        expected = [
            (place, image, own)
            for place, tag in enumerate(wanted)
            for image in range(50)
            for own in range(width)
            if tag == tags[image, own] and tag != -1
        ]
        assert found == expected


@pytest.mark.parametrize("tags", [np.empty((0, 3), int), np.empty((4, 0), int), np.full(3, -1)])
def test_nobody_carries_a_tag_that_is_not_there(tags):
    assert all(len(part) == 0 for part in TagIndex(tags).images_with_tags(np.array([1, -1])))

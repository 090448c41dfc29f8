"""Examples of augmentation: the same with the same generator, and what each row shows."""

import numpy as np
import pandas as pd
import torch

from lib.config import AugmentConfig, StageConfig
from lib.training.augmentation import augmentation_examples
from tests.made_up import NumberedSource

STAGE = StageConfig(size=16, augment=AugmentConfig(flip=0.5, erasing=1.0))
TABLE = pd.DataFrame({"path": [f"train/{number}.jpg" for number in range(9)]})


def augmented(seed, *, stage=STAGE, count=5):
    generator = torch.Generator().manual_seed(seed)
    options = {"count": count, "generator": generator}
    found = augmentation_examples(NumberedSource(), TABLE, stage, **options)
    return [np.array(images) for images in found.values()]


def test_augmentation_examples_repeat_with_their_generator():
    first, second, other = augmented(1), augmented(1), augmented(2)
    for a, b, c in zip(first, second, other, strict=True):
        assert a.shape == (5, 16, 16, 3)
        assert a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()


def test_augmentation_examples_without_augmentation_are_the_images_themselves():
    plain = StageConfig(size=16, augment=AugmentConfig(flip=0.0))
    on_disk, trained, mixed = augmented(0, stage=plain)
    np.testing.assert_array_equal(on_disk, trained)
    # Colours tell images apart: a patch of each lies on a corner of the one before.
    own = (mixed == on_disk[:, :1, :1]).all(axis=3)
    neighbours = (mixed == np.roll(on_disk, 1, axis=0)[:, :1, :1]).all(axis=3)
    assert (own ^ neighbours).all()
    assert (own.mean(axis=(1, 2)) > 0.1).all()
    assert (own.mean(axis=(1, 2)) < 0.45).all()
    corners = own[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners.sum(axis=1) == 1).all()


def test_augmentation_examples_erase_to_the_mean_colour():
    stage = StageConfig(size=16, augment=AugmentConfig(flip=0.0, erasing=1.0))
    on_disk, trained, _ = augmented(3, stage=stage)
    changed = (on_disk != trained).any(axis=3)
    assert changed.any(axis=(1, 2)).all()
    assert set(np.unique(trained[changed])) <= {127, 128}


def test_augmentation_examples_of_a_small_list_show_all_of_it():
    assert [len(images) for images in augmented(0, count=50)] == [9, 9, 9]


def test_augmentation_examples_are_cropped_from_images_decoded_larger():
    crop = AugmentConfig(crop_area=(0.3, 0.5))
    stage = StageConfig(size=16, decode_size=24, augment=crop)
    on_disk, trained, mixed = augmented(0, stage=stage)
    assert on_disk.shape[1:] == (24, 24, 3)
    assert trained.shape[1:] == mixed.shape[1:] == (16, 16, 3)

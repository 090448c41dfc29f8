"""A relative of any recipe that trains on two cores in the miniature world.

Kept is what makes the recipe: the kind of block, pooling, IBN and last stride, the losses, lists,
samplers and mixing, and which stage follows which. Smaller are the network (a sixth of the depth, a
quarter of the width), the images (64 px at the end), the batches, and the epochs. Weights are
random, so rates are higher and trunks learn as fast as heads, and the first stages warm up longer;
stages are short, so later ones fall by the square root of what they fall in the recipe. [20]'s
schedules become the plain polynomial, and its augmentation one that small networks can follow.
"""

import dataclasses
from typing import Any

from lib.config import AugmentConfig, InferenceConfig, ModelConfig, Recipe, StageConfig

SIZE = 64  # pixels, where the recipe has its largest images
RATE = 0.05
# For [20]'s chain, without what small networks would unlearn colour by: hue and channel order.
AUGMENT = AugmentConfig(
    rotate=8.0,
    scale=(0.7, 1.5),
    aspect=(0.85, 1.15),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
)
EPOCHS = {"softmax": 4, "clean": 44, "c2x": 10, "full": 6, "all": 10, "cluster": 14}
# timm's name → the relative, the blocks of its four stages (about a sixth of the original's), and
# the width of the first. Those that [20] Table 2 compares cost as much beside ResNet152's relative
# as the originals beside ResNet152, so that none has an advantage that it has not in the paper.
# Inception and EfficientNet have no such knobs; timm's own test networks stand in.
TRUNKS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "resnet50": ("resnet26d", (1, 1, 1, 1), 16),
    "resnet101": ("resnet26d", (1, 1, 3, 1), 16),
    "resnet152": ("resnet26d", (1, 2, 4, 1), 16),
    "resnext101_32x4d": ("resnext50d_32x4d", (1, 1, 3, 1), 16),
    "seresnet101": ("seresnet50", (1, 1, 3, 1), 16),
    "seresnext101_32x4d": ("seresnext26d_32x4d", (1, 1, 3, 1), 16),
    "resnest101e": ("resnest26d", (1, 1, 3, 1), 12),
    "resnest200e": ("resnest26d", (1, 4, 6, 1), 16),
    "resnest269e": ("resnest26d", (1, 5, 7, 1), 18),
    "inception_v4": ("test_nfnet", (), 0),
    "tf_efficientnet_b7": ("test_efficientnet", (), 0),
}


def miniature(recipe: Recipe) -> Recipe:
    """The relative of a recipe, called `…-mini`; one that has no relative of its trunk keeps it."""
    first = recipe.stages[0]
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}-mini",
        source=f"miniature of {recipe.source}",
        model=_model(recipe.model),
        stages=tuple(_stage(stage, first, recipe.inference.size) for stage in recipe.stages),
        inference=InferenceConfig(size=SIZE, flip=True),
    )


def _model(model: ModelConfig) -> ModelConfig:
    plain = model.trunk.partition(".")[0]  # without the tag of its weights
    name, blocks, width = TRUNKS.get(plain, (plain, (), 0))
    options: dict[str, Any] = dict(model.trunk_options)
    if blocks:
        channels = tuple(width * times for times in (1, 2, 4, 8))
        options |= {"layers": blocks, "channels": channels, "stem_width": 16}
    if "32x4d" in name:  # groups as wide as the original's, an eighth of them
        options |= {"cardinality": 4, "base_width": 16}
    return dataclasses.replace(
        model, trunk=name, trunk_options=options, weights="", mean=(), std=()
    )


def _stage(stage: StageConfig, first: StageConfig, largest: int) -> StageConfig:
    share = stage.learning_rate / first.learning_rate
    return dataclasses.replace(
        stage,
        size=max(32, 16 * round(SIZE * stage.size / largest / 16)),
        batch_size=32,
        epochs=EPOCHS["softmax" if stage.loss == "softmax" else stage.train_list],
        learning_rate=RATE * share**0.5,
        trunk_rate=1.0,  # nothing pretrained to protect
        schedule="poly" if stage.schedule.startswith("lambda") else stage.schedule,
        # With a shorter warm-up ArcFace collapses to one point from scratch, deep networks first.
        warmup=0.2 if stage.train_list == "clean" else stage.warmup,
        # A new head needs so many steps, and all of [20]'s stages are longer.
        frozen_trunk=0.1 if stage.frozen_trunk else 0.0,
        augment=_augment(stage),
    )


def _augment(stage: StageConfig) -> AugmentConfig:
    """The recipe's own flip, padding and erasing; or our chain where it has one."""
    if stage.augment.chain or stage.augment.scale != (1.0, 1.0):
        return dataclasses.replace(AUGMENT, erasing=stage.augment.erasing)
    return dataclasses.replace(stage.augment, pad=round(stage.augment.pad * SIZE / stage.size))

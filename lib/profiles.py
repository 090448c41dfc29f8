"""The named experiments: what `./run_all.sh PROFILE` does, as plain data.

A profile says what to train, on which list, how to clean and how to rerank. `smoke` and `mini` live
in the miniature world, `photos` in a few thousand photographs, `full` in GLDv2.
"""

import dataclasses
from typing import Any

from lib.config import (
    AugmentConfig,
    CleanConfig,
    ModelConfig,
    Profile,
    RerankConfig,
    StageConfig,
    WorldConfig,
    override,
)

# Strong, because a hundred images per class and scratch training overfit within minutes.
_MINI_AUGMENT = AugmentConfig(
    rotate=8.0,
    scale=(0.7, 1.5),
    aspect=(0.85, 1.15),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    erasing=1.0,
)
# Suspects go first, so the second pass may be generous with what is left.
_CLEAN = CleanConfig(suspects=True, faces=True, relaxation=2.0)
_MINI_STAGE = StageConfig(
    size=64,
    batch_size=32,
    learning_rate=0.05,
    trunk_rate=1.0,  # nothing pretrained to protect
    schedule="poly",
    warmup=0.1,  # without it ArcFace collapses to one point from scratch
    augment=_MINI_AUGMENT,
)


def _mini_model(trunk: str, **options: Any) -> ModelConfig:
    return ModelConfig(trunk=trunk, trunk_options={"stem_width": 16, **options})


def _mini() -> Profile:
    stage = _MINI_STAGE
    widths = {"channels": (32, 64, 128, 256)}
    return Profile(
        name="mini",
        model=_mini_model("resnet10t", **widths),
        stage_one=(
            dataclasses.replace(stage, name="softmax", loss="softmax", epochs=4),
            dataclasses.replace(stage, name="arcface", epochs=44),
        ),
        stage_two=dataclasses.replace(
            stage, name="cluster", train_list="cluster", epochs=14, frozen_trunk=0.05
        ),
        rerank=RerankConfig(reciprocal=True),
        clean=_CLEAN,
        world=WorldConfig(),
        test_size=64,
        flip=True,
        trunks={
            "ResNeSt101": ModelConfig(trunk="test_resnet"),  # a smaller relative
            "ResNeSt200": _mini_model("resnet14t", **widths),  # a deeper one
        },
    )


def _smoke() -> Profile:
    mini = _mini()
    return override(
        mini,
        {
            "name": "smoke",
            "world": WorldConfig(
                landmarks=20, raw_images=300, gallery_images=120, queries=30, image_size=64
            ),
            "stage_one": tuple(
                dataclasses.replace(stage, epochs=2, size=48) for stage in mini.stage_one
            ),
            "stage_two.epochs": 2,
            "stage_two.size": 48,
            "test_size": 48,
            "trunks": {},
        },
    )


def _photos() -> Profile:
    """A few thousand photographs, a pretrained small trunk, two cores (weights given by -p)."""
    stage = StageConfig(
        size=128,
        batch_size=32,
        learning_rate=0.01,
        trunk_rate=0.1,
        schedule="poly",
        augment=AugmentConfig(scale=(0.8, 1.2), erasing=0.5),
    )
    return Profile(
        name="photos",
        model=ModelConfig(trunk="tf_efficientnet_lite0", weights="pretrained"),
        stage_one=(
            dataclasses.replace(stage, name="softmax", loss="softmax", epochs=1),
            dataclasses.replace(stage, name="arcface", epochs=4),
        ),
        stage_two=dataclasses.replace(stage, name="cluster", train_list="cluster", epochs=2),
        clean=_CLEAN,
        rerank=RerankConfig(reciprocal=True),
        test_size=160,
    )


def _full() -> Profile:
    """[20]: ResNet152 at 448 px on GLDv2, eight GPUs; 24 + 12 epochs."""
    stage = StageConfig(augment=AugmentConfig(rotate=30.0, scale=(0.7, 1.3), aspect=(0.9, 1.1)))
    return Profile(
        name="full",
        model=ModelConfig(weights="pretrained"),
        stage_one=(
            dataclasses.replace(stage, name="softmax", loss="softmax", epochs=4),
            dataclasses.replace(stage, name="arcface", epochs=20, warmup=0.025),
        ),
        stage_two=dataclasses.replace(
            stage,
            name="cluster",
            train_list="cluster",
            epochs=12,
            cutmix="paper",
            sampler="at_least",
            frozen_trunk=0.05,
        ),
    )


PROFILES = {make().name: make for make in (_smoke, _mini, _photos, _full)}


def profile(name: str, **changes: Any) -> Profile:
    """The profile called `name`, with dotted settings changed: `profile("mini", seed=1)`.

    Raises:
        ValueError: if there is no such profile, or `override` refuses a change.
    """
    if name not in PROFILES:
        raise ValueError(f"expected a profile among {', '.join(PROFILES)}, found {name!r}")
    return override(PROFILES[name](), changes)

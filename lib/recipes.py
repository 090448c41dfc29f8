"""Named recipes and profiles: `RECIPES` re-create networks, `PROFILES` are complete experiments.

`glr20-…` are networks of GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), `glr21-…`
those of GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.), `…-code` with the
published code's values where it differs from the paper. What a paper does not tell is the code's.
`modern-…` are networks of today.
"""

import dataclasses
from typing import Any

from lib import config
from lib.config import AugmentConfig, InferenceConfig, ModelConfig, Profile, Recipe, StageConfig

SIZE = 64  # pixels, where the recipe has its largest images
RATE = 0.05
ADAM_RATE = 1e-3
# For GLR20's chain, without what small networks would unlearn colour by: hue and channel order.
AUGMENT = AugmentConfig(
    rotate=8.0, scale=(0.7, 1.5), aspect=(0.85, 1.15), brightness=0.3, contrast=0.3, saturation=0.3
)
EPOCHS = {"softmax": 4, "clean": 44, "c2x": 10, "full": 6, "all": 10, "cluster": 14}
# timm's name → the relative, the blocks of its four stages (about a sixth of the original's), and
# the width of the first. Those of GLR20 Table 2 cost as much beside ResNet152's relative as the
# originals beside ResNet152. For Inception and EfficientNet timm's own test networks stand in.
BACKBONES: dict[str, tuple[str, tuple[int, ...], int]] = {
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
    "vit_base_patch16_dinov3": ("test_vit", (), 0),
    "convnext_base": ("test_convnext", (), 0),
}


def miniature(recipe: Recipe) -> Recipe:
    """The relative of a recipe, `…-mini`, that trains on two cores in the miniature world.

    Block, pooling, IBN, last stride, losses, lists, samplers and mixing stay; network (a sixth of
    the depth, a quarter of the width), images, batches and epochs are smaller. Weights are random,
    so rates are higher; that of a later stage falls by the square root of what it falls in the
    recipe. GLR20's schedules become the plain polynomial, its augmentation a milder one.
    """
    plain = recipe.model.backbone.partition(".")[0]  # without the tag of its weights
    name, blocks, width = BACKBONES.get(plain, (plain, (), 0))
    options: dict[str, Any] = dict(recipe.model.backbone_options)
    if blocks:
        channels = tuple(width * times for times in (1, 2, 4, 8))
        options |= {"layers": blocks, "channels": channels, "stem_width": 16}
    if name == "test_vit":  # as many patches of 64 px as the original has of 128
        options |= {"patch_size": 8}
    if "32x4d" in name:  # groups as wide as the original's, an eighth of them
        options |= {"cardinality": 4, "base_width": 16}
    small = {"backbone": name, "backbone_options": options, "weights": "", "mean": (), "std": ()}
    first, largest = recipe.stages[0], recipe.inference.size
    return dataclasses.replace(
        recipe,
        name=f"{recipe.name}-mini",
        source=f"miniature of {recipe.source}",
        model=dataclasses.replace(recipe.model, **small),
        stages=tuple(_stage(stage, first, largest) for stage in recipe.stages),
        inference=InferenceConfig(size=SIZE, flip=True),
    )


def _stage(stage: StageConfig, first: StageConfig, largest: int) -> StageConfig:
    share = stage.learning_rate / first.learning_rate
    if stage.optimizer == "sgd":
        rate, usual = RATE, {}
    else:  # without pretrained layers to protect, and in a few hundred steps
        rate, usual = ADAM_RATE, {"layer_decay": 1.0, "weight_decay": 0.05, "ema": 0.99}
    # The recipe's own flip, padding and erasing; or our chain where it has one.
    if stage.augment.chain or stage.augment.scale != (1.0, 1.0):
        augment = dataclasses.replace(AUGMENT, erasing=stage.augment.erasing)
    else:
        pad = round(stage.augment.pad * SIZE / stage.size)
        augment = dataclasses.replace(stage.augment, pad=pad)
    return dataclasses.replace(
        stage,
        size=max(32, 16 * round(SIZE * stage.size / largest / 16)),
        batch_size=32,
        images_per_gpu=0,
        epochs=EPOCHS["softmax" if stage.loss == "softmax" else stage.train_list],
        learning_rate=rate * share**0.5,
        backbone_lr=1.0,  # nothing pretrained to protect
        schedule="poly" if stage.schedule.startswith("lambda") else stage.schedule,
        # With a shorter warm-up ArcFace collapses to one point from scratch, deep networks first.
        warmup=0.2 if stage.train_list == "clean" else stage.warmup,
        # A new head needs so many steps, and all of GLR20's stages are longer.
        freeze_backbone=0.1 if stage.freeze_backbone else 0.0,
        augment=augment,
        **usual,
    )


GPUS = 8  # of both systems

# GLR20: flip or quarter turn, rotation, zoom, then colour, each with probability 0.5. Ranges are
# the code's; on batches colour comes in one order, contrast keeps an image's mean and brightness is
# a factor (`lib.training.augmentation`). `…-code` takes the code's own chain, image by image.
GLR20_AUGMENT = AugmentConfig(
    quarter_turns=True,
    rotate=30.0,
    scale=(0.7, 1.3),
    aspect=(0.9, 1.1),
    brightness=32 / 255,
    contrast=0.5,
    saturation=0.5,
    hue=18.0,
    colour_p=0.5,
    channel_shuffle=0.5,
    blur=0.5,
)
# timm's names of the networks of GLR20, images per GPU and epochs on the clean list, epochs on the
# cluster list in the paper, and in the code (400,000 steps). Which weights it started from is not
# known; these have seen ImageNet alone.
GLR20 = {
    "resnet152": ("resnet152.tv_in1k", 24, 12, 27),
    "resnest101": ("resnest101e.in1k", 24, 12, 27),
    "resnest200": ("resnest200e.in1k", 12, 6, 14),
    "seresnext101": ("seresnext101_32x4d.gluon_in1k", 24, 12, 27),
    "inception-v4": ("inception_v4.tf_in1k", 24, 12, 27),
    "efficientnet-b7": ("tf_efficientnet_b7.ra_in1k", 12, 6, 14),
}
# timm's names of the networks of GLR21, IBN, size of the first two stages, and images per GPU stage
# by stage: what the configurations note for GPUs of 16 GB in the first two stages, which the plain
# recipes take, and what they set. ResNet101 has no configuration. Weights are ImageNet's: IBN-Net's
# own files with IBN, those of ResNeSt's authors without.
GLR21 = {
    "seresnet101-ibn": ("seresnet101", True, 384, (40, 40, 18, 18), (96, 96, 18, 18)),
    "resnext101-ibn": ("resnext101_32x4d", True, 384, (40, 40, 18, 18), (40, 40, 18, 18)),
    "resnet101-ibn": ("resnet101", True, 384, (40, 40, 18, 18), (40, 40, 18, 18)),
    "resnest101": ("resnest101e.in1k", False, 384, (36, 36, 40, 40), (36, 88, 40, 40)),
    "resnest269": ("resnest269e.in1k", False, 448, (12, 12, 6, 6), (28, 28, 6, 6)),
    "resnet50": ("resnet50.tv_in1k", False, 256, (128, 128, 128), (128, 128, 128)),
}
PADS = {256: 10, 384: 15, 448: 18, 512: 20}  # GLR21, code


def _glr20(name: str, *, is_code: bool = False) -> Recipe:
    backbone, on_clean, *on_clusters = GLR20[name]
    stage = StageConfig(
        size=448,
        batch_size=GPUS * on_clean,
        images_per_gpu=on_clean,
        learning_rate=0.01,
        backbone_lr=0.1 if is_code else 1.0,  # the paper has one rate
        schedule="lambda_range" if is_code else "lambda_poly",
        sampler="at_least",
        at_least=5,
        augment=AugmentConfig(chain=True, flip=0.0) if is_code else GLR20_AUGMENT,
    )
    if is_code:
        told = "published code, whose split of 1 % for validation and exported model are left out"
        # A warm-up of 5,000 in 200,000 steps: there of the backbone alone.
        first = [dataclasses.replace(stage, name="arcface", epochs=on_clean, warmup=0.025)]
    else:
        told = "paper; as the code: batch, repeats of rare classes, warm-up, frozen backbone, decay"
        # The paper starts with softmax and does not say for how long: a sixth of the epochs here.
        softmax = max(1, on_clean // 6)
        first = [
            dataclasses.replace(stage, name="softmax", loss="softmax", epochs=softmax, warmup=0.15),
            dataclasses.replace(stage, name="arcface", epochs=on_clean - softmax),
        ]
    cluster = dataclasses.replace(
        stage,
        name="cluster",
        train_list="cluster",
        epochs=on_clusters[is_code],
        freeze_backbone=0.05,  # the code's 20,000 of 400,000 steps
        cutmix=("paper", "code")[is_code] if name == "resnest200" else "",
    )
    return Recipe(
        f"glr20-{name}{'-code' * is_code}",
        f"GLR20 §2.2, §3.1, {told}: {backbone}",
        ModelConfig(backbone=backbone, weights="pretrained"),
        (*first, cluster),
        InferenceConfig(size=512),  # Table 2 #6; 448 in the other rows
    )


def _glr21(name: str, *, is_code: bool = False) -> Recipe:
    """A network of GLR21; `resnet50` is that of its ablations."""
    backbone, has_ibn, size, *per_gpu = GLR21[name]
    base = 0.08 if is_code else 0.01  # the code scales the paper's rate with its eight GPUs
    stages: list[dict[str, Any]] = [
        {"train_list": "clean", "size": size, "epochs": 10, "learning_rate": base, "warmup": 0.1},
        {"train_list": "c2x", "size": size, "epochs": 6, "learning_rate": base / 10},
    ]
    last = {"train_list": "all", "epochs": 2, "sampler": "continent"}
    if name == "resnet50":
        # Inferred: the last stage starts from a checkpoint after six epochs at its own rate.
        stages += [{**last, "size": size, "learning_rate": base / 10}]
        told = "ablations, published code" if is_code else "ablations, paper"
        network = f"{backbone}, without the code's average pooling in the shortcuts of its second"
        network += " and third stage"
    else:
        large = {"size": 512, "learning_rate": base / 100}
        if is_code:  # its configurations of the 512 px stages
            is_269 = name == "resnest269"
            large |= {"margin": 0.0, "scale": 60.0} if is_269 else {"weight_decay": 1e-5}
        stages += [{"train_list": "full", "epochs": 2, **large}, {**last, **large}]
        told = "published configurations" if is_code else "paper §2; images per GPU as in the code"
        network = f"{backbone}{', IBN-a' * has_ibn}"
    return Recipe(
        f"glr21-{name}{'-code' * is_code}",
        f"GLR21, {told}: {network}",
        ModelConfig(
            backbone=backbone,
            backbone_options={"last_stride": 1, "ibn": has_ibn},
            weights="pretrained",
            pooling="gem",
            mean=(0.485, 0.456, 0.406),  # ImageNet's
            std=(57 / 255,) * 3,
        ),
        tuple(
            StageConfig(
                name=stage["train_list"],
                batch_size=GPUS * images,
                images_per_gpu=images,
                backbone_lr=1.0,
                bias_lr=2.0,
                schedule="cosine",
                augment=AugmentConfig(pad=PADS[stage["size"]], erasing=1.0),
                **stage,
            )
            for stage, images in zip(stages, per_gpu[is_code], strict=True)
        ),
        InferenceConfig(size=stages[-1]["size"]),
    )


def _photos() -> Recipe:
    """Gentle fine-tuning; the table `fine_tuning` of `lib.ablation` changes one thing at a time."""
    stage = StageConfig(
        name="arcface",
        size=160,
        decode_size=208,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1e-3,
        backbone_lr=0.1,
        weight_decay=1e-4,
        schedule="one_cycle",
        freeze_norm=True,
        epochs=2,
        least_images=1024,
        augment=AugmentConfig(crop_area=(0.6, 1.0), brightness=0.2, contrast=0.2, saturation=0.2),
    )
    return Recipe(
        "photos",
        "no paper: a small pretrained network for a few thousand photographs, two cores",
        ModelConfig(
            backbone="tf_efficientnet_lite0",
            weights="pretrained",
            pooling="gem",
            neck="pca",
            whitening=0.25,
        ),
        (stage, dataclasses.replace(stage, name="cluster", train_list="cluster", epochs=3)),
        InferenceConfig(size=224),
    )


# timm's names of networks of today, images per GPU, rate, decay of it by layer, weight decay, drop
# path and pooling. The ConvNeXt as it was fine-tuned at 384 px from ImageNet-22k (Liu et al., 2022,
# Table 5 and A.2); the Vision Transformer as BEiT and MAE are (Bao et al., 2022; He et al., 2022,
# Table 9), at the ConvNeXt's rate, because DINOv3 (Siméoni et al., 2025) has more to lose.
MODERN = {
    "vit-b": ("vit_base_patch16_dinov3.lvd1689m", 64, 5e-5, 0.65, 0.05, 0.1, "cls"),
    "convnext-b": ("convnext_base.fb_in22k", 64, 5e-5, 0.8, 1e-8, 0.2, "gap"),
}


def _modern(name: str) -> Recipe:
    backbone, per_gpu, rate, layer_decay, weight_decay, drop_path, pooling = MODERN[name]
    stage = StageConfig(
        size=384,
        batch_size=GPUS * per_gpu,
        images_per_gpu=per_gpu,
        optimizer="adamw",
        learning_rate=10 * rate,  # neck and head are new
        backbone_lr=0.1,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
        decay_bias=False,
        clip_grad=1.0,  # ViT (Dosovitskiy et al., 2021)
        ema=0.9999,  # ConvNeXt
        schedule="cosine",
        warmup=0.05,  # MAE
        augment=AugmentConfig(crop_area=(0.4, 1.0), brightness=0.2, contrast=0.2, saturation=0.2),
    )
    return Recipe(
        f"modern-{name}",
        f"no landmark paper: {backbone} fine-tuned as published, on GLR20's two lists",
        ModelConfig(backbone, {}, "pretrained", pooling, neck="linear", drop_path=drop_path),
        (
            dataclasses.replace(stage, name="arcface", epochs=10),
            dataclasses.replace(
                stage, name="cluster", train_list="cluster", epochs=6, freeze_backbone=0.05
            ),
        ),
        InferenceConfig(size=512),
    )


# A recipe of your own is one more entry here.
RECIPES: dict[str, Recipe] = {
    found.name: found
    for is_code in (False, True)
    for found in (
        *(_glr20(name, is_code=is_code) for name in GLR20),
        *(_glr21(name, is_code=is_code) for name in GLR21),
    )
} | {found.name: found for found in (_photos(), *map(_modern, MODERN))}


def recipe(name: str) -> Recipe:
    """The recipe called `name`, of `RECIPES` or with `-mini` the relative of one, or ValueError.

    >>> [(stage.train_list, stage.size) for stage in recipe("glr21-seresnet101-ibn").stages]
    [('clean', 384), ('c2x', 384), ('full', 512), ('all', 512)]
    """
    base = name.removesuffix("-mini")
    if base not in RECIPES:
        hint = config.nearest(base, RECIPES)
        raise ValueError(f"expected the name of a recipe, found {name!r}; {hint}")
    return RECIPES[base] if base == name else miniature(RECIPES[base])


# Without the suspected mislabels, the second pass may take a much larger radius.
CLEAN = config.CleanConfig(
    drop_suspected_mislabels=True,
    mislabel_odds=1.5,
    mislabel_whitening=0.5,
    split_two_views=True,
    relaxation=2.0,
)
# GLR21 votes by k-reciprocal similarity, asking the full list and the labelled index images.
GLR21_RERANK = {"reciprocal": True, "references": "full+index"}


def _parts(found: Recipe) -> dict[str, Any]:
    model, stages, inference = found.model, found.stages, found.inference
    return {"recipe": found.name, "model": model, "stages": stages, "inference": inference}


def _tiny(profile: Profile) -> Profile:
    """Every stage for at most two epochs, every image of at most 48 px."""
    stages = tuple(
        dataclasses.replace(stage, epochs=min(stage.epochs, 2), size=min(stage.size, 48))
        for stage in profile.stages
    )
    inference = dataclasses.replace(profile.inference, size=48)
    return dataclasses.replace(profile, stages=stages, inference=inference)


_MINI = Profile(
    **_parts(recipe("glr20-resnet152-mini")),
    name="mini",
    summary="the embedded miniature world (about 7 minutes on two cores)",
    rerank=config.RerankConfig(reciprocal=True),
    clean=CLEAN,
    world=config.WorldConfig(),
    quick=0.12,
)
_SMOKE = dataclasses.replace(
    _tiny(_MINI),
    name="smoke",
    summary="a tiny world, to see that everything works (1-2 minutes on two cores)",
    world=config.WorldConfig(
        landmarks=20, raw_images=300, gallery_images=120, queries=30, image_size=64
    ),
)
_PHOTOS = Profile(
    **_parts(recipe("photos")),
    name="photos",
    summary="a few thousand photographs and a small pretrained network (about 20 minutes)",
    # With few images and classes, half a class is a poor class.
    clean=dataclasses.replace(CLEAN, split=False),
    rerank=config.RerankConfig(reciprocal=True),
)
_FULL = Profile(
    **_parts(recipe("glr20-resnet152")),
    name="full",
    summary="Google Landmarks v2 on GPUs, as the 3rd place of 2020 trained",
    # What a submission needs and no more: the others take days.
    rerank=config.RerankConfig(compare=False, local="none"),
    ablation=False,
)
PROFILES: dict[str, Profile] = {found.name: found for found in (_SMOKE, _MINI, _PHOTOS, _FULL)}


def profile(name: str, *, recipe_name: str = "", **changes: Any) -> Profile:
    """The profile called `name`, with dotted settings changed: `profile("mini", seed=1)`.

    With `recipe_name` of another recipe; in the miniature world of its relative. Raises ValueError
    if there is no such profile or recipe, or `lib.config.override` refuses a change.
    """
    if name not in PROFILES:
        raise ValueError(f"expected a profile among {', '.join(PROFILES)}, found {name!r}")
    found = PROFILES[name]
    if recipe_name:
        found = _with_recipe(found, recipe_name)
    return config.override(found, changes)


def _with_recipe(profile: Profile, recipe_name: str) -> Profile:
    is_small = profile.world is not None
    chosen = recipe(f"{recipe_name.removesuffix('-mini')}-mini" if is_small else recipe_name)
    # GLR21's networks rerank as it did, but not in the miniature world: the labelled index is the
    # gallery itself there, so its labels would vote on themselves.
    is_glr21 = chosen.name.startswith("glr21-") and not is_small
    rerank = dataclasses.replace(profile.rerank, **(GLR21_RERANK if is_glr21 else {}))
    found = dataclasses.replace(profile, **_parts(chosen), rerank=rerank)
    return _tiny(found) if profile.name == "smoke" else found

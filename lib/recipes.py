"""Recipes named after what they re-create, with every hyper-parameter that is known of it.

`glr20-…` are networks of the 3rd place of 2020 ([20]), `glr21-…` those of the 2nd place of 2021
([21]). Where a paper and its published code differ, the plain name is the paper's and `…-code` the
code's; what a paper does not tell is the code's in both, and `source` says so. `…-mini` is a
relative of either that trains on two cores in the miniature world (`lib.miniature`): the same kind
of network, losses, lists, samplers and mixing, all smaller. Images are shrunk by area averaging
(`lib.images`), where [21] interpolates bilinearly.
"""

import dataclasses
import difflib
from collections.abc import Callable

from lib.config import AugmentConfig, InferenceConfig, ModelConfig, Recipe, StageConfig
from lib.miniature import miniature

GPUS = 8  # of both systems
IMAGENET_MEAN = (0.485, 0.456, 0.406)

# [20]: flip or quarter turn, rotation, zoom, then colour, each with probability 0.5. The ranges are
# the code's; on batches colour comes in one order, contrast keeps an image's mean and brightness is
# a factor (`lib.recolour`). `…-code` takes the code's own chain, image by image (`lib.imagewise`).
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
    permute=0.5,
    blur=0.5,
)
# timm's names of the networks of [20], images per GPU (the code's), epochs on the clean and the
# cluster list. Which weights it started from is not known; these have seen ImageNet alone.
GLR20 = {
    "resnet152": ("resnet152.tv_in1k", 24, 24, 12),
    "resnest101": ("resnest101e.in1k", 24, 24, 12),
    "resnest200": ("resnest200e.in1k", 12, 12, 6),
    "seresnext101": ("seresnext101_32x4d.gluon_in1k", 24, 24, 12),
    "inception-v4": ("inception_v4.tf_in1k", 24, 24, 12),
    "efficientnet-b7": ("tf_efficientnet_b7.ra_in1k", 12, 12, 6),
}
# By the paper's epochs on the cluster list those of the code, whose scripts take 400,000 steps.
GLR20_CODE_EPOCHS = {12: 27, 6: 14}
# timm's names of the networks of [21], IBN, size of the first two stages. Weights are ImageNet's:
# IBN-Net's own files with IBN, those of ResNeSt's authors without.
GLR21 = {
    "seresnet101-ibn": ("seresnet101", True, 384),
    "resnext101-ibn": ("resnext101_32x4d", True, 384),
    "resnet101-ibn": ("resnet101", True, 384),
    "resnest101": ("resnest101e.in1k", False, 384),
    "resnest269": ("resnest269e.in1k", False, 448),
}
# Images per GPU, stage by stage: what the configurations note for GPUs of 16 GB in the first two
# stages, which the plain recipes take, and what they set. ResNet101 has no configuration.
GLR21_PER_GPU = {
    "seresnet101-ibn": ((40, 40, 18, 18), (96, 96, 18, 18)),
    "resnext101-ibn": ((40, 40, 18, 18), (40, 40, 18, 18)),
    "resnet101-ibn": ((40, 40, 18, 18), (40, 40, 18, 18)),
    "resnest101": ((36, 36, 40, 40), (36, 88, 40, 40)),
    "resnest269": ((12, 12, 6, 6), (28, 28, 6, 6)),
}
DECAY = 5e-4  # of the weights [20], [21]
PADS = {256: 10, 384: 15, 448: 18, 512: 20}  # [21], code


def recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: there is none; the nearest names are told.

    >>> recipe("glr20-resnest200").stages[-1].cutmix
    'paper'
    >>> [(stage.train_list, stage.size) for stage in recipe("glr21-seresnet101-ibn").stages]
    [('clean', 384), ('c2x', 384), ('full', 512), ('all', 512)]
    """
    base = name.removesuffix("-mini")
    if base not in RECIPES:
        near = difflib.get_close_matches(base, RECIPES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(RECIPES)}"
        raise ValueError(f"expected the name of a recipe, found {name!r}; {hint}")
    found = RECIPES[base]()
    return found if base == name else miniature(found)


def _glr20(name: str, *, is_code: bool = False) -> Recipe:
    trunk, per_gpu, on_clean, on_clusters = GLR20[name]
    stage = StageConfig(
        size=448,
        batch_size=GPUS * per_gpu,
        learning_rate=0.01,
        trunk_rate=0.1 if is_code else 1.0,  # the paper has one rate
        schedule="lambda_range" if is_code else "lambda_poly",
        sampler="at_least",
        at_least=5,
        augment=GLR20_AUGMENT,
    )
    # The paper starts with softmax and keeps to itself for how long: a sixth of the epochs here.
    softmax = max(1, on_clean // 6)
    first = (
        dataclasses.replace(stage, name="softmax", loss="softmax", epochs=softmax, warmup=0.15),
        dataclasses.replace(stage, name="arcface", epochs=on_clean - softmax),
    )
    cluster = dataclasses.replace(
        stage,
        name="cluster",
        train_list="cluster",
        epochs=on_clusters,
        frozen_trunk=0.05,  # the code's 20,000 of 400,000 steps
        cutmix="paper" if name == "resnest200" else "",
    )
    # ArcFace from the start, Corner-Cutmix its way, and a warm-up of 5,000 in 200,000 steps: there
    # of the trunk alone, here of neck and head too.
    if is_code:
        chain = AugmentConfig(chain=True, flip=0.0)
        first = (
            dataclasses.replace(
                stage, name="arcface", epochs=on_clean, warmup=0.025, augment=chain
            ),
        )
        cutmix = "code" if cluster.cutmix else ""
        cluster = dataclasses.replace(
            cluster, cutmix=cutmix, augment=chain, epochs=GLR20_CODE_EPOCHS[on_clusters]
        )
    told = (
        "published code, whose split of 1 % for validation and exported model are left out"
        if is_code
        else "paper; as the code: batch, repeats of rare classes, warm-up, frozen trunk, decay"
    )
    return Recipe(
        f"glr20-{name}{'-code' * is_code}",
        f"[20] §2.2, §3.1, {told}: {trunk}",
        ModelConfig(trunk=trunk, weights="pretrained"),
        (*first, cluster),
        InferenceConfig(size=512),  # Table 2 #6; 448 in the other rows
    )


def _glr21_stage(name: str, train_list: str, size: int, epochs: int, rate: float) -> StageConfig:
    return StageConfig(
        name=name,
        train_list=train_list,
        size=size,
        epochs=epochs,
        learning_rate=rate,
        trunk_rate=1.0,
        bias_rate=2.0,
        schedule="cosine",
        weight_decay=DECAY,
        augment=AugmentConfig(pad=PADS[size], erasing=1.0),
    )


def _glr21_model(trunk: str, *, has_ibn: bool = False) -> ModelConfig:
    return ModelConfig(
        trunk=trunk,
        trunk_options={"last_stride": 1, "ibn": has_ibn},
        weights="pretrained",
        pooling="gem",
        gem_p=3.0,
        mean=IMAGENET_MEAN,
        std=(57 / 255,) * 3,
    )


def _glr21(name: str, *, is_code: bool = False) -> Recipe:
    trunk, has_ibn, size = GLR21[name]
    base = 0.08 if is_code else 0.01  # the code scales the paper's rate with its eight GPUs
    stages = (
        dataclasses.replace(_glr21_stage("clean", "clean", size, 10, base), warmup=0.1),
        _glr21_stage("c2x", "c2x", size, 6, base / 10),
        _glr21_stage("full", "full", 512, 2, base / 100),
        dataclasses.replace(
            _glr21_stage("all", "all", 512, 2, base / 100), sampler="continent", clean_share=0.66
        ),
    )
    stages = tuple(
        dataclasses.replace(stage, batch_size=GPUS * images)
        for stage, images in zip(stages, GLR21_PER_GPU[name][is_code], strict=True)
    )
    if is_code:  # its configurations of the 512 px stages
        large = {"weight_decay": 1e-5}
        if name == "resnest269":
            large = {"margin": 0.0, "scale": 60.0}
        stages = (*stages[:2], *(dataclasses.replace(stage, **large) for stage in stages[2:]))
    told = "published configurations" if is_code else "paper §2; images per GPU as in the code"
    return Recipe(
        f"glr21-{name}{'-code' * is_code}",
        f"[21], {told}: {trunk}{', IBN-a' * has_ibn}",
        _glr21_model(trunk, has_ibn=has_ibn),
        stages,
        InferenceConfig(size=512),
    )


def _glr21_resnet50(*, is_code: bool = False) -> Recipe:
    """The network of [21]'s ablations: 256 px, the clean list, c2x, then `all` by continents.

    The configuration of the last stage starts from a checkpoint after six epochs that has none of
    its own; that it is of c2x at the last stage's rate is inferred.
    """
    base = 0.08 if is_code else 0.01
    stages = (
        dataclasses.replace(_glr21_stage("clean", "clean", 256, 10, base), warmup=0.1),
        _glr21_stage("c2x", "c2x", 256, 6, base / 10),
        dataclasses.replace(_glr21_stage("all", "all", 256, 2, base / 10), sampler="continent"),
    )
    return Recipe(
        f"glr21-resnet50{'-code' * is_code}",
        f"[21], ablations, {'published code' if is_code else 'paper'}: resnet50.tv_in1k, without "
        "the code's average pooling in the shortcuts of its second and third stage",
        _glr21_model("resnet50.tv_in1k"),
        tuple(dataclasses.replace(stage, batch_size=GPUS * 128) for stage in stages),
        InferenceConfig(size=256),
    )


def _photos() -> Recipe:
    stage = StageConfig(
        size=128,
        batch_size=32,
        learning_rate=0.01,
        trunk_rate=0.1,
        schedule="poly",
        augment=AugmentConfig(scale=(0.8, 1.2), erasing=0.5),
    )
    return Recipe(
        "photos",
        "no paper: a small pretrained network for a few thousand photographs, two cores",
        ModelConfig(trunk="tf_efficientnet_lite0", weights="pretrained"),
        (
            dataclasses.replace(stage, name="softmax", loss="softmax", epochs=1),
            dataclasses.replace(stage, name="arcface", epochs=4),
            dataclasses.replace(stage, name="cluster", train_list="cluster", epochs=2),
        ),
        InferenceConfig(size=160, flip=True),
    )


def _variants() -> dict[str, Callable[[], Recipe]]:
    found: dict[str, Callable[[], Recipe]] = {}
    for suffix, is_code in (("", False), ("-code", True)):
        for name in GLR20:
            found[f"glr20-{name}{suffix}"] = lambda n=name, c=is_code: _glr20(n, is_code=c)
        for name in GLR21:
            found[f"glr21-{name}{suffix}"] = lambda n=name, c=is_code: _glr21(n, is_code=c)
        found[f"glr21-resnet50{suffix}"] = lambda c=is_code: _glr21_resnet50(is_code=c)
    return found | {"photos": _photos}


RECIPES = _variants()

"""Every setting in one place: frozen dataclasses, from which `lib.recipes` builds experiments.

Building a dataclass checks types, and the ranges that its annotations give;
`override(config, {"stages.cluster.epochs": 3})` checks names too. Defaults follow the papers unless
a comment says why not: GLR20 = 3rd place, Google Landmark Retrieval 2020 (Mei et al.), GLR21 = 2nd
place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

import dataclasses
import difflib
import functools
import itertools
import math
import numbers
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

C = TypeVar("C")


def nearest(name: str, known: Iterable[str], otherwise: str = "there are {}") -> str:
    """The hint that ends an error message: the known name most like `name`, or all of them."""
    names = list(known)
    found = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {found[0]}?" if found else otherwise.format(", ".join(names))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, without `low` where `is_open`."""

    low: float = 0
    high: float = math.inf
    is_open: bool = False

    def __contains__(self, value: Any) -> bool:
        is_above = value > self.low if self.is_open else value >= self.low
        return is_above and value <= self.high and math.isfinite(value)

    def __str__(self) -> str:
        if self.is_open:
            return f"a number above {self.low:g}"
        end = "on" if self.high == math.inf else f"to {self.high:.4g}"
        return f"a number from {self.low:g} {end}"


class Choice(tuple):
    """The strings that a setting may be."""

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self))}"


Count = Annotated[int, Range(1)]
Drawn = Annotated[int, Range(1, 1_000_000)]  # images of a world
Natural = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(is_open=True)]
NotNegative = Annotated[float, Range(0)]
Distance = Annotated[float, Range(0, 2)]  # of cosines
Degrees = Annotated[float, Range(0, 180)]
LISTS = Choice(("clean", "c2x", "full", "all", "cluster"))
REFERENCES = Choice(("cluster", "full", "full+index"))  # of the index those with a known landmark
LOCAL = Choice(("rootsift", "disk", "none"))  # features of `lib.reranking.LOCAL_FEATURES`
STEPS = ("flip", "crop", "colour", "blur", "normalise", "affine", "erasing")
# Backbones of timm with stages called `layer1` to `layer4`, and which of them have no bottlenecks.
RESNET_LIKE = re.compile(
    r"(wide_|se|eca)?res(net|next|nest)(?P<depth>\d+)[cdest]?(_[\dsxd]+|_pruned)?(\.|$)"
)
BASIC_DEPTHS = ("10", "18", "34")
NUMBERS = {int: numbers.Integral, float: numbers.Real}  # what is taken for them


class Settings:
    """Base of all settings; building one checks the type and range of its values."""

    def __post_init__(self) -> None:
        for name, kind in _hints(type(self), include_extras=True).items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), kind))


_hints = functools.cache(typing.get_type_hints)


def _checked(name: str, value: Any, kind: Any) -> Any:
    """`value` as one of this type, a list as a tuple; ValueError if it is none or out of range."""
    if typing.get_origin(kind) is Annotated:
        kind, allowed = typing.get_args(kind)
        value = _checked(name, value, kind)
        if value not in allowed:
            near = difflib.get_close_matches(value, allowed, n=1) if kind is str else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"setting {name!r} expects {allowed}, found {value!r}{hint}")
        return value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    kinds = parts if origin is types.UnionType else (origin or kind,)
    if kind in NUMBERS and isinstance(value, NUMBERS[kind]) and not isinstance(value, bool):
        return kind(value)
    if kind is bool and value in ("on", "off"):  # of a parameter whose "" keeps the profile's
        return value == "on"
    if origin is tuple and isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        names = " or ".join(one.__name__.removesuffix("Type") for one in kinds)
        names += {bool: " (on or off)", str: " (in quotes)"}.get(kind, "")
        raise ValueError(
            f"setting {name!r} expects {names}, found {value!r} ({type(value).__name__})"
        )
    if origin is not tuple:
        return value
    is_pair = ... not in parts
    if is_pair and len(value) != len(parts):
        raise ValueError(f"setting {name!r} expects {len(parts)} values, found {value!r}")
    value = tuple(_checked(name, part, parts[0]) for part in value)
    if is_pair and value[0] > value[-1]:
        raise ValueError(f"setting {name!r} expects its smaller value first, found {value!r}")
    return value


def chosen(setting: str, name: str, registry: Mapping[str, C]) -> C:
    """The entry called `name` of a registry whose names `setting` may be, or ValueError."""
    return registry[_checked(setting, name, Annotated[str, Choice(registry)])]


@dataclass(frozen=True)
class WorldConfig(Settings):
    """The miniature world (`lib.miniworld`)."""

    landmarks: Drawn = 150  # with training images
    raw_images: Drawn = 4000  # labelled training images before cleaning
    # of the logarithm of a landmark's training images; GLDv2's is 1.6
    spread: Annotated[float, Range(0, 5)] = 1.25
    gallery_images: Drawn = 1500
    queries: Drawn = 150
    image_size: Count = 128  # pixels, square JPEGs
    seed: Natural = 0


@dataclass(frozen=True)
class ModelConfig(Settings):
    """Backbone, pooling and neck (`lib.models.network`).

    The neck `linear_bn` is GLR20's and GLR21's: linear to `embedding_dim`, then BatchNorm. `linear`
    has no BatchNorm, and `none` gives the pooled features. With `pca` losses train the pooled
    features, and each stage ends with their PCA on its training images.
    """

    backbone: str = "resnet152"  # any timm name
    backbone_options: Mapping[str, Any] = field(default_factory=dict)  # passed to timm.create_model
    weights: str = ""  # "" random, "pretrained" through timm, or a local file
    # "gap" of GLR20 or "gem" of GLR21, of tokens over the patches; or "cls", the class token
    pooling: Annotated[str, Choice(("gap", "gem", "cls"))] = "gap"
    gem_p: Positive = 3.0  # GLR21: fixed
    gem_trained: bool = False
    drop_path: Share = 0.0  # the largest rate of stochastic depth, of the last block
    neck: Annotated[str, Choice(("linear_bn", "linear", "none", "pca"))] = "linear_bn"
    embedding_dim: Count = 512  # with the neck `none` the backbone's width, `pca` at most that
    whitening: Share = 0.0  # of the neck `pca`: a power, 0 none, 0.5 half, 1 full
    mean: tuple[Share, ...] = ()  # of pixels in [0, 1]; empty: what the backbone was trained with
    std: tuple[Positive, ...] = ()

    def with_backbone(self, name: str) -> "ModelConfig":
        """The same with the backbone `name` in full, its own input normalisation included.

        Of the options `last_stride` and `ibn` stay, where the backbone can take them.
        """
        found = RESNET_LIKE.match(name)
        can = ["last_stride"] if found else []
        can += ["ibn"] if found and found["depth"] not in BASIC_DEPTHS else []
        options = {k: v for k, v in self.backbone_options.items() if v and k in can}
        kept = {} if name == self.backbone else {"mean": (), "std": ()}
        return dataclasses.replace(self, backbone=name, backbone_options=options, **kept)


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Augmentation of a training batch on the device (`lib.training.augmentation`)."""

    # the chain of GLR20's code, image by image with albumentations, where images are read
    chain: bool = False
    flip: Share = 0.5  # probability
    quarter_turns: bool = False  # two of three flips are turns by 90 degrees (GLR20)
    rotate: Degrees = 0.0  # degrees either way, p 0.5; GLR20: 30
    scale: tuple[Positive, Positive] = (1.0, 1.0)  # zoom drawn uniformly; GLR20: 0.7 to 1.3
    aspect: tuple[Positive, Positive] = (1.0, 1.0)  # GLR20: 0.9 to 1.1
    # random resized crop by the step affine: share of the image, and width over height, drawn
    # uniformly in its logarithm; no crop at a share of 1
    crop_area: tuple[Share, Share] = (1.0, 1.0)
    crop_aspect: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    pad: Natural = 0  # zero padding before a random crop; GLR21: 10 at 256 px
    brightness: Share = 0.0  # factor 1 +- this; GLR20: up to 32 of 255 are added
    contrast: Share = 0.0  # about the mean grey; GLR20: 0.5, about black
    saturation: Share = 0.0  # GLR20: 0.5
    hue: Degrees = 0.0  # degrees either way; GLR20: 18
    colour_p: Share = 1.0  # probability of each of these four; GLR20: 0.5
    channel_shuffle: Share = 0.0  # probability of another order of the channels; GLR20: 0.5
    blur: Share = 0.0  # probability; GLR20: 0.5
    erasing: Share = 0.0  # probability of one erased rectangle; GLR21: 1.0
    erasing_area: tuple[Share, Share] = (0.02, 0.20)  # GLR21, share of the image
    erasing_aspect: tuple[Positive, Positive] = (0.3, 1 / 0.3)  # GLR21
    # of `lib.training.AUGMENTATIONS`, in this order; each does what the settings above say
    steps: tuple[str, ...] = STEPS


@dataclass(frozen=True)
class StageConfig(Settings):
    """One training stage (`lib.training.stage`)."""

    name: str = "stage_one"
    train_list: Annotated[str, LISTS] = "clean"  # c2x, full and all of GLR21, cluster of GLR20
    loss: str = "arcface"  # a name of `lib.training.LOSSES`
    margin: Annotated[float, Range(0, math.pi)] = 0.3  # radians (GLR20, GLR21)
    scale: Positive = 30.0  # GLR20, GLR21
    centers: Count = 3  # per class, of the loss subcenter_arcface (2021 winner)
    dynamic_margin: bool = False  # margins by class size instead (2021 winner)
    label_smoothing: Share = 0.0  # harmful in GLR21
    # of the classes in each step's softmax: those of the batch and random others; 1: all of them
    class_share: Annotated[float, Range(0, 1, is_open=True)] = 1.0
    loss_weight: NotNegative = 1.0  # of this loss in the sum
    # of the batch-hard triplet loss, which wants the sampler class_uniform
    triplet_weight: NotNegative = 0.0
    triplet_margin: NotNegative = 0.3  # GLR21, code
    # "" off, "paper" (one head, weights 0.5) or "code" (a head per stream, weights 1)
    cutmix: Annotated[str, Choice(("", "paper", "code"))] = ""
    epochs: Natural = 24  # passes over `epoch_images`
    epoch_images: Natural = 0  # images drawn per epoch; 0: as many as the list holds
    least_images: Natural = 0  # and at least so many, so that a short list trains long enough
    hold_out: Share = 0.0  # share of landmarks kept from training, to choose the best epoch by
    size: Count = 448  # pixels
    decode_size: Natural = 0  # pixels of images before `augment.crop_area`; 0: `size`
    batch_size: Count = 192  # of an optimiser's step, over all processes; GLR20: 24 on each of 8
    # that go through the network at once, at most: on fewer GPUs than a recipe had, a step takes
    # its batch in more parts, one after the other; 0: as many as there are
    images_per_gpu: Natural = 0
    accumulate: Count = 1  # parts of a process's batch, at least; of equal size
    sampler: str = "shuffle"  # of `lib.training.SAMPLERS`; continent is GLR21's, at_least GLR20's
    clean_share: Share = 0.66  # of the continent-aware sampler (GLR21)
    at_least: Count = 5  # images per class and epoch of the at_least sampler (GLR20)
    images_per_class: Count = 4  # K of the class_uniform sampler's P classes × K images
    optimizer: str = "sgd"  # with `momentum` as in the papers, or another name of timm.optim
    learning_rate: NotNegative = 0.01  # of neck and head
    backbone_lr: NotNegative = 0.1  # as a share of it; GLR20: 1 in the paper, 0.1 in the code
    bias_lr: NotNegative = 1.0  # GLR21: 2
    # factor of the rate from each layer of the backbone to the one below (BEiT); 1: none
    layer_decay: Annotated[float, Range(0, 1, is_open=True)] = 1.0
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    decay_bias: bool = True  # False: no decay of biases and normalisation layers
    clip_grad: NotNegative = 0.0  # largest norm of the gradient; 0: any
    ema: Share = 0.0  # decay of the weights' moving average; 0: none
    average_start: Share = 0.0  # share of the starting network in the result (WiSE-FT)
    # of `lib.training.SCHEDULES`; lambda_… are GLR20's, cosine is GLR21's
    schedule: str = "lambda_poly"
    warmup: Share = 0.0  # share of the steps
    freeze_backbone: Share = 0.0  # share of the steps that only train neck and head (GLR20, code)
    freeze_norm: bool = False  # BatchNorm of the backbone keeps the statistics that it starts with
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class InferenceConfig(Settings):
    """Image size and test-time augmentation used for embedding (`lib.retrieval`)."""

    size: Count = 448  # pixels of the square it is stretched to
    flip: bool = False  # add the mirrored image's embedding
    scales: tuple[Positive, ...] = (1.0,)  # of `size`; their embeddings are averaged


@dataclass(frozen=True)
class CleanConfig(Settings):
    """Both DBSCAN passes of GLR20 (`lib.cleaning.two_pass`), which does not publish its values.

    The defaults are its two passes; `drop_suspected_mislabels` and `split_two_views` go beyond.
    """

    eps: Distance = 0.0  # cosine distance; 0: suggested by `lib.cleaning.eps`
    min_samples: Count = 3  # small, as GLDv2's median landmark has six images
    relaxed_eps: Distance = 0.0  # for the noise of the first pass; 0: eps times `relaxation`
    relaxation: Positive = 1.2
    relaxed_min_samples: Count = 2
    min_cluster_size: Count = 2  # images; smaller clusters are dropped
    rescue: bool = True  # False: no second pass
    split: bool = True  # False: a landmark's clusters stay one class
    # first drop images that another landmark explains better (`lib.cleaning.label_noise`)
    drop_suspected_mislabels: bool = False
    mislabel_odds: Positive = 2.0  # wrong against right, from which an image is suspected
    mislabel_whitening: Share = 0.0  # power of the PCA whitening of the rows that are compared
    split_two_views: bool = False  # split clusters that show two views


@dataclass(frozen=True)
class RerankConfig(Settings):
    """Landmark-country reranking of GLR21 (`lib.reranking.landmark_country`)."""

    alpha: NotNegative = 1.0  # of the landmark score, where no Public query chooses it
    beta: NotNegative = 0.1  # of the country score, likewise
    votes: Count = 3
    normalise: bool = True  # scores sum to 1 (published code); False: the slides' raw sums
    reciprocal: bool = False  # votes by k-reciprocal similarity
    references: Annotated[str, REFERENCES] = "cluster"  # which labelled images vote
    compare: bool = True  # try every reranker, or those alone that the largest galleries can afford
    local: Annotated[str, LOCAL] = "rootsift"  # features for geometric verification, if compared


@dataclass(frozen=True)
class Recipe(Settings):
    """A network, its training stages and its image size for embedding (`lib.recipes`)."""

    name: str
    source: str  # what it re-creates
    model: ModelConfig
    stages: tuple[StageConfig, ...]  # trained one after the other
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True)
class Profile(Settings):
    """One complete experiment: what `./run_all.sh PROFILE` does."""

    name: str
    recipe: str  # name of the recipe that model, stages and inference come from
    model: ModelConfig
    stages: tuple[StageConfig, ...]  # trained one after the other, those on the clean list first
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)
    world: WorldConfig | None = None  # generated when no data folder is given
    top_k: Count = 100  # ranked per query, and k of mAP@k; 100 in the competition
    quick: Share = 1.0  # of the epochs, in the first, quick table of ablations
    seed: Natural = 0
    ablation: bool = True  # run notebook 05 and the control of notebook 04
    summary: str = ""  # one line for the help

    @property
    def needs_clusters(self) -> bool:
        """Whether a stage trains on the cluster list, or its images vote."""
        lists = [stage.train_list for stage in self.stages]
        return "cluster" in (*lists, self.rerank.references)

    @property
    def stage_one(self) -> tuple[StageConfig, ...]:
        """The leading stages on the clean list, whose network cleaning uses."""
        return tuple(itertools.takewhile(lambda stage: stage.train_list == "clean", self.stages))

    @property
    def stage_two(self) -> tuple[StageConfig, ...]:
        """The stages after these."""
        return self.stages[len(self.stage_one) :]


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted names set; ValueError for a wrong name, type or range.

    In a tuple of stages the next name is a stage's own: `stages.arcface.epochs`. Another backbone
    is set in full (`ModelConfig.with_backbone`); options for it are set after it.

    >>> override(StageConfig(), {"augment.scale": [0.8, 1.2]}).augment.scale
    (0.8, 1.2)
    """
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        known = _hints(type(config))
        if head not in known:
            hint = nearest(head, known, "it has {}")
            raise ValueError(f"{type(config).__name__} has no setting {head!r}; {hint}")
        if rest:
            value = _nested(head, getattr(config, head), rest, value)
        changed = dataclasses.replace(config, **{head: value})
        config = config.with_backbone(value) if head == "backbone" else changed
    return config


def _nested(name: str, current: Any, rest: str, value: Any) -> Any:
    if isinstance(current, Settings):
        return override(current, {rest: value})
    if not isinstance(current, tuple) or not all(isinstance(part, Settings) for part in current):
        raise ValueError(f"setting {name!r} is {current!r}, which has no setting {rest!r}")
    stage, _, setting = rest.partition(".")
    if stage not in (known := [part.name for part in current]):
        raise ValueError(
            f"expected a stage among {', '.join(known)}, found {stage!r}; correct the setting"
        )
    return tuple(
        override(part, {setting: value}) if part.name == stage else part for part in current
    )


def list_settings(config: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted name and value of every setting, in the order of the fields."""
    for item in dataclasses.fields(config):
        name, value = prefix + item.name, getattr(config, item.name)
        if isinstance(value, Settings):
            yield from list_settings(value, f"{name}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Settings):
            for part in value:
                yield from list_settings(part, f"{name}.{part.name}.")
        else:
            yield name, value

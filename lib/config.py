"""Every setting in one place: frozen dataclasses, from which `lib.profiles` builds experiments.

Change one thing with `override(config, {"stages.cluster.epochs": 3})`, which refuses names and
types that do not exist. Defaults follow [20] (3rd place 2020) and [21] (2nd place 2021) unless a
comment says why not.
"""

import dataclasses
import difflib
import itertools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

C = TypeVar("C")


@dataclass(frozen=True)
class WorldConfig:
    """The miniature world (`lib.miniworld`)."""

    landmarks: int = 150  # with training images
    raw_images: int = 4000  # labelled training images before cleaning
    spread: float = 1.25  # of the logarithm of a landmark's training images; GLDv2's is 1.6
    gallery_images: int = 1500
    queries: int = 150
    image_size: int = 128  # pixels, square JPEGs
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """Trunk, pooling and neck (`lib.models`)."""

    trunk: str = "resnet152"  # any timm name
    trunk_options: Mapping[str, Any] = field(default_factory=dict)  # passed to timm.create_model
    weights: str = ""  # "" random, "pretrained" through timm, or a local file
    pooling: str = "gap"  # "gap" [20] or "gem" [21]
    gem_p: float = 3.0  # [21]: fixed
    gem_trained: bool = False
    embedding_dim: int = 512
    mean: tuple[float, ...] = ()  # of pixels in [0, 1]; empty: what the trunk was trained with
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class AugmentConfig:
    """What happens to a training batch on the device (`lib.augment`)."""

    chain: bool = False  # first the whole chain of [20]'s code, image by image (`lib.imagewise`)
    flip: float = 0.5  # probability
    quarter_turns: bool = False  # two of three flips are turns by 90 degrees [20]
    rotate: float = 0.0  # degrees either way, p 0.5; [20]: 30
    scale: tuple[float, float] = (1.0, 1.0)  # zoom drawn uniformly; [20]: 0.7 to 1.3
    aspect: tuple[float, float] = (1.0, 1.0)  # [20]: 0.9 to 1.1
    pad: int = 0  # zero padding before a random crop; [21]: 10 at 256 px
    brightness: float = 0.0  # factor 1 +- this; [20]: up to 32 of 255 are added
    contrast: float = 0.0  # about the mean grey; [20]: 0.5, about black
    saturation: float = 0.0  # [20]: 0.5
    hue: float = 0.0  # degrees either way; [20]: 18
    colour_p: float = 1.0  # probability of each of these four; [20]: 0.5
    permute: float = 0.0  # probability of another order of the channels; [20]: 0.5
    blur: float = 0.0  # probability; [20]: 0.5
    erasing: float = 0.0  # probability of one erased rectangle; [21]: 1.0
    erasing_area: tuple[float, float] = (0.02, 0.20)  # [21], share of the image
    erasing_aspect: tuple[float, float] = (0.3, 1 / 0.3)  # [21]


@dataclass(frozen=True)
class StageConfig:
    """One training stage (`lib.train`)."""

    name: str = "stage_one"
    train_list: str = "clean"  # clean, c2x, full, all [21] or cluster [20]
    loss: str = "arcface"  # softmax, cosine, arcface or subcenter
    margin: float = 0.3  # [20], [21]
    scale: float = 30.0  # [20], [21]
    centers: int = 3  # per class, of the loss subcenter (2021 winner)
    dynamic_margin: bool = False  # margins by class size instead, for subcenter (2021 winner)
    label_smoothing: float = 0.0  # harmful in [21]
    loss_weight: float = 1.0  # of this loss in the sum
    triplet_weight: float = 0.0  # of the batch-hard triplet loss; wants the sampler class_uniform
    triplet_margin: float = 0.3  # [21], code
    cutmix: str = ""  # "" off, "paper" (one head, 0.5/0.5) or "code" (a head per stream, 1/1)
    epochs: int = 24  # passes over `epoch_images`
    epoch_images: int = 0  # images drawn per epoch; 0: as many as the list holds
    size: int = 448  # pixels
    batch_size: int = 192  # over all processes; [20]: 24 on each of 8
    sampler: str = "shuffle"  # shuffle, continent [21], at_least [20] or class_uniform
    clean_share: float = 0.66  # of the continent-aware sampler [21]
    at_least: int = 5  # images per class and epoch of the at_least sampler [20]
    images_per_class: int = 4  # K of the class_uniform sampler's P classes × K images
    learning_rate: float = 0.01  # of neck and head
    trunk_rate: float = 0.1  # the trunk's share of it; [20]: 1 in the paper, 0.1 in the code
    bias_rate: float = 1.0  # [21]: 2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "lambda_poly"  # or poly, lambda_range [20, code], cosine [21]
    warmup: float = 0.0  # share of the steps
    frozen_trunk: float = 0.0  # share of the steps in which only neck and head move [20, code]
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass(frozen=True)
class InferenceConfig:
    """How an image is looked at when it is described (`lib.describe`)."""

    size: int = 448  # pixels of the square it is stretched to
    flip: bool = False  # add the mirrored image's embedding
    scales: tuple[float, ...] = (1.0,)  # of `size`; their embeddings are averaged


@dataclass(frozen=True)
class CleanConfig:
    """Both DBSCAN passes of [20] (`lib.clean`), whose values the paper keeps to itself.

    The defaults are its two passes and nothing else; `suspects` and `faces` go beyond them.
    """

    eps: float = 0.0  # cosine distance; 0: what `lib.choose_eps` suggests
    min_samples: int = 3  # small, as GLDv2's median landmark has six images
    relaxed_eps: float = 0.0  # for the noise of the first pass; 0: eps times `relaxation`
    relaxation: float = 1.2
    relaxed_min_samples: int = 2
    smallest: int = 2  # images; smaller clusters are dropped
    rescue: bool = True  # False: no second pass
    split: bool = True  # False: a landmark's clusters stay one class
    suspects: bool = False  # first drop images that another landmark explains (`lib.rivals`)
    odds: float = 2.0  # wrong against right, from which an image is such a suspect
    faces: bool = False  # split clusters that show two things (`lib.faces`)


@dataclass(frozen=True)
class RerankConfig:
    """Landmark-country reranking of [21] (`lib.rerank`)."""

    alpha: float = 1.0
    beta: float = 0.1
    votes: int = 3
    normalise: bool = True  # scores sum to 1 (published code); False: the slides' raw sums
    reciprocal: bool = False  # votes by k-reciprocal similarity


@dataclass(frozen=True)
class Recipe:
    """A network, the stages it is trained in, and how it looks at images (`lib.recipes`)."""

    name: str
    source: str  # what it re-creates
    model: ModelConfig
    stages: tuple[StageConfig, ...]  # trained one after the other
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True)
class Profile:
    """One complete experiment: what `./run_all.sh PROFILE` does."""

    name: str
    recipe: str  # name of the recipe that model, stages and inference come from
    model: ModelConfig
    stages: tuple[StageConfig, ...]  # trained one after the other, those on the clean list first
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    clean: CleanConfig = field(default_factory=CleanConfig)
    rerank: RerankConfig = field(default_factory=RerankConfig)
    world: WorldConfig | None = None  # generated when no data folder is given
    neighbours: int = 100  # ranked per query: mAP@100
    quick: float = 1.0  # share of the epochs in the first, quick table of ablations
    seed: int = 0

    @property
    def stage_one(self) -> tuple[StageConfig, ...]:
        """The stages on the clean list that come before any other, whose network cleans."""
        return tuple(itertools.takewhile(lambda stage: stage.train_list == "clean", self.stages))

    @property
    def stage_two(self) -> tuple[StageConfig, ...]:
        """The stages after these."""
        return self.stages[len(self.stage_one) :]


def override(config: C, changes: Mapping[str, Any]) -> C:
    """A copy of `config` with dotted names set; integers are accepted where floats belong.

    In a tuple of stages the next name is a stage's own: `stages.arcface.epochs`.

    Raises:
        ValueError: if a name does not exist (the nearest is named) or a value has another type.

    >>> override(RerankConfig(), {"alpha": 2}).alpha
    2.0
    >>> override(StageConfig(), {"augment.erasing": 1.0}).augment.erasing
    1.0
    """
    for name, value in changes.items():
        head, _, rest = name.partition(".")
        kinds = typing.get_type_hints(type(config))
        if head not in kinds:
            near = difflib.get_close_matches(head, kinds, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(kinds)}"
            raise ValueError(f"{type(config).__name__} has no setting {head!r}{hint}")
        if rest:
            value = _nested(head, getattr(config, head), rest, value)
        config = dataclasses.replace(config, **{head: _checked(head, value, kinds[head])})
    return config


def _nested(name: str, current: Any, rest: str, value: Any) -> Any:
    if dataclasses.is_dataclass(current):
        return override(current, {rest: value})
    if not isinstance(current, tuple) or not all(map(dataclasses.is_dataclass, current)):
        raise ValueError(f"setting {name!r} is {current!r}, which has no setting {rest!r}")
    stage, _, setting = rest.partition(".")
    if stage not in [item.name for item in current]:
        names = ", ".join(item.name for item in current)
        raise ValueError(f"expected a stage among {names}, found {stage!r}; correct the setting")
    return tuple(
        override(item, {setting: value}) if item.name == stage else item for item in current
    )


def _checked(name: str, value: Any, expected: Any) -> Any:
    origin, parts = typing.get_origin(expected), typing.get_args(expected)
    kinds = parts if origin is types.UnionType else (origin or expected,)
    if kinds == (float,) and type(value) is int:
        return float(value)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join(kind.__name__.removesuffix("Type") for kind in kinds)
        raise ValueError(
            f"setting {name!r} expects {names}, found {value!r} ({type(value).__name__})"
        )
    if origin is tuple and ... not in parts and len(value) != len(parts):
        raise ValueError(f"setting {name!r} expects {len(parts)} values, found {value!r}")
    return value

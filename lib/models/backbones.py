"""Backbones from timm that give a feature map or tokens, and GLR21's changes to ResNet-like ones.

*Last stride 1*: the fourth stage keeps the resolution of the third. *IBN-a* (Pan et al., 2018): in
the first three stages, half the channels of each bottleneck's first norm are normalised per image.
GLR21 = 2nd place, Google Landmark Retrieval 2021 (Zhang et al.).
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
import torch
from torch import nn

from lib.config import nearest

PROBE = 128  # pixels: inception and xception networks need 75
# Options for images of any size, of Vision Transformers, of Swin, and of networks without either.
ANY_SIZE = ({"dynamic_img_size": True, "dynamic_img_pad": True}, {"dynamic_img_size": True}, {})
# timm's modules of networks whose last norm stands where the pooling of their weights wants it.
NORM_BY_POOLING = {"beit", "eva", "naflexvit", "vision_transformer", "vision_transformer_relpos"}
OWN_OPTIONS = {"num_classes", "global_pool", "pretrained"}  # decided by build_backbone itself
# Errors of constructors for options that do not fit; others come from fetching weights.
OPTION_ERRORS = (AssertionError, AttributeError, LookupError, TypeError)
# Where ImageNet weights with IBN-a are (Pan et al., 2018; GLR21), by timm's name; timm has none.
IBN_NET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0"
IBN_NET_FILES = {
    "resnet50": "resnet50_ibn_a-d9d0bb7b.pth",
    "resnet101": "resnet101_ibn_a-59ea0ac6.pth",
    "resnext101_32x4d": "resnext101_ibn_a-6ace051d.pth",
    "seresnet101": "se_resnet101_ibn_a-fabed4e2.pth",
}


@dataclass(frozen=True)
class BackboneOutput:
    """What a backbone gives for a batch of images, found with a grey one."""

    channels: int
    layout: str  # "NCHW", "NHWC" or, of tokens, "NLC"
    size: int  # pixels of the grey image
    is_any_size: bool  # takes every image that is not smaller
    prefix: int = 0  # tokens before those of the patches
    has_class_token: bool = False

    def as_map(self, output: torch.Tensor, *, is_class_token: bool = False) -> torch.Tensor:
        """(B, C, H, W), of N patches (B, C, N, 1); with `is_class_token` of it alone."""
        if self.layout == "NLC":
            tokens = output[:, :1] if is_class_token else output[:, self.prefix :]
            return tokens.transpose(1, 2).unsqueeze(3)
        return output.permute(0, 3, 1, 2) if self.layout == "NHWC" else output


_OUTPUTS: dict[str, BackboneOutput] = {}  # of networks built before, by name and options


def build_backbone(
    name: str,
    options: Mapping[str, Any],
    *,
    drop_path: float = 0.0,
    is_pretrained: bool = False,
) -> nn.Module:
    """Create the timm network `name` without pooling and classifier; its `output` tells the rest.

    `options` are those of `timm.create_model`, and `last_stride: 1` and `ibn: True`; `drop_path` is
    its `drop_path_rate`, of stochastic depth (Huang et al., 2016).

    Raises:
        ValueError: Unknown name, weights out of reach, an option that the network does not take, or
            neither a map nor tokens to pool, as from networks with several outputs.
    """
    _check_name(name)
    call = _call(name, options)
    if own := ", ".join(sorted(OWN_OPTIONS & options.keys())):
        advice = "pooling, neck and weights have their own settings"
        raise ValueError(f"expected backbone options without {own}, found {call}; {advice}")
    options = dict(options)
    last_stride, has_ibn = options.pop("last_stride", 2), options.pop("ibn", False)
    if last_stride not in (1, 2):
        raise ValueError(f"expected last_stride 1 or 2, found {last_stride!r}; correct it")
    is_resnest = name.startswith("resnest")
    if last_stride == 1 and is_resnest:
        options["output_stride"] = 16  # with dilation 2 in the fourth stage, as GLR21 has it
    if drop_path:
        options["drop_path_rate"] = drop_path
    backbone = _create(name, options, is_pretrained)
    if drop_path and not any(getattr(m, "drop_prob", 0) for m in backbone.modules()):
        raise ValueError(
            f"expected a backbone with stochastic depth for drop_path {drop_path:g}, found {name} "
            "without; set drop_path to 0 or choose another backbone"
        )
    if last_stride == 1 and is_resnest:
        # As in the original, the first block pools 3×3 before its last convolution, and not its
        # shortcut; dilated, timm does not pool the former and pools the latter 2×2.
        backbone.layer4[0].avd_last = nn.AvgPool2d(3, stride=1, padding=1)
        backbone.layer4[0].downsample[0] = nn.Identity()
    elif last_stride == 1:
        keep_last_resolution(backbone)
    if has_ibn:
        add_ibn(backbone)
    if call not in _OUTPUTS:
        _OUTPUTS[call] = _find_output(call, backbone)
    backbone.output = _OUTPUTS[call]
    return backbone


def _check_name(name: str) -> None:
    """Refuse what is no timm network, or none of its published weights after the dot."""
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        hint = nearest(base, timm.list_models(), "see timm.list_models()")
        raise ValueError(f"expected the name of a timm network, found {name!r}; {hint}")
    tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        raise ValueError(
            f"expected one of timm's weights for {base} after the dot "
            f"({', '.join(tags) or 'there are none'}), found {tag!r}; leave it out or take another"
        )


def _create(name: str, options: Mapping[str, Any], is_pretrained: bool) -> nn.Module:
    settings = {"pretrained": is_pretrained, "num_classes": 0}
    try:
        with _without_retries() if is_pretrained else contextlib.nullcontext():
            for any_size in ANY_SIZE:
                try:
                    return _create_unpooled(name, {**settings, **any_size, **options})
                except TypeError as error:
                    if not any(f"'{option}'" in str(error) for option in any_size):
                        raise
    except Exception as error:  # constructors raise nearly anything for options that do not fit
        if is_pretrained and not isinstance(error, OPTION_ERRORS):
            raise _out_of_reach(f"the pretrained weights of {name}", error) from error
        reason = " ".join(str(error).split())
        raise ValueError(
            f"expected options that the backbone takes, found {_call(name, options)} "
            f"({type(error).__name__}: {reason}); leave out what belongs to another backbone"
        ) from error


def _create_unpooled(name: str, settings: Mapping[str, Any]) -> nn.Module:
    module = timm.model_entrypoint(name.partition(".")[0]).__module__
    if module.rpartition(".")[2] in NORM_BY_POOLING:
        backbone = timm.create_model(name, **settings)
        backbone.reset_classifier(0, "")  # drops the pooling and keeps the norm
        return backbone
    try:
        return timm.create_model(name, global_pool="", **settings)
    except (AssertionError, TypeError) as error:
        if "img_" in str(error):
            raise
        backbone = timm.create_model(name, **settings)  # some heads insist on pooling: stop before
        backbone.forward, backbone.head = backbone.forward_features, nn.Identity()
        return backbone


def _call(name: str, options: Mapping[str, Any]) -> str:
    words = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return f"{name}({words})" if words else name


@contextlib.contextmanager
def _without_retries() -> Iterator[None]:
    """Where the hub's host has no address, use cached files only instead of retrying a minute."""
    before = huggingface_hub.constants.HF_HUB_OFFLINE
    try:
        socket.getaddrinfo(urlsplit(huggingface_hub.constants.ENDPOINT).hostname, None)
    except OSError:
        huggingface_hub.constants.HF_HUB_OFFLINE = before or not getproxies()
    try:
        yield
    finally:
        huggingface_hub.constants.HF_HUB_OFFLINE = before


def _find_output(name: str, backbone: nn.Module) -> BackboneOutput:
    """Try a grey image of PROBE pixels, then of the network's own size; refuse other outputs."""
    widths = {getattr(backbone, width, None) for width in ("num_features", "head_hidden_size")}
    own = backbone.pretrained_cfg
    made_for = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    for size in (PROBE, (made_for or own["input_size"])[-1]):  # pixels of a side
        try:
            shape = try_backbone(backbone, size)
            found = f"{shape}"
            break
        except Exception as error:  # networks raise nearly anything for a size that does not fit
            shape, found = (), f"none ({type(error).__name__}: {' '.join(str(error).split())})"
    if len(shape) == 4 and shape[1] in widths:
        is_any_size = size == PROBE and not own.get("fixed_input_size")
        return BackboneOutput(shape[1], "NCHW", size, is_any_size)
    if len(shape) == 4 and shape[3] in widths:
        return BackboneOutput(shape[3], "NHWC", size, is_any_size=False)
    if len(shape) == 3 and shape[2] in widths:
        own_names = [name for name, _ in backbone.named_parameters(recurse=False)]
        has_class_token = any(name.startswith("cls_token") for name in own_names)
        # PiT gives no other tokens; VOLO and CoaT do not tell.
        prefix = getattr(backbone, "num_prefix_tokens", int(has_class_token and shape[1] > 1))
        return BackboneOutput(shape[2], "NLC", size, False, prefix, has_class_token)
    raise ValueError(
        f"expected a backbone that maps images to (B, C, H, W), (B, H, W, C) or tokens (B, N, C), "
        f"found {found} from {size} px with {name}; choose another, such as resnet50 or "
        "vit_small_patch16_224"
    )


@torch.no_grad()
def try_backbone(backbone: nn.Module, size: int) -> tuple[int, ...]:
    """The shape of a backbone's output for one grey image; statistics and random streams stay."""
    was_training = backbone.training
    try:
        with torch.random.fork_rng(devices=[]):
            output = backbone.eval()(torch.zeros(1, 3, size, size))
        if not isinstance(output, torch.Tensor):
            raise TypeError(f"a {type(output).__name__} of several outputs")
        return tuple(output.shape)
    finally:
        backbone.train(was_training)


def fetch_ibn_net(name: str) -> dict[str, torch.Tensor]:
    """The official ImageNet weights of the timm network `name` with IBN-a, in timm's names."""
    if name not in IBN_NET_FILES:
        raise ValueError(
            f"expected one of {', '.join(IBN_NET_FILES)} for pretrained weights with IBN, found "
            f"{name!r}; name a local file in `weights`, or '' to start from scratch"
        )
    file = IBN_NET_FILES[name]
    try:
        found = torch.hub.load_state_dict_from_url(
            f"{IBN_NET}/{file}", map_location="cpu", check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise _out_of_reach(file, error) from error
    return from_ibn_net(found)


def _out_of_reach(what: str, error: Exception) -> ValueError:
    return ValueError(
        f"expected to fetch {what}, found no way to them ({type(error).__name__}); name a local "
        "file in `weights`, or '' to start from scratch"
    )


def keep_last_resolution(backbone: nn.Module) -> None:
    """Give the fourth stage of a ResNet-like backbone stride 1, without dilation (GLR21)."""
    found = 0
    for parent in list(getattr(backbone, "layer4", nn.Sequential()).modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                child.stride = (1, 1)
                found += 1
            elif isinstance(child, nn.AvgPool2d) and child.stride in (2, (2, 2)):
                setattr(parent, name, nn.Identity())  # the shortcut of ResNet-D
                found += 1
    if not found:
        raise ValueError(
            f"expected a ResNet-like backbone for last_stride 1, found {type(backbone).__name__}; "
            "many other backbones take output_stride=16 instead"
        )


class IBN(nn.Module):
    """InstanceNorm for half the channels, BatchNorm for the rest; names of the official files."""

    def __init__(self, batch_norm: nn.BatchNorm2d) -> None:
        super().__init__()
        channels = batch_norm.num_features
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)
        state = batch_norm.state_dict()
        self.IN.load_state_dict({k: state[k][: self.half] for k in ("weight", "bias")})
        self.BN.load_state_dict({k: v[self.half :] if v.ndim else v for k, v in state.items()})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        by_image, by_batch = features[:, : self.half], features[:, self.half :]
        return torch.cat([self.IN(by_image), self.BN(by_batch)], dim=1)


def add_ibn(backbone: nn.Module) -> None:
    """Put IBN-a into the bottlenecks of stages 1 to 3 of a ResNet-like backbone, in place."""
    stages = [getattr(backbone, f"layer{stage}", ()) for stage in (1, 2, 3)]
    blocks = [block for stage in stages for block in stage if hasattr(block, "conv3")]
    if not blocks or not all(isinstance(block.bn1, nn.BatchNorm2d) for block in blocks):
        raise ValueError(
            f"expected a backbone of ResNet bottlenecks for IBN, found {type(backbone).__name__}; "
            "choose resnet101, resnext101_32x4d, seresnet101 or the like"
        )
    for block in blocks:
        block.bn1 = IBN(block.bn1)


def from_ibn_net(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate an official IBN-Net checkpoint to timm, whose SE layers are 1×1 convolutions."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        if ".se.fc." in name and value.ndim in (1, 2):
            name = name.replace(".fc.0.", ".fc1.").replace(".fc.2.", ".fc2.")
            if value.ndim == 2:
                renamed.setdefault(name.replace("weight", "bias"), torch.zeros(len(value)))
                value = value[:, :, None, None]
        renamed[name] = value
    return renamed

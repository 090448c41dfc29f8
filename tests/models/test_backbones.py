import hashlib
import socket
import sys
import time

import huggingface_hub
import pytest
import torch
from torch import nn

import lib
from lib.config import ModelConfig
from lib.models import backbones
from lib.models.backbones import IBN, build_backbone, from_ibn_net
from lib.models.network import build_model

# Small members of the families that GLR20 and GLR21 use.
SMALL = {
    "resnet26": {"layers": (1, 1, 1, 1)},
    "resnet26d": {"layers": (1, 1, 1, 1)},
    "resnext50_32x4d": {"layers": (1, 1, 1, 1)},
    "seresnext50_32x4d": {"layers": (1, 1, 1, 1)},
    "resnest14d": {},
}


def images(size=64):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("files", "declared"), [(["_C.so"], ["nms", "qnms"]), ([], [])])
def test_torchvision_of_another_build_gets_the_operators_it_describes(
    files, declared, tmp_path, monkeypatch
):
    (tmp_path / "torchvision").mkdir()
    for name in ("__init__.py", *files):
        (tmp_path / "torchvision" / name).write_text("# no library of this build")
    finder, found = lib._Torchvision(), []
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    monkeypatch.setattr("torch.library.define", lambda name, schema: found.append(name))
    assert finder.find_spec("torchvision", [str(tmp_path)]) is None
    assert finder not in sys.meta_path
    assert found == [f"torchvision::{name}" for name in declared]


@pytest.mark.parametrize("name", SMALL)
def test_build_backbone_with_last_stride_one_doubles_the_map(name):
    usual = build_backbone(name, SMALL[name]).eval()
    finer = build_backbone(name, {**SMALL[name], "last_stride": 1}).eval()
    finer.load_state_dict(usual.state_dict())  # the same weights fit
    with torch.no_grad():
        assert usual(images()).shape == (2, 2048, 2, 2)
        assert finer(images()).shape == (2, 2048, 4, 4)


def test_last_stride_one_sees_the_same_at_every_second_place():
    options = {"layers": (1, 1, 1, 1)}  # one block: nothing behind the stride that differs
    usual = build_backbone("resnet18", options).eval()
    finer = build_backbone("resnet18", {**options, "last_stride": 1}).eval()
    finer.load_state_dict(usual.state_dict())
    block, finer_block = usual.layer4[0], finer.layer4[0]
    features = torch.randn(2, 256, 8, 8)
    with torch.no_grad():
        first, finer_first = block.conv1(features), finer_block.conv1(features)
        torch.testing.assert_close(finer_first[:, :, ::2, ::2], first)
        shortcut = finer_block.downsample(features)[:, :, ::2, ::2]
        torch.testing.assert_close(shortcut, block.downsample(features))


def test_last_stride_one_of_a_resnest_begins_its_fourth_stage_as_the_original():
    options = {"layers": (1, 1, 1, 2)}
    usual = build_backbone("resnest26d", options).eval()
    finer = build_backbone("resnest26d", {**options, "last_stride": 1}).eval()
    finer.load_state_dict(usual.state_dict())
    first, second = finer.layer4
    assert second.conv2.conv.dilation == (2, 2)
    features = torch.randn(2, 1024, 8, 8)
    with torch.no_grad():
        # Average pooling with stride 2 is every second place of pooling with stride 1.
        inner = usual.layer4[0].conv2(usual.layer4[0].conv1(features))
        everywhere, every_second = first.avd_last(inner), usual.layer4[0].avd_last(inner)
        torch.testing.assert_close(everywhere[:, :, ::2, ::2], every_second)
        shortcut = first.downsample[2](first.downsample[1](features))
        torch.testing.assert_close(first.downsample(features), shortcut)
        assert first(features).shape == (2, 2048, 8, 8)


def test_build_backbone_refuses_last_stride_where_nothing_strides():
    with pytest.raises(ValueError, match="output_stride=16 instead"):
        build_backbone("test_efficientnet", {"last_stride": 1})
    with pytest.raises(ValueError, match="found 3"):
        build_backbone("resnet18", {"last_stride": 3})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("efficientnet_b0", {"layers": (1, 1)}, r"takes, found efficientnet_b0\(layers=\(1, 1\)\)"),
        ("efficientvit_b0", {"channels": 8}, r"takes, found efficientvit_b0\(channels=8\)"),
        ("resnet18", {"layers": "many"}, r"takes, found resnet18\(layers='many'\)"),
        ("resnet18", {"channels": (8, 16)}, r"with resnet18\(channels=\(8, 16\)\)"),
        ("resnet50.nope", {}, r"weights for resnet50 after the dot \(.*a1_in1k.*found 'nope'"),
        ("resnet18", {"num_classes": 3}, "options without num_classes, found resnet18"),
        ("resnet5O", {}, "found 'resnet5O'; did you mean resnet50"),
        ("", {}, "found ''"),
    ],
)
def test_build_backbone_refuses_what_a_network_does_not_take(name, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        build_backbone(name, options)
    assert "\n" not in str(caught.value)


def test_build_backbone_tells_at_once_that_weights_are_out_of_reach(monkeypatch, caplog):
    def no_address(*_):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(backbones, "getproxies", dict)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waits to try again"))
    with pytest.raises(ValueError, match="expected to fetch the pretrained weights of test_resnet"):
        build_backbone("test_resnet.r160_in1k", {}, is_pretrained=True)
    assert not caplog.records
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_ibn_equals_its_two_halves():
    norm = nn.BatchNorm2d(6)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    norm.running_mean.uniform_()
    features = torch.randn(4, 6, 5, 5)
    result = IBN(norm).eval()(features)
    half = features[:, :3]
    mean = half.mean((2, 3), keepdim=True)
    scale = half.var((2, 3), keepdim=True, correction=0).add(1e-5).rsqrt()
    expected = (half - mean) * scale * norm.weight[:3, None, None] + norm.bias[:3, None, None]
    torch.testing.assert_close(result[:, :3], expected)
    torch.testing.assert_close(result[:, 3:], norm.eval()(features)[:, 3:])


def test_ibn_ignores_the_contrast_of_an_image_in_its_first_half():
    features = torch.randn(2, 8, 5, 5)
    norm = IBN(nn.BatchNorm2d(8)).eval()
    changed = norm(3.0 * features + 1.0)
    torch.testing.assert_close(changed[:, :4], norm(features)[:, :4], atol=1e-4, rtol=0)
    assert not torch.allclose(changed[:, 4:], norm(features)[:, 4:], atol=0.1)


def test_add_ibn_changes_the_first_norm_of_stages_one_to_three():
    backbone = build_backbone("resnet26", {"ibn": True})
    for stage in (backbone.layer1, backbone.layer2, backbone.layer3):
        assert all(isinstance(block.bn1, IBN) for block in stage)
        assert all(isinstance(block.bn2, nn.BatchNorm2d) for block in stage)
    assert all(isinstance(block.bn1, nn.BatchNorm2d) for block in backbone.layer4)
    assert isinstance(backbone.bn1, nn.BatchNorm2d)


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet"])
def test_build_backbone_refuses_ibn_without_bottlenecks(name):
    with pytest.raises(ValueError, match="choose resnet101"):
        build_backbone(name, {"ibn": True})


def official_shapes(depths, *, width=64, groups=1, has_se=False):
    """Names and shapes of an IBN-Net release, written down from its architecture."""

    def norm(name, channels):
        return {f"{name}.{part}": (channels,) for part in ("weight", "bias")} | {
            f"{name}.running_{part}": (channels,) for part in ("mean", "var")
        }

    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    inner = 64
    for stage, depth in enumerate(depths, start=1):
        planes = 64 * 2 ** (stage - 1)
        middle, out = planes * width * groups // 64, planes * 4
        for block in range(depth):
            at = f"layer{stage}.{block}"
            shapes[f"{at}.conv1.weight"] = (middle, inner, 1, 1)
            if stage < 4:
                shapes |= {f"{at}.bn1.IN.{p}": (middle // 2,) for p in ("weight", "bias")}
                shapes |= norm(f"{at}.bn1.BN", middle - middle // 2)
            else:
                shapes |= norm(f"{at}.bn1", middle)
            shapes[f"{at}.conv2.weight"] = (middle, middle // groups, 3, 3)
            shapes |= norm(f"{at}.bn2", middle)
            shapes[f"{at}.conv3.weight"] = (out, middle, 1, 1)
            shapes |= norm(f"{at}.bn3", out)
            if has_se:
                shapes[f"{at}.se.fc.0.weight"] = (out // 16, out)
                shapes[f"{at}.se.fc.2.weight"] = (out, out // 16)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (out, inner, 1, 1)
                shapes |= norm(f"{at}.downsample.1", out)
            inner = out
    return shapes | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("resnet101", {}),
        ("resnext101_32x4d", {"width": 4, "groups": 32}),
        ("seresnet101", {"has_se": True}),
    ],
)
def test_build_model_loads_official_ibn_checkpoints(tmp_path, name, form):
    shapes = official_shapes((1, 2, 1, 1), **form)
    weights = {key: torch.rand(shape) for key, shape in shapes.items()}
    torch.save({f"module.{key}": value for key, value in weights.items()}, tmp_path / "ibn.pth")
    options = {"layers": (1, 2, 1, 1), "ibn": True, "last_stride": 1}
    config = ModelConfig(backbone=name, backbone_options=options, weights=str(tmp_path / "ibn.pth"))
    model = build_model(config)
    assert model.weight_report.missing == model.weight_report.wrong_shape == ()
    assert model.weight_report.unexpected == ("fc.bias", "fc.weight")
    loaded = model.backbone.state_dict()
    torch.testing.assert_close(loaded["layer2.1.bn1.IN.weight"], weights["layer2.1.bn1.IN.weight"])


def test_build_model_fetches_the_official_weights_of_ibn(tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "IBN_NET", tmp_path.as_uri())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    options = {"layers": (1, 1, 1, 1), "ibn": True}
    config = ModelConfig(backbone="seresnet101", backbone_options=options, weights="pretrained")
    with pytest.raises(ValueError, match="expected to fetch se_resnet101_ibn_a-fabed4e2"):
        build_model(config)
    shapes = official_shapes((1, 1, 1, 1), has_se=True)
    weights = {key: torch.rand(shape) for key, shape in shapes.items()}
    torch.save(weights, tmp_path / "ibn.pth")
    content = hashlib.sha256((tmp_path / "ibn.pth").read_bytes()).hexdigest()
    name = f"ibn-{content[:8]}.pth"
    (tmp_path / "ibn.pth").rename(tmp_path / name)
    monkeypatch.setitem(backbones.IBN_NET_FILES, "seresnet101", name)
    model = build_model(config)
    assert model.weight_report.missing == model.weight_report.wrong_shape == ()
    loaded = model.backbone.state_dict()
    torch.testing.assert_close(loaded["layer1.0.bn1.IN.weight"], weights["layer1.0.bn1.IN.weight"])


def test_pretrained_weights_with_ibn_are_refused_where_there_are_none():
    config = ModelConfig(backbone="resnet26", backbone_options={"ibn": True}, weights="pretrained")
    with pytest.raises(
        ValueError, match="seresnet101 for pretrained weights with IBN, found 'resn"
    ):
        build_model(config)


def test_from_ibn_net_makes_the_same_squeeze_and_excitation():
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    features = torch.randn(3, 32, 4, 4)
    block = build_backbone("seresnet50", {"layers": (1, 1, 1, 1)}).layer1[0].se
    block.fc1, block.fc2 = nn.Conv2d(32, 2, 1), nn.Conv2d(2, 32, 1)
    renamed = from_ibn_net({"a.se.fc.0.weight": down, "a.se.fc.2.weight": up})
    block.load_state_dict({name.removeprefix("a.se."): value for name, value in renamed.items()})
    gate = torch.sigmoid((features.mean((2, 3)) @ down.T).relu() @ up.T)
    torch.testing.assert_close(block(features), features * gate[:, :, None, None])


def test_from_ibn_net_keeps_biases_and_other_names():
    bias, other = torch.ones(2), torch.zeros(1)
    file = {"a.se.fc.0.bias": bias, "a.se.fc.0.weight": torch.zeros(2, 4), "fc.0.bias": other}
    renamed = from_ibn_net(file)
    assert renamed.keys() == {"a.se.fc1.bias", "a.se.fc1.weight", "fc.0.bias"}
    assert renamed["a.se.fc1.bias"] is bias

import argparse
import collections
import datetime
import os
import pathlib
import types
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from lib.models.backbones import build_backbone
from lib.models.weights import load_weights, read_weights


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


PREFIXES = ["", "module.", "model.backbone.", "_orig_mod.", "module._orig_mod.", "module.backbone."]
PREFIXES += ["model.model.", "image_encoder.of.somebody."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_load_weights_finds_the_prefix(prefix):
    source, target = network(), network()
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    report = load_weights(target, weights)
    torch.testing.assert_close(target[0].weight, source[0].weight)
    assert report.missing == report.wrong_shape == ()
    assert report.unexpected == ()


def test_load_weights_accounts_for_everything():
    source, target = network(), network()
    weights = source.state_dict()
    del weights["1.running_var"], weights["1.num_batches_tracked"]
    weights["0.bias"] = torch.zeros(7)
    weights["fc.weight"] = torch.zeros(2, 2)
    initial_bias = target[0].bias.clone()
    report = load_weights(target, weights)
    assert report.matched == ("0.weight", "1.bias", "1.running_mean", "1.weight")
    assert report.missing == ("1.running_var",)
    assert report.wrong_shape == ("0.bias",)
    assert report.unexpected == ("fc.weight",)
    torch.testing.assert_close(target[0].bias, initial_bias)
    assert str(report) == (
        "4 matched, 1 missing (1.running_var), 1 unexpected (fc.weight), 1 wrong shape (0.bias)"
    )


@pytest.mark.parametrize("weights", [{}, {"other.weight": torch.zeros(1)}])
def test_load_weights_refuses_a_file_that_fits_nowhere(weights):
    with pytest.raises(ValueError, match="choose the backbone"):
        load_weights(network(), weights)


def test_load_weights_takes_the_averaged_of_two_networks():
    student, teacher, target = network(), network(), network()
    weights = {f"student.{name}": value for name, value in student.state_dict().items()}
    weights |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    load_weights(target, weights)
    torch.testing.assert_close(target[0].weight, teacher[0].weight)


def test_load_weights_takes_the_prefix_whose_shapes_fit():
    source, target = network(), network()
    weights = {f"wide.{name}": torch.ones(7) for name in source.state_dict()}
    weights |= {f"narrow.{name}": value for name, value in source.state_dict().items()}
    report = load_weights(target, weights)
    assert report.missing == report.wrong_shape == ()


def test_load_weights_refuses_a_file_of_which_little_fits():
    weights = {"0.weight": network()[0].weight}
    with pytest.raises(
        ValueError, match=r"6 weights .* in net.pth.* found 1 that fit.*the backbone"
    ):
        load_weights(network(), weights, origin="net.pth")


def test_load_weights_refuses_a_file_of_another_width():
    weights = nn.Sequential(*(network() for _ in range(2))).state_dict()
    weights |= {name: torch.zeros(7) for name in ("0.0.weight", "1.0.weight")}
    with pytest.raises(ValueError, match=r"net.pth, found 2 of another shape, such as 0.0.weight"):
        load_weights(nn.Sequential(network(), network()), weights, origin="net.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_load_weights_refuses_what_is_not_finite(value):
    weights, target = network().state_dict(), network()
    weights["1.running_var"][2] = value
    initial = target[0].weight.clone()
    with pytest.raises(ValueError, match=r"NaN or infinity in 1\.running_var"):
        load_weights(target, weights, origin="net.pth")
    torch.testing.assert_close(target[0].weight, initial)
    load_weights(target, network().state_dict() | {"fc.weight": torch.full((2, 2), value)})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: (100 * value).to(torch.int8), "int8"),
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.quint8), "quint8"),
        (lambda value: value.to_sparse(), "sparse_coo"),
        (lambda value: value.to(torch.complex64), "complex64"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of torch, about quantised tensors
def test_load_weights_refuses_packed_numbers(change, found):
    weights = network().state_dict()
    weights["0.weight"] = change(weights["0.weight"])
    with pytest.raises(ValueError, match=rf"found {found} in 0\.weight"):
        load_weights(network(), weights)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_load_weights_takes_floats_of_any_precision(kind):
    source, target = network(), network()
    load_weights(target, {name: value.to(kind) for name, value in source.state_dict().items()})
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, source[0].weight, atol=1e-2, rtol=1e-2)


WRAPPERS = [None, "state_dict", "model", "model_state", "net", "network", "model_ema", "ema"]


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_read_weights_unwraps_torch_files(tmp_path, wrapper):
    state = network().state_dict()
    content = state if wrapper is None else {wrapper: state, "epoch": 3}
    torch.save(content, tmp_path / "net.pth")
    read = read_weights(tmp_path / "net.pth")
    assert read.keys() == state.keys()
    torch.testing.assert_close(read["0.weight"], state["0.weight"])


def test_read_weights_takes_wrappers_out_of_the_middle_of_names(tmp_path):
    names = ["_orig_mod.a.weight", "b._orig_mod.0.bias", "b._checkpoint_wrapped_module.1.bias"]
    names += ["my_orig_mod.c", "_fsdp_wrapped_module.d._fsdp_wrapped_module.e"]
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "net.pth")
    expected = ["a.weight", "b.0.bias", "b.1.bias", "my_orig_mod.c", "d.e"]
    assert list(read_weights(tmp_path / "net.pth")) == expected


def test_read_weights_reads_safetensors(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    torch.testing.assert_close(read_weights(tmp_path / "net.safetensors"), dict(state))


def test_read_weights_takes_the_network_of_a_training_checkpoint(tmp_path):
    net, state = network(), network().state_dict()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = {"optimizer": optimizer.state_dict(), "nested": {"model": state}, "fc": torch.ones(1)}
    torch.save(content | {7: torch.ones(3), "loop": content}, tmp_path / "net.pth.tar")
    torch.testing.assert_close(read_weights(tmp_path / "net.pth.tar"), dict(state))
    content["nested"]["model_ema"] = network().state_dict()
    torch.save(content, tmp_path / "net.ckpt")
    torch.testing.assert_close(
        read_weights(tmp_path / "net.ckpt"), dict(content["nested"]["model_ema"])
    )


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, out=pathlib.Path("a/b")),
        types.SimpleNamespace(lr=0.1),
        np.float64(76.3),
        np.int64(3),
        np.bool_(True),
        np.arange(3.0),
        np.array(["a"]),
        collections.defaultdict(int, a=1),
        datetime.datetime(2020, 1, 1),
        torch.__version__,
        {1, 2},
    ],
    ids=lambda value: type(value).__name__,
)
def test_read_weights_takes_plain_values_beside_the_tensors(tmp_path, beside, is_zip):
    content = {"state_dict": network().state_dict(), "args": beside, "epoch": 3}
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=is_zip)
    assert read_weights(tmp_path / "net.pth").keys() == network().state_dict().keys()


def test_read_weights_takes_numbers_of_older_numpy(tmp_path):
    torch.save({"net": {"a": torch.ones(2)}, "best": np.float64(1)}, tmp_path / "new.pth")
    with (
        zipfile.ZipFile(tmp_path / "new.pth") as new,
        zipfile.ZipFile(tmp_path / "old.pth", "w") as old,
    ):
        for name in new.namelist():
            old.writestr(name, new.read(name).replace(b"numpy._core", b"numpy.core"))
    assert read_weights(tmp_path / "old.pth").keys() == {"a"}


class Effect:
    """Makes a folder when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize(
    ("content", "name"),
    [(Effect(), "posix.mkdir"), (network(), "Sequential"), (os.system, "posix.system")],
)
def test_read_weights_executes_no_pickle(tmp_path, monkeypatch, content, name, is_zip):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": network().state_dict(), "more": content}
    torch.save(content, "net.pth", _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=rf"net\.pth, found a pickle .*{name}") as caught:
        read_weights("net.pth")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def cut(write):
    def write_half(path):
        write(path)
        path.write_bytes(path.read_bytes()[:1500])

    return write_half


def zip_of(name, *, is_damaged=False):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, "text")
        if is_damaged:
            path.write_bytes(path.read_bytes().replace(b"PK\1\2", bytes(4)))

    return write


STATE = {name: torch.rand(20, 20) for name in "ab"}
OTHER_FILES = {
    "empty file": lambda path: path.write_bytes(b""),
    "web page": lambda path: path.write_text("\n<!DOCTYPE html><html>Google Drive</html>"),
    "Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
    "JSON": lambda path: path.write_text('{"weight_map": {}}'),
    "compressed archive": lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(60)),
    "tar archive": lambda path: path.write_bytes(bytes(257) + b"ustar" + bytes(300)),
    "zip archive of weights.txt": zip_of("weights.txt"),
    "damaged file": zip_of("data.pkl", is_damaged=True),
    "HDF5 file": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60)),
    "NumPy array": lambda path: np.save(path.open("wb"), np.ones(3)),
    "begins b'Not found'": lambda path: path.write_text("Not found"),
    "cut or damaged file": cut(lambda path: torch.save(STATE, path)),
    "cut or damaged": cut(lambda path: save_file(STATE, path)),
    "cut or dam": cut(lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False)),
    "TorchScript": lambda path: torch.jit.script(network()).save(path),
    "found dict without any": lambda path: save_file({}, path),
    "found list without any": lambda path: torch.save([torch.zeros(1)], path),
    "found Tensor without any": lambda path: torch.save(torch.zeros(1), path),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("found", OTHER_FILES)
@pytest.mark.filterwarnings("ignore")  # of torch, about TorchScript
def test_read_weights_says_what_a_file_is_instead(tmp_path, found, suffix):
    path = tmp_path / f"net{suffix}"
    OTHER_FILES[found](path)
    with pytest.raises(ValueError, match=found) as caught:
        read_weights(path)
    assert path.name in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_read_weights_refuses_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(ValueError, match=rf"weight file at {path}, found none"):
            read_weights(path)


def test_read_weights_goes_by_the_contents_and_not_by_the_name(tmp_path):
    torch.save(STATE, tmp_path / "torch.safetensors")
    save_file(STATE, tmp_path / "safe.bin")
    for name in ("torch.safetensors", "safe.bin"):
        torch.testing.assert_close(read_weights(tmp_path / name), STATE)


def test_position_embeddings_of_another_image_size_are_resampled():
    source = build_backbone("test_vit", {"img_size": 160})
    backbone = build_backbone("test_vit", {"img_size": 96})
    weights = {f"module.{name}": value for name, value in source.state_dict().items()}
    report = load_weights(backbone, weights)
    assert report.missing == report.wrong_shape == report.unexpected == ()
    expected = resample_abs_pos_embed(source.pos_embed, new_size=(6, 6), old_size=(10, 10))
    torch.testing.assert_close(backbone.pos_embed, expected)
    torch.testing.assert_close(backbone.cls_token, source.cls_token)


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3", "test_vit_relpos", "test_maxvit"])
def test_weights_fit_however_the_network_was_pooled(name):
    published = timm.create_model(name).state_dict()
    report = load_weights(build_backbone(name, {}), published)
    assert report.missing == report.wrong_shape == ()
    assert all(n.startswith(("head.", "attn_pool.")) for n in report.unexpected)

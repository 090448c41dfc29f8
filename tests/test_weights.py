import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lib.weights import load_weights, read_weights


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.trunk."])
def test_load_weights_finds_the_prefix(prefix):
    source, target = network(), network()
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    report = load_weights(target, weights)
    torch.testing.assert_close(target[0].weight, source[0].weight)
    assert report.is_complete
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
    assert not report.is_complete
    torch.testing.assert_close(target[0].bias, initial_bias)
    assert str(report) == (
        "4 matched, 1 missing (1.running_var), 1 unexpected (fc.weight), 1 wrong shape (0.bias)"
    )


@pytest.mark.parametrize("weights", [{}, {"other.weight": torch.zeros(1)}])
def test_load_weights_refuses_a_file_that_fits_nowhere(weights):
    with pytest.raises(ValueError, match="choose the trunk"):
        load_weights(network(), weights)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_read_weights_unwraps_torch_files(tmp_path, wrapper):
    state = network().state_dict()
    content = state if wrapper is None else {wrapper: state, "epoch": 3}
    torch.save(content, tmp_path / "net.pth")
    read = read_weights(tmp_path / "net.pth")
    assert read.keys() == state.keys()
    torch.testing.assert_close(read["0.weight"], state["0.weight"])


def test_read_weights_reads_safetensors(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "net.safetensors")
    torch.testing.assert_close(read_weights(tmp_path / "net.safetensors"), dict(state))


def test_read_weights_refuses_other_files(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="convert the file"):
        read_weights(tmp_path / "net.onnx")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="found list"):
        read_weights(tmp_path / "list.pth")

import copy
import dataclasses
import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA

from lib.config import ModelConfig, StageConfig
from lib.models.network import GeM, build_model, fit_pca_neck, load, save
from lib.training.losses import ArcFaceHead, SoftmaxHead

TINY = ModelConfig(backbone="test_resnet", embedding_dim=16)


def head_of(kind, classes, dim, **settings):
    return kind(StageConfig(**settings), torch.ones(classes), dim)


def images(count=4, size=32, seed=0):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pooling", ["gap", "gem"])
def test_build_model_gives_raw_embeddings(pooling):
    model = build_model(dataclasses.replace(TINY, pooling=pooling)).eval()
    assert model(images()).shape == (4, 16)
    assert model(images(size=48)).shape == (4, 16)


def test_build_model_uses_512_dimensions_by_default():
    assert build_model(ModelConfig(backbone="test_resnet")).reduce.weight.shape == (512, 96, 1, 1)


def test_forward_is_batch_normalised_in_training():
    output = build_model(TINY).train()(images(16)).detach()
    torch.testing.assert_close(output.mean(0), torch.zeros(16), atol=1e-4, rtol=0)
    assert output.std(0, correction=0).median().item() == pytest.approx(1.0, abs=0.05)


def test_embed_gives_unit_rows_in_the_direction_of_forward():
    model = build_model(TINY).eval()
    unit = model.embed(images())
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(unit * model(images()).norm(dim=1, keepdim=True), model(images()))


def test_norm_bias_stays_zero_under_training():
    model = build_model(TINY).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(images()).square().sum().backward()
    optimizer.step()
    assert model.norm.bias.abs().max() == 0
    assert model.norm.weight.grad is not None


def test_model_carries_the_normalisation_of_its_backbone():
    model = build_model(TINY)
    assert (model.mean, model.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    overlay = {"pretrained_cfg_overlay": {"mean": (0.1, 0.2, 0.3)}}
    assert build_model(dataclasses.replace(TINY, backbone_options=overlay)).mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("neck", "dim", "parameters"),
    [
        ("linear_bn", 16, ["reduce.weight", "norm.weight", "norm.bias"]),
        ("linear", 16, ["reduce.weight"]),
        ("none", 96, []),
        ("pca", 16, ["reduce.weight", "reduce.bias"]),
    ],
)
def test_a_neck_gives_embeddings_of_the_dimension_that_the_network_tells(
    tmp_path, neck, dim, parameters
):
    model = build_model(dataclasses.replace(TINY, neck=neck)).eval()
    names = [name for name, _ in model.named_parameters() if not name.startswith("backbone.")]
    assert names == parameters
    checkpoint = load(save(tmp_path / "last.safetensors", model)).model
    assert checkpoint.config == model.config
    assert model.config.embedding_dim == dim
    assert head_of(ArcFaceHead, 5, model.training_dim)(model(images()), torch.arange(4)).isfinite()
    torch.testing.assert_close(checkpoint.embed(images()), model.embed(images()))
    assert checkpoint.embed(images()).shape == (4, dim)


def test_without_a_neck_the_pooled_features_are_the_embedding():
    model = build_model(dataclasses.replace(TINY, neck="none", pooling="gem")).eval()
    torch.testing.assert_close(model(images()), model.pool(model.backbone(images())).flatten(1))
    torch.testing.assert_close(model.embed(images()), model.pooled(images()))


def pca_model(whitening=0.0, dim=16):
    config = dataclasses.replace(TINY, neck="pca", whitening=whitening, embedding_dim=dim)
    return build_model(config).eval()


def unit_features(count, width=96):
    """Rows of unit length whose mean is far from zero and whose directions differ in variance."""
    draw = np.random.default_rng(0).standard_normal((count, width))
    rows = 0.1 + 0.1 * draw * np.linspace(1.0, 0.1, width)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_fit_pca_neck_equals_sklearn_up_to_one_factor(whitening):
    model, features = pca_model(whitening), unit_features(300)
    fit_pca_neck(model, features)
    found = model.reduce(torch.from_numpy(features)[:, :, None, None]).flatten(1).detach().numpy()
    pca = PCA(16, svd_solver="full", whiten=whitening == 1.0).fit(features.astype(np.float64))
    expected = pca.transform(features)
    if whitening == 0.5:
        expected /= np.sqrt(pca.singular_values_)
    signs = np.sign((found * expected).sum(axis=0))
    factor = np.linalg.norm(found) / np.linalg.norm(expected)
    np.testing.assert_allclose(found, factor * signs * expected, atol=2e-5)
    assert whitening or factor == pytest.approx(1.0, rel=1e-4)


def test_a_fitted_neck_starts_where_the_backbone_with_pca_stands():
    model = pca_model(1.0, dim=5)
    with torch.no_grad():
        features = model.pooled(images(40)).numpy()
        fit_pca_neck(model, features)
        found = model.embed(images(40)).numpy()
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1.0, rtol=1e-5)
    expected = PCA(5, svd_solver="full", whiten=True).fit_transform(features.astype(np.float64))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_fit_pca_neck_uses_what_few_images_and_narrow_backbones_give():
    model, features = pca_model(1.0), unit_features(4)
    fit_pca_neck(model, features)
    weight = model.reduce.weight.flatten(1)
    assert weight[:3].abs().amin(dim=1).gt(0).all()
    assert weight[3:].abs().max() == 0  # three dimensions hold four images
    # Whitened, the four are equally far from each other.
    rows = model.reduce(torch.from_numpy(features)[:, :, None, None]).flatten(1).detach()
    torch.testing.assert_close(
        torch.pdist(rows), torch.pdist(rows)[:1].expand(6), rtol=1e-3, atol=0
    )
    narrow = pca_model(dim=512)
    assert narrow.config.embedding_dim == 96
    assert narrow.embed(images()).shape == (4, 96)


def test_losses_train_the_features_before_the_pca_and_a_checkpoint_keeps_it(tmp_path):
    model = pca_model(0.5)
    fit_pca_neck(model, unit_features(30))
    loaded = load(save(tmp_path / "last.safetensors", model)).model
    torch.testing.assert_close(loaded.embed(images()), model.embed(images()))
    features = model(images())
    torch.testing.assert_close(torch.nn.functional.normalize(features), model.pooled(images()))
    head_of(ArcFaceHead, 4, model.training_dim)(features, torch.arange(4)).backward()
    assert all(value.grad is None for value in model.reduce.parameters())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.eye(96)[:1], "found 1 equal rows"),
        (np.full((4, 96), np.nan), "found NaN"),
        (np.ones((4, 96)), "found 4 equal rows"),
    ],
)
def test_fit_pca_neck_refuses_what_has_no_pca(features, message):
    with pytest.raises(ValueError, match=message):
        fit_pca_neck(pca_model(), features)


def test_drop_path_rises_with_depth_to_its_rate():
    config = ModelConfig(backbone="test_convnext", drop_path=0.3)
    rates = [getattr(module, "drop_prob", 0) for module in build_model(config).modules()]
    rates = [rate for rate in rates if rate]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)


@pytest.mark.parametrize("name", ["vgg11", "inception_v3"])
def test_drop_path_is_refused_where_the_network_has_none(name):
    with torch.device("meta"), pytest.raises(ValueError, match=r"(drop_path 0\.3|drop_path_rate)"):
        build_model(ModelConfig(backbone=name, drop_path=0.3))


@pytest.mark.parametrize("p", [1.0, 3.0, 4.5])
def test_gem_equals_naive_loops(p):
    features = images(2, 5).abs()
    pooled = GeM(p)(features)
    for b in range(2):
        for c in range(3):
            powers = [float(v) ** p for v in features[b, c].flatten()]
            expected = (sum(powers) / len(powers)) ** (1 / p)
            assert pooled[b, c].item() == pytest.approx(expected, rel=1e-4)


def test_gem_tends_to_the_maximum():
    features = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    maximum = features.amax((2, 3), keepdim=True)
    torch.testing.assert_close(GeM(200.0)(features), maximum, rtol=0.02, atol=0)


def test_gem_survives_half_precision_and_empty_maps():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = GeM()(torch.full((1, 1, 2, 2), 200.0, dtype=torch.float16))
    assert pooled.item() == pytest.approx(200.0, rel=1e-5)
    dead = torch.zeros(1, 1, 2, 2, requires_grad=True)
    GeM()(dead).sum().backward()
    assert dead.grad.isfinite().all()


@pytest.mark.parametrize("is_trained", [False, True])
def test_gem_power_is_trained_only_when_asked(is_trained):
    config = dataclasses.replace(TINY, pooling="gem", gem_p=2.5, gem_trained=is_trained)
    model = build_model(config)
    embeddings = model(images(size=64))  # a map of one pixel has the same mean for every p
    # Squares would not do: whatever p is, BatchNorm makes their sum the same.
    (embeddings * torch.linspace(-1, 1, embeddings.numel()).view_as(embeddings)).sum().backward()
    assert float(torch.as_tensor(model.pool.p).detach()) == 2.5
    assert ("pool.p" in dict(model.named_parameters())) is is_trained
    assert not is_trained or model.pool.p.grad.abs() > 1e-3


def test_build_model_loads_a_local_file(tmp_path):
    source = build_model(TINY)
    weights = {f"module.{k}": v for k, v in source.backbone.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "net.pth")
    model = build_model(dataclasses.replace(TINY, weights=str(tmp_path / "net.pth")))
    assert model.weight_report.missing == model.weight_report.wrong_shape == ()
    torch.testing.assert_close(model.backbone.state_dict(), source.backbone.state_dict())
    assert source.weight_report is None


def test_build_model_refuses_the_weights_of_another_network(tmp_path):
    save_file({"stem.kernel": torch.zeros(3)}, tmp_path / "net.safetensors")
    config = dataclasses.replace(TINY, weights=str(tmp_path / "net.safetensors"))
    with pytest.raises(ValueError, match=r"net\.safetensors, .* found 0 .* stem\.kernel \(3,\)"):
        build_model(config)


def test_build_model_refuses_unknown_names():
    with pytest.raises(ValueError, match="found 'resnet5O'"):
        build_model(dataclasses.replace(TINY, backbone="resnet5O"))
    with pytest.raises(ValueError, match="found 'max'"):
        build_model(dataclasses.replace(TINY, pooling="max"))


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "coat_tiny", "efficientvim_m1"])
def test_build_model_refuses_a_backbone_of_several_outputs(name):
    message = rf"none \(TypeError: a list of several outputs\) from \d+ px with {name}; choose"
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_model(ModelConfig(backbone=name))


TINY_VIT = {"depth": 1, "embed_dim": 48, "num_heads": 2}
TINY_SWIN = {"embed_dim": 24, "depths": (1, 2, 1, 1), "num_heads": (1, 1, 2, 2)}
TINY_OPTIONS = {
    **dict.fromkeys(["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"], TINY_SWIN),
    "swinv2_cr_tiny_ns_224": TINY_SWIN,
    "twins_svt_small": {
        "depths": (1, 1, 1, 1),
        "embed_dims": (24, 24, 24, 48),
        "num_heads": (1, 1, 1, 1),
    },
    "hieradet_small": {"stages": (1, 1, 1, 1), "embed_dim": 24},
    "hiera_tiny_224": {"stages": (1, 1, 1, 1), "embed_dim": 24, "q_pool": 2},
    "tiny_vit_5m_224": {"depths": (1, 1, 1, 1)},
    "convit_tiny": {"depth": 2, "local_up_to_layer": 1},
    "tnt_s_patch16_224": {"depth": 1},
    "xcit_nano_12_p16_224": {"depth": 1},
}
FAMILIES = {
    "convolutions": """test_convnext test_efficientnet test_nfnet
        test_efficientnet_evos test_resnet test_byobnet test_mambaout dla46x_c fasternet_t0
        ghostnet_050 regnetx_002 starnet_s050 inception_next_atto efficientvit_b0""",
    "tokens of any size": """test_vit test_vit2 test_vit3 test_vit4 vit_small_patch16_224
        vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3
        vit_base_patch16_clip_224 vit_base_patch16_siglip_224 vit_pe_core_tiny_patch16_384
        eva02_tiny_patch14_224 eva_giant_patch14_224 deit_tiny_distilled_patch16_224
        deit3_small_patch16_224 naflexvit_base_patch16_gap naflexvit_base_patch16_siglip
        xcit_nano_12_p16_224""",
    "tokens of one size": """beit_base_patch16_224 cait_xxs24_224 test_vit_relpos convit_tiny
        tnt_s_patch16_224 hiera_tiny_224 levit_128s""",
    "windows": """swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224
        twins_svt_small hieradet_small tiny_vit_5m_224""",
    "hybrids of any size": """mobilevit_xxs mobilevitv2_050 edgenext_xx_small fastvit_t8
        efficientvit_m0 pvt_v2_b0 shvit_s1 swiftformer_xs""",
    "hybrids of one size": "test_maxvit test_coatnet efficientformerv2_s0 levit_conv_128s",
}


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in FAMILIES for name in FAMILIES[family].split()]
)
def test_build_model_takes_networks_of_many_families(family, name):
    is_vit = name.startswith(("vit_", "naflexvit_", "eva", "deit", "beit_", "cait_"))
    options = TINY_OPTIONS.get(name, TINY_VIT if is_vit else {})
    config = ModelConfig(backbone=name, backbone_options=options, embedding_dim=8, pooling="gem")
    torch.manual_seed(0)  # some untrained networks overflow from other weights
    model, head = build_model(config), head_of(ArcFaceHead, 2, 8, margin=0.3, scale=30.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before, size = copy.deepcopy(model.state_dict()), model.backbone.output.size
    loss = head(model(images(2, size)), torch.arange(2))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    after = model.state_dict()
    assert any((after[n] != before[n]).any() for n in after if n.startswith("backbone."))
    unused = [n for n, value in model.named_parameters() if value.grad is None]
    assert unused == ["norm.bias"]  # the only one that does not learn; others stop DDP
    twin = copy.deepcopy(model).eval()
    torch.testing.assert_close(twin.embed(images(1, size)).norm(dim=1), torch.ones(1))
    if "one size" in family:
        with pytest.raises(ValueError, match=rf"for {name}, found 96 px; give {size} px, another"):
            model.check_size(96)
    else:
        model.check_size(96)
        assert twin.embed(images(1, 96)).shape == (1, 8)


def vit_tokens(name, pooling):
    """Rows without a neck from a tiny Vision Transformer, and its tokens."""
    config = ModelConfig(
        backbone=name, backbone_options=TINY_VIT, neck="none", pooling=pooling, gem_p=2.0
    )
    model = build_model(config).eval()
    with torch.no_grad():
        return model(images(2, 56)), model.backbone(images(2, 56))


def test_pooling_takes_the_class_token_or_the_patches():
    name = "vit_small_patch14_reg4_dinov2"  # 16 patches, after a class token and four registers
    rows, tokens = vit_tokens(name, "cls")
    assert tokens.shape == (2, 21, 48)
    torch.testing.assert_close(rows, tokens[:, 0])
    rows, tokens = vit_tokens(name, "gap")
    torch.testing.assert_close(rows, tokens[:, 5:].mean(dim=1))
    rows, tokens = vit_tokens(name, "gem")
    torch.testing.assert_close(rows, tokens[:, 5:].clamp(min=1e-6).square().mean(dim=1).sqrt())


def test_the_class_token_is_what_timm_gives():
    options = TINY_VIT | {"img_size": 64}
    config = ModelConfig("vit_small_patch16_224", options, neck="none", pooling="cls")
    model = build_model(config).eval()
    plain = timm.create_model("vit_small_patch16_224", num_classes=0, **options).eval()
    plain.load_state_dict(model.backbone.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(images(2, 64)), plain(images(2, 64)))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit2"])
def test_build_model_refuses_a_class_token_where_there_is_none(name):
    with pytest.raises(ValueError, match=f"pooling 'cls', found {name} without; choose 'gap'"):
        build_model(ModelConfig(backbone=name, pooling="cls"))


def test_maps_with_channels_last_are_pooled_over_places():
    config = ModelConfig("swin_tiny_patch4_window7_224", TINY_SWIN, neck="none")
    model = build_model(config).eval()
    with torch.no_grad():
        features = model.backbone(images(2, 64))
        assert features.shape == (2, 2, 2, 192)
        torch.testing.assert_close(model(images(2, 64)), features.mean(dim=(1, 2)))


def test_build_model_draws_as_many_random_numbers_as_the_network_has_weights():
    torch.manual_seed(0)
    backbone = timm.create_model("test_resnet", num_classes=0, global_pool="")
    torch.manual_seed(0)
    model = build_model(ModelConfig(backbone="test_resnet"))
    assert model.training
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(model.backbone.state_dict()[name], value)


def test_check_size_refuses_images_that_the_backbone_cannot_reduce():
    model = build_model(ModelConfig(backbone="inception_v3"))
    model.check_size(96)
    model.check_size(448)
    with pytest.raises(ValueError, match="for inception_v3, found 64 px; raise `size`"):
        model.check_size(64)
    assert model.training


def test_save_and_load_give_the_same_network_and_head(tmp_path):
    model, head = build_model(TINY), head_of(SoftmaxHead, 5, 16)
    model.train()(images())  # moves the running statistics
    path = save(tmp_path / "last.safetensors", model, head, epoch=3, classes=["a", "b"])
    checkpoint = load(path)
    torch.testing.assert_close(checkpoint.model.embed(images()), model.eval().embed(images()))
    torch.testing.assert_close(dict(checkpoint.head), dict(head.state_dict()))
    assert checkpoint.facts == {"epoch": 3, "classes": ["a", "b"]}
    assert checkpoint.model.config == TINY
    assert not checkpoint.model.training


def test_load_gives_the_configuration_that_was_saved(tmp_path):
    options = {"channels": (16, 16, 24, 32), "layers": (1, 1, 1, 1), "last_stride": 1}
    config = ModelConfig(backbone="resnet10t", backbone_options=options, pooling="gem")
    assert load(save(tmp_path / "net.safetensors", build_model(config))).model.config == config


def test_load_does_not_need_the_first_weight_file(tmp_path):
    save_file(build_model(TINY).backbone.state_dict(), tmp_path / "first.safetensors")
    config = dataclasses.replace(TINY, weights=str(tmp_path / "first.safetensors"))
    path = save(tmp_path / "last.safetensors", build_model(config))
    (tmp_path / "first.safetensors").unlink()
    checkpoint = load(path)
    assert checkpoint.model.config == config
    assert checkpoint.head == {}


def test_load_refuses_a_plain_weight_file(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="name the file in `weights`"):
        load(tmp_path / "plain.safetensors")


def test_load_refuses_a_file_that_is_cut_or_not_finite(tmp_path):
    path = save(tmp_path / "last.safetensors", build_model(TINY))
    whole = path.read_bytes()
    for size in (0, 100, len(whole) // 2):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"last\.safetensors, found"):
            load(path)
    model = build_model(TINY)
    model.reduce.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"last\.safetensors, found NaN .* model\.reduce\.weight"):
        load(save(path, model))


@pytest.mark.parametrize(
    "notes",
    [
        {"config": "{", "facts": "{}"},
        {"config": "[]", "facts": "{}"},
        {"config": json.dumps({"backbone_options": {}, "wings": 2}), "facts": "{}"},
        {"config": json.dumps(dataclasses.asdict(ModelConfig(backbone="test_resnet")))},
        {"config": json.dumps(dataclasses.asdict(TINY)), "facts": "{}"},  # without its weights
        {
            "config": json.dumps({"backbone": "test_resnet", "backbone_options": {"wings": 2}}),
            "facts": "{}",
        },
    ],
)
def test_load_refuses_a_checkpoint_of_another_version(tmp_path, notes):
    save_file({"model.a": torch.zeros(1)}, tmp_path / "old.safetensors", notes)
    with pytest.raises(ValueError, match=r"of this version in .*old\.safetensors"):
        load(tmp_path / "old.safetensors")


def test_network_learns_with_its_head():
    torch.manual_seed(0)
    model, head = build_model(TINY).train(), head_of(ArcFaceHead, 2, 16, margin=0.1, scale=10.0)
    labels = torch.tensor([0, 1] * 4)
    batch = images(8) * 0.1 + labels[:, None, None, None]
    trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = head(model(batch), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

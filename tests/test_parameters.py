"""Every parameter of every notebook: names, types, choices, ranges and paths, before any work."""

import pytest
import torch

from lib.models.backbones import build_backbone
from lib.parameters import (
    RANGES,
    SETTINGS,
    chosen_profile,
    declared_parameters,
    read_parameters,
)
from lib.pipeline import main, notebooks, plan
from lib.recipes import profile

DECLARED = {path: declared_parameters(path) for path in notebooks()}
EVERY = {name: value for own in DECLARED.values() for name, value in own.items()}


@pytest.mark.parametrize("path", DECLARED, ids=lambda path: path.stem)
def test_defaults_are_accepted_and_change_nothing(path):
    assert chosen_profile(DECLARED[path], DECLARED[path]) == profile("mini")


def test_settings_and_ranges_are_of_parameters_that_a_notebook_declares():
    assert SETTINGS.keys() | RANGES.keys() <= EVERY.keys()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("COLUMNS", 0, "COLUMNS expects a number from 1 to 100, found 0"),
        ("COLUMNS", -3, "COLUMNS expects a number from 1 to 100, found -3"),
        ("COLUMNS", 4.0, r"COLUMNS expects int such as 9, found 4.0 \(float\)"),
        ("EPS", "abc", r"EPS expects float such as 0.0, found 'abc' \(str\)"),
        ("ALPHA", -2, "ALPHA expects a number from 0 on, or -1, found -2"),
        ("BETA", float("inf"), "BETA expects a number from 0 on, or -1, found inf"),
        ("SHARE", -0.5, "SHARE expects a number from 0 to 100, found -0.5"),
        ("SHARE", float("nan"), "SHARE expects a number from 0 to 100, found nan"),
        ("VOTES", -1, "VOTES expects a number from 0 on, found -1"),
        ("COMPARE", 1, r"COMPARE expects on or off, found 1 \(int\)"),
        ("COMPARE", "maybe", r"'compare' expects bool \(on or off\), found 'maybe'"),
        ("LEAKED", 1, r"LEAKED expects bool such as False, found 1 \(int\)"),
        ("LOCAL", "surf", "LOCAL: setting 'local' expects one of 'rootsift', 'disk', 'none'"),
        ("SECOND_RUN", "/no/run", "SECOND_RUN expects the folder of a run or a .* none at /no/run"),
        ("SEEDS", [], r"SEEDS expects different numbers from 0 on such as \[0, 1\], found \[\]"),
        ("SEEDS", [2, 2], r"SEEDS expects different numbers .* found \[2, 2\]"),
        ("SEEDS", [0, -1], r"SEEDS expects different numbers from 0 on .* found \[0, -1\]"),
        ("SEEDS", [0.5], r"SEEDS expects list such as \[0.*found \[0.5\]"),
        ("SEEDS", [True], "SEEDS expects list such as"),
        ("SEEDS", 3, r"SEEDS expects list such as .* found 3 \(int\)"),
        ("TABLES", "glr20_table_9", "tables among glr20_table_1, .* found 'glr20_table_9'"),
        ("BACKBONE", "resnet9000", "the name of a timm network, found 'resnet9000'; did you mean"),
        ("WEIGHTS", "missing.safetensors", "WEIGHTS expects .* no file 'missing.safetensors'"),
        ("CLUSTER_EPOCHS", 2.5, "CLUSTER_EPOCHS expects int"),
        ("SOFTMAX_EPOCHS", -1, "SOFTMAX_EPOCHS: setting 'epochs' expects a number from 0 on"),
        ("ARCFACE_EPOCHS", -1, "ARCFACE_EPOCHS: setting 'epochs' expects a number from 0 on"),
        ("EPS", 2.5, r"EPS: setting 'eps' expects a number from 0 to 2, found 2\.5"),
        ("EPS", float("inf"), "EPS: setting 'eps' expects a number from 0 to 2, found inf"),
        ("RELAXED_EPS", -0.1, "RELAXED_EPS: setting 'relaxed_eps' expects a number from 0 to 2"),
        ("MIN_SAMPLES", -1, "MIN_SAMPLES: setting 'min_samples' expects a number from 1 on"),
        ("TEST_SIZE", -5, "TEST_SIZE: setting 'size' expects a number from 1 on"),
        ("SEED", -1, "setting 'seed' expects a number from 0 on"),
        (
            "RAW_IMAGES",
            5,
            "parameter RAW_IMAGES: expected at least 6 landmarks with 6 raw images each",
        ),
        ("RAW_IMAGES", 10**10, "RAW_IMAGES: setting 'raw_images' expects a number from 1 to"),
        ("SPREAD", 1e9, "SPREAD: setting 'spread' expects a number from 0 to 5"),
        ("BACKBONE", "crossvit_tiny_240", "crossvit_tiny_240"),
        ("SET", "clean.splt=off", r"SET: .* no setting 'clean.splt'; did you mean clean.split\?"),
        ("SET", "arcface.loss=x", r"no setting 'arcface.loss'; did you mean stages.arcface.loss\?"),
        ("SET", "zzz=1", "no setting 'zzz'; ./run_all.sh settings lists all$"),
        ("SET", "clean.eps=abc", r"SET: setting 'eps' expects float, found 'abc' \(str\)"),
        ("SET", "clean.eps=3", r"SET: setting 'eps' expects a number from 0 to 2, found 3\.0"),
        ("SET", "clean.split=maybe", r"'split' expects bool \(on or off\), found 'maybe'"),
        ("SET", "stages.arcface.loss=arcfase", "found 'arcfase'; did you mean 'arcface'"),
        ("SET", "inference.scales=(1, 'a')", r"'scales' expects float, found 'a' \(str\)"),
        ("SET", "inference.scales=1, 2", r"'scales' expects tuple, found 1 .*|NAME=VALUE"),
        ("SET", "clean.eps", "SET: expected NAME=VALUE, .*, found 'clean.eps'"),
        ("SET", "seed=3", "SET: setting 'seed' cannot be changed here; give SEED"),
        ("SET", "stages.arcface.name=x", "cannot be changed here, because stages are kept"),
        ("SET", "world.landmarks=2", "parameter SET: expected at least 6 landmarks"),
        ("SET", "model.weights=no.pth", "WEIGHTS expects .* no file 'no.pth'"),
    ],
)
def test_plan_refuses_values_of_every_notebook(name, value, message):
    with pytest.raises(ValueError, match=message):
        plan({name: value}, notebooks())


@pytest.mark.parametrize(
    ("places", "parameters", "message"),
    [
        ({"PROFILE": "maxi"}, {}, "a profile among smoke, mini, photos, full, found 'maxi'"),
        ({"RECIPE": "glr99"}, {}, "the name of a recipe, found 'glr99"),
        ({"DATA_DIR": "/no/such"}, {}, "found no folder /no/such"),
        ({"PROFILE": "full"}, {}, "a data folder for profile 'full', found none"),
        ({"DATA_DIR": "/"}, {"QUERIES": 5}, "QUERIES is of the miniature world"),
        ({"DATA_DIR": "/"}, {"SET": "world.seed=5"}, "SET is of the miniature world"),
        ({"PROFILE": "full", "DATA_DIR": "/"}, {"QUERIES": 5}, "QUERIES is of the miniature"),
        (
            {"RECIPE": "glr21-seresnet101-ibn"},
            {"CLUSTER_EPOCHS": 2},
            "parameter CLUSTER_EPOCHS: expected a stage among",
        ),
    ],
)
def test_plan_refuses_what_does_not_go_together(places, parameters, message):
    with pytest.raises(ValueError, match=message):
        plan(parameters, notebooks(), places)


@pytest.fixture
def weights(tmp_path):
    """A file of a small network's weights."""
    torch.save(build_backbone("test_resnet", {}).state_dict(), tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def test_plan_accepts_what_the_help_texts_tell(weights):
    given = {
        "WEIGHTS": weights,
        "BACKBONE": "test_resnet",
        "ALPHA": 0,
        "BETA": 0.0,
        "SEEDS": [3, 1],
    }
    given |= {"TABLES": "glr20_table_1, cleaning", "EPS": 1, "COLUMNS": 12}
    plan(given, notebooks())
    plan({"BACKBONE": "test_resnet", "WEIGHTS": "pretrained"}, notebooks())
    plan({"SET": f"model.backbone=test_resnet, model.weights='{weights}'"}, notebooks())


def test_plan_refuses_weights_of_another_network_or_none(weights, tmp_path):
    with pytest.raises(ValueError, match=r"found 0 that fit .*; choose the backbone"):
        plan({"WEIGHTS": weights, "BACKBONE": "test_nfnet"}, notebooks())
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    with pytest.raises(ValueError, match=r"page\.safetensors"):
        plan({"WEIGHTS": str(page)}, notebooks())


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("on", True), ("", False)])
def test_chosen_profile_takes_both_spellings_of_a_switch(value, expected):
    declared = DECLARED[notebooks()[4]]
    given = declared | {"PROFILE": "full", "DATA_DIR": "/", "ABLATION": value}
    assert chosen_profile(given, declared).ablation is expected


def test_plan_refuses_two_second_networks():
    with pytest.raises(ValueError, match="one second network, found the stage SECOND 'softmax'"):
        plan({"SECOND": "softmax", "SECOND_RUN": "/"}, notebooks())


def test_chosen_profile_applies_every_setting_of_set_after_the_parameters():
    path = notebooks()[2]
    text = "stages.arcface.augment.scale=(0.8, 1.2), clean.eps=1, clean.split=off,rerank.votes=5"
    text += ", model.backbone_options={'channels': [8, 16, 16, 32]}, inference.scales=[1, 0.5]"
    found = chosen_profile(DECLARED[path] | {"SET": text, "EPS": 0.5}, DECLARED[path])
    assert found.stages[1].augment.scale == (0.8, 1.2)
    assert (found.clean.eps, found.clean.split, found.rerank.votes) == (1.0, False, 5)
    assert found.inference.scales == (1.0, 0.5)
    assert found.model.backbone_options == {"channels": [8, 16, 16, 32]}


def test_read_parameters_gives_the_help_texts():
    found = read_parameters(notebooks()[0])
    assert found["SEED"] == (0, "of everything random")
    assert "=" in found["SET"][1]  # of which a comment may hold as many as it likes


def test_main_refuses_a_value_before_any_notebook_runs(outputs, capsys):
    assert main(["smoke", "-p", "EPS", "abc"]) == 1
    message = "run_all.sh: parameter EPS expects float such as 0.0, found 'abc' (str)\n"
    assert capsys.readouterr() == ("", message)
    assert not outputs.exists()


def test_notebooks_that_use_a_setting_of_the_embedding_declare_it():
    assert all("TEST_SIZE" in DECLARED[path] for path in notebooks()[1:])

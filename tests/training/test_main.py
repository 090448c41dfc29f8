"""The command that trains stages of a run, without training."""

from types import SimpleNamespace

import pytest

from lib import session
from lib.recipes import profile
from lib.training.__main__ import main


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """What the command trains: notebook, parameters, stage and where it starts from."""
    found = []

    def start(notebook, names):
        def train(stage, *, start):
            found.append((notebook, names, stage.name, start and start.name))
            return tmp_path / stage.name

        return SimpleNamespace(
            profile=profile(names["PROFILE"], recipe_name=names["RECIPE"]),
            train=train,
            checkpoint=lambda name: tmp_path / f"after {name}",
            after_stage_one=tmp_path / "kept",
        )

    monkeypatch.setattr(session, "start", start)
    return found


def test_main_trains_each_stage_from_the_one_before(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    assert main(["softmax", "arcface", "cluster"]) == 0
    assert [(notebook[:2], stage, start) for notebook, _, stage, start in trained] == [
        ("02", "softmax", None),
        ("02", "arcface", "after softmax"),
        ("04", "cluster", "kept"),
    ]
    assert capsys.readouterr().out.splitlines()[-1] == "wrote cluster"


def test_main_hands_on_places_and_parameters(trained, tmp_path):
    (tmp_path / "own.safetensors").touch()
    options = ["--profile", "full", "--data-dir", str(tmp_path), "--recipe", "glr21-resnest101"]
    options += ["--start", str(tmp_path / "own.safetensors"), "-p", "SEED", "3", "-p", "SET", "a=1"]
    assert main(["full", *options]) == 0
    ((notebook, names, stage, start),) = trained
    assert (notebook[:2], stage, start) == ("04", "full", "own.safetensors")
    given = {"PROFILE": "full", "DATA_DIR": str(tmp_path), "RECIPE": "glr21-resnest101"}
    given |= {"SEED": 3, "SET": "a=1"}
    assert names.items() >= given.items()


def test_main_tells_from_one_process_what_all_do(trained, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert main(["softmax"]) == 0
    assert len(trained) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["arcfase"], "a stage of profile 'mini', found 'arcfase'; did you mean arcface?"),
        (["arcface", "--profile", "maxi"], "a profile among smoke, mini"),
        (["arcface", "--start", "nowhere.safetensors"], "found none; check --start"),
    ],
)
def test_main_refuses_in_one_sentence(trained, capsys, arguments, message):
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
    assert trained == []

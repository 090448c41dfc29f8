"""Where data and outputs are, and that two datasets never share a run folder."""

import re
from pathlib import Path

import pytest

from lib import artifacts as paths
from lib.artifacts import existing_folder, outputs_root, run_folder, world_root


@pytest.fixture(autouse=True)
def no_override(monkeypatch, tmp_path):
    monkeypatch.delenv("LANDMARK_OUTPUTS", raising=False)
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path / "no kaggle")


def test_root_is_the_repository_whatever_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert (paths.ROOT / "lib" / "artifacts.py").samefile(paths.__file__)
    assert paths.ROOT.is_absolute()


def test_folders_lie_in_the_repository():
    assert outputs_root() == paths.ROOT / "outputs"
    assert run_folder("mini") == paths.ROOT / "outputs" / "mini"
    assert world_root("mini") == paths.ROOT / "data" / "mini"


def test_folders_follow_landmark_outputs(outputs):
    assert run_folder("smoke") == outputs / "smoke"
    assert world_root("smoke") == outputs / "data" / "smoke"


def test_folders_lie_in_the_working_folder_on_kaggle(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path)
    assert run_folder("smoke") == tmp_path / "outputs" / "smoke"
    assert world_root("smoke") == tmp_path / "data" / "smoke"


def test_landmark_outputs_wins_over_kaggle(monkeypatch, tmp_path, outputs):
    monkeypatch.setattr(paths, "KAGGLE_WORKING", tmp_path)
    assert outputs_root() == outputs


def test_run_folder_keeps_data_folders_apart(tmp_path):
    folders = {run_folder("mini", data) for data in ("", str(tmp_path / "a"), str(tmp_path / "b"))}
    assert len(folders) == 3
    assert re.fullmatch(
        r"mini-photos-[0-9a-f]{6}", run_folder("mini", str(tmp_path / "photos")).name
    )


def test_run_folder_keeps_data_folders_of_one_name_apart():
    assert run_folder("photos", "/data/a/photos") != run_folder("photos", "/data/b/photos")
    assert run_folder("photos", "/data/a/photos") == run_folder("photos", "/data/a/photos/")
    named = run_folder("photos", "/data/a/photos", "glr20-resnet152").name
    assert re.fullmatch(r"photos-photos-[0-9a-f]{6}-glr20-resnet152", named)


@pytest.mark.parametrize("data_dir", ["/", "/.", "/.."])
def test_run_folder_of_the_root_is_not_the_miniatures(data_dir):
    assert re.fullmatch(r"mini-[0-9a-f]{6}", run_folder("mini", data_dir).name)


@pytest.mark.parametrize("spelling", ["photos", "photos/", "./photos", "photos/../photos"])
def test_run_folder_is_one_per_folder_however_it_is_spelt(monkeypatch, tmp_path, spelling):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    assert run_folder("mini", spelling) == run_folder("mini", str(tmp_path / "photos"))


def test_existing_folder_resolves_home_and_working_folder(monkeypatch, tmp_path):
    (tmp_path / "photos").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert existing_folder("~/photos") == existing_folder("photos") == Path(tmp_path, "photos")


def test_existing_folder_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(ValueError, match=f"found no folder .*{name}; give an existing one"):
            existing_folder(str(tmp_path / name))

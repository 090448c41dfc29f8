"""Whether an environment has what is pinned, and help that needs nothing installed."""

import os
import subprocess
import sys
from importlib import metadata

import pytest

from lib import environment
from lib.artifacts import ROOT
from lib.environment import USAGE, VARIABLES, bounds, cores, cpu_requirements, missing
from lib.recipes import PROFILES, RECIPES


def installed(name):
    return f"{name}=={metadata.version(name)}"


def run(*arguments, options=("-m", "lib.environment")):
    return subprocess.run(
        [sys.executable, *options, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_missing_is_empty_when_everything_is_there():
    assert missing([installed("pytest"), installed("numpy"), "pandas>=1"]) == []


def test_missing_names_what_is_absent_or_of_another_version():
    found = missing(["numpy==0.1", "no-such-package>=1.0", installed("pandas"), "scipy>=99"])
    assert found == ["numpy==0.1", "no-such-package>=1.0", "scipy>=99"]


def test_missing_leaves_lines_for_other_systems_out():
    here, elsewhere = f'sys_platform == "{sys.platform}"', 'sys_platform == "plan9"'
    found = missing(
        [
            f"no-such-package==1.0; {elsewhere}",
            f"no-such-package==2.0; {here}",
            'no-such-package==3.0; python_version < "3"',
        ]
    )
    assert [line.split(";")[0] for line in found] == ["no-such-package==2.0"]


@pytest.fixture
def versions(monkeypatch):
    """The only packages that seem to be installed, by name."""
    found = {}

    def version(name):
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(environment.metadata, "version", version)
    return found


def test_missing_accepts_local_builds_and_release_candidates(versions):
    versions |= {"torch": "2.15.0+cu132", "numpy": "2.5.0rc1", "timm": "1.0.30"}
    assert missing(["torch>=2.15", "torch==2.15.0", "numpy>=2.1"]) == []
    assert missing(["timm>=1.0.31"]) == ["timm>=1.0.31"]


def test_missing_accepts_another_package_of_the_same_module(versions):
    versions |= {"faiss-gpu": "1.12", "opencv-contrib-python": "4.12.0.88"}
    assert missing(["faiss-cpu>=1.9", "opencv-python-headless>=4.10"]) == []
    assert missing(["faiss-cpu>=1.13"]) == ["faiss-cpu>=1.13"]


def test_missing_works_without_pip(monkeypatch):
    # `uv venv` makes environments that have none.
    for name in [name for name in sys.modules if name.split(".")[0] == "pip"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pip", None)
    assert missing(["numpy==0.1", installed("pytest")]) == ["numpy==0.1"]


def test_bounds_are_what_running_needs_and_extras_more():
    running, testing = bounds(), bounds("test")
    assert any(one.startswith("torch>=") for one in running)
    assert testing[: len(running)] == running
    assert any(one.startswith("pytest>=") for one in testing[len(running) :])


def test_cpu_requirements_pin_all_but_torch():
    lines = cpu_requirements()
    names = {line.split("==")[0] for line in lines}
    assert {"timm", "numpy", "pytest", "torchvision", "faiss-cpu"} <= names
    assert not names & {"torch", "faiss-gpu"}
    assert not any(line.startswith("faiss") and ";" in line for line in lines)  # on every system


def test_command_is_silent_about_a_complete_environment():
    found = run("--check")
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_command_names_all_that_is_lacking(versions, monkeypatch, capsys):
    versions |= {"torch": "2.0", "numpy": "2.4"}
    monkeypatch.setattr(sys, "argv", ["x", "--check"])
    with pytest.raises(SystemExit, match="1"):
        environment.main()
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{sys.prefix} lacks: torch>=2.6, torchvision>=0.21, timm>=1.0.22, " in told
    assert told.count(", ") == len(bounds()) - 1  # all but numpy, and the comma of the sentence


def exports(**variables):
    """What a shell takes over from the command, beside `variables` of the user's."""
    own = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    code = 'eval "$("$0" -m lib.environment --exports)"; env -0'
    found = subprocess.run(
        ["bash", "-c", code, sys.executable],
        cwd=ROOT,
        env=own | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    pairs = dict(line.split("=", 1) for line in found.stdout.split("\0") if line)
    return {name: pairs[name] for name in VARIABLES}


def test_exports_never_replace_what_the_user_set():
    assert exports() == VARIABLES
    own = {"GLIBC_TUNABLES": "glibc.malloc.check=0", "GOMP_SPINCOUNT": ""}
    assert exports(**own) == VARIABLES | own


def test_cores_are_a_share_of_those_allowed(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 5)  # by affinity and quota
    found = []
    for variables in ({}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}):
        with monkeypatch.context() as patch:
            for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
                patch.delenv(name, raising=False)
            for name, value in variables.items():
                patch.setenv(name, value)
            found.append(cores())
    assert found == [5, 2, 1]


def test_help_needs_no_installed_package():
    # -S leaves site-packages out, -I the working folder too, so that is put back by hand.
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['x', '--help'];"
    code += "runpy.run_module('lib.environment', run_name='__main__');"
    code += "print(sorted({'numpy', 'torch', 'pandas', 'pip'} & set(sys.modules)))"
    found = run(code, options=("-I", "-S", "-c"))
    assert found.returncode == 0, found.stderr
    assert found.stdout == f"{USAGE}\n[]\n"


def test_usage_names_every_profile_recipe_and_option():
    assert all(f"\n  {name} " in USAGE for name in PROFILES)
    assert all(name in USAGE for name in RECIPES if not name.endswith("-code"))
    assert all(
        option in USAGE for option in ("--cpu", "--data-dir", "--from", "--only", "-p NAME VALUE")
    )


@pytest.mark.parametrize("module", ["retrieval", "cleaning", "reports", "pipeline", "data"])
def test_commands_tell_in_one_sentence_that_packages_are_missing(module):
    found = run(f"lib.{module}", options=("-S", "-m"))  # without site-packages
    assert found.returncode == 1
    assert found.stderr.startswith("run_all.sh: No module named ")
    assert found.stderr.count("\n") == 1
    assert "requirements.txt" in found.stderr

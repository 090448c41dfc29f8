"""run_all.sh: which Python it takes, what it installs when, and what it passes on.

A stand-in for Python writes down how it is called, so nothing is installed here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.artifacts import ROOT
from lib.environment import USAGE

STAND_IN = """#!/usr/bin/env bash
echo "$(basename "$(dirname "$(dirname "$0")")"): $*" >> "$CALLS"
case "$*" in
  "-c import sys; sys.exit("*) exit "${TOO_OLD:-0}" ;;
  "-c import sys; print(sys.prefix)") echo PREFIX ;;
  "-c import sysconfig"*) echo "$PWD/.venv" ;;
  --version) echo "Python 3.99" ;;
  "-m lib.environment --check"*) exit "${LACKING:-0}" ;;
  "-m lib.environment --cpu") echo timm==1 ;;
  "-c from importlib.metadata"*) echo 2.9+cpu ;;
  "-m lib.environment --exports") echo "export TUNED='a b'" ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"pip install"*"--index-url"*) exit "${CPU_INDEX:-0}" ;;
  *"pip install"*"--no-index"*) exit "${CPU_FOLDER:-0}" ;;
  *"pip install"*) exit "${PIP:-0}" ;;
  "-m lib.pipeline"*) echo "caller $LANDMARK_CALLER path $PYTHONPATH in $PWD $TUNED" ;;
esac
"""
IN_LAB = "--notebook-dir notebooks"
RUN_TESTS = "-m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder"
IN_LAB += " --ServerApp.kernel_spec_manager_class=lib.kernel.RunningPython"
ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX", "KAGGLE_KERNEL_RUN_TYPE", "COLAB_RELEASE_TAG")
ACTIVE += ("PYTHON", "PYTHONPATH")


@pytest.fixture
def clone(tmp_path):
    """A repository of run_all.sh and requirements alone, and stand-ins for Python beside it."""
    root = tmp_path / "clone"
    root.mkdir()
    shutil.copy(ROOT / "run_all.sh", root)
    (root / "requirements.txt").write_text("numpy==2\n")
    for name in ("system/bin/python", "active/bin/python", "driver/nvidia-smi", "linux/uname"):
        command = tmp_path / name
        command.parent.mkdir(parents=True)
        command.write_text("echo Linux\n" if command.name == "uname" else STAND_IN)
        command.chmod(0o755)
    return root


def call(clone, *arguments, cwd=None, has_driver=True, **variables):
    """Exit code, output, errors, and the calls of Python, of a run from `cwd` on Linux."""
    calls = clone.parent / "calls"
    calls.write_text("")
    environment = {name: value for name, value in os.environ.items() if name not in ACTIVE}
    environment |= {"CALLS": str(calls), "PYTHON": str(clone.parent / "system/bin/python")}
    environment["PATH"] = f"{clone.parent / 'linux'}:{os.environ['PATH']}"
    if has_driver:
        environment["PATH"] = f"{clone.parent / 'driver'}:{environment['PATH']}"
    found = subprocess.run(
        [clone / "run_all.sh", *arguments],
        cwd=cwd or clone.parent,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    return found.returncode, found.stdout, found.stderr, calls.read_text().splitlines()


def installs(calls):
    return [line for line in calls if "pip install" in line]


def test_run_all_is_sound_bash():
    subprocess.run(["bash", "-n", ROOT / "run_all.sh"], check=True)
    assert os.access(ROOT / "run_all.sh", os.X_OK)


def test_clone_of_git_for_windows_has_no_crlf(tmp_path):
    original, clone = tmp_path / "original", tmp_path / "clone"
    original.mkdir()
    for name in (".gitattributes", "run_all.sh"):
        shutil.copy(ROOT / name, original)
    author = ["-c", "user.name=t", "-c", "user.email=t@t"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=original, check=True)
    subprocess.run(["git", "-c", "core.autocrlf=true", "clone", "-q", original, clone], check=True)
    assert (clone / "run_all.sh").read_bytes() == (original / "run_all.sh").read_bytes()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_works_from_any_folder_and_installs_nothing(tmp_path, option):
    found = subprocess.run(
        [ROOT / "run_all.sh", option],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, f"{USAGE}\n", "")
    assert list(tmp_path.iterdir()) == []


def test_unknown_profile_is_refused_in_one_sentence(tmp_path):
    # PYTHON names nothing: should this environment not satisfy the pins, nothing is installed.
    environment = {
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHON": str(tmp_path / "none"),
        "LANDMARK_OUTPUTS": str(tmp_path / "outputs"),
    }
    found = subprocess.run(
        [ROOT / "run_all.sh", "maxi"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert last == "run_all.sh: expected a profile among smoke, mini, photos, full, found 'maxi'"
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "outputs").exists()


def test_first_run_installs_and_the_second_does_not(clone):
    code, out, err, calls = call(clone, "smoke", "--only", "01")
    assert code == 0
    assert installs(calls) == [".venv: -m pip install --quiet --requirement requirements.txt"]
    assert calls[-1] == ".venv: -m lib.pipeline smoke --only 01"
    assert "Installing requirements.txt into .venv" in err
    assert out == f"caller {clone.parent} path {clone} in {clone} a b\n"
    assert (clone / ".venv" / "landmarks.pth").read_text() == f"{clone}\n"
    code, _, err, calls = call(clone, "smoke")
    assert code == 0
    assert installs(calls) == []
    assert "Installing" not in err


def test_changed_requirements_are_installed_again(clone):
    call(clone)
    (clone / "requirements.txt").write_text("numpy==3\n")
    assert len(installs(call(clone)[3])) == 1


def test_installed_environment_that_lost_a_package_is_mended(clone):
    call(clone)
    code, _, err, calls = call(clone, LACKING="1")
    assert code == 0
    assert len(installs(calls)) == 1
    assert "lacks" not in err


@pytest.mark.parametrize("failing", [{"PIP": "3"}, {"TOO_OLD": "1"}])
def test_failed_setup_stops_everything_and_is_tried_again(clone, failing):
    code, out, err, calls = call(clone, **failing)
    assert code != 0
    assert out == ""
    assert not any("lib.pipeline" in line for line in calls)
    assert ("Expected Python 3.10 or newer, found Python 3.99" in err) == ("TOO_OLD" in failing)
    code, _, _, calls = call(clone)
    assert code == 0
    assert len(installs(calls)) == 1


@pytest.mark.parametrize("variable", ACTIVE[:4])
def test_active_environment_is_used_if_it_has_what_is_needed(clone, variable):
    place = {variable: "x", "PATH": f"{clone.parent / 'active/bin'}:{os.environ['PATH']}"}
    code, _, _, calls = call(clone, "mini", **place)
    assert code == 0
    assert calls[-1] == "active: -m lib.pipeline mini"
    assert not (clone / ".venv").exists()
    code, _, _, calls = call(clone, "mini", LACKING="1", **place)
    assert code == 0
    assert calls[-1] == ".venv: -m lib.pipeline mini"


FROM_INDEX = "--no-deps --retries 1 --timeout 20 --index-url"


@pytest.mark.parametrize(("asked", "has_driver"), [(["--cpu"], True), ([], False)])
def test_cpu_builds_are_installed_when_asked_for_or_without_a_driver(clone, asked, has_driver):
    pins = "torch==2.9\ntorchvision==0.24; x\nnumpy==2\n"
    (clone / "requirements.txt").write_text(pins)
    code, _, err, calls = call(clone, "smoke", *asked, "--only", "01", has_driver=has_driver)
    assert code == 0
    first, second = installs(calls)
    assert FROM_INDEX in first
    assert "--index-url" not in second
    assert calls[-1] == ".venv: -m lib.pipeline smoke --only 01"
    assert "2.2 GB" in err
    assert (clone / ".venv/installed.txt").read_text() == f"{pins}# CPU builds\n"
    for again in ([], ["--cpu"]):  # a driver that came later changes nothing
        assert installs(call(clone, "smoke", *again)[3]) == []


def test_cpu_torch_may_lie_in_a_folder(clone):
    code, _, err, calls = call(clone, "--cpu", CPU_INDEX="1")
    assert code == 0
    assert "out of reach: taking a CPU build of torch from PIP_FIND_LINKS" in err
    assert "--no-deps --no-index torch>=2.6" in installs(calls)[1]
    assert calls[-1] == ".venv: -m lib.pipeline"


def test_no_cpu_torch_is_an_error_where_asked_for_and_gpu_builds_otherwise(clone):
    nowhere = {"CPU_INDEX": "1", "CPU_FOLDER": "1"}
    code, _, err, calls = call(clone, "--cpu", has_driver=False, **nowhere)
    assert code == 1
    assert "leave --cpu out for the GPU builds" in err
    assert not any("lib.pipeline" in line for line in calls)
    for _ in range(2):
        code, _, err, calls = call(clone, has_driver=False, **nowhere)
        assert code == 0
    assert installs(calls) == []  # the second time
    assert (clone / ".venv/installed.txt").read_text().endswith("# GPU builds\n")
    assert len(installs(call(clone, "--cpu")[3])) == 2  # now the index answers


def test_test_extra_is_needed_for_tests_alone(clone):
    call(clone)
    for command, asked in (("test", "--check test"), ("smoke", "--check")):
        assert f".venv: -m lib.environment {asked}" in call(clone, command)[3]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "-m lib.pipeline"),
        (("--data-dir", "my photos"), "-m lib.pipeline --data-dir my photos"),
        (("test", "-k", "a or b"), RUN_TESTS + " -k a or b"),
        (
            ("lab", "--no-browser"),
            f"-m jupyter lab {IN_LAB} --no-browser",
        ),
        (("demo", "--run", "outputs/mini"), "-m lib.demo --run outputs/mini"),
        (("reference",), "-m lib.reports"),
        (("settings", "smoke"), "-m lib.pipeline --settings smoke"),
    ],
)
def test_arguments_reach_what_they_are_for(clone, arguments, expected):
    assert call(clone, *arguments)[3][-1] == f".venv: {expected}"


def test_exit_code_of_the_work_is_kept(clone):
    call(clone)
    python = clone / ".venv" / "bin" / "python"
    python.write_text(STAND_IN.replace("esac", "  *pytest*) exit 5 ;;\nesac"))
    assert call(clone, "test")[0] == 5

"""requirements.txt satisfies pyproject.toml, and resolves where a package registry answers."""

import os
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from lib.artifacts import ROOT
from lib.environment import ALTERNATIVES, bounds, missing

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# uv's name of each system, and its Pythons. The pinned torch has no wheels for older macOS.
SYSTEMS = {"linux": PYTHONS, "macos": ("3.10", "3.12")}
# Come with what is pinned: jupyter, scikit-learn, papermill.
BY_OTHERS = {"ipykernel", "nbconvert", "packaging", "threadpoolctl"}
CASES = [(system, version) for system, versions in SYSTEMS.items() for version in versions]


# One try: without a network uv would go on asking for minutes, as it would for another Python.
QUICK = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "20", "UV_PYTHON_DOWNLOADS": "never"}


@pytest.mark.parametrize(("system", "version"), CASES)
def test_requirements_resolve_for_every_python(system, version, tmp_path):
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", ROOT / "requirements.txt"]
    command += ["--only-binary", ":all:", "--python-platform", system]
    command += ["--python", sys.executable]  # runs nothing; otherwise uv looks for one of version
    command += ["--python-version", version, "--output-file", tmp_path / "resolved.txt"]
    environment = os.environ | QUICK | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    try:
        found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("the package registry takes too long to answer")
    is_offline = "No solution found" not in found.stderr or "network was disabled" in found.stderr
    if found.returncode and is_offline:
        pytest.skip("no package registry is within reach")
    assert found.returncode == 0, found.stderr
    assert "torch==" in (tmp_path / "resolved.txt").read_text()


@pytest.mark.parametrize("version", PYTHONS)
def test_pins_satisfy_the_bounds(version):
    place = {"python_version": version, "sys_platform": "linux", "platform_machine": "x86_64"}
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if line and line[0] != "#"]
    assert all(len(pin.specifier) == 1 and "==" in str(pin.specifier) for pin in pins)
    pinned = {
        pin.name: str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate(place)
    }
    wanted = {one.name: one.specifier for one in map(Requirement, bounds("test", "fonts"))}
    for name, specifier in wanted.items():
        known = {one for one in (name, *ALTERNATIVES.get(name, ())) if one in pinned}
        assert known or name in BY_OTHERS, f"no pin of {name}"
        assert all(pinned[one] in specifier for one in known), f"pin of {name} is not {specifier}"


def test_this_environment_satisfies_the_bounds():
    assert missing(bounds("test")) == []

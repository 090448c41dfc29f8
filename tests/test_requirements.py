"""requirements.txt resolves for every Python it is meant for, where a package registry answers."""

import os
import subprocess
import sys

import pytest

from lib.artifacts import ROOT

PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def resolving(tmp_path_factory):
    """A process per Python, all started at once because they mostly wait for the registry."""
    folder, started = tmp_path_factory.mktemp("resolved"), {}
    # One try: without a network uv would go on asking for minutes.
    quick = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "20"}
    for version in PYTHONS:
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet"]
        command += ["--only-binary", ":all:", "--python-platform", "linux"]
        command += ["--python-version", version, "--output-file", folder / f"{version}.txt"]
        command.append(ROOT / "requirements.txt")
        started[version] = subprocess.Popen(
            command, env=os.environ | quick, stderr=subprocess.PIPE, text=True
        )
    yield folder, started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("version", PYTHONS)
def test_requirements_resolve_for_every_python(version, resolving):
    folder, started = resolving
    try:
        _, said = started[version].communicate(timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("the package registry takes too long to answer")
    is_offline = "No solution found" not in said or "network was disabled" in said
    if started[version].returncode and is_offline:
        pytest.skip("no package registry is within reach")
    assert started[version].returncode == 0, said
    assert "torch==" in (folder / f"{version}.txt").read_text()

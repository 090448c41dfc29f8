"""The file `run.json` of a run folder: all that runs it again, and what it was made with.

`./run_all.sh --again outputs/RUN/run.json` takes profile, data folder and parameters from there.
"""

import contextlib
import hashlib
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lib.artifacts import ROOT, fingerprint, read_json_or_none
from lib.environment import ALTERNATIVES, bounds, cores

MANIFEST = "run.json"
ABLATION = "ablation"  # notebook 05 as `./run_all.sh ablation` runs it, among the notebooks


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What `run.json` of a run folder says; nothing if there is none, as after runs in Jupyter."""
    found = read_json_or_none(Path(folder) / MANIFEST)
    return found if isinstance(found, dict) and isinstance(found.get("notebooks"), dict) else {}


def effective_settings(manifest: dict[str, Any]) -> dict[str, Any]:
    """Every setting by its dotted name, with what the notebooks' parameters change."""
    found = dict(manifest.get("settings", {}))
    for notebook, entry in manifest.get("notebooks", {}).items():
        found |= entry["changed"] if notebook != ABLATION else {}
    return found


def describe_data(root: str | Path) -> str:
    """A fingerprint of the names and contents of a data folder's tables, images apart."""
    root = Path(root)
    paths = sorted([*root.glob("*.csv"), *root.glob("*.json"), *root.glob("country/*.json")])
    contents = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }
    return fingerprint(contents) if contents else ""


def describe_place() -> dict[str, Any]:
    """The commit of this repository, the device, and the versions of the packages it needs.

    The commit ends in `-dirty` if files differ from it, and is empty outside git.
    """
    described = ("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*")
    versions = {"python": platform.python_version()}
    for name in (re.match(r"[\w.-]+", one)[0] for one in bounds()):
        for other in (name, *ALTERNATIVES.get(name, ())):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[other] = metadata.version(other)
    commit = _told(*described) if (ROOT / ".git").exists() else ""
    return {"commit": commit, "device": _device(), "versions": versions}


def _device() -> str:
    """GPUs by name, or the processor; with the cores that may be used."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = ["-i", visible] if visible else []
    told = _told("nvidia-smi", *chosen, "--query-gpu=name", "--format=csv,noheader")
    gpus = [] if visible == "" else told.splitlines()
    names = [f"{gpus.count(name)} × {name}" for name in dict.fromkeys(gpus)]
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        names += [found[1].strip()] if found else []
    return ", ".join([*names, f"{cores()} cores"])


def _told(*words: str) -> str:
    """What a command prints; nothing where it is missing or fails."""
    with contextlib.suppress(OSError):
        found = subprocess.run(words, capture_output=True, text=True)
        return found.stdout.strip() if found.returncode == 0 else ""
    return ""

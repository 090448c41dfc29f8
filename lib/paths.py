"""Where things are: the repository, a profile's data and its outputs.

Everything is derived from the place of this file, so notebooks and stages work from any working
folder. On Kaggle the repository is read-only and outputs go to the working folder instead.
"""

import hashlib
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KAGGLE_WORKING = Path("/kaggle/working")


def outputs_root() -> Path:
    """The folder that holds one run folder per profile.

    `LANDMARK_OUTPUTS` overrides it, which tests use to keep their runs apart.
    """
    if chosen := os.environ.get("LANDMARK_OUTPUTS"):
        return Path(chosen)
    return (KAGGLE_WORKING if KAGGLE_WORKING.is_dir() else ROOT) / "outputs"


def world_root(profile: str) -> Path:
    """Where the miniature world of a profile is generated."""
    if chosen := os.environ.get("LANDMARK_OUTPUTS"):
        return Path(chosen) / "data" / profile
    return (KAGGLE_WORKING if KAGGLE_WORKING.is_dir() else ROOT) / "data" / profile


def run_folder(profile: str, data_dir: str = "", recipe: str = "") -> Path:
    """The folder of everything a profile makes, one per data folder and recipe.

    Real data named by `data_dir` gets a folder of its own, so that two datasets under one profile
    never mix: `outputs/mini` and `outputs/mini-photos-3fa9c1`, where six digits stand for the whole
    path, because two folders may have one name. So does another recipe than the profile's.
    """
    parts = [profile, _data_name(data_dir) if data_dir else "", recipe]
    return outputs_root() / "-".join(filter(None, parts))


def _data_name(data_dir: str) -> str:
    folder = Path(data_dir).expanduser().resolve()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]
    return f"{folder.name}-{digest}" if folder.name else digest


def existing_folder(data_dir: str) -> Path:
    """`data_dir` as an absolute path.

    Raises:
        ValueError: if there is no such folder.
    """
    folder = Path(data_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ValueError(
            f"expected a data folder in GLDv2's layout (data/README.md), found no folder {folder};"
            " give an existing one with --data-dir or leave it out for the miniature world"
        )
    return folder


def seen_by_caller(path: str | Path) -> str:
    """A path for messages: relative to where `run_all.sh` was called from."""
    return os.path.relpath(path, os.environ.get("LANDMARK_CALLER", "."))


def caller_path(text: str | Path) -> Path:
    """A path from the command line: relative to where `run_all.sh` was called from."""
    return Path(os.environ.get("LANDMARK_CALLER", ".")) / Path(text).expanduser()

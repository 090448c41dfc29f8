"""`python -m lib.environment requirements.txt`: whether this Python has what is pinned.

With `--help` it prints the usage of `run_all.sh`, with `--exports` the variables that a process
must have when it starts, as shell commands. Needs only the standard library; `cores` needs joblib.
Packages import `lazily` what takes long.
"""

import contextlib
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from lib.recipes import PROFILES, RECIPES

# Read by glibc and OpenMP when a process starts. Without the first two, glibc gives large blocks
# back after each step and the kernel clears their pages again: 28 % of a run's processor time.
# OpenMP's threads spin while they wait, which takes the cores from other processes.
# tests/benchmarks/bench_step.py measures with and without them.
VARIABLES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296"
    ":glibc.malloc.trim_threshold=8589934592",
    "MALLOC_ARENA_MAX": "2",
    "GOMP_SPINCOUNT": "10000",
}

_PROFILES = "\n".join(f"  {name:7} {found.summary}" for name, found in PROFILES.items())
_NAMES = ", ".join(name for name in RECIPES if not name.endswith("-code"))
_RECIPES = textwrap.fill(
    _NAMES, 92, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
)
USAGE = f"""\
usage: ./run_all.sh [PROFILE] [options]     run the six notebooks (default profile: mini)
       ./run_all.sh test [pytest options]   run all tests
       ./run_all.sh ablation [PROFILE]      all rows of notebook 05 with three seeds (3 h)
       ./run_all.sh import SOURCE DATA_DIR  your photographs: landmark folders or a CSV
       ./run_all.sh settings [PROFILE]      list notebook parameters and all settings
       ./run_all.sh lab                     open the notebooks in Jupyter
       ./run_all.sh reference               refresh outputs/reference and the tables in Markdown

profiles
{_PROFILES}

options
  --data-dir DIR    a folder in GLDv2's layout (data/README.md) instead of the miniature world
  --recipe NAME     another recipe than the profile's, of those below
  --from NN         start at notebook NN (01 to 06); earlier results are taken as they lie
  --only NN         run notebook NN alone
  -p NAME VALUE     set a notebook parameter, for the notebooks that declare it (repeatable);
                    -p SET "stages.arcface.margin=0.4, clean.split=False" sets anything

recipes
{_RECIPES}
  and most with -code: as the published code has it where that differs from the paper
"""


def unset_variables() -> dict[str, str]:
    """Those of `VARIABLES` that the user has not set, be it to an empty value."""
    return {name: value for name, value in VARIABLES.items() if name not in os.environ}


def local_processes() -> int:
    """How many processes of one job run on this computer; 1 outside `torch.distributed`."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or 1)


def cores() -> int:
    """How many cores this process may use: its share by affinity and cgroup quota, at least 1."""
    import joblib

    return max(1, joblib.cpu_count() // local_processes())


def lazily(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports a module (→ its names) when a name is needed."""

    def find(name: str) -> Any:
        for module, names in modules.items():
            if name in names:
                return getattr(import_module(f"{package}.{module}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def missing(requirements: str | Path) -> list[str]:
    """The pinned requirements (`name==version; marker`) that this Python does not have."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # comes with what is pinned; before that, pip has a copy
        from pip._vendor.packaging.requirements import Requirement

    found = []
    for line in Path(requirements).read_text().splitlines():
        if not (text := line.split("#")[0].strip()):
            continue
        wanted, version = Requirement(text), ""
        if wanted.marker is None or wanted.marker.evaluate():
            with contextlib.suppress(metadata.PackageNotFoundError):
                version = metadata.version(wanted.name)
            if not version or version not in wanted.specifier:
                found.append(str(wanted))
    return found


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(USAGE)
    elif "--exports" in sys.argv:
        for name, value in unset_variables().items():
            print(f"export {name}={shlex.quote(value)}")
    elif lacking := missing(sys.argv[1]):
        others = " and others" if len(lacking) > 3 else ""
        print(f"The active environment lacks {', '.join(lacking[:3])}{others}.", file=sys.stderr)
        sys.exit(1)

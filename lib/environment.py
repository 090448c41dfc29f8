"""`python -m lib.environment --check`: whether this Python has what `pyproject.toml` asks for.

After `--check` come names of its extras. `--help` prints the usage of `run_all.sh`, `--exports` the
variables that a process must have when it starts, as shell commands, and `--cpu` what is pinned
beside torch, for CPU builds. Needs only the standard library; `cores` needs joblib. Packages import
`lazily` what takes long.
"""

import functools
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
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

# Of NVIDIA, of any GPU in Windows' Linux, of AMD.
GPU_DRIVERS = ("/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")

ROOT = Path(__file__).resolve().parent.parent
ALTERNATIVES = {  # packages of the same module
    "faiss-cpu": ("faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12"),
    "opencv-python-headless": (
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
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
       ./run_all.sh demo [--run RUN]        a page to try a run with your photographs (needs gradio)
       ./run_all.sh reference               refresh outputs/reference and the tables in Markdown

profiles
{_PROFILES}

options
  --cpu             install CPU builds (2.2 GB instead of 8), the default without an NVIDIA driver
  --data-dir DIR    a folder in GLDv2's layout (data/README.md) instead of the miniature world
  --recipe NAME     another recipe than the profile's, of those below
  --from NN         start at notebook NN (01 to 06); earlier results are taken as they lie
  --only NN         run notebook NN alone
  --name NAME       keep results in outputs/NAME, beside other runs of the profile
  --again RUN_JSON  repeat the run that left this run.json; with --name in a folder of its own,
                    with -p with other parameters
  --resume-from DIR go on from the results of an earlier run, which may be read-only
  -p NAME VALUE     set a notebook parameter, for the notebooks that declare it (repeatable);
                    -p TIME_LIMIT_HOURS 8.5 stops in time, with a submission of what there is;
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


@functools.cache
def blas() -> Any:
    """The `ThreadpoolController` of BLAS libraries, found once: looking takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")


def forks() -> bool:
    """Whether processes may be copies of another: on Linux without a GPU, which survives none."""
    return sys.platform == "linux" and not any(map(os.path.exists, GPU_DRIVERS))


def lazily(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package that imports a module (→ its names) when a name is needed."""

    def find(name: str) -> Any:
        for module, names in modules.items():
            if name in names:
                return getattr(import_module(f"{package}.{module}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


def bounds(*extras: str) -> list[str]:
    """What running needs by `pyproject.toml`, such as `numpy>=1.26`, and what its `extras` need."""
    try:
        import tomllib
    except ImportError:  # before Python 3.11, where pip has a copy of what it was made of
        from pip._vendor import tomli as tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in extras for one in optional[extra])]


def missing(requirements: Iterable[str]) -> list[str]:
    """Those of the requirements (`name>=version; marker`) that this Python does not satisfy."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # comes with what is required; before that, pip has a copy
        from pip._vendor.packaging.requirements import Requirement

    found = []
    for wanted in map(Requirement, requirements):
        if wanted.marker is None or wanted.marker.evaluate():
            names = (wanted.name, *ALTERNATIVES.get(wanted.name, ()))
            versions = filter(None, map(_installed, names))
            if not any(wanted.specifier.contains(one, prereleases=True) for one in versions):
                found.append(str(wanted))
    return found


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def cpu_requirements() -> list[str]:
    """Lines of `requirements.txt` for CPU builds: faiss without a GPU, torch as it is installed."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("#")[0].strip() for line in lines]
    kept = [pin for pin in pins if pin and not re.match("(torch|torchvision|faiss-gpu)==", pin)]
    return [re.sub("^(faiss-cpu==[^;]*);.*", r"\1", pin) for pin in kept] + ["torchvision"]


def main() -> None:
    """What the module's docstring says of the command line."""
    if "--help" in sys.argv:
        print(USAGE)
    elif "--exports" in sys.argv:
        for name, value in unset_variables().items():
            print(f"export {name}={shlex.quote(value)}")
    elif "--cpu" in sys.argv:
        print("\n".join(cpu_requirements()))
    elif lacking := missing(bounds(*sys.argv[2:])):
        told = f"of what pyproject.toml asks for, {sys.prefix} lacks: {', '.join(lacking)}"
        print(told, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""Whether the Python that runs this has what `requirements.txt` pins; only the standard library.

`run_all.sh` asks `python -m lib.environment requirements.txt` before it uses an active environment,
and `--help` prints the usage without needing anything installed."""

import contextlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

USAGE = """\
usage: ./run_all.sh [PROFILE] [options]     run the six notebooks (default profile: mini)
       ./run_all.sh test [pytest options]   run all tests
       ./run_all.sh ablation [PROFILE]      all rows of notebook 05 with three seeds (3 h)
       ./run_all.sh import FOLDERS DATA_DIR photographs in folders named after their landmark
       ./run_all.sh lab                     open the notebooks in Jupyter
       ./run_all.sh reference               refresh outputs/reference and the README's tables

profiles
  smoke   a tiny world, to see that everything works (1-2 minutes on two cores)
  mini    the embedded miniature world (about 15 minutes on two cores)
  photos  a few thousand photographs and a small pretrained network (about 25 minutes)
  full    Google Landmarks v2 on GPUs, as the 3rd place of 2020 trained

options
  --data-dir DIR    a folder in GLDv2's layout (data/README.md) instead of the miniature world
  --recipe NAME     another recipe than the profile's, such as glr21-seresnet101-ibn
  --from NN         start at notebook NN (01 to 06); earlier results are taken as they lie
  --only NN         run notebook NN alone
  -p NAME VALUE     set a notebook parameter, for the notebooks that declare it (repeatable)
"""


@contextlib.contextmanager
def in_one_sentence(module: str) -> Iterator[None]:
    """Around a command's imports: what is not installed, and ^C, end it without a traceback.

    Args:
        module: its `__name__`; where it is not the command that runs, errors are raised as usual.
    """
    try:
        yield
    except (ImportError, KeyboardInterrupt) as error:
        if module != "__main__":
            raise
        if isinstance(error, KeyboardInterrupt):
            print("run_all.sh: interrupted before it began", file=sys.stderr)
            sys.exit(130)
        sys.exit(
            f"run_all.sh: {error} in {sys.executable}; ./run_all.sh installs all that "
            "requirements.txt pins, into .venv if no other environment has it"
        )


def missing(requirements: str | Path) -> list[str]:
    """The pinned requirements (`name==version; marker`) that this Python does not have.

    Comments and lines whose marker is false here are left out of account.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:  # comes with what is pinned; before that, pip has a copy
        from pip._vendor.packaging.requirements import Requirement

    lines = (line.split("#")[0].strip() for line in Path(requirements).read_text().splitlines())
    wanted = [Requirement(line) for line in lines if line]
    return [
        str(requirement)
        for requirement in wanted
        if requirement.marker is None or requirement.marker.evaluate()
        if not _is_installed(requirement.name, requirement.specifier)
    ]


def _is_installed(name: str, specifier: object) -> bool:
    try:
        return metadata.version(name) in specifier
    except metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(USAGE)
    elif lacking := missing(sys.argv[1]):
        print(
            f"The active environment lacks {', '.join(lacking[:3])}"
            f"{' and others' if len(lacking) > 3 else ''}.",
            file=sys.stderr,
        )
        sys.exit(1)

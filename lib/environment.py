"""`python -m lib.environment requirements.txt`: whether this Python has what is pinned.

With `--help` it prints the usage of `run_all.sh`. Needs only the standard library.
"""

import contextlib
import sys
import textwrap
from importlib import metadata
from pathlib import Path

from lib.recipes import PROFILES, RECIPES

_PROFILES = "\n".join(f"  {name:7} {found.summary}" for name, found in PROFILES.items())
_NAMES = ", ".join(name for name in RECIPES if not name.endswith("-code"))
_RECIPES = textwrap.fill(_NAMES, 92, initial_indent="  ", subsequent_indent="  ")
USAGE = f"""\
usage: ./run_all.sh [PROFILE] [options]     run the six notebooks (default profile: mini)
       ./run_all.sh test [pytest options]   run all tests
       ./run_all.sh ablation [PROFILE]      all rows of notebook 05 with three seeds (3 h)
       ./run_all.sh import FOLDERS DATA_DIR photographs in folders named after their landmark
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
    elif lacking := missing(sys.argv[1]):
        others = " and others" if len(lacking) > 3 else ""
        print(f"The active environment lacks {', '.join(lacking[:3])}{others}.", file=sys.stderr)
        sys.exit(1)

"""Train stages of a run: `python -m lib.training STAGE ... --profile mini`, as the notebooks do.

Each goes on from the stage before it, and a finished one is not trained again, here or by the
notebooks: results lie in the run folder of `./run_all.sh`. On several machines, or with other
processes than one per GPU: `accelerate launch ... -m lib.training STAGE ...`; all need the data and
the run folder under the same paths.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from lib import session
from lib.artifacts import ROOT, caller_path, seen_by_caller
from lib.config import nearest
from lib.distributed import is_main_process
from lib.parameters import declared_parameters, read_value
from lib.recipes import profile

NOTEBOOKS = "02_stage_one_train", "04_cluster_finetune"  # which declare the parameters


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line names; return 1 after a refusal."""
    given = parse(arguments)
    try:
        # Of several processes one tells what all do.
        with contextlib.nullcontext() if is_main_process() else contextlib.redirect_stdout(None):
            for stage in given.stages:
                print(f"wrote {seen_by_caller(_train(stage, given))}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about = __doc__.partition("\n\n")[2]
    parser = argparse.ArgumentParser("python -m lib.training", description=about)
    parser.add_argument("stages", nargs="+", metavar="STAGE", help="names such as arcface")
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--data-dir", default="", help="a folder in GLDv2's layout")
    parser.add_argument("--recipe", default="", help="another recipe than the profile's")
    parser.add_argument("--start", help="a checkpoint to go on from, instead of the stage before")
    parser.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help='a parameter of notebook 02 or 04, such as -p SET "stages.arcface.margin=0.4"',
    )
    return parser.parse_args(arguments)


def _train(name: str, given: argparse.Namespace) -> Path:
    usual = profile(given.profile, recipe_name=given.recipe)
    known = [stage.name for stage in usual.stages]
    if name not in known:
        hint = f"found {name!r}; {nearest(name, known)}"
        raise ValueError(f"expected a stage of profile {given.profile!r}, {hint}")
    place, first = known.index(name), len(usual.stage_one)  # of stage two
    notebook = NOTEBOOKS[place >= first]
    names = declared_parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    names |= {"PROFILE": given.profile, "RECIPE": given.recipe}
    names |= {"DATA_DIR": str(caller_path(given.data_dir)) if given.data_dir else ""}
    names |= {name: read_value(name, text) for name, text in given.parameters}
    run = session.start(notebook, names)
    start = None
    if given.start:
        start = caller_path(given.start)
        if not start.is_file():
            raise ValueError(f"expected a checkpoint at {start}, found none; check --start")
    elif place:
        start = run.after_stage_one if place == first else run.checkpoint(known[place - 1])
    return run.train(run.profile.stages[place], start=start)


if __name__ == "__main__":
    sys.exit(main())

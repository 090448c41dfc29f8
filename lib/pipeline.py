"""The notebooks one after the other, headless: what `./run_all.sh` runs.

Parameters go to the notebooks that declare them and are checked before the first one starts.
Executed copies are kept in the run folder; the first notebook that fails ends the chain.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib import artifacts
from lib.artifacts import ROOT, caller_path
from lib.config import Profile, WorldConfig, list_settings, nearest, read_literal
from lib.environment import USAGE
from lib.kernel import AGAIN, Stopped, execute
from lib.parameters import (
    OWN_PARAMETERS,
    chosen_profile,
    declared_parameters,
    read_parameters,
    with_new_names,
)
from lib.recipes import PROFILES
from lib.recipes import profile as profile_of

# What `./run_all.sh ablation` runs, in a world with GLDv2's long tail and four times the landmarks,
# so that seeds differ less. Images are four times as many and seen a quarter as often.
ABLATION = {"SEEDS": [0, 1, 2], "TABLES": "all"}
ABLATION_WORLD = {
    "LANDMARKS": 800,
    "RAW_IMAGES": 16_000,
    "SPREAD": 1.6,
    "GALLERY": 6000,
    "QUERIES": 1200,
    "SHARE": 0.25,
}
TABLES = "05_"  # how the notebook of the ablation tables begins
PATHS = ("WEIGHTS", "SECOND_RUN")
# Given otherwise, because they choose the run folder too.
PLACES = {
    "PROFILE": "as the first argument",
    "DATA_DIR": "with --data-dir",
    "RECIPE": "with --recipe",
}


def notebooks() -> list[Path]:
    """The numbered notebooks in order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def chosen(first: str = "", only: str = "") -> list[Path]:
    """The notebooks to run: all, those from number `first` on, or number `only` alone."""
    every = notebooks()
    numbers = [path.name[:2] for path in every]
    for number in filter(None, (first, only)):
        if number not in numbers:
            raise ValueError(
                f"expected a notebook number among {', '.join(numbers)}, found {number!r}"
            )
    start = numbers.index(only or first) if only or first else 0
    return every[start : start + 1] if only else every[start:]


def check_parameters(
    parameters: Mapping[str, Any], paths: Sequence[Path], places: Mapping[str, str] | None = None
) -> dict[Path, Profile]:
    """Check parameters, `places` those of `PLACES`, and return each notebook's profile."""
    for name, place in PLACES.items():
        if name in parameters:
            raise ValueError(f"expected {name} {place}, found it as -p {name}; move it there")
    declared = {path: declared_parameters(path) for path in paths}
    known = {name for own in declared.values() for name in own}
    for name in parameters:
        if name not in known:
            hint = nearest(name.upper(), sorted(known), "they declare {}")
            raise ValueError(f"no notebook to be run declares the parameter {name!r}; {hint}")
    given = dict(places or {}) | dict(parameters)
    return {
        path: chosen_profile(own | {name: given[name] for name in own.keys() & given.keys()}, own)
        for path, own in declared.items()
    }


def run(
    profile: str,
    *,
    data_dir: str = "",
    recipe: str = "",
    first: str = "",
    only: str = "",
    parameters: Mapping[str, Any] | None = None,
    is_timed: bool = True,
) -> Path:
    """Execute the chosen notebooks and return the run folder.

    Notebook 05 is left out where the profile has no `ablation`, unless it is the only one. With
    `is_timed`, seconds and peak memory of each are kept there in `timings.csv`. Raises Stopped from
    the first notebook that fails.
    """
    if data_dir:
        data_dir = str(artifacts.existing_folder(data_dir))
    paths, parameters = chosen(first, only), with_new_names(parameters or {})
    places = {"PROFILE": profile, "DATA_DIR": data_dir, "RECIPE": recipe}
    profiles = check_parameters(parameters, paths, places)
    parameters |= places
    folder = artifacts.run_folder(profile, data_dir, recipe)
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    os.environ["LANDMARK_HEADLESS"] = "1"
    with artifacts.locked(folder, waits=False):
        artifacts.remove_leftovers(folder.rglob(".*"))
        for path in paths:
            if path.name.startswith(TABLES) and not (only or profiles[path].ablation):
                print(f"{path.stem} is left out of {profile}; -p ABLATION True runs it", flush=True)
                continue
            print(f"{path.stem} ...", flush=True)
            began = time.monotonic()
            declared = declared_parameters(path)
            given = {name: value for name, value in parameters.items() if name in declared}
            execute(path, folder / "notebooks" / path.name, given, cwd=ROOT)
            seconds = time.monotonic() - began
            print(f"{path.stem} done in {seconds:.0f} s", flush=True)
            if is_timed:
                _keep_timing(folder, path.stem, seconds)
    return folder


def _keep_timing(folder: Path, notebook: str, seconds: float) -> None:
    """Not among the recorded numbers, which the same seed must make identical."""
    path = folder / "timings.csv"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024  # of any process so far
    table = pd.DataFrame([{"notebook": notebook, "seconds": round(seconds), "peak_mib": peak}])
    if path.is_file():
        known = pd.read_csv(path)
        table = pd.concat([known[known["notebook"] != notebook], table])
    artifacts.write_csv(table.sort_values("notebook"), path)


def describe(profile: Profile) -> str:
    """Every notebook parameter with its help text, and every setting by its dotted name."""
    parameters = {name: one for path in notebooks() for name, one in read_parameters(path).items()}
    lines = ["parameters of the notebooks, for -p NAME VALUE"]
    lines += [f"  {name} = {one.default!r}  # {one.help}" for name, one in parameters.items()]
    lines += ["", f'settings of {profile.name}, for -p SET "NAME=VALUE, ..."']
    lines += [
        f"  {name} = {value!r}"
        for name, value in list_settings(profile)
        if name not in OWN_PARAMETERS and not name.endswith(".name")
    ]
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line of `run_all.sh`."""
    parser = argparse.ArgumentParser(usage=USAGE, add_help=False)
    parser.add_argument("profile", nargs="?", default="mini")
    parser.add_argument("--data-dir", default="")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--from", dest="first", default="")
    parser.add_argument("--only", default="")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[])
    return parser.parse_args(arguments)


def _value(name: str, text: str) -> Any:
    """A parameter's value as Python reads it; a path is the caller's."""
    if name in PATHS:
        path = caller_path(text)
        is_place = path.is_file() or (name == "SECOND_RUN" and text and path.is_dir())
        return str(path.resolve()) if is_place else text
    value = read_literal(text)
    return list(value) if isinstance(value, tuple) else value  # 0,1,2


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for and return its exit code."""
    chosen = parse(arguments)
    values = {name: _value(name, text) for name, text in chosen.parameters}
    if chosen.ablation:
        chosen.only = "05"
        found = PROFILES.get(chosen.profile)
        is_usual = found is not None and found.world == WorldConfig() and not chosen.data_dir
        values = ABLATION | (ABLATION_WORLD if is_usual else {}) | values
    began = time.monotonic()
    try:
        if chosen.settings:
            print(describe(profile_of(chosen.profile, recipe_name=chosen.recipe)))
            return 0
        options = {name: getattr(chosen, name) for name in ("recipe", "first", "only")}
        if chosen.data_dir:
            options["data_dir"] = str(caller_path(chosen.data_dir))
        # Notebook 05 is another amount of work in an ablation.
        folder = run(chosen.profile, parameters=values, is_timed=not chosen.ablation, **options)
    except (ValueError, Stopped) as error:
        return _refuse(str(error), getattr(error, "code", 1))
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        return _refuse(f"{what}; LANDMARK_OUTPUTS may name another folder, {AGAIN}")
    except KeyboardInterrupt:
        return _refuse(f"interrupted; {AGAIN}", 130)
    print(f"\n{artifacts.read_records(folder).to_string(index=False)}")
    where = artifacts.seen_by_caller(folder)
    print(f"\nall of it in {time.monotonic() - began:.0f} s; results in {where}")
    return 0


def _refuse(sentence: str, code: int = 1) -> int:
    print(f"run_all.sh: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

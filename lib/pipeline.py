"""The notebooks one after the other, headless: what `./run_all.sh` runs.

Parameters go to the notebooks that declare them and are checked before the first one starts.
Executed copies are kept in the run folder, with `run.json`, which runs them again, and the page
`report.html`; the first notebook that fails ends the chain.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lib import artifacts, reports
from lib.artifacts import ROOT, caller_path
from lib.config import Profile, WorldConfig, list_settings, nearest
from lib.environment import USAGE
from lib.kernel import AGAIN, Stopped, execute, imported_early
from lib.parameters import (
    OWN_PARAMETERS,
    PATHS,
    chosen_profile,
    declared_parameters,
    read_parameters,
    read_value,
    with_new_names,
    world_folder,
)
from lib.recipes import PROFILES
from lib.recipes import profile as profile_of
from lib.time_limit import start_clock, within

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
# Shares of the time that is left, by notebook, when there is a limit.
TIME_SHARES = {"01": 1, "02": 4, "03": 3, "04": 5, "05": 4, "06": 5}
# Given otherwise, because they choose the run folder too.
PLACES = {
    "PROFILE": "as the first argument",
    "DATA_DIR": "with --data-dir",
    "RECIPE": "with --recipe",
    "NAME": "with --name",
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


class Planned(NamedTuple):
    """A notebook to be run and what it is given."""

    path: Path
    asked: dict[str, Any]  # parameters as typed, without those of `PLACES`
    given: dict[str, Any]
    profile: Profile  # with these parameters
    root: Path  # of the data


def plan(
    parameters: Mapping[str, Any],
    paths: Sequence[Path],
    places: Mapping[str, str] | None = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Planned]:
    """Check what notebooks are given: `own` by their stem, and `parameters` if they declare them.

    `places` are those of `PLACES`.
    """
    for name, place in PLACES.items():
        if name in parameters:
            raise ValueError(f"expected {name} {place}, found it as -p {name}; move it there")
    declared = {path: declared_parameters(path) for path in paths}
    known = {name for every in declared.values() for name in every}
    for name in parameters:
        if name not in known:
            hint = nearest(name.upper(), sorted(known), "they declare {}")
            raise ValueError(f"no notebook to be run declares the parameter {name!r}; {hint}")
    places, found = places or {}, []
    for path, every in declared.items():
        common = {name: value for name, value in parameters.items() if name in every}
        asked = with_new_names((own or {}).get(path.stem, {})) | common
        given = asked | {name: value for name, value in places.items() if name in every}
        given |= {name: _place(name, given[name]) for name in PATHS if name in given}
        profile = chosen_profile(every | given, every)
        root = Path(places.get("DATA_DIR") or world_folder(profile, given, every))
        found.append(Planned(path, asked, given, profile, root))
    return found


def _place(name: str, text: str) -> str:
    """The absolute path behind a parameter, if there is one: WEIGHTS may be `pretrained`."""
    path = caller_path(text)
    is_place = path.is_file() or (name == "SECOND_RUN" and text and path.is_dir())
    return str(path.resolve()) if is_place else text


def run(
    profile: str,
    *,
    data_dir: str = "",
    recipe: str = "",
    name: str = "",
    first: str = "",
    only: str = "",
    resume_from: str = "",
    parameters: Mapping[str, Any] | None = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    is_timed: bool = True,
) -> Path:
    """Execute the chosen notebooks and return the run folder, called `name` or by the rest.

    `parameters` are for the notebooks that declare them; with `own`, parameters by notebook, no
    others are run. Notebooks that the profile does without are left out, unless asked for alone.
    With `is_timed`, seconds and peak memory of each are kept in `timings.csv`. Raises Stopped from
    the first notebook that fails; the report tells of the others even then.

    `resume_from` is an earlier run's folder, whose results are copied first. With the parameter
    TIME_LIMIT_HOURS each notebook gets a share of the time; one that it stops does not end the
    chain, and the ablation is left out unless asked for.
    """
    places = {"PROFILE": profile, "DATA_DIR": "", "RECIPE": recipe, "NAME": name}
    if data_dir:
        places["DATA_DIR"] = str(artifacts.existing_folder(str(caller_path(data_dir))))
    folder = artifacts.run_folder(profile, places["DATA_DIR"], recipe, name)
    usual = artifacts.run_folder(profile, places["DATA_DIR"], recipe).name
    paths = [path for path in chosen(first, only) if own is None or path.stem in own]
    if not paths:
        raise ValueError(f"expected a notebook among {', '.join(own)}, found {first or only!r}")
    parameters = with_new_names(parameters or {})
    if parameters.get("TIME_LIMIT_HOURS") and {"04", "05"} & {path.name[:2] for path in paths}:
        parameters = {"ABLATION": "off"} | parameters
    os.environ["LANDMARK_HEADLESS"] = "1"
    planned = plan(parameters, paths, places, own)
    for one in [] if only or own else [*planned]:
        if reason := _left_out(one.path, one.profile):
            planned.remove(one)
            print(f"{one.path.stem} is left out of {profile}; {reason}", flush=True)
    manifest = reports.read_manifest(folder)
    if manifest and manifest["usual_name"] != usual:
        raise ValueError(
            f"expected no run or one of {usual} in {artifacts.seen_by_caller(folder)}, found one "
            f"of {manifest['usual_name']}; choose another --name"
        )
    with artifacts.locked(folder, waits=False):
        if resume_from:
            _copy_results(caller_path(resume_from), folder)
            manifest = reports.read_manifest(folder)
        settings = dict(list_settings(profile_of(profile, recipe_name=recipe)))
        manifest |= {"profile": profile, "data_dir": data_dir, "recipe": recipe, "name": name}
        manifest |= {"usual_name": usual, "settings": settings, **reports.describe_place()}
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
        artifacts.remove_leftovers(folder.rglob(".*"))
        try:
            _execute_all(planned, folder, manifest, is_timed=is_timed)
        except Stopped:
            if page := _report(folder):
                print(f"what there is so far: {artifacts.seen_by_caller(page)}", flush=True)
            raise
        _report(folder)
    return folder


def _copy_results(source: Path, folder: Path) -> None:
    """Copy what `folder` lacks from an earlier run, which may be read-only.

    `source` is that run's folder, or one above it. Each stage then compares fingerprints as ever.
    """
    places = (source / folder.name, source / "outputs" / folder.name, source)
    found = next((place for place in places if (place / "notebooks").is_dir()), None)
    if found is None or (found / "lib").is_dir():
        raise ValueError(
            f"expected the folder of an earlier run ({folder.name}) at {source}, found none; give "
            "the folder that holds its notebooks/"
        )
    for path in sorted(found.iterdir()):
        copy = folder / path.name
        if not path.name.startswith(".") and not (copy.is_file() or any(copy.glob("*"))):
            with artifacts.atomic_path(copy) as temporary:
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, temporary)
    print(f"going on from the results in {found}", flush=True)


def _report(folder: Path) -> Path | None:
    """Write the page; what goes wrong is printed, because an error of a notebook tells more."""
    try:
        return reports.write_page(folder)
    except (OSError, ValueError) as error:
        print(f"no report: {error}", file=sys.stderr)
        return None


def _execute_all(
    planned: Sequence[Planned], folder: Path, manifest: dict[str, Any], *, is_timed: bool
) -> None:
    """Execute notebooks in their order, and keep in the manifest what becomes of each."""
    settings, entries = manifest["settings"], {}
    for one in planned:
        found = list_settings(one.profile)
        changed = {name: value for name, value in found if settings.get(name, ...) != value}
        entry = {"parameters": one.asked, "changed": changed, "state": "not run"}
        entries[one.path.stem if is_timed else reports.ABLATION] = entry
    manifest["notebooks"] = dict(sorted((manifest.get("notebooks", {}) | entries).items()))
    artifacts.write_json(manifest, folder / reports.MANIFEST)
    start_clock(max(one.given.pop("TIME_LIMIT_HOURS", 0) for one in planned))
    shares = [TIME_SHARES.get(one.path.name[:2], 1) for one in planned]
    is_late = False
    for place, (one, entry) in enumerate(zip(planned, entries.values(), strict=True)):
        print(f"{one.path.stem} ...", flush=True)
        began = time.monotonic()
        try:
            with within(shares[place] / sum(shares[place:])):
                copy = folder / "notebooks" / one.path.name
                peak = execute(one.path, copy, one.given, cwd=ROOT)
            entry["state"] = "done"
        except Stopped as error:
            told = str(error).replace(str(one.root), manifest["data_dir"] or one.root.name)
            entry["state"] = told.replace(f"{ROOT}/", "")
            is_late = is_late or error.is_in_time  # then what later notebooks lack is no failure
            if not is_late or one is planned[-1]:
                raise
            print(error, flush=True)
            continue
        finally:
            seconds = time.monotonic() - began
            entry["minutes"] = round(seconds / 60, 2)
            entry["ended"] = datetime.now().astimezone().isoformat(" ", "minutes")
            entry["data"] = reports.describe_data(one.root)
            artifacts.write_json(manifest, folder / reports.MANIFEST)
        print(f"{one.path.stem} done in {seconds:.0f} s", flush=True)
        if is_timed:
            _keep_timing(folder, one.path.stem, seconds, peak)


def _left_out(path: Path, profile: Profile) -> str:
    """How to run a notebook that the profile does without; "" for the others."""
    if path.name.startswith("05_") and not profile.ablation:
        return "-p ABLATION True runs it"
    if path.name.startswith("03_") and not (profile.ablation or profile.needs_clusters):
        return "no stage trains on its list and its images do not vote; --only 03 runs it"
    return ""


def _keep_timing(folder: Path, notebook: str, seconds: float, peak: int) -> None:
    """Not among the recorded numbers, which the same seed must make identical."""
    path = folder / "timings.csv"
    table = pd.DataFrame([{"notebook": notebook, "seconds": round(seconds), "peak_mib": peak}])
    if path.is_file():
        table = pd.concat([pd.read_csv(path), table]).drop_duplicates("notebook", keep="last")
    artifacts.write_csv(table.sort_values("notebook"), path)


def describe(profile: Profile) -> str:
    """Every notebook parameter with its help text, and every setting by its dotted name."""
    parameters = {name: one for path in notebooks() for name, one in read_parameters(path).items()}
    lines = ["parameters of the notebooks, for -p NAME VALUE"]
    lines += [f"  {name} = {value!r}  # {text}" for name, (value, text) in parameters.items()]
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
    parser.add_argument("profile", nargs="?", default="")
    for option in ("--data-dir", "--recipe", "--name", "--again", "--resume-from", "--only"):
        parser.add_argument(option, default="")
    parser.add_argument("--from", dest="first", default="")
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--settings", action="store_true")
    parser.add_argument("-p", dest="parameters", nargs=2, action="append", default=[])
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for and return its exit code."""
    options, began = vars(parse(arguments)), time.time()
    again, lists_settings = options.pop("again"), options.pop("settings")
    is_ablation = options.pop("ablation")
    options["parameters"] = {name: read_value(name, text) for name, text in options["parameters"]}
    try:
        if again:
            options = _again(again, options)
        profile = options["profile"] = options["profile"] or "mini"
        if lists_settings:
            print(describe(profile_of(profile, recipe_name=options["recipe"])))
            return 0
        if is_ablation and not again:
            found = PROFILES.get(profile)
            is_usual = found and found.world == WorldConfig() and not options["data_dir"]
            usual = ABLATION | (ABLATION_WORLD if is_usual else {})
            # Notebook 05 is another amount of work in an ablation.
            options |= {"only": "05", "is_timed": False}
            options["parameters"] = usual | options["parameters"]
        with imported_early():
            folder = run(**options)
    except (ValueError, Stopped) as error:
        told, code = str(error), getattr(error, "code", 1)
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        told, code = f"{what}; LANDMARK_OUTPUTS may name another folder, {AGAIN}", 1
    except KeyboardInterrupt:
        told, code = f"interrupted; {AGAIN}", 130
    else:
        print(f"\n{reports.summarise(folder, since=began)}")
        print(f"all of it in {(time.time() - began) / 60:.1f} minutes")
        return 0
    print(f"run_all.sh: {told}", file=sys.stderr)
    return code


def _again(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that repeat the run of a `run.json`, with those that are given beside it."""
    folder = caller_path(path)
    folder = folder if folder.is_dir() else folder.parent
    manifest = reports.read_manifest(folder)
    if not manifest:
        raise ValueError(
            f"expected --again with the {reports.MANIFEST} of a run, found none at {path}; every "
            "run of ./run_all.sh leaves one in its folder"
        )
    if options["profile"] or options["recipe"]:
        raise ValueError(f"expected no profile or recipe beside --again: {path} has them")
    own = {name: one["parameters"] for name, one in manifest["notebooks"].items()}
    is_chain = set(own) != {reports.ABLATION}
    ablation = own.pop(reports.ABLATION, {})
    own = own if is_chain else {"05_ablation_tables": ablation}
    kept = {name: manifest[name] for name in ("profile", "data_dir", "recipe", "name")}
    given = {name: value for name, value in options.items() if value}
    return {**options, **kept, **given, "own": own, "is_timed": is_chain}


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without the seconds in which Python frees all of torch

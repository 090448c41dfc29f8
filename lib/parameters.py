"""A notebook's parameters: read from its tagged cell, checked, and applied to a profile.

Papermill only logs a parameter that a notebook does not declare, and Jupyter checks nothing, so
`chosen_profile` checks every name, type, choice, range and path.
"""

import ast
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.artifacts import caller_path, existing_folder, world_root
from lib.config import Profile, Range, list_settings, nearest, override
from lib.miniworld import make_plan
from lib.recipes import profile as profile_of

# The profile's setting behind each parameter. Left at its default, it keeps the profile's value.
SETTINGS = {
    "BACKBONE": "model.backbone",
    "WEIGHTS": "model.weights",
    "SOFTMAX_EPOCHS": "stages.softmax.epochs",
    "ARCFACE_EPOCHS": "stages.arcface.epochs",
    "CLUSTER_EPOCHS": "stages.cluster.epochs",
    "EPS": "clean.eps",
    "RELAXED_EPS": "clean.relaxed_eps",
    "MIN_SAMPLES": "clean.min_samples",
    "TEST_SIZE": "inference.size",
    "RECIPROCAL": "rerank.reciprocal",
    "REFERENCES": "rerank.references",
    "COMPARE": "rerank.compare",
    "LOCAL": "rerank.local",
    "ABLATION": "ablation",
    "QUERIES": "world.queries",
    "LANDMARKS": "world.landmarks",
    "RAW_IMAGES": "world.raw_images",
    "SPREAD": "world.spread",
    "GALLERY": "world.gallery_images",
}
SWITCHES = ("RECIPROCAL", "COMPARE", "ABLATION")  # on or off, or True or False; "": the profile's
# Of the parameters that are no settings; a default is always right.
RANGES = {"COLUMNS": Range(1, 100), "SHARE": Range(0, 100), "TIME_LIMIT_HOURS": Range()}
RANGES |= dict.fromkeys(("ALPHA", "BETA", "VOTES"), Range())
# Settings that SET leaves to a parameter or argument of their own, because run folders depend on
# them; a stage's `name` is one too.
OWN_PARAMETERS = {
    "name": "PROFILE",
    "summary": "PROFILE",
    "recipe": "RECIPE",
    "seed": "SEED",
    "world": "DATA_DIR",
}
PATHS = ("WEIGHTS", "SECOND_RUN")  # parameters whose text is no Python value
RENAMED = {"TRUNK": "BACKBONE"}  # parameters of earlier versions
# Of settings between commas, one: brackets, quotes, or anything but a comma.
_PART = re.compile(r"""(?:\([^()]*\)|\[[^][]*\]|\{[^{}]*\}|'[^']*'|"[^"]*"|[^,])+""")


def read_parameters(path: str | Path) -> dict[str, tuple[Any, str]]:
    """Default value and help text by name, of a notebook's cell tagged `parameters`."""
    # As JSON, because importing nbformat takes each notebook a second.
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    if not tagged:
        raise ValueError(
            f"expected a cell tagged 'parameters' in {Path(path).name}, found none; tag it"
        )
    source = "".join(tagged[0]["source"])
    found, lines = {}, source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
            default = ast.literal_eval(node.value)
            found[node.target.id] = default, comment.strip(" #")
    return found


def declared_parameters(path: str | Path) -> dict[str, Any]:
    """Default values of a notebook's parameters, by name."""
    return {name: default for name, (default, _) in read_parameters(path).items()}


def read_value(name: str, text: str) -> Any:
    """The value that a command line gives a parameter, as Python reads it: `1e-3` is a float."""
    try:
        value = text if name in PATHS else ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return list(value) if isinstance(value, tuple) else value  # 0,1,2


def with_new_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same parameters, those of earlier versions under their names of today."""
    found = dict(given)
    for old, new in RENAMED.items():
        if old in found:
            print(f"hint: the parameter {old} is called {new} now")
            found[new] = found.pop(old)
    return found


def _check_values(given: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in declared:
            hint = nearest(name, declared, "it declares {}")
            raise ValueError(f"this notebook has no parameter {name!r}; {hint}")
        is_switched = name in SWITCHES and type(value) is bool
        if not (is_switched or _is_like(value, declared[name])):
            kind = f"{type(declared[name]).__name__} such as {declared[name]!r}"
            kind = "on or off" if name in SWITCHES else kind
            raise ValueError(
                f"parameter {name} expects {kind}, found {value!r} ({type(value).__name__})"
            )
    for name in RANGES.keys() & given.keys():
        value, allowed = given[name], RANGES[name]
        if value != declared[name] and value not in allowed:
            default = "" if declared[name] in allowed else f", or {declared[name]:g}"
            raise ValueError(f"parameter {name} expects {allowed}{default}, found {value}")
    if place := given.get("SECOND_RUN"):
        if given["SECOND"]:
            raise ValueError(
                f"expected one second network, found the stage SECOND {given['SECOND']!r} and "
                f"SECOND_RUN {place!r}; leave one of them out"
            )
        if not caller_path(place).exists():
            raise ValueError(
                "parameter SECOND_RUN expects the folder of a run or a checkpoint "
                f"(model.safetensors), found none at {place}"
            )
    seeds = given.get("SEEDS", [0])
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"parameter SEEDS expects different numbers from 0 on such as [0, 1], found {seeds}"
        )


def _is_like(value: Any, default: Any) -> bool:
    expected = type(default)
    accepted = (float, int) if expected is float else expected
    if not isinstance(value, accepted) or (type(value) is bool and expected is not bool):
        return False
    return not isinstance(default, list) or all(_is_like(each, default[0]) for each in value)


def chosen_profile(given: Mapping[str, Any], declared: Mapping[str, Any]) -> Profile:
    """The profile that a notebook's parameters make, of which `declared` holds the defaults."""
    _check_values(given, declared)
    usual = profile_of(given["PROFILE"], recipe_name=given["RECIPE"], seed=given["SEED"])
    changes = changed_settings(given, declared)
    sizes = [name for name, changed in changes.items() if any("world." in one for one in changed)]
    _check_data(given["DATA_DIR"], usual, sizes)
    profile = usual
    for name, changed in changes.items():
        try:
            if name == "SET":
                _check_names(changed, profile)
            profile = override(profile, changed)
        except ValueError as error:
            raise ValueError(f"parameter {name}: {error}") from None
    if sizes:
        try:
            make_plan(profile.world)  # refuses a world that is too small
        except ValueError as error:
            raise ValueError(f"parameter {sizes[0]}: {error}") from None
    if profile.model != usual.model:
        _check_network(profile)
    from lib.training import check_stage  # after the quick checks

    for stage in profile.stages:
        check_stage(stage)
    if "TABLES" in given:
        from lib.ablation import chosen_tables

        chosen_tables(profile, given["TABLES"], given["SHARE"], given["ROWS"])
    return profile


def changed_settings(
    given: Mapping[str, Any], declared: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """By parameter, the settings that it changes: new values by dotted name.

    >>> declared = {"EPS": 0.0, "QUERIES": 0, "SET": ""}
    >>> changed_settings({"EPS": 0.4, "QUERIES": 0, "SET": "clean.split=off"}, declared)
    {'EPS': {'clean.eps': 0.4}, 'SET': {'clean.split': 'off'}}
    """
    found = {
        name: {SETTINGS[name]: value}
        for name, value in given.items()
        if name in SETTINGS and value != declared[name]
    }
    asked = {}
    for part in _PART.findall(given.get("SET", "")):
        name, equals, value = (text.strip() for text in part.partition("="))
        if not (equals and name):
            raise ValueError(
                "parameter SET: expected NAME=VALUE, with commas between several such as "
                f"'clean.eps=0.4, clean.split=False', found {part.strip()!r}"
            )
        own = OWN_PARAMETERS.get(name)
        if own or name.endswith(".name"):
            hint = f"; give {own}" if own else ", because stages are kept under it"
            raise ValueError(f"parameter SET: setting {name!r} cannot be changed here{hint}")
        asked[name] = read_value(name, value)
    return found | ({"SET": asked} if asked else {})


def world_folder(profile: Profile, given: Mapping[str, Any], declared: Mapping[str, Any]) -> Path:
    """Where the miniature world of `chosen_profile` is; one of another size has its own place."""
    changes = changed_settings(given, declared).values()
    sizes = [name[6:] for one in changes for name in one if name.startswith("world.")]
    parts = [f"{getattr(profile.world, name)}-{name.replace('_', '-')}" for name in sizes]
    return world_root("-".join([profile.name, *parts]))


def _check_names(asked: Iterable[str], profile: Profile) -> None:
    known = [name for name, _ in list_settings(profile)]
    for name in asked:
        is_part = any(one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in known)
        if name not in known and not is_part:  # of those `override` says more
            hint = nearest(name, known, "./run_all.sh settings lists all")
            raise ValueError(f"there is no setting {name!r}; {hint}")


def _check_network(profile: Profile) -> None:
    from lib.models import build_model
    from lib.retrieval import sizes

    model = profile.model
    if model.weights not in ("", "pretrained") and not Path(model.weights).is_file():
        raise ValueError(
            "parameter WEIGHTS expects 'pretrained' or a weight file, found no file "
            f"{model.weights!r}"
        )
    is_local = model.weights != "pretrained"  # a download waits until it is needed
    network = build_model(model if is_local else dataclasses.replace(model, weights=""))
    for size in {stage.size for stage in profile.stages} | {*sizes(profile.inference)}:
        network.check_size(size)


def _check_data(data_dir: str, profile: Profile, sizes: Sequence[str]) -> None:
    if data_dir:
        existing_folder(data_dir)
    elif profile.world is None:
        raise ValueError(
            f"expected a data folder for profile {profile.name!r}, found none; give one in GLDv2's "
            "layout with --data-dir (DATA_DIR in a notebook), or use the profile mini"
        )
    if data_dir and sizes:
        raise ValueError(
            f"parameter {sizes[0]} is of the miniature world, and a data folder takes its place; "
            "leave one of them out"
        )

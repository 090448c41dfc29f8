"""A notebook's parameters: read from its tagged cell, checked, and what they set in a profile.

Papermill only logs a parameter that a notebook does not declare, and Jupyter checks nothing. So
`chosen_profile` looks at every name, type, choice, range and path: `lib.pipeline` for all notebooks
to be run before the first of them starts, `lib.session` for the one that is open."""

import ast
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from lib.artifacts import existing_folder
from lib.config import ModelConfig, Profile, Range, override
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
    "QUERIES": "world.queries",
    "LANDMARKS": "world.landmarks",
    "RAW_IMAGES": "world.raw_images",
    "SPREAD": "world.spread",
    "GALLERY": "world.gallery_images",
}
# Of the parameters that are no settings; a default is always right.
RANGES = {
    "COLUMNS": Range(1, 100),
    "SHARE": Range(0, 100),
    "ALPHA": Range(),
    "BETA": Range(),
    "VOTES": Range(),
}


def declared_parameters(path: str | Path) -> dict[str, Any]:
    """Names and default values of a notebook's cell tagged `parameters`.

    Raises:
        ValueError: if the notebook has no such cell.
    """
    for cell in nbformat.read(path, as_version=4).cells:
        if "parameters" in cell.metadata.get("tags", []):
            return _assignments(cell.source)
    raise ValueError(
        f"expected a cell tagged 'parameters' in {Path(path).name}, found none; tag it"
    )


def _assignments(source: str) -> dict[str, Any]:
    values = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            values[node.target.id] = ast.literal_eval(node.value)
    return values


def check_parameters(given: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Refuse names that a notebook does not declare and values of another type than its defaults.

    Raises:
        ValueError: naming the nearest declared parameter, or the type that was expected.
    """
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it declares {', '.join(declared)}"
            raise ValueError(f"this notebook has no parameter {name!r}; {hint}")
        if not _is_like(value, declared[name]):
            raise ValueError(
                f"parameter {name} expects {type(declared[name]).__name__} such as "
                f"{declared[name]!r}, found {value!r} ({type(value).__name__})"
            )


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value has the type of a default, and those of a list the type of its first."""
    expected = type(default)
    accepted = (float, int) if expected is float else expected
    if not isinstance(value, accepted) or (type(value) is bool and expected is not bool):
        return False
    return not isinstance(default, list) or all(_is_like(each, default[0]) for each in value)


def chosen_profile(given: Mapping[str, Any], declared: Mapping[str, Any]) -> Profile:
    """The profile that a notebook's parameters make, after all of them were checked.

    Args:
        given: all of the notebook's parameters.
        declared: their defaults.

    Raises:
        ValueError: for a name, type, choice, range or path that is wrong.
    """
    check_parameters(given, declared)
    _check_values(given, declared)
    profile = profile_of(given["PROFILE"], recipe_name=given["RECIPE"], seed=given["SEED"])
    changes = changed_settings(given, declared)
    changed = [name for name in given if SETTINGS.get(name) in changes]
    sizes = [name for name in changed if SETTINGS[name].startswith("world.")]
    _check_data(given["DATA_DIR"], profile, sizes)
    for name in changed:
        try:
            profile = override(profile, {SETTINGS[name]: given[name]})
        except ValueError as error:
            raise ValueError(f"parameter {name}: {error}") from None
    if sizes and profile.world is not None:
        try:
            make_plan(profile.world)  # refuses a world that is too small
        except ValueError as error:
            raise ValueError(f"parameter {sizes[0]}: {error}") from None
    if given.get("BACKBONE") or given.get("WEIGHTS", "") not in ("", "pretrained"):
        _check_network(profile.model)
    _check_stages(profile)
    if "TABLES" in given:
        from lib.ablation import chosen_tables

        chosen_tables(profile, given["TABLES"], given["SHARE"])
    return profile


def _check_values(given: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    """Refuse values out of range and weight files that are not there."""
    for name in RANGES.keys() & given.keys():
        value, allowed = given[name], RANGES[name]
        if value != declared[name] and value not in allowed:
            default = "" if declared[name] in allowed else f", or {declared[name]:g}"
            raise ValueError(f"parameter {name} expects {allowed}{default}, found {value}")
    seeds = given.get("SEEDS", [0])
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"parameter SEEDS expects different numbers from 0 on such as [0, 1], found {seeds}"
        )
    weights = given.get("WEIGHTS", "")
    if weights not in ("", "pretrained") and not Path(weights).is_file():
        raise ValueError(
            f"parameter WEIGHTS expects 'pretrained' or a weight file, found no file {weights!r}"
        )


def _check_network(model: ModelConfig) -> None:
    """Build the network that was asked for: only so is it known that file and backbone fit."""
    from lib.models import build_model

    is_local = model.weights != "pretrained"  # what is to be fetched is fetched when it is needed
    build_model(model if is_local else dataclasses.replace(model, weights=""))


def _check_stages(profile: Profile) -> None:
    from lib.training import check_stage

    for stage in profile.stages:
        check_stage(stage)


def _check_data(data_dir: str, profile: Profile, sizes: Sequence[str]) -> None:
    """Refuse a data folder that is not there, none where one is needed, and a world beside it."""
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


def changed_settings(given: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """The profile's settings, by dotted name, that were given other values than a notebook's own.

    >>> changed_settings({"EPS": 0.4, "QUERIES": 0, "ROWS": 5}, {"EPS": 0.0, "QUERIES": 0})
    {'clean.eps': 0.4}
    """
    return {
        SETTINGS[name]: value
        for name, value in given.items()
        if name in SETTINGS and value != declared[name]
    }

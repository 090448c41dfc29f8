"""A notebook's parameters: read from its tagged cell, checked, and what they set in a profile.

Papermill only logs a parameter that a notebook does not declare, and Jupyter checks nothing.
"""

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

# The profile's setting behind each parameter. Left at its default, it keeps the profile's value.
SETTINGS = {
    "TRUNK": "model.trunk",
    "WEIGHTS": "model.weights",
    "SOFTMAX_EPOCHS": "stages.softmax.epochs",
    "ARCFACE_EPOCHS": "stages.arcface.epochs",
    "CLUSTER_EPOCHS": "stages.cluster.epochs",
    "EPS": "clean.eps",
    "RELAXED_EPS": "clean.relaxed_eps",
    "MIN_SAMPLES": "clean.min_samples",
    "TEST_SIZE": "inference.size",
    "QUERIES": "world.queries",
    "LANDMARKS": "world.landmarks",
    "RAW_IMAGES": "world.raw_images",
    "SPREAD": "world.spread",
    "GALLERY": "world.gallery_images",
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
        expected = type(declared[name])
        accepted = (float, int) if expected is float else expected
        if not isinstance(value, accepted) or (type(value) is bool and expected is not bool):
            raise ValueError(
                f"parameter {name} expects {expected.__name__} such as {declared[name]!r}, "
                f"found {value!r} ({type(value).__name__})"
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

"""The layout of `lib`: imports point downwards, go through packages, and make no circle."""

import ast
import graphlib
import subprocess
import sys

import pytest

from lib.artifacts import ROOT

LIB = ROOT / "lib"
LAYERS = (  # from below; a unit imports from layers below its own, the first also from itself
    (
        *("artifacts", "config", "recipes", "environment", "distributed", "kernel"),
        *("patient_kernel", "time_limit"),
    ),
    ("data", "models", "miniworld"),
    ("training", "retrieval"),
    ("cleaning", "reranking"),
    ("ablation", "plots"),
    ("parameters",),
    ("session", "reports"),
    ("pipeline", "commands", "demo"),
)
LAYER = {unit: layer for layer, units in enumerate(LAYERS) for unit in units}
PACKAGES = sorted(path.parent.name for path in LIB.glob("*/__init__.py"))


def unit_of(path):
    """The package or root module that a file belongs to; a package's command starts from all."""
    return "commands" if path.name == "__main__.py" else owner_of(path)


def owner_of(path):
    """The package or root module that has a file."""
    return path.relative_to(LIB).parts[0].removesuffix(".py")


def imports(path):
    """The modules of lib that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("lib."))
        elif isinstance(node, ast.ImportFrom) and node.module == "lib":
            yield from (f"lib.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            yield node.module


FILES = [path for path in sorted(LIB.rglob("*.py")) if path != LIB / "__init__.py"]
EDGES = {
    (unit_of(path), name)
    for path in FILES
    for name in imports(path)
    if name.split(".")[1] != owner_of(path)
}


def test_every_unit_has_a_layer():
    assert {unit_of(path) for path in FILES} == set(LAYER)


def test_imports_point_downwards():
    upward = [
        f"{unit} imports {name}"
        for unit, name in sorted(EDGES)
        if LAYER[name.split(".")[1]] >= LAYER[unit] > 0 or LAYER[name.split(".")[1]] > LAYER[unit]
    ]
    assert upward == []


def test_imports_make_no_circle():
    graph = {}
    for unit, name in EDGES:
        graph.setdefault(unit, set()).add(name.split(".")[1])
    graphlib.TopologicalSorter(graph).prepare()


def test_imports_go_through_packages():
    deep = [f"{unit} imports {name}" for unit, name in sorted(EDGES) if name.count(".") > 1]
    assert deep == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_what_it_is_for_and_exports_no_module_by_name(package):
    tree = ast.parse((LIB / package / "__init__.py").read_text())
    assert ast.get_docstring(tree)
    exported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != f"lib.{package}"
        for alias in node.names
    }
    assert exported & {path.stem for path in (LIB / package).glob("*.py")} == set()
    assert not any(name.startswith("_") for name in exported)


def test_arrays_settings_and_figures_need_no_torch():
    names = (
        "cleaning, data, demo, parameters, plots, recipes, reranking, retrieval, session, training"
    )
    code = f"import sys; from lib import {names}; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr

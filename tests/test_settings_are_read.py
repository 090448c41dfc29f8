"""Every setting and every notebook parameter is read somewhere, or it does nothing."""

import ast
import dataclasses

import nbformat
import pytest

from lib import config
from lib.artifacts import ROOT
from lib.parameters import SETTINGS, declared_parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CLASSES = [
    kind
    for kind in vars(config).values()
    if isinstance(kind, type) and issubclass(kind, config.Settings) and kind is not config.Settings
]
OWN = {"config.py", "recipes.py"}  # these set settings


def cells(path):
    """The source of a notebook's code cells after its parameters."""
    code = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return [cell.source for cell in code if "parameters" not in cell.metadata.get("tags", [])]


def attributes_read(source):
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def names_read(source):
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def strings(source):
    return {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}


def unread(kind, read):
    return [field.name for field in dataclasses.fields(kind) if field.name not in read]


@pytest.fixture(scope="module")
def read():
    """The attributes that the library and the notebooks read."""
    modules = [path for path in (ROOT / "lib").rglob("*.py") if path.name not in OWN]
    notebooks = [source for path in NOTEBOOKS for source in cells(path)]
    sources = [path.read_text() for path in modules] + notebooks
    return set().union(*map(attributes_read, sources))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_setting_is_read(kind, read):
    assert unread(kind, read) == []


def test_unread_names_a_setting_that_nothing_reads():
    @dataclasses.dataclass(frozen=True)
    class Some:
        used: int = 0
        forgotten: int = 0
        written: int = 0

    assert unread(Some, attributes_read("x.used; x.written = 1; forgotten = 2")) == [
        "forgotten",
        "written",
    ]


def test_every_entry_of_settings_is_a_parameter_of_a_notebook():
    declared = set().union(*map(declared_parameters, NOTEBOOKS))
    assert SETTINGS.keys() - declared == set()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_of_a_notebook_is_read(path):
    in_cells = set().union(*map(names_read, cells(path)))
    by_start = set().union(
        *(strings((ROOT / "lib" / f"{name}.py").read_text()) for name in ("session", "parameters"))
    )
    places = ("PROFILE", "DATA_DIR", "RECIPE", "NAME", "SEED", "SET", "LEAKED", "TIME_LIMIT_HOURS")
    known = in_cells | set(SETTINGS) | {name for name in places if name in by_start}
    assert declared_parameters(path).keys() - known == set()

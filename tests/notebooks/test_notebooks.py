"""The form of the notebooks, read off their JSON: what a reader and papermill rely on."""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest

from lib.artifacts import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "01_eda",
    "02_stage_one_train",
    "03_dbscan_cleaning",
    "04_cluster_finetune",
    "05_ablation_tables",
    "06_submission_reranking",
]

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tagged(path):
    return [cell for cell in code(path) if "parameters" in cell.metadata.get("tags", [])]


def test_notebook_is_one_of_the_six(path):
    assert path.stem in NAMES
    assert len(NOTEBOOKS) == len(NAMES)


def test_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code(path))
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_notebook_opens_with_number_title_and_question(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {path.stem[:2]} · \S.*\n\n", first.source)
    assert "?" in first.source
    assert "two cores" in first.source


def test_notebook_parameters_are_plain_annotated_literals(path):
    (cell,) = tagged(path)
    for line, node in zip(cell.source.splitlines(), ast.parse(cell.source).body, strict=True):
        assert isinstance(node, ast.AnnAssign)
        assert node.target.id.isupper()
        assert ast.unparse(node.annotation) in ("int", "float", "str", "bool", "list[int]")
        ast.literal_eval(node.value)
        assert re.search(r"  # \S", line), f"{node.target.id} has no help text"


def test_notebook_declares_what_every_run_passes(path):
    (cell,) = tagged(path)
    names = [node.target.id for node in ast.parse(cell.source).body]
    assert names[:6] == ["PROFILE", "DATA_DIR", "RECIPE", "NAME", "SEED", "SET"]


def test_notebook_starts_its_session_under_its_own_name(path):
    setup = code(path)[2]
    assert setup.source.endswith(f'run = start("{path.stem}", globals())')


def test_notebook_says_how_to_be_run_where_the_library_is_not_found(path, tmp_path):
    (tmp_path / "lib").mkdir()  # as the system's /lib, where the working folder is /
    check = code(path)[1].source
    for folder in (tmp_path, tmp_path / "lib"):
        found = subprocess.run(
            [sys.executable, "-S", "-c", check], cwd=folder, capture_output=True, text=True,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        last = found.stderr.splitlines()[-1]
        assert last.startswith("ImportError: expected this repository's package lib, found none;")
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True)


def test_notebook_defines_nothing_and_runs_no_shell(path):
    for cell in code(path):
        assert not re.search(r"^\s*[%!]", cell.source, re.MULTILINE)
        assert "sys.path" not in cell.source
        tree = ast.parse(cell.source)
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not any(isinstance(node, kinds) for node in ast.walk(tree))


def test_notebook_names_no_absolute_path(path):
    assert not re.search(r"[\"'](/|~|[A-Z]:\\)[\w/]", path.read_text())


def test_notebook_ends_in_recorded_numbers_and_what_comes_next(path):
    *_, last_code = code(path)
    assert last_code.source.startswith("run.record(")
    assert nbformat.read(path, as_version=4).cells[-1].cell_type == "markdown"


def test_notebook_comes_to_a_judgement(path):
    text = path.read_text()
    assert "## Look" in text
    assert "## Check" in text
    assert "## Judge" in text

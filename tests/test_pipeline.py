"""The chain of notebooks: what runs, with which parameters, and where it stops."""

import contextlib
import errno
import os
import re
import subprocess
import sys
from importlib import metadata

import nbformat
import pandas as pd
import pytest
import torch

from lib import artifacts as paths
from lib import pipeline, reports
from lib.artifacts import ROOT, read_json
from lib.environment import USAGE
from lib.kernel import Stopped
from lib.models.network import build_model
from lib.parameters import read_value
from lib.pipeline import chosen, main, notebooks, parse, plan, run
from lib.recipes import profile
from lib.time_limit import VARIABLE, time_left
from tests.made_up import left_by_a_kill

HEAD = 'PROFILE: str = "mini"\nDATA_DIR: str = ""\nRECIPE: str = ""\nSEED: int = 0\n'
# Each writes what it was given, so that the test sees it; they import nothing of ours.
NOTE = "import json, os; open(os.environ['SEEN'], 'a').write(json.dumps([{}]) + chr(10))"
METADATA = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
TABLES = 'TABLES: str = "quick"\nSHARE: float = 0.0\nROWS: str = ""\n'
NOTEBOOKS = {
    "01_look": (HEAD + "ROWS: int = 3", NOTE.format("1, PROFILE, DATA_DIR, ROWS, os.getcwd()")),
    "02_fail": (HEAD + "RATE: float = 0.1", "assert RATE < 1, 'rate too large'"),
    "03_last": (HEAD + 'WEIGHTS: str = ""', NOTE.format("3, PROFILE, WEIGHTS")),
}


@pytest.fixture
def house(tmp_path, monkeypatch, outputs):
    """A repository of three tiny notebooks, called from its own root."""
    root = tmp_path / "house"
    (root / "notebooks").mkdir(parents=True)
    for name, sources in NOTEBOOKS.items():
        cells = [nbformat.v4.new_code_cell(text, id=str(i)) for i, text in enumerate(sources)]
        cells[0].metadata["tags"] = ["parameters"]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
        nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")
    (root / "notebooks" / "draft.ipynb").write_text("not one of them")
    monkeypatch.setattr(pipeline, "ROOT", root)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("LANDMARK_HEADLESS", "")
    monkeypatch.setenv("LANDMARK_CALLER", str(tmp_path))
    return root


@pytest.fixture(autouse=True)
def not_early(monkeypatch):
    """Nothing is imported for kernels that no notebook runs in."""
    monkeypatch.setattr(pipeline, "imported_early", contextlib.nullcontext)


@pytest.fixture
def calls(monkeypatch):
    """The notebooks that are asked for, without running them."""
    asked = []

    def execute(path, copy, parameters, **options):
        asked.append((path.stem, copy, parameters, options))
        return 7  # MiB

    monkeypatch.setattr(pipeline, "execute", execute)
    return asked


def test_parse_reads_the_command_line_of_the_usage():
    found = parse(["smoke", "--data-dir", "x y", "--from", "03", "-p", "A", "1", "-p", "B", "-2"])
    assert vars(found) == {
        "profile": "smoke",
        "data_dir": "x y",
        "resume_from": "",
        "recipe": "",
        "name": "",
        "again": "",
        "ablation": False,
        "settings": False,
        "first": "03",
        "only": "",
        "parameters": [["A", "1"], ["B", "-2"]],
    }
    assert vars(parse([])) == {
        "profile": "",
        "data_dir": "",
        "resume_from": "",
        "recipe": "",
        "name": "",
        "again": "",
        "ablation": False,
        "settings": False,
        "first": "",
        "only": "",
        "parameters": [],
    }


@pytest.mark.parametrize("arguments", [["--epochs", "3"], ["smoke", "mini"], ["-p", "A"]])
def test_parse_shows_the_usage_when_it_understands_nothing(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    assert USAGE.strip() in capsys.readouterr().err


def names(paths):
    return [path.stem for path in paths]


@pytest.mark.usefixtures("house")
def test_chosen_gives_all_the_rest_or_one():
    assert names(notebooks()) == ["01_look", "02_fail", "03_last"]
    assert names(chosen()) == names(notebooks())
    assert names(chosen(first="02")) == ["02_fail", "03_last"]
    assert names(chosen(only="02")) == ["02_fail"]
    for options in ({"first": "07"}, {"only": "2"}):
        with pytest.raises(ValueError, match="a notebook number among 01, 02, 03, found '"):
            chosen(**options)


def test_notebooks_of_the_repository_are_the_six():
    assert [path.name[:2] for path in notebooks()] == [f"0{number}" for number in range(1, 7)]
    assert all(path.parent == ROOT / "notebooks" for path in notebooks())


@pytest.mark.usefixtures("house")
def test_plan_refuses_what_no_notebook_declares():
    plan({"ROWS": 1, "RATE": 2.0}, notebooks())
    with pytest.raises(ValueError, match=r"declares the parameter 'ROWSS'; did you mean ROWS\?"):
        plan({"ROWSS": 1}, notebooks())
    with pytest.raises(ValueError, match=r"'rate'; did you mean RATE\?"):
        plan({"rate": 1}, notebooks())
    with pytest.raises(
        ValueError, match="'ZZ'; they declare DATA_DIR, PROFILE, RATE, RECIPE, SEED"
    ):
        plan({"ZZ": 1}, chosen(only="02"))
    with pytest.raises(ValueError, match="'ROWS'"):
        plan({"ROWS": 1}, chosen(first="02"))


@pytest.mark.usefixtures("outputs")
def test_run_takes_parameters_of_earlier_versions(house, calls, capsys):
    path = house / "notebooks" / "01_look.ipynb"
    path.write_text(path.read_text().replace("ROWS: int = 3", "BACKBONE: str = ''"))
    run("smoke", only="01", parameters={"TRUNK": "resnet18"})
    assert calls[-1][2]["BACKBONE"] == "resnet18"
    assert capsys.readouterr().out.startswith("hint: the parameter TRUNK is called BACKBONE now\n")


def test_main_lists_parameters_and_settings(capsys):
    assert main(["smoke", "--settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  SEED = 0  # of everything random" in lines
    assert "  stages.arcface.loss = 'arcface'" in lines
    assert not any(line.startswith(("  name =", "  stages.arcface.name =")) for line in lines)


def test_run_shows_what_processes_of_a_notebook_print_once(house, outputs, capfd, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # under pytest ipykernel would leave it alone
    path = house / "notebooks" / "01_look.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[1].source = "import os; print('cell'); os.system('echo process')"
    nbformat.write(notebook, path)
    run("smoke", only="01")
    lines = capfd.readouterr().out.splitlines()
    assert (lines.count("cell"), lines.count("process")) == (1, 1)
    assert (outputs / "smoke" / "notebooks" / "01_look.ipynb").is_file()


def test_run_gives_each_notebook_what_it_declares(house, calls, stripes, outputs):
    folder = run("smoke", data_dir=str(stripes), parameters={"ROWS": 5, "RATE": 0.5})
    assert folder == paths.run_folder("smoke", str(stripes))
    assert folder.parent == outputs
    both = {"PROFILE": "smoke", "DATA_DIR": str(stripes), "RECIPE": ""}
    assert [(name, given) for name, _, given, _ in calls] == [
        ("01_look", both | {"ROWS": 5}),
        ("02_fail", both | {"RATE": 0.5}),
        ("03_last", both),
    ]
    assert [copy for _, copy, _, _ in calls] == [
        folder / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS
    ]
    assert all(options["cwd"] == house for *_, options in calls)
    assert os.environ["LANDMARK_HEADLESS"] == "1"


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"profile": "maxi"}, "among smoke, mini, photos, full, found 'maxi'"),
        ({"data_dir": "/no/such/place"}, "found no folder /no/such/place"),
        ({"only": "09"}, "found '09'"),
        ({"name": "a/b"}, "expected a run's name of letters, digits"),
        ({"name": "reference"}, "is not reference or data, found 'reference'"),
        ({"parameters": {"ROW": 1}}, "did you mean ROWS?"),
        ({"parameters": {"PROFILE": "full"}}, "PROFILE as the first argument"),
        ({"parameters": {"DATA_DIR": "/tmp"}}, "DATA_DIR with --data-dir"),
    ],
)
def test_run_refuses_before_it_runs_or_writes_anything(calls, outputs, options, message):
    with pytest.raises(ValueError, match=message):
        run(**{"profile": "smoke"} | options)
    assert calls == []
    assert not outputs.exists()


@pytest.mark.usefixtures("house")
def test_run_keeps_the_seconds_of_every_notebook(calls, outputs):
    run("smoke")
    run("smoke", only="02")
    timings = pd.read_csv(outputs / "smoke" / "timings.csv")
    assert timings["notebook"].tolist() == list(NOTEBOOKS)
    assert (timings["seconds"] >= 0).all()
    assert len(calls) == 4


@pytest.mark.usefixtures("outputs")
def test_run_leaves_the_tables_out_where_the_profile_does(house, calls, stripes, capsys):
    path = house / "notebooks" / "02_fail.ipynb"
    switch = path.read_text().replace("RATE: float = 0.1", "ABLATION: str = ''")
    path.rename(path.with_name("05_tables.ipynb")).write_text(switch)
    for profile_name, options, runs in (
        ("full", {}, False),
        ("full", {"parameters": {"ABLATION": True}}, True),
        ("full", {"only": "05"}, True),
        ("smoke", {}, True),
        ("smoke", {"parameters": {"ABLATION": "off"}}, False),
    ):
        run(profile_name, data_dir=str(stripes), **options)
        assert ("05_tables" in [name for name, *_ in calls]) == runs
        told = f"05_tables is left out of {profile_name}; -p ABLATION True runs it"
        assert (told in capsys.readouterr().out) != runs
        calls.clear()


@pytest.mark.usefixtures("outputs")
@pytest.mark.parametrize("recipe", ["glr20-resnet152", "glr21-resnest101"])
def test_run_leaves_the_cleaning_out_where_nothing_needs_it(house, calls, stripes, capsys, recipe):
    (house / "notebooks" / "03_last.ipynb").rename(house / "notebooks" / "03_cleaning.ipynb")
    run("full", data_dir=str(stripes), recipe=recipe)
    is_needed = recipe.startswith("glr20")
    assert ("03_cleaning" in [name for name, *_ in calls]) == is_needed
    assert ("03_cleaning is left out of full; no" in capsys.readouterr().out) != is_needed


@pytest.mark.usefixtures("house", "calls")
def test_run_leaves_the_seconds_of_the_chain_alone_where_it_is_another_amount_of_work(outputs):
    run("smoke")
    path = outputs / "smoke" / "timings.csv"
    path.write_text(path.read_text().replace("_mib", "_MIB"))  # a mark
    run("smoke", only="02", is_timed=False)
    assert "_MIB" in path.read_text()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2", -2),
        ("1e-3", 0.001),
        ("True", True),
        ("[1, 2]", [1, 2]),
        ("resnet18", "resnet18"),
        ("a b", "a b"),
        ("", ""),
        ("'3'", "3"),
        ("a.b(c)", "a.b(c)"),
        ("0,1", [0, 1]),
        ("(" * 9999, "(" * 9999),
    ],
)
def test_value_is_read_as_python_does(text, value):
    found = read_value("ROWS", text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.usefixtures("house")
def test_main_takes_paths_from_where_the_caller_stands(calls, tmp_path, stripes, monkeypatch):
    torch.save(build_model(profile("mini").model).backbone.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "photos").symlink_to(stripes)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, path in (
        ("weights.pth", str(tmp_path / "weights.pth")),
        ("~/weights.pth", str(tmp_path / "weights.pth")),
        ("pretrained", "pretrained"),
        ("", ""),
    ):
        assert main(["--only", "03", "--data-dir", "photos", "-p", "WEIGHTS", text]) == 0
        places = {"PROFILE": "mini", "DATA_DIR": str(stripes), "RECIPE": ""}
        assert calls[-1][2] == places | {"WEIGHTS": path}


@pytest.mark.usefixtures("house")
def test_main_names_a_missing_data_folder_as_the_caller_sees_it(tmp_path, capsys):
    assert main(["--data-dir", "fotos"]) == 1
    assert f"found no folder {tmp_path / 'fotos'};" in capsys.readouterr().err


@pytest.mark.usefixtures("house")
def test_main_answers_a_refusal_in_one_line(capsys):
    assert main(["maxi"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("run_all.sh: expected a profile among")
    assert captured.err.count("\n") == 1


@pytest.mark.usefixtures("house", "calls")
def test_main_ends_with_what_to_open_and_how_long_it_took(capsys):
    assert main(["smoke"]) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0].split() == ["report", "outputs/smoke/report.html"]
    assert last[1].startswith("all of it in 0.")


@pytest.mark.usefixtures("house", "calls")
def test_run_leaves_a_manifest_of_what_it_was_given_and_made_with(outputs, stripes, tmp_path):
    (tmp_path / "photos").symlink_to(stripes)
    run("smoke", data_dir="photos", name="mine", parameters={"ROWS": 5, "RATE": 0.5})
    manifest = read_json(outputs / "mine" / "run.json")
    expected = {"profile": "smoke", "data_dir": "photos", "recipe": "", "name": "mine"}
    assert manifest.items() >= expected.items()
    entries = manifest["notebooks"]
    asked = [entry["parameters"] for entry in entries.values()]
    assert (list(entries), asked) == (list(NOTEBOOKS), [{"ROWS": 5}, {"RATE": 0.5}, {}])
    assert {entry["state"] for entry in entries.values()} == {"done"}
    assert {entry["data"] for entry in entries.values()} == {reports.describe_data(stripes)}
    assert manifest["settings"]["stages.arcface.loss"] == "arcface"
    assert manifest["versions"]["torch"] == metadata.version("torch")
    assert str(tmp_path) not in (outputs / "mine" / "run.json").read_text()


@pytest.mark.usefixtures("house")
def test_main_repeats_a_run_with_the_parameters_of_each_notebook(calls, outputs, capsys):
    assert main(["smoke", "-p", "ROWS", "5", "-p", "RATE", "0.5"]) == 0
    assert main(["smoke", "--only", "02", "-p", "RATE", "0.25"]) == 0
    given = [(name, own) for name, _, own, _ in calls]
    calls.clear()
    assert main(["--again", str(outputs / "smoke" / "run.json"), "--name", "twin"]) == 0
    assert [(name, own) for name, _, own, _ in calls] == [given[0], given[3], given[2]]
    assert {copy.parts[-3] for _, copy, _, _ in calls} == {"twin"}
    calls.clear()
    assert main(["--again", str(outputs / "twin"), "--from", "02", "-p", "RATE", "0.75"]) == 0
    assert [own.get("RATE") for _, _, own, _ in calls] == [0.75, None]
    assert {copy.parts[-3] for _, copy, _, _ in calls} == {"twin"}
    for wrong, told in (
        (["--again", str(outputs)], "with the run.json of a run, found none at"),
        (["mini", "--again", str(outputs / "twin")], "expected no profile or recipe beside"),
    ):
        assert main(wrong) == 1
        assert told in capsys.readouterr().err


def test_main_repeats_an_ablation(house, calls, outputs):
    path = house / "notebooks" / "01_look.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source = f"{HEAD}SEEDS: list[int] = [0]\n{TABLES}"
    nbformat.write(notebook, path.with_name("05_ablation_tables.ipynb"))
    assert main(["smoke", "--ablation", "-p", "SEEDS", "[4]"]) == 0
    first = calls.pop()
    assert main(["--again", str(outputs / "smoke")]) == 0
    assert calls == [first]


@pytest.mark.usefixtures("house", "calls")
def test_run_refuses_the_folder_of_another_run(stripes):
    run("smoke", name="mine")
    run("smoke", name="mine", only="02")
    with pytest.raises(ValueError, match=r"found one of smoke; choose another --name"):
        run("smoke", name="mine", data_dir=str(stripes))


@pytest.mark.usefixtures("house", "calls")
def test_run_is_alone_in_its_folder(outputs, capsys):
    other = "import sys, lib.artifacts\nwith lib.artifacts.locked(sys.argv[1]):\n"
    other += "    print('here', flush=True); sys.stdin.read()"
    (outputs / "smoke").mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", other, outputs / "smoke"], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "here\n"
        assert main(["smoke"]) == 1
        told = (
            f"run_all.sh: another run (pid {process.pid}) is at work in {outputs / 'smoke'}; wait"
        )
        assert capsys.readouterr().err.startswith(told)
        assert main(["mini"]) == 0  # another folder
        process.kill()
    assert main(["smoke"]) == 0
    assert main(["smoke"]) == 0


@pytest.mark.usefixtures("house", "calls")
def test_run_removes_what_killed_runs_left_in_its_folder(outputs):
    left = outputs / "smoke" / "arcface" / left_by_a_kill("rows.npy")
    left.parent.mkdir(parents=True)
    left.touch()
    run("smoke")
    assert not left.exists()


@pytest.mark.usefixtures("house", "calls")
def test_main_tells_in_one_sentence_that_it_cannot_write(outputs, capsys):
    outputs.write_text("a file in the folder's place")
    assert main(["smoke"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("run_all.sh: ")
    assert str(outputs) in told
    assert "; LANDMARK_OUTPUTS may name another folder" in told
    assert told.count("\n") == 1


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Stopped("02_x was interrupted", 130), 130, "02_x was interrupted"),
        (Stopped("02_x stopped: why"), 1, "02_x stopped: why"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y"),
            1,
            "No space left on device: /x/y;",
        ),
    ],
)
def test_main_ends_in_one_sentence_and_a_code(monkeypatch, outputs, capsys, error, code, told):
    def execute(*_, **__):
        raise error

    monkeypatch.setattr(pipeline, "execute", execute)
    assert main(["smoke"]) == code
    assert capsys.readouterr().err.startswith(f"run_all.sh: {told}")


def test_time_limit_is_shared_out_and_what_stops_in_time_ends_nothing(monkeypatch, outputs, capsys):
    monkeypatch.setenv(VARIABLE, "")
    seen, stopping = {}, {"02"}

    def execute(path, copy, parameters, **_):
        seen[path.name[:2]] = time_left()
        if path.name[:2] in stopping:
            raise Stopped(f"{path.stem} stopped: why", is_in_time="02" in path.name)
        return 0

    monkeypatch.setattr(pipeline, "execute", execute)
    arguments = ["smoke", "-p", "TIME_LIMIT_HOURS", "1"]
    assert main(arguments) == 0
    shares = pipeline.TIME_SHARES
    assert list(seen) == ["01", "02", "03", "04", "06"]  # no ablation
    whole = sum(shares[name] for name in seen)
    assert seen["01"] == pytest.approx(3600 * shares["01"] / whole, rel=0.05)
    assert seen["06"] == pytest.approx(3600, rel=0.05)  # these here take no time
    assert "02_stage_one_train stopped: why\n" in capsys.readouterr().out
    stopping |= {"03", "06"}  # 03 lacks what 02 had no time for
    assert main(arguments) == 1
    assert capsys.readouterr().err == "run_all.sh: 06_submission_reranking stopped: why\n"


def test_resume_from_copies_what_is_not_there(calls, outputs, tmp_path):
    source = tmp_path / "input" / "outputs" / "smoke"
    files = {"arcface/state.pt": "state", "kept.json": "{}", "notebooks/x": "", "cluster/a": "new"}
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (outputs / "smoke" / "cluster").mkdir(parents=True)
    (outputs / "smoke" / "cluster" / "a").write_text("own")
    assert main(["smoke", "--only", "01", "--resume-from", str(tmp_path / "input")]) == 0
    assert (outputs / "smoke" / "arcface" / "state.pt").read_text() == "state"
    assert (outputs / "smoke" / "kept.json").read_text() == "{}"
    assert (outputs / "smoke" / "cluster" / "a").read_text() == "own"
    assert [call[0] for call in calls] == ["01_eda"]


@pytest.mark.parametrize("place", ["nowhere", "repository"])
def test_resume_from_refuses_what_is_no_run(calls, outputs, capsys, tmp_path, place):
    for name in ("lib", "notebooks"):  # of a repository without runs
        (tmp_path / "repository" / name).mkdir(parents=True)
    assert main(["smoke", "--resume-from", str(tmp_path / place)]) == 1
    assert "expected the folder of an earlier run (smoke)" in capsys.readouterr().err
    assert calls == []


def test_main_runs_tables_in_a_larger_world_where_the_usual_one_would_be_drawn(
    house, calls, stripes
):
    world = "".join(
        f"{name}: {type(value).__name__} = {type(value)()}\n"
        for name, value in pipeline.ABLATION_WORLD.items()
    )
    path = house / "notebooks" / "01_look.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells[0].source = f"{HEAD}SEEDS: list[int] = [0]\n{TABLES}{world}"
    nbformat.write(notebook, path.with_name("05_tables.ipynb"))
    usual = {"SEEDS": [0, 1, 2], "TABLES": "all"}
    for asked, expected in (
        (["mini"], usual | pipeline.ABLATION_WORLD),
        (["-p", "LANDMARKS", "9"], usual | pipeline.ABLATION_WORLD | {"LANDMARKS": 9}),
        (["smoke"], usual),
        (["photos", "--data-dir", str(stripes), "-p", "SEEDS", "[4]"], usual | {"SEEDS": [4]}),
    ):
        assert main(["--ablation", *asked]) == 0
        name, _, given, _ = calls.pop()
        assert name == "05_tables"
        assert {key: given[key] for key in given if key not in pipeline.PLACES} == expected
        assert not calls


def test_main_stops_at_the_first_failing_notebook_and_keeps_it(
    house, outputs, tmp_path, capsys, monkeypatch
):
    before = {path: path.read_bytes() for path in (house / "notebooks").iterdir()}
    assert main(["smoke", "-p", "RATE", "2", "-p", "ROWS", "7"]) == 1
    captured = capsys.readouterr()
    sentence = r"run_all\.sh: 02_fail stopped: AssertionError: rate too large \(traceback in .*\)\n"
    assert re.fullmatch(sentence, captured.err)
    assert "01_look done in" in captured.out
    assert "03_last" not in captured.out
    assert captured.out.endswith("what there is so far: outputs/smoke/report.html\n")
    copies = outputs / "smoke" / "notebooks"
    assert sorted(path.stem for path in copies.glob("*.ipynb")) == ["01_look", "02_fail"]
    failed = nbformat.read(copies / "02_fail.ipynb", as_version=4)
    errors = [out for cell in failed.cells for out in cell.get("outputs", []) if "ename" in out]
    assert [error["evalue"] for error in errors] == ["rate too large"]
    page = (outputs / "smoke" / "report.html").read_text()
    assert "02_fail stopped: AssertionError: rate too large" in page
    assert "Did not start: 03_last." in page
    assert (tmp_path / "seen").read_text() == f'[1, "smoke", "", 7, "{house}"]\n'
    assert {path: path.read_bytes() for path in (house / "notebooks").iterdir()} == before

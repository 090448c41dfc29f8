"""Notebooks in the running Python: which kernel, what is printed, and how each end is told."""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError

from lib import kernel
from lib.artifacts import ROOT
from lib.environment import VARIABLES
from lib.kernel import RunningPython, Stopped, execute

METADATA = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}


def write(path, *sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)
    return path


@pytest.fixture
def another_python(tmp_path, monkeypatch):
    """A kernelspec `python3` that comes first and starts a program that leaves a mark."""
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["touch", str(tmp_path / "mark"), "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return tmp_path / "mark"


@pytest.mark.usefixtures("another_python")
def test_running_python_is_the_only_kernel():
    known = RunningPython()
    assert list(known.find_kernel_specs()) == ["python3"]
    assert known.get_kernel_spec("python3").argv[0] == sys.executable


def test_kernel_starts_with_the_variables_that_the_user_did_not_set(tmp_path, monkeypatch, capfd):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    code = f"import os\nprint(*map(os.environ.get, {list(VARIABLES)}))"
    path = write(tmp_path / "a.ipynb", "", code)
    execute(path, path.with_name("b.ipynb"), {}, cwd=ROOT)
    expected = VARIABLES | {"MALLOC_ARENA_MAX": "3"}
    assert capfd.readouterr().out.split() == list(expected.values())


def test_kernel_leaves_its_processes_to_their_parents():
    code = "from ipykernel.ipkernel import IPythonKernel; import lib.patient_kernel as own;"
    name = "_progressively_terminate_all_children"
    code += f"print(own.PatientKernel.{name} is not IPythonKernel.{name})"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == "True\n", found.stderr


def test_execute_uses_the_running_python_in_paths_with_braces(tmp_path, another_python, capfd):
    path = write(
        tmp_path / "my {photos}" / "{}.ipynb",
        "WHO = ''",
        "import os, sys\nprint(sys.executable, os.getcwd(), WHO)\nos.system('echo process >&2')",
        "from joblib import Parallel, delayed\nParallel(2)(delayed(print)() for n in '12')",
        "1 / 0",
    )
    copy = path.with_name("{copy}.ipynb")
    with pytest.raises(Stopped) as caught:
        execute(path, copy, {"WHO": "{me}"}, cwd=ROOT)
    name = os.path.relpath(copy)
    told = f"{{}} stopped: ZeroDivisionError: division by zero (traceback in {name})"
    assert (str(caught.value), caught.value.code) == (told, 1)
    assert capfd.readouterr() == (f"{sys.executable} {ROOT} {{me}}\n\n\n", "process\n")
    assert "ZeroDivisionError" in copy.read_text()
    assert not another_python.exists()


def test_execute_starts_the_kernel_of_the_next_notebook_early(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(kernel, "IN_ADVANCE", "--IPKernelApp.exec_lines=['early = 1']")
    code = "import os\nprint(os.getpid(), 'early' in globals())"
    path = write(tmp_path / "a.ipynb", "", code, "")
    copy = tmp_path / "b.ipynb"
    kernel.start_early(ROOT)
    pids = [kernel._started[0].manager.provisioner.pid]
    execute(path, copy, {}, cwd=ROOT, is_followed=True)
    pids.append(kernel._started[0].manager.provisioner.pid)
    execute(path, copy, {}, cwd=ROOT)
    assert capfd.readouterr().out == f"{pids[0]} True\n{pids[1]} True\n"
    with pytest.raises(Stopped):
        execute(write(path, "", "", "1 / 0"), copy, {}, cwd=ROOT, is_followed=True)
    assert not kernel._started
    for pid in pids:  # all have ended
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_execute_interrupts_the_cell_and_lets_it_tidy_up(tmp_path):
    begun, tidied = tmp_path / "begun", tmp_path / "tidied"
    cell = f"import time\nopen({str(begun)!r}, 'w')\ntry: time.sleep(99)\n"
    path = write(tmp_path / "a.ipynb", cell + f"finally: open({str(tidied)!r}, 'w')")
    code = "import sys, lib.kernel as k, pathlib as p; path = p.Path(sys.argv[1])\n"
    code += "try: k.execute(path, path.with_name('b.ipynb'), {}, cwd=path.parent)\n"
    code += "except k.Stopped as error: print(error); sys.exit(error.code)"
    run = subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not begun.exists() and run.poll() is None:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    told = f"a was interrupted; {kernel.AGAIN}\n"
    assert (run.communicate(timeout=60), run.returncode) == ((told, ""), 130)
    assert tidied.exists()


@pytest.fixture
def ending(tmp_path, monkeypatch):
    """Execute a notebook that ends as it is told, without a kernel."""

    class NoKernel:
        has_kernel = False

        def __init__(self, **_):
            pass

        async def start_kernel(self, **_):
            pass

        async def cleanup_resources(self):
            pass

    def end(error):
        def execute_notebook(*_, **__):
            raise error

        monkeypatch.setattr(kernel, "AsyncKernelManager", NoKernel)
        monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
        with pytest.raises(Stopped) as caught:
            execute(tmp_path / "03_x.ipynb", tmp_path / "copy.ipynb", {}, cwd=tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value), caught.value.code

    return end


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ValueError", "expected a, found b.\n", "03_x stopped: expected a, found b (traceback in"),
        ("KeyError", "'planted'", "03_x stopped: KeyError: 'planted' (traceback in"),
        ("RuntimeError", "a\n\n  b", "03_x stopped: RuntimeError: a b (traceback in"),
        ("ModuleNotFoundError", "No module named 'timm'", "; ./run_all.sh installs all that"),
        ("OSError", "[Errno 28] No space left on device: 'x'", "; make room on the disk, what was"),
        ("ValueError", "x" * 9999, "03_x stopped: " + "x" * kernel.LONGEST + " (traceback in"),
    ],
)
def test_execute_tells_a_failing_cell_in_one_sentence(ending, name, value, told):
    sentence, code = ending(papermill.PapermillExecutionError(0, 1, "", name, value, []))
    assert told in sentence
    assert code == 1


def test_execute_tells_a_dead_kernel_and_an_interruption(ending):
    assert "most often because memory ran out" in ending(DeadKernelError("Kernel died"))[0]
    assert "most often because memory ran out" in ending(RuntimeError("Kernel died before"))[0]
    with pytest.raises(RuntimeError, match="another"):
        ending(RuntimeError("another"))
    assert ending(KeyboardInterrupt()) == (f"03_x was interrupted; {kernel.AGAIN}", 130)

"""Notebooks in the running Python: which kernel, what is printed, and how each end is told."""

import json
import os
import signal
import subprocess
import sys
import time
from multiprocessing import forkserver
from pathlib import Path

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError

from lib import kernel
from lib.artifacts import ROOT, peak_memory
from lib.environment import VARIABLES
from lib.kernel import RunningPython, Stopped, execute
from tests.made_up import wait_for

METADATA = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}


def write(path, *sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_code_cell(source, id=f"c{i}") for i, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), path)
    return path


LITTLE = ("lib.kernel", "lib.patient_kernel")  # imported early here


@pytest.fixture(params=["started", "copied"])
def started(request, monkeypatch):
    """Both kinds of kernels: the id of the process that each is a copy of, or None."""
    monkeypatch.setattr(kernel, "IMPORTED", LITTLE)
    monkeypatch.setattr(kernel, "forks", lambda: request.param == "copied")
    with kernel.imported_early():
        yield forkserver._forkserver._forkserver_pid if request.param == "copied" else None


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


@pytest.mark.usefixtures("started")
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


LATE = """
import sys, threading, time
def make_late(kernel, begun, sleep, ends):
    stop, flush = kernel.iopub_thread.stop, sys.stdout.flush
    kernel.iopub_thread.stop = lambda: (begun.set(), stop())
    def late():  # as an answer begins
        while kernel._shutdown_message and ends.is_alive():
            sleep(0.01)
        if kernel._shutdown_message:
            print(begun.wait(1), file=FILE, flush=True)
        flush()
    sys.stdout.flush = late
FILE = open(FILE, "w")
make_late(get_ipython().kernel, threading.Event(), time.sleep, threading.main_thread())
"""


def test_kernel_answers_before_it_closes_what_it_answers_through(tmp_path):
    notebook, told = write(tmp_path / "a.ipynb", "FILE = ''", LATE), tmp_path / "told"
    execute(notebook, tmp_path / "b.ipynb", {"FILE": str(told)}, cwd=ROOT)
    assert told.read_text() == "False\n"


@pytest.mark.parametrize("started", ["copied"], indirect=True)
def test_copied_kernel_is_like_one_that_is_started(started, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TOLD", "later")
    own = peak_memory()
    sources = (
        "import os, time, matplotlib.pyplot as plt\nprint(os.getppid(), os.environ['TOLD'])",
        "plt.plot([1])\nplt.show()",
        "from multiprocessing import get_context\nfrom joblib import Parallel, delayed",
        "one = get_context('forkserver').Process(target=time.sleep, args=(99,))\none.start()",
        "print(open(f'/proc/{one.pid}/stat').read().split()[3])\none.kill()",
        f"Parallel(2)(delayed(abs)(n) for n in range(9))\nlen(b'x' * ({own} + 100 << 20))",
    )
    copy, before = tmp_path / "b.ipynb", time.monotonic()
    peak = execute(write(tmp_path / "a.ipynb", "", *sources), copy, {}, cwd=ROOT)
    assert peak > own + 100  # the kernel's, not that of this process
    assert time.monotonic() - before < kernel.PATIENCE / 2  # joblib's workers do not hold it up
    assert capfd.readouterr().out.split() == [str(started), "later", str(started)]
    outputs = [one for cell in nbformat.read(copy, 4).cells for one in cell.get("outputs", [])]
    assert any("image/png" in one.get("data", {}) for one in outputs)


def test_kernel_is_started_where_what_it_would_be_a_copy_of_cannot_import(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(kernel, "IMPORTED", ("broken",))
    monkeypatch.setattr(kernel, "forks", lambda: True)
    path = write(tmp_path / "a.ipynb", "", f"import os\nassert os.getppid() == {os.getpid()}")
    with kernel.imported_early():
        execute(path, tmp_path / "b.ipynb", {}, cwd=ROOT)


def start(path, started):
    """The notebook in a process of its own, as `./run_all.sh` runs it."""
    code = "import sys, lib.kernel as k, pathlib as p; path = p.Path(sys.argv[1])\n"
    code += f"k.IMPORTED, k.forks = {LITTLE}, lambda: {started is not None}\n"
    code += "try:\n with k.imported_early():\n"
    code += "  k.execute(path, path.with_name('b.ipynb'), {}, cwd=path.parent)\n"
    code += "except k.Stopped as error: print(error); sys.exit(error.code)"
    return subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def test_execute_interrupts_the_cell_and_lets_it_tidy_up(started, tmp_path):
    begun, tidied = tmp_path / "begun", tmp_path / "tidied"
    cell = f"import time\nopen({str(begun)!r}, 'w')\ntry: time.sleep(99)\n"
    path = write(tmp_path / "a.ipynb", cell + f"finally: open({str(tidied)!r}, 'w')")
    run = start(path, started)
    wait_for(begun.exists)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    told = f"a was interrupted; {kernel.AGAIN}\n"
    assert (run.communicate(timeout=60), run.returncode) == ((told, ""), 130)
    assert tidied.exists()


@pytest.mark.parametrize("started", ["copied"], indirect=True)
def test_copied_kernel_ends_with_the_process_that_started_it(started, tmp_path):
    mark = tmp_path / "pid"
    cell = f"import os, pathlib, time\npathlib.Path({str(mark)!r}).write_text(f'{{os.getpid()}} ')"
    run = start(write(tmp_path / "a.ipynb", f"{cell}\ntime.sleep(99)"), started)
    wait_for(lambda: mark.is_file() and mark.read_text().endswith(" "))
    run.kill()
    run.communicate()
    wait_for(lambda: not Path("/proc", mark.read_text().strip()).exists(), 20)


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

"""One notebook executed headless in the running Python, and its failure put in one sentence.

The kernel is started and ended here because nbclient takes the first kernelspec called `python3`,
interrupts it after its last cell and kills it with its worker processes, which prints errors.
Within `imported_early` kernels are copies of a process that has imported what takes 6 s of a core.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from multiprocessing import Pipe, connection, forkserver, get_context
from pathlib import Path
from typing import Any

import papermill
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError

from lib.artifacts import peak_memory, seen_by_caller, start_as
from lib.environment import forks, unset_variables

OPTIONS = [
    "--IPKernelApp.log_level=ERROR",  # no warning of a local TCP port
    "--IPKernelApp.capture_fd_output=False",  # otherwise prints of worker processes come twice
    "--HistoryManager.hist_file=:memory:",
    "--IPKernelApp.kernel_class=lib.patient_kernel.PatientKernel",
]
IMPORTED = (  # but not lib.pipeline, which a copy of its process runs as the main module
    *("lib.kernel", "lib.patient_kernel", "lib.parameters", "lib.reports", "lib.session"),
    *("lib.ablation", "lib.plots.sheets", "lib.plots.explorers"),
)
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}  # as a kernel sets it
PATIENCE = 300.0  # seconds for a kernel to start or to end, on a busy machine
LONGEST = 600  # characters of an error that are shown
AGAIN = "what was finished is kept, and the same command goes on from there"


class RunningPython(KernelSpecManager):
    """Knows one kernel, `python3`, of the running Python, whatever else is installed."""

    def _kernel_dirs_default(self) -> list[str]:
        return []

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel with the variables that `lib.environment` sets where the user did not."""
        found = super().get_kernel_spec(kernel_name)
        found.env |= unset_variables()
        return found


class Stopped(Exception):
    """A notebook that did not come to its end, in one sentence; `code` is for the shell.

    The time limit stopped it if `is_in_time`.
    """

    def __init__(self, sentence: str, code: int = 1, *, is_in_time: bool = False) -> None:
        super().__init__(sentence)
        self.code, self.is_in_time = code, is_in_time


@contextlib.contextmanager
def imported_early() -> Iterator[None]:
    """Within it kernels are copies of a process that imports from now on, unless there is a GPU."""
    if not forks():
        yield
        return
    forkserver.set_forkserver_preload([*IMPORTED])
    given, handler = dict(os.environ), signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(INLINE | unset_variables() | given)
    try:
        forkserver.ensure_running()  # which then imports, in this environment and deaf to ^C
    finally:
        os.environ.clear()
        os.environ.update(given)
        signal.signal(signal.SIGINT, handler)
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["copy"] = EntryPoint("copy", "lib.kernel:CopiedKernel", factory.GROUP_NAME)
    factory.default_provisioner_name, usual = "copy", factory.default_provisioner_name
    try:
        yield
    finally:
        factory.default_provisioner_name = usual
        os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # its own end takes longer
        forkserver._forkserver._stop()
        forkserver.set_forkserver_preload(["__main__"])  # as it was


def execute(path: Path, copy: Path, parameters: Mapping[str, Any], *, cwd: Path) -> int:
    """Run the notebook `path` in the folder `cwd`, print what it prints, return its peak of MiB.

    `copy` receives its outputs, with the traceback of a cell that fails. Raises Stopped if one
    does, the kernel dies or a person interrupts.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are printed by the caller
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=RunningPython())
    errors = _Errors()
    is_idle = False
    try:
        start = run_sync(manager.start_kernel)
        start(extra_arguments=OPTIONS, cwd=str(cwd), stderr=errors.end)
        papermill.execute_notebook(
            _verbatim(path),
            _verbatim(copy),
            dict(parameters),
            kernel_name="python3",
            cwd=cwd,
            progress_bar=False,
            log_output=False,
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            start_timeout=PATIENCE,
            km=manager,
        )
        is_idle = True
    except papermill.PapermillExecutionError as error:
        is_idle = True
        is_in_time = error.ename == "TimeUp"
        raise Stopped(_failure(path.stem, error, copy), is_in_time=is_in_time) from error
    except RuntimeError as error:  # DeadKernelError is one
        if not isinstance(error, DeadKernelError) and "Kernel died" not in str(error):
            raise  # jupyter_client raises a plain RuntimeError for one that dies while it starts
        raise Stopped(
            f"{path.stem} stopped: its process was ended from outside, most often because memory "
            f"ran out; give it more memory or smaller batches, {AGAIN}"
        ) from error
    except KeyboardInterrupt as error:
        raise Stopped(f"{path.stem} was interrupted; {AGAIN}", 128 + signal.SIGINT) from error
    finally:
        errors.close()
        run_sync(_end)(manager, is_idle)
    return max(peak_memory(), getattr(manager.provisioner, "peak", 0))


async def _end(manager: AsyncKernelManager, is_idle: bool) -> None:
    """End a kernel without killing it; a running cell is interrupted first."""
    if manager.has_kernel and await manager.is_alive():
        if not is_idle:
            os.kill(manager.provisioner.pid, signal.SIGINT)  # its workers end with it
        await manager.request_shutdown()
        await manager.finish_shutdown(waittime=PATIENCE)
    await manager.cleanup_resources()


class CopiedKernel(LocalProvisioner):
    """Starts a kernel as a copy of the process that `imported_early` has started."""

    peak = 0

    async def launch_kernel(self, cmd: list[str], **options: Any) -> KernelConnectionInfo:
        """The kernel that `cmd` would start, or this where that process has ended."""
        arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
        self._told, teller = Pipe(duplex=False)
        files = (connection.Connection(os.dup(1), readable=False), options["stderr"])
        given = (arguments, options["env"], options["cwd"], files, teller)
        self.process = _Copy(target=_become_kernel, args=given)
        try:
            self.process.start()
        except (EOFError, OSError):
            return await super().launch_kernel(cmd, **options)
        self.pid = self.pgid = self.process.pid
        self.cwd = options["cwd"]
        return self.connection_info

    async def wait(self) -> int | None:
        """The exit code of the kernel, which tells its peak of memory before."""
        code = await super().wait()
        with contextlib.suppress(EOFError):
            self.peak = self._told.recv() if self._told.poll() else self.peak
        return code


class _Copy(get_context("forkserver").Process):
    """With what a provisioner asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _become_kernel(
    arguments: list[str],
    environment: Mapping[str, str],
    folder: str,
    files: Sequence[connection.Connection],
    teller: connection.Connection,
) -> None:
    """Run a kernel in this process, and tell at its end how much memory was used."""
    from ipykernel.kernelapp import IPKernelApp

    start_as(environment, os.getppid())
    os.setsid()
    os.chdir(folder)
    for number, file in enumerate(files, start=1):  # what is printed, and errors
        os.dup2(file.fileno(), number)
    if sys.version_info < (3, 14):  # otherwise Python starts another for workers
        forkserver._forkserver.ensure_running = lambda: None
    IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
    threading._shutdown()  # ends joblib's workers, which the end of a copied process waits for
    teller.send(peak_memory())


class _Errors:
    """Prints what a kernel and its processes write to stderr while the notebook runs."""

    def __init__(self) -> None:
        self._is_shown = True
        self._start, self.end = Pipe(duplex=False)
        threading.Thread(target=self._pass_on, daemon=True).start()

    def close(self) -> None:
        while select.select([self._start], [], [], 0)[0]:  # what was written before
            time.sleep(0.01)
        self._is_shown = False
        self.end.close()

    def _pass_on(self) -> None:
        while data := os.read(self._start.fileno(), 65536):
            if self._is_shown:
                sys.stderr.write(data.decode(errors="replace"))
                sys.stderr.flush()
        self._start.close()


def _verbatim(path: Path) -> str:
    """A path in which papermill finds no parameter to fill in."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _failure(name: str, error: papermill.PapermillExecutionError, copy: Path) -> str:
    what = " ".join(str(error.evalue).split())[:LONGEST].rstrip(". ")
    if error.ename not in ("ValueError", "TimeUp"):  # ours are sentences
        what = f"{error.ename}: {what}"
    if error.ename in ("ModuleNotFoundError", "ImportError"):
        what += "; ./run_all.sh installs all that requirements.txt pins"
    if "[Errno 28]" in what:
        what += f"; make room on the disk, {AGAIN}"
    return f"{name} stopped: {what} (traceback in {seen_by_caller(copy)})"

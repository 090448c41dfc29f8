"""One notebook executed headless in the running Python, and its failure put in one sentence.

The kernel is started and ended here because nbclient takes the first kernelspec called `python3`,
interrupts it after its last cell and kills it with its worker processes, which prints errors. The
kernel of the next notebook starts early, to import what takes long beside the last cells.
"""

import logging
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError

from lib.artifacts import seen_by_caller
from lib.environment import unset_variables

OPTIONS = [
    "--IPKernelApp.log_level=ERROR",  # no warning of a local TCP port
    "--IPKernelApp.capture_fd_output=False",  # otherwise prints of worker processes come twice
    "--HistoryManager.hist_file=:memory:",
    "--IPKernelApp.kernel_class=lib.patient_kernel.PatientKernel",
]
IMPORTED = ("lib.session", "lib.ablation", "lib.plots.sheets", "lib.plots.explorers")
IN_ADVANCE = f"--IPKernelApp.exec_lines=[__import__(name) for name in {IMPORTED}]"
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


def execute(
    path: Path, copy: Path, parameters: Mapping[str, Any], *, cwd: Path, is_followed: bool = False
) -> None:
    """Run the notebook `path` in the folder `cwd` and print what it prints.

    `copy` receives its outputs, with the traceback of a cell that fails. Raises Stopped if one
    does, the kernel dies or a person interrupts. If `is_followed`, the kernel of the next call is
    started after half of the cells, beside which no network is trained.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are printed by the caller
    half = len(nbformat.read(path, nbformat.NO_CONVERT).cells) / 2 if is_followed else math.inf
    kernel = _started.pop() if _started else _Kernel()
    is_idle = False

    async def start_next(cell: Mapping[str, Any], cell_index: int) -> None:
        if cell_index > half:
            await _start_early(cwd)

    try:
        run_sync(kernel.start)(cwd)
        kernel.errors.show()
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
            km=kernel.manager,
            on_cell_start=start_next,
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
        kernel.end(is_idle=is_idle)
        if sys.exc_info()[0]:
            drop_early()


async def _start_early(cwd: Path) -> None:
    if not _started:
        _started.append(_Kernel())
        await _started[0].start(cwd, IN_ADVANCE)


start_early = run_sync(_start_early)  # the kernel of the first notebook, beside other work


def drop_early() -> None:
    """End a kernel that was started early and is not needed."""
    while _started:
        _started.pop().drop()


class _Kernel:
    """The process of one notebook."""

    def __init__(self) -> None:
        self.manager = AsyncKernelManager(
            kernel_name="python3", kernel_spec_manager=RunningPython()
        )
        self.errors = _Errors()

    async def start(self, cwd: Path, *arguments: str) -> None:
        """Start it, unless it runs."""
        if not self.manager.has_kernel:
            given = {"extra_arguments": [*OPTIONS, *arguments], "cwd": str(cwd)}
            await self.manager.start_kernel(**given, stderr=self.errors.end)

    def end(self, *, is_idle: bool) -> None:
        """End it without killing it; a running cell is interrupted first."""
        self.errors.stop_showing()
        run_sync(self._end)(is_idle)

    def drop(self) -> None:
        """Kill it before a notebook ran in it: it may not listen yet."""
        self.errors.stop_showing()
        run_sync(self.manager.shutdown_kernel)(now=True)

    async def _end(self, is_idle: bool) -> None:
        manager = self.manager
        if manager.has_kernel and await manager.is_alive():
            if not is_idle:
                os.kill(manager.provisioner.pid, signal.SIGINT)  # its workers end with it
            await manager.request_shutdown()
            await manager.finish_shutdown(waittime=PATIENCE)
        await manager.cleanup_resources()


_started: list[_Kernel] = []  # the kernel of the next notebook


class _Errors:
    """Prints what a kernel and its processes write to stderr while the notebook runs."""

    def __init__(self) -> None:
        self._is_shown = False
        self._start, self.end = os.pipe()
        threading.Thread(target=self._pass_on, daemon=True).start()

    def show(self) -> None:
        self._is_shown = True

    def stop_showing(self) -> None:
        while select.select([self._start], [], [], 0)[0]:  # what was written before
            time.sleep(0.01)
        self._is_shown = False
        os.close(self.end)

    def _pass_on(self) -> None:
        while data := os.read(self._start, 65536):
            if self._is_shown:
                sys.stderr.write(data.decode(errors="replace"))
                sys.stderr.flush()
        os.close(self._start)


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

"""What the parts share: work apart from this process, commands, and how an end is judged. Linux."""

import contextlib
import hashlib
import importlib
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil

from lib.artifacts import ROOT

MEMORY = 3 * 2**30  # bytes that work apart may take beyond what it starts with
STARTS_A_PROCESS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork")
Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """One try: what it was a case of, why it did not hold ("" if it did), what is worth noting."""

    case: str
    failure: str = ""
    note: str = ""


def work_on(part: str, seed: int, share: float, folder: Path, sender: Connection) -> None:
    """Send each outcome of a part, with the seconds it took; what a process of its own does."""
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, *part.encode()])
    module = importlib.import_module(f"tests.torture.{part}")
    began = time.monotonic()
    for outcome in module.run(generator, folder, share):
        sender.send((outcome, time.monotonic() - began))
        began = time.monotonic()


def apart(work: Callable[[Say], None], *, seconds: float, guarded: bool = True) -> Iterator[str]:
    """What `work` says, one text after the other, from a fork that may hang, crash or swell.

    Args:
        work: called in the fork with a function that passes a text on; "" means that all is well.
        seconds: longest silence; after it the fork is killed.
        guarded: also limit memory, and tell when a process is started or a pickle loaded.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_fork, args=(work, sender, guarded))
    child.start()
    sender.close()
    try:
        while receiver.poll(seconds):
            try:
                yield receiver.recv()
            except EOFError:
                child.join()
                if child.exitcode < 0:
                    yield f"killed by {signal.Signals(-child.exitcode).name}"
                elif child.exitcode:
                    yield f"ended with code {child.exitcode}"
                return
        yield f"hangs: nothing in {seconds:.0f} s"
    finally:
        kill(family(child.pid))
        child.join()


def _in_fork(work: Callable[[Say], None], sender: Connection, guarded: bool) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    seen: list[str] = []
    if guarded:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        watched = (*STARTS_A_PROCESS, "pickle.find_class")
        sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)

    def say(text: str) -> None:
        sender.send(text or (f"did {seen[0]}" if seen else ""))
        seen.clear()

    try:
        work(say)
    except BaseException as error:
        say(f"{type(error).__name__}: {error}"[:200])
    sender.close()
    kill(family(os.getpid())[1:])
    os._exit(0)


def each_apart(work: Callable[[T], str], items: Sequence[T], *, seconds: float) -> Iterator[str]:
    """`work(item)` for every item, apart; what hangs or crashes costs no other item."""
    done = 0
    while done < len(items):

        def rest(say: Say, first: int = done) -> None:
            for item in items[first:]:
                say(work(item))

        for text in apart(rest, seconds=seconds):
            yield text
            done += 1


def error_fault(error: BaseException, *names: str) -> str:
    """Why an error is not one sentence of the project's about a file of `names`; "" if it is."""
    text, kind = str(error), type(error).__name__
    if not isinstance(error, ValueError | OSError):
        return f"{kind}: {text}"[:200]
    if not any(name in text for name in names):
        return f"does not name the file: {kind}: {text}"[:200]
    return f"of several lines: {text}"[:200] if "\n" in text.strip() else ""


@dataclass(frozen=True)
class Ended:
    """How a command ended; `code` is None if it had to be stopped."""

    code: int | None
    output: str
    errors: str
    seconds: float


def refusal_fault(ended: Ended) -> str:
    """Why the end of a command is not a refusal in one sentence with code 1 or 2; "" if it is."""
    told = ended.errors if ended.errors.strip() else ended.output
    lines = [line for line in told.splitlines() if line.strip()]
    lines = [line for line in lines if "Warning: " not in line and not line.startswith("  ")]
    last = lines[-1] if lines else ""
    if ended.code is None:
        return f"still at work after {ended.seconds:.0f} s: {last}"[:200]
    if "Traceback" in ended.output + ended.errors:
        return f"a traceback: {last}"[:200]
    if ended.code not in (1, 2):
        return f"code {ended.code}: {last}"[:200]
    # argparse shows the whole usage before its sentence
    if not lines or (len(lines) > 3 and not ended.errors.startswith("usage:")):
        return f"{len(lines)} lines: {last}"[:200]
    return ""


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The variables of a command that writes below `folder` alone; children are known by them."""
    for name in ("tmp", "runtime"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("LANDMARK_")}
    places = {"TMPDIR": "tmp", "JUPYTER_RUNTIME_DIR": "runtime", "LANDMARK_OUTPUTS": "outputs"}
    own |= {name: str(folder / place) for name, place in places.items()}
    return own | {"PYTHONPATH": str(ROOT)} | variables


def command(
    arguments: list[str], variables: dict[str, str], *, seconds: float, cwd: Path = ROOT
) -> Ended:
    """Run a command to its end, or stop it and all its children after `seconds`."""
    began = time.monotonic()
    process = subprocess.Popen(
        arguments, env=variables, cwd=cwd, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
        code = process.returncode
    except subprocess.TimeoutExpired:
        kill(family(process.pid))
        output, errors = process.communicate()
        code = None
    return Ended(code, output, errors, time.monotonic() - began)


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL to all of them at once."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def alive_below(folder: Path) -> list[psutil.Process]:
    """The processes that `environment(folder)` was given to, and their descendants."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("LANDMARK_OUTPUTS", "").startswith(str(folder)):
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders of the project below `folder`."""
    patterns = (".*.part*", "unreadable_images_*", "state.pt")
    return sorted({path.name for pattern in patterns for path in folder.rglob(pattern)})


def digest(folder: Path) -> str:
    """Of all results below `folder`; manifests, which tell seconds, and hidden files left out."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in parts) or path.suffix == ".lock"
        if not is_hidden and path.name not in ("manifest.json", "world.json"):
            found.update("/".join(parts).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]

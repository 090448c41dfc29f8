"""SIGKILLs at random moments over the whole chain, and the chain started again.

Each folder takes a share of the kills, spread evenly over the chain, and is then run to its end,
where its recorded numbers must be those of a run that nothing disturbed.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from lib.artifacts import ROOT
from tests.torture.harness import (
    Outcome,
    alive_below,
    command,
    environment,
    family,
    kill,
    leftovers,
)

KILLS = 40
PER_FOLDER = 10
CHAIN = [sys.executable, "-m", "lib.pipeline", "smoke"]
GRACE = 10  # seconds in which processes must be gone after the one that started them
WHOM = ("everything", "everything", "the launcher", "the kernel")


class Chain:
    """The chain at work below a folder, and when it began which notebook."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*CHAIN, *arguments], env=environment(folder), cwd=ROOT, stdout=log, stderr=log
            )
        self.began = time.monotonic()
        self.starts: dict[str, float] = {}

    def watch(self) -> str:
        """The number of the notebook at work, "" before the first."""
        lines = self.log.read_text(errors="replace").splitlines()
        for line in lines:
            if line.endswith(" ...") and line[:2].isdigit():
                self.starts.setdefault(line[:2], time.monotonic() - self.began)
        return max(self.starts, default="")

    def wait_until(self, notebook: str, seconds: float) -> bool:
        """Wait for a moment in a notebook or a later one; False if the chain ended before it."""
        while self.process.poll() is None:
            now = self.watch()
            since = time.monotonic() - self.began - self.starts.get(now, 0)
            if now > notebook or (now == notebook and since >= seconds):
                return True
            time.sleep(0.05)
        return False

    def kernels(self) -> list[psutil.Process]:
        """The notebook kernels that are running."""
        below = family(self.process.pid)[1:]
        return [process for process in below if "ipykernel_launcher" in _words(process)]

    def kill(self, whom: str) -> list[psutil.Process]:
        """Kill, and return who is alive after the time in which all others should be gone."""
        processes = family(self.process.pid)
        if whom == "the kernel":  # between two notebooks there is none
            while not (processes := self.kernels()) and self.process.poll() is None:
                time.sleep(0.05)
        elif whom == "the launcher":
            processes = processes[:1]
        kill(processes)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE * 3)
        end = time.monotonic() + GRACE
        while time.monotonic() < end and alive_below(self.folder):
            time.sleep(0.2)
        return alive_below(self.folder)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def numbers(folder: Path) -> dict[str, dict]:
    """The recorded numbers of the run below `folder`, by notebook."""
    paths = folder.glob("outputs/smoke/recorded/*.json")
    return {path.stem: json.loads(path.read_text()) for path in paths}


def undisturbed(folder: Path) -> dict[str, dict]:
    """The numbers of a chain that nothing disturbs, which is run where none was yet."""
    if not (folder / "starts.json").is_file():
        chain = Chain(folder)
        chain.wait_until("99", 0)
        if chain.process.returncode:
            raise RuntimeError(f"the undisturbed chain fails: {chain.log.read_text()[-500:]}")
        starts = chain.starts | {"end": time.monotonic() - chain.began}
        (folder / "starts.json").write_text(json.dumps(starts))
    return numbers(folder)


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """The kills, folder by folder; what each leaves alive, and what each folder ends with."""
    right = undisturbed(folder.parent / "undisturbed")
    starts = json.loads((folder.parent / "undisturbed" / "starts.json").read_text())
    left = max(2, round(share * KILLS))
    while left > 0:
        place, count = folder / str(left), min(left, PER_FOLDER)
        first = min(starts.values())
        moments = first + (np.arange(count) + generator.random(count)) / count * (
            starts["end"] - first
        )
        for moment in moments:
            yield from _kill_at(moment, starts, place, str(generator.choice(WHOM)))
        ended = command(CHAIN, environment(place), seconds=600)
        differing = [name for name, found in right.items() if numbers(place).get(name) != found]
        fault = f"code {ended.code}: {ended.errors.strip()[-120:]}" if ended.code else ""
        if not fault and differing:
            fault = f"other numbers in {', '.join(differing)}"
        for _ in range(count):  # each of the kills led there
            yield Outcome("numbers of an undisturbed run", fault)
        names = leftovers(place)
        yield Outcome("nothing temporary is left", ", ".join(names[:5]))
        left -= count


def _kill_at(moment: float, starts: dict[str, float], place: Path, whom: str) -> Iterator[Outcome]:
    """Start the chain where it stopped, and kill it at a moment of the undisturbed run's time."""
    notebook = max(name for name, start in starts.items() if name != "end" and start <= moment)
    done = numbers(place)
    names = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    begin = min(next((name for name in names if name not in done), names[-1])[:2], notebook)
    chain = Chain(place, *([] if begin == "01" else ["--from", begin]))
    if not chain.wait_until(notebook, moment - starts[notebook]):
        log = chain.log.read_text()
        code, is_traced = chain.process.returncode, "Traceback" in log
        fault = f"code {code}, traceback {is_traced}: {log.strip()[-150:]}" if code else ""
        yield Outcome("started again without a fault", fault, "" if fault else "ended before")
        return
    at_work = chain.watch()
    alive = chain.kill(whom)
    if whom == "the kernel" and chain.watch() > at_work:  # its notebook was over: the chain goes on
        kill(alive)
        alive = []
    log = chain.log.read_text(errors="replace")
    fault = log.strip()[-150:] if "Traceback" in log else ""
    yield Outcome("no traceback", f"{whom} killed in {notebook}: {fault}" if fault else "")
    names = ", ".join(_words(process)[-60:] for process in alive[:2])
    fault = f"{whom} killed in {notebook}: {len(alive)} alive: {names}" if alive else ""
    yield Outcome("all processes gone", fault)
    kill(alive)

"""No space: a full disk and `ulimit -f` in every stage, and then space again.

Right is one sentence on the file or the space, no signal, and the undisturbed result afterwards.
Needs root for small file systems in memory, in a mount namespace of this part's own.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.torture.harness import (
    Outcome,
    apart,
    command,
    environment,
    leftovers,
    refusal_fault,
)
from tests.torture.kills import CHAIN, numbers, undisturbed
from tests.torture.samples import write_samples
from tests.torture.stages import STAGES, undisturbed_end, work

TRIES = 4  # of each stage and way
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS
SAYINGS = ("No space left", "File too large", "space", "full")
CHAIN_MIB = (2, 6, 12)


def mount(folder: Path, size: int) -> None:
    """Give `folder` a file system of `size` bytes, or another size where it has one."""
    is_mounted = os.path.ismount(folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = f"{'remount,' * is_mounted}size={max(4096, size)},nr_inodes=0"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def used(folder: Path) -> int:
    """Bytes that files take on the file system of `folder`."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def told_fault(text: str) -> str:
    """Why the end of a stage without space is not as it should be; "" if it is."""
    if text.startswith("done"):
        return ""
    is_told = any(saying in text for saying in SAYINGS)
    is_own = text.startswith(("OSError", "ValueError", "BlockingIOError"))
    return "" if is_told and is_own and "\n" not in text.strip() else text


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Stages at random sizes of the disk, then the chain."""
    namespace = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or namespace.unshare(NEW_MOUNTS):
        yield Outcome("full disk", note="skipped: only root may mount a small disk")
        return
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    samples = folder / "samples"
    list(apart(lambda _: write_samples(samples), seconds=300, guarded=False))
    tries = max(1, round(share * TRIES))
    for stage in STAGES:
        sound = folder / f"{stage}_sound"
        mount(sound, 2**26)
        wanted = undisturbed_end(stage, samples, sound)
        needed = used(sound)
        files = [path for path in sound.rglob("*") if path.is_file() and not path.is_symlink()]
        longest = max(path.stat().st_size for path in files)
        for number in range(2 * tries):
            is_full = number % 2 == 0
            place = folder / f"{stage}_{number}"
            part = generator.uniform(0.02, 0.98)
            mount(place, int(part * needed) if is_full else 2**26)
            limited = work(stage, samples, place, 0 if is_full else max(1, int(part * longest)))
            said = next(apart(limited, seconds=60, guarded=False), "says nothing")
            fault = told_fault(said)
            mount(place, 2**26)
            again = next(apart(work(stage, samples, place), seconds=120, guarded=False), "")
            if not fault and again != wanted:
                fault = f"with space again: {again}"
            if not fault and leftovers(place):
                fault = f"left {', '.join(leftovers(place))}"
            yield Outcome(f"{stage}, {'full disk' if is_full else 'ulimit -f'}", fault)
            subprocess.run(["umount", place], check=True)
    right = undisturbed(folder.parent / "undisturbed")
    for size in CHAIN_MIB[: max(1, round(share * len(CHAIN_MIB)))]:
        yield Outcome("the chain, full disk", chain_fault(folder / f"chain_{size}", size, right))


def chain_fault(place: Path, size: int, right: dict) -> str:
    """What is wrong with the chain on a disk of `size` MiB, and after it is made larger."""
    mount(place / "outputs", size * 2**20)
    fault = refusal_fault(command(CHAIN, environment(place), seconds=300))
    mount(place / "outputs", 2**30)
    ended = command(CHAIN, environment(place), seconds=600)
    if not fault and (ended.code or numbers(place) != right):
        fault = f"with space again: code {ended.code}, {ended.errors[-100:]}"
    subprocess.run(["umount", place / "outputs"], check=True)
    return fault

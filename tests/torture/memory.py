"""Memory over 2,000 steps of training, and over reading broken images again and again."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from lib import data as gldv2
from lib.data.images import ImageSource
from lib.training.stage import train
from tests.dataset import write_stripes
from tests.torture.harness import Outcome, Say, apart
from tests.torture.images import flipped, overwritten, truncated
from tests.torture.samples import MODEL, STAGE

STEPS = 2000
READS = 20_000
BROKEN = 100
MOST_MIB = 16  # by which the last quarter may lie above the second


def growth_fault(sizes: list[float], steps: int) -> tuple[str, str]:
    """Why MiB measured over the steps do not stay flat ("" if they do), and a note."""
    quarters = np.array_split(np.array(sizes), 4)
    growth = float(np.median(quarters[3]) - np.median(quarters[1]))
    tail = np.concatenate(quarters[1:])
    slope = np.polyfit(np.linspace(0, 0.75 * steps, len(tail)), tail * 1024, 1)[0]
    note = (
        f"{slope:+.2f} KiB a step, {growth:+.1f} MiB (limit {MOST_MIB}), peak {max(sizes):.0f} MiB"
    )
    return (note if growth > MOST_MIB else ""), note


def sampled(work: Callable[[], object], steps: int) -> Outcome:
    """Do work apart, and look at its memory as it goes."""

    def watched(say: Say) -> None:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                say(f"{psutil.Process().memory_info().rss / 2**20:.2f}")

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            work()
        finally:
            done.set()
            watcher.join()

    said = list(apart(watched, seconds=30, guarded=False))
    sizes = [float(text) for text in said if text.replace(".", "", 1).isdigit()]
    if len(sizes) < max(len(said), 8):
        return Outcome("", f"{len(sizes)} samples of memory; {said[-1:]}")
    fault, note = growth_fault(sizes, steps)
    return Outcome("", fault, note)


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Training, then reading."""
    data = write_stripes(folder / "data")
    dice = random.Random(int(generator.integers(2**62)))
    makers = (truncated, flipped, overwritten)
    for number in range(BROKEN):
        path = folder / "broken" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dice.choice(makers)(dice))
    steps, reads = max(40, round(share * STEPS)), max(400, round(share * READS))

    def learn() -> None:
        table = gldv2.training_list(gldv2.read(data), "clean")
        train(replace(STAGE, epochs=steps // 4), MODEL, table, data, folder / "stage")

    def read() -> None:
        source = ImageSource(folder / "broken")
        for place in range(reads):
            source.read_resized(f"{place % BROKEN}.jpg", 64)

    for case, work, count in (
        (f"{steps:,} training steps", learn, steps),
        (f"{reads:,} reads of broken images", read, reads),
    ):
        yield replace(sampled(work, count), case=case)

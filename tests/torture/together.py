"""Two at once: two chains in one folder, two in one world, and two processes on one stage."""

import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tests.torture.harness import (
    Ended,
    Outcome,
    alive_below,
    apart,
    command,
    environment,
    kill,
    leftovers,
    refusal_fault,
)
from tests.torture.kills import CHAIN, Chain, numbers, undisturbed
from tests.torture.samples import write_samples
from tests.torture.stages import STAGES, undisturbed_end, work

ROUNDS = 5  # of each stage
TOLD = ("another run", "another process", "at work", "already running")


def run(generator: np.random.Generator, folder: Path, share: float) -> Iterator[Outcome]:
    """Stages first, then chains."""
    samples = folder / "samples"
    list(apart(lambda _: write_samples(samples), seconds=300, guarded=False))
    for stage in STAGES:
        alone = undisturbed_end(stage, samples, folder / stage)
        for number in range(max(1, round(share * ROUNDS))):
            place = folder / f"{stage} {number}"
            place.mkdir()
            yield Outcome(f"one stage: {stage}", stage_fault(stage, samples, place, alone))
    right = undisturbed(folder.parent / "undisturbed")
    for number in range(max(1, round(share * 3))):
        delay = float(generator.uniform(0.2, 20))
        yield from two_chains(folder / f"chains {number}", delay, right)
    yield Outcome("one world, two recipes", world_fault(folder / "recipes"))


def stage_fault(stage: str, samples: Path, place: Path, alone: str) -> str:
    """What is wrong with two processes that run one stage at once, and with a third after them."""
    context = get_context("fork")
    barrier, said = context.Barrier(2), context.SimpleQueue()

    def neighbour() -> None:
        def call(say: object) -> None:
            barrier.wait(30)
            work(stage, samples, place)(say)

        said.put(next(apart(call, seconds=120, guarded=False), "says nothing"))

    pair = [context.Process(target=neighbour) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    ends = sorted((said.get(), said.get()), reverse=True)
    wrong = [text for text in ends if text != alone and not any(told in text for told in TOLD)]
    third = next(apart(work(stage, samples, place), seconds=120, guarded=False), "says nothing")
    if wrong or alone not in ends:
        return " and ".join(wrong or ends)
    if third != alone:
        return f"a third: {third}"
    return f"left {', '.join(leftovers(place))}" if leftovers(place) else ""


def two_chains(place: Path, delay: float, right: dict) -> Iterator[Outcome]:
    """A chain, and a second one in its folder a little later."""
    first = Chain(place)
    first.wait_until("01", delay)
    ended = command(CHAIN, environment(place), seconds=60)
    fault = refusal_fault(ended)
    if not fault and not any(told in ended.errors for told in TOLD):
        fault = f"says something else: {ended.errors.strip()[-150:]}"
    yield Outcome("the second chain is told", fault)
    first.wait_until("99", 0)
    code = first.process.returncode
    fault = f"code {code}: {first.log.read_text().strip()[-150:]}" if code else ""
    if not fault and numbers(place) != right:
        fault = "other numbers"
    yield Outcome("the first chain ends right", fault)


def world_fault(place: Path) -> str:
    """What is wrong with two recipes that both want the world of their profile, at once."""
    first = Chain(place, "--only", "01")
    time.sleep(0.5)
    words = [*CHAIN, "--only", "01", "--recipe", "glr21-seresnet101-ibn"]
    second = command(words, environment(place), seconds=180)
    first.wait_until("99", 0)
    log = first.log.read_text()
    ends = [Ended(first.process.returncode, log, log, 0), second]
    kill(alive_below(place))
    faults = [refusal_fault(ended) for ended in ends if ended.code]
    return " and ".join(fault for fault in faults if fault)

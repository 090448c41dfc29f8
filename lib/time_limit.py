"""How long a run may take: `TIME_LIMIT_HOURS`, as Kaggle stops a session after some hours.

The moment at which work must be over stands in the environment, so that processes inherit it.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
OVER = "its share of TIME_LIMIT_HOURS is over; what was finished is kept"
VARIABLE = "LANDMARK_DEADLINE"  # seconds since 1970


class TimeUp(ValueError):
    """The time limit ended a piece of work; what it had finished is kept."""


def deadline() -> float:
    """The moment at which work must be over, in seconds since 1970; infinite without a limit."""
    return float(os.environ.get(VARIABLE) or math.inf)


def time_left() -> float:
    """Seconds until the deadline; infinite without one, negative after it."""
    return deadline() - time.time()


def check_time(what: str) -> None:
    """Raise TimeUp if the deadline is over."""
    if time_left() < 0:
        raise TimeUp(f"{what}: {OVER}")


def start_clock(hours: float) -> None:
    """Set the deadline `hours` from now, unless `hours` is 0."""
    if hours:
        os.environ[VARIABLE] = str(time.time() + 3600 * hours)


@contextlib.contextmanager
def within(share: float) -> Iterator[None]:
    """Give the block a share of the time left, if there is a limit."""
    before = os.environ.get(VARIABLE)
    if before:
        os.environ[VARIABLE] = str(time.time() + share * time_left())
    try:
        yield
    finally:
        if before:
            os.environ[VARIABLE] = before


def try_within(share: float, work: Callable[..., T], *arguments: Any) -> T | None:
    """What `work` returns; None, with a printed line, if it takes over a share of the time left."""
    try:
        with within(share):
            return work(*arguments)
    except TimeUp as error:
        print(error, flush=True)
        return None

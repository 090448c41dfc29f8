"""Learning-rate factors as pure functions of progress t, from 0 (first step) to 1 (after the last).

GLR20 trains with "lambda poly", and the published code has a policy of that name; its scripts
choose
another, "lambda range". GLR21 uses a cosine per iteration, with a linear warm-up in the first stage
only. The stage multiplies its base rates by the factor."""

import math
from collections.abc import Callable


def constant(t: float) -> float:
    """No change.

    >>> constant(0.7)
    1.0
    """
    return 1.0


def poly(t: float, *, power: float = 0.9) -> float:
    """(1 - t)^power, from 1 to 0.

    >>> poly(0.0), round(poly(0.5), 4), poly(1.0)
    (1.0, 0.5359, 0.0)
    """
    return (1.0 - t) ** power


def lambda_poly(t: float) -> float:
    """The root of 1 - t, from 1 to 0 (GLR20 §3.1; the power is the published code's).

    >>> lambda_poly(0.0), lambda_poly(0.75), lambda_poly(1.0)
    (1.0, 0.5, 0.0)
    """
    return poly(t, power=0.5)


def lambda_range(t: float) -> float:
    """(1 - t)^(2t), from 1 to 0: nearly constant at first (GLR20, scripts of the published code).

    >>> lambda_range(0.0), round(lambda_range(0.1), 4), lambda_range(0.5), lambda_range(1.0)
    (1.0, 0.9791, 0.5, 0.0)
    """
    return (1.0 - t) ** (2.0 * t)


def cosine(t: float, *, floor: float = 0.002) -> float:
    """Half a cosine wave from 1 to `floor` (GLR21: 0.002 of the base rate).

    >>> cosine(0.0), round(cosine(0.5), 3), cosine(1.0)
    (1.0, 0.501, 0.002)
    """
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * t))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": constant,
    "poly": poly,
    "lambda_poly": lambda_poly,
    "lambda_range": lambda_range,
    "cosine": cosine,
}


def learning_rate_factor(
    schedule: str, t: float, *, warmup: float = 0.0, start: float = 0.01
) -> float:
    """The factor of the schedule called `schedule` at progress `t`, after a linear warm-up.

    During the first `warmup` share of all steps the factor rises from `start` to 1. Then the
    schedule applies at its absolute progress, as in GLR21, rather than being shifted or squeezed.

    Raises:
        ValueError: an unknown schedule, or `t` outside 0 to 1.

    >>> [round(learning_rate_factor("cosine", t, warmup=0.1), 3) for t in (0.0, 0.05, 0.1, 1.0)]
    [0.01, 0.505, 0.976, 0.002]
    >>> learning_rate_factor("poly", 0.5) == poly(0.5)
    True
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"expected a schedule among {', '.join(SCHEDULES)}, found {schedule!r}; correct it"
        )
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"expected progress between 0 and 1, found {t}; divide by all steps")
    if t < warmup:
        return start + (1.0 - start) * t / warmup
    return SCHEDULES[schedule](t)

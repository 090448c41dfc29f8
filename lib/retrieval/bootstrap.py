"""How sure a mean over queries is: bootstrap intervals, alone and paired.

A few hundred queries decide these tables, and a difference of half a point between two recipes is
often chance. Queries are drawn again with replacement (percentile bootstrap, Efron 1979). Compare
two recipes with `paired_difference`: what makes a query hard is the same for both and cancels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

Values = Sequence[float] | np.ndarray | pd.Series
DRAWS_AT_ONCE = 1 << 22  # 32 MB of indices


@dataclass(frozen=True)
class Interval:
    """A mean and the range in which it may lie.

    >>> print(Interval(0.4213, 0.4008, 0.4419))
    0.421 (0.401 to 0.442)
    """

    mean: float
    low: float
    high: float

    def excludes(self, value: float = 0.0) -> bool:
        """Whether `value` lies outside: a difference that excludes 0 is more than chance.

        >>> Interval(0.02, 0.01, 0.03).excludes(0.0)
        True
        """
        return not self.low <= value <= self.high

    def __str__(self) -> str:
        """Mean and range with three decimals."""
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap_interval(
    values: Values,
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Estimate the interval of the mean of `values`, one per query.

    One value, or equal values, give an interval of no width.

    Args:
        values: (Q,) numbers, such as `lib.retrieval.metrics.average_precisions`.
        generator: source of the draws.
        resamples: how many times the queries are drawn again.
        level: share of the resampled means inside, between 0 and 1.

    Raises:
        ValueError: if there is no value, one is not finite, or `level` or `resamples` is absurd.

    >>> bootstrap_interval([0.5, 0.5], generator=np.random.default_rng(0))
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(
            f"expected a flat list of finite values, found shape {numbers.shape} with"
            f" {np.count_nonzero(~np.isfinite(numbers))} not finite; pass one score per query"
        )
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"expected a level between 0 and 1 and at least one resample, found {level} and"
            f" {resamples}; 0.95 and 10,000 are usual"
        )
    step = max(1, DRAWS_AT_ONCE // len(numbers))
    means = np.empty(resamples)
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(numbers))
        drawn = generator.integers(len(numbers), size=shape, dtype=np.int32)
        means[start : start + step] = numbers[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers.mean()), float(low), float(high))


def paired_difference(
    after: Values,
    before: Values,
    *,
    generator: np.random.Generator,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """Estimate the interval of the mean of `after - before` over the same queries.

    Two Series are matched by their query ids, anything else by place.

    Raises:
        ValueError: if the two are not about the same queries, and as `bootstrap_interval`.

    >>> paired_difference([0.75, 1.0], [0.5, 0.75], generator=np.random.default_rng(0))
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    if isinstance(after, pd.Series) and isinstance(before, pd.Series):
        if len(after) != len(before) or set(after.index) != set(before.index):
            missing = set(after.index) ^ set(before.index)
            raise ValueError(
                f"expected the same queries twice, found {len(missing)} in one only; score both"
                " against one solution"
            )
        before = before.loc[after.index]
    after, before = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if after.shape != before.shape:
        raise ValueError(
            f"expected as many values before as after, found {before.shape} and {after.shape};"
            " score both against one solution"
        )
    return bootstrap_interval(after - before, generator=generator, resamples=resamples, level=level)

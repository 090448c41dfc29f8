import itertools
import math

import pytest

from lib.training.schedules import SCHEDULES, cosine, lambda_range, learning_rate_factor, poly

STEPS = [step / 1000 for step in range(1001)]


@pytest.mark.parametrize("schedule", ["poly", "lambda_poly", "lambda_range", "cosine"])
def test_learning_rate_factor_falls_from_one_to_almost_nothing(schedule):
    factors = [learning_rate_factor(schedule, t) for t in STEPS]
    assert factors[0] == 1.0
    assert factors[-1] <= 0.002
    assert all(later < earlier for earlier, later in itertools.pairwise(factors))


@pytest.mark.parametrize("total", [7, 200_000])
def test_lambda_range_is_the_published_formula(total):
    for step in range(0, total, max(1, total // 50)):
        expected = (1 - step / total) ** (2 * step / total)
        assert lambda_range(step / total) == pytest.approx(expected)


def test_poly_is_linear_at_power_one():
    assert [poly(t, power=1.0) for t in STEPS] == pytest.approx([1 - t for t in STEPS])


def test_cosine_is_symmetric_about_its_middle():
    for t in STEPS:
        assert cosine(t) + cosine(1 - t) == pytest.approx(1.002)
        assert cosine(t, floor=0.0) == pytest.approx(math.cos(math.pi * t / 2) ** 2)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_learning_rate_factor_rises_linearly_then_follows_the_schedule(schedule):
    for t in STEPS:
        factor = learning_rate_factor(schedule, t, warmup=0.2, start=0.1)
        expected = 0.1 + 0.9 * t / 0.2 if t < 0.2 else SCHEDULES[schedule](t)
        assert factor == pytest.approx(expected)


def test_learning_rate_factor_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="found 'step'"):
        learning_rate_factor("step", 0.5)
    with pytest.raises(ValueError, match=r"found 1\.1"):
        learning_rate_factor("poly", 1.1)

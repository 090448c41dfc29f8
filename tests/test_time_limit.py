"""The moment at which a run must be over, and shares of the time until then."""

import math
import time

import pytest

from lib.artifacts import progress
from lib.time_limit import VARIABLE, TimeUp, check_time, start_clock, time_left, try_within, within


@pytest.fixture(autouse=True)
def no_limit(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")  # so that it is put back


def test_without_a_limit_there_is_all_the_time(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    start_clock(0)
    assert time_left() == math.inf
    with within(0.1):
        assert time_left() == math.inf
        check_time("work")
    assert list(progress(range(3), "work")) == [0, 1, 2]


def test_within_gives_a_share_and_shares_nest():
    start_clock(2)
    assert time_left() == pytest.approx(7200, abs=5)
    with within(0.5):
        assert time_left() == pytest.approx(3600, abs=5)
        with within(0.25):
            assert time_left() == pytest.approx(900, abs=5)
        assert time_left() == pytest.approx(3600, abs=5)
    assert time_left() == pytest.approx(7200, abs=5)


def test_progress_stops_before_the_first_item_after_the_deadline(monkeypatch):
    monkeypatch.setenv(VARIABLE, str(time.time() + 60))
    seen = []

    def work(item):
        seen.append(item)
        if item == 2:
            monkeypatch.setenv(VARIABLE, str(time.time() - 1))

    with pytest.raises(TimeUp, match="work: its share of TIME_LIMIT_HOURS is over"):
        list(map(work, progress(range(5), "work")))
    assert seen == [0, 1, 2]


def test_try_within_returns_none_when_the_time_is_up(capsys, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(time.time() - 1))
    assert try_within(0.5, check_time, "work") is None
    assert capsys.readouterr().out.startswith("work: ")
    assert try_within(0.5, max, 1, 2) == 2

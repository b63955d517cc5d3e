"""Numbers in few characters; gaps between messages; rates from one reading to the next."""

from __future__ import annotations

import math
import statistics

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.operate.monitoring.formatting import amount, duration, listed, moment, plain, rate, sparkline
from taktora_trio.operate.monitoring.intervals import Gaps
from taktora_trio.operate.monitoring.tracking import Tracker
from tests.monitoring.test_dashboard import HANGS, WELL, reading
from tests.vitals.pages import channel


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (7, "7"), (12.34, "12.3"), (999, "999"), (999.6, "1.0k"), (12_345, "12.3k"), (2e6, "2.0M")],
)
def test_amounts(value: float | None, text: str) -> None:
    assert amount(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0.00031, "310us"),
        (0.0042, "4.2ms"),
        (0.25, "250ms"),
        (12.0, "12.0s"),
        (59.97, "1m00s"),
        (200, "3m20s"),
        (18_120, "5h02m"),
        (800_000, "9d06h"),
        (1e8, "1157d"),
    ],
)
def test_durations(value: float | None, text: str) -> None:
    assert duration(value) == text


@given(st.floats(0, 1e10))
def test_all_are_short(value: float) -> None:
    assert max(len(amount(value)), len(rate(value))) <= 6
    assert len(duration(value)) <= 7


def test_bars() -> None:
    assert sparkline([None, 0, 1, 4, 8], 7) == "   ▁▂▅█"
    assert sparkline([5, 5, 5], 2) == "██"
    assert sparkline([], 3) == "   "
    assert plain("▁█ → ↑ ü…") == "_# > ^ ?~"


def test_some_of_many_names() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=50))
def test_gaps_are_as_statistics_has_them(gaps: list[int]) -> None:
    found = Gaps()
    at = 0
    for number, gap in enumerate([0, *gaps]):
        at += gap
        found.add(number + 1, at)
    seconds = [gap / 1e9 for gap in gaps]
    assert (found.messages, found.counted) == (len(gaps) + 1, len(gaps))
    assert found.mean == pytest.approx(statistics.mean(seconds))
    assert (found.least, found.most) == (min(seconds), max(seconds))
    assert found.jitter == pytest.approx(statistics.stdev(seconds), abs=1e-9)


def test_what_was_not_seen_counts_and_makes_no_gap() -> None:
    found = Gaps()
    assert (found.mean, found.least, found.most, found.jitter) == (None, None, None, None)
    found.add(5, 0)
    found.add(9, 40)
    assert (found.messages, found.counted) == (5, 0)
    following = found.next()
    following.add(10, 50)
    assert (following.messages, following.counted, following.mean) == (1, 1, 1e-8)
    following.add(1, 60)  # of a run that has begun anew
    assert (following.messages, following.counted) == (2, 1)


def test_rates_are_of_the_times_at_which_the_halves_have_written() -> None:
    tracker = Tracker()
    north = channel("north")

    def at(written: float, messages: int, read: float, age: float = 0.0) -> None:
        half = msgspec.structs.replace(WELL, written_at=written, cpu=written / 10, age=age)
        channels = [channel("north", messages=messages)]
        tracker.add(reading(read_at=read, halves={"plugin": half, "gateway": None}, channels=channels))

    at(10.0, 1000, read=10.9)
    assert tracker.now(north) is None
    at(11.0, 1100, read=11.1)
    at(11.0, 1100, read=11.9)  # nothing new was written: that is no rate of 0
    at(12.0, 1300, read=12.1)
    assert list(tracker.history(north)) == [100, 200]
    assert tracker.cpu == {"plugin": pytest.approx(0.1)}
    at(12.0, 1300, read=20.0, age=7.9)  # it hangs
    assert list(tracker.history(north)) == [100, 200, None]
    assert tracker.now(north) is None
    assert tracker.cpu == {}
    assert HANGS.written_at is None


@pytest.mark.parametrize(("at", "shown"), [(0.0, "00:00:00"), (1e300, "-"), (math.nan, "-"), (-math.inf, "-")])
def test_what_is_no_time_is_not_shown_as_one(at: float, shown: str) -> None:
    assert moment(at) == shown

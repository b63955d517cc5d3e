"""The line through samples, and the verdict on it: made-up series, and one process that does leak."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from tests.soak.limits import LIMITS, Key, Limit, findings, leaks
from tests.soak.sampling import look_at_process
from tests.soak.trend import PARTS, trend_of

HOUR = 3600


def test_a_straight_line_is_found_exactly() -> None:
    trend = trend_of([(10.0 * turn, 5 + 2 * turn) for turn in range(100)])
    assert trend is not None
    assert (trend.begin, trend.end, trend.slope) == pytest.approx((5, 203, 2 * HOUR / 10))
    assert trend.error == pytest.approx(0, abs=1e-6)
    assert trend.growth == pytest.approx(198)


def test_the_interval_holds_the_true_slope_95_times_in_100() -> None:
    """Not for each sample is there new noise: three in a row have the same, as a heap's size has."""
    chance, held = random.Random(1), 0
    for _ in range(400):
        noise = [chance.gauss(0, 1) for _ in range(200)]
        trend = trend_of([(turn, 0.01 * turn + noise[turn // 3]) for turn in range(600)])
        assert trend is not None
        held += abs(trend.slope - 0.01 * HOUR) <= trend.error
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("count", [0, 1, PARTS // 2 - 1])
def test_too_few_samples_are_no_line(count: int) -> None:
    assert trend_of([(turn, 1) for turn in range(count)]) is None


def test_samples_at_one_moment_are_no_line() -> None:
    assert trend_of([(1, turn) for turn in range(100)]) is None


def verdict(values: list[float], limit: Limit, seconds: float = HOUR) -> bool:
    series: dict[Key, list[tuple[float, float]]] = {
        ("d", "p", "descriptors"): [(turn * seconds / len(values), value) for turn, value in enumerate(values)]
    }
    [finding] = findings(series, 0)
    assert finding.limit == LIMITS["descriptors"] == limit
    return leaks([finding]) == [finding]


def test_what_grows_is_told_from_what_does_not() -> None:
    limit = Limit("", 4.0, 4.0)
    chance = random.Random(2)

    def steady(size: float) -> list[float]:
        return [100 + size * chance.random() for _ in range(600)]

    assert not verdict([100.0] * 600, limit)
    assert not verdict(steady(30), limit), "noise"
    assert not verdict([100.0] * 300 + [103.0] * 300, limit), "a few that come once"
    assert not verdict([100 - turn for turn in range(600)], limit), "it shrinks"
    assert not verdict([100 + turn // 200 for turn in range(600)], limit), "below what is allowed in an hour"
    assert verdict([100 + turn // 50 for turn in range(600)], limit), "twelve in an hour"
    assert verdict([value + turn / 30 for turn, value in enumerate(steady(6))], limit), "behind noise"
    # In a minute nothing is known of an hour, but one for each of ten kills is.
    assert not verdict([100 + turn // 30 for turn in range(60)], limit, 60), "one"
    assert verdict([100 + turn // 6 for turn in range(60)], limit, 60)


def test_the_warm_up_does_not_count() -> None:
    series: dict[Key, list[tuple[float, float]]] = {
        ("d", "p", "descriptors"): [(float(turn), min(turn, 50.0)) for turn in range(200)]
    }
    assert leaks(findings(series, 0))
    assert not leaks(findings(series, 50))


_LEAKING = """
import os, sys
for line in sys.stdin:
    os.open("/dev/null", os.O_RDONLY)
    print("another", flush=True)
"""


def test_a_process_that_leaks_descriptors_is_found() -> None:
    """Each time it is asked it opens one more, and the samples say so: all that is made up is the time."""
    series: dict[Key, list[tuple[float, float]]] = {}
    process = subprocess.Popen([sys.executable, "-ISc", _LEAKING], stdin=-1, stdout=-1, text=True)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        for minute in range(60):
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "another\n"
            for measure, value in look_at_process(process.pid, 0, time.time()).items():
                series.setdefault(("leaking", "process", measure), []).append((60.0 * minute, value))
        process.stdin.close()
    assert [leak.key[2] for leak in leaks(findings(series, 0))] == ["descriptors"]
    assert {key[2] for key in series} == {"rss", "pss", "descriptors", "threads"}


def test_a_process_that_has_just_started_or_is_gone_is_not_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-ISc", "input()"], stdin=-1) as process:
        assert look_at_process(process.pid, 100, time.time()) == {}
    assert look_at_process(process.pid, 0, time.time()) == {}

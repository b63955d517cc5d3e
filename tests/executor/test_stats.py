from __future__ import annotations

import math
import tracemalloc
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.executor.stats import Statistics, Summary, summarize

SECONDS = st.floats(0, 1e3, allow_nan=False)
CYCLES = st.lists(st.tuples(SECONDS, st.one_of(SECONDS, st.just(math.nan))), max_size=120)


def naive(values: list[float]) -> Summary | None:
    """Return the nearest rank, literally: the smallest value that at least so many percent do not exceed."""
    if not values:
        return None

    def percentile(percent: int) -> float:
        return min(v for v in values if sum(other <= v for other in values) * 100 >= percent * len(values))

    return Summary(percentile(50), percentile(95), percentile(99), min(values), max(values))


@given(st.lists(SECONDS, max_size=60))
def test_a_summary_against_its_definition(values: list[float]) -> None:
    assert summarize(values) == naive(values)


@given(st.integers(1, 40), CYCLES)
def test_the_window_against_a_naive_model(window: int, cycles: list[tuple[float, float]]) -> None:
    statistics = Statistics(window)
    kept: deque[tuple[float, float, float]] = deque(maxlen=window)
    last = math.nan
    for duration, lateness in cycles:
        statistics.record(duration, lateness)
        kept.append((duration, lateness, abs(lateness - last)))
        last = lateness
    read = statistics.read()
    assert read.count == len(cycles)
    assert read.duration == naive([duration for duration, _, _ in kept])
    assert read.lateness == naive([lateness for _, lateness, _ in kept if not math.isnan(lateness)])
    assert read.jitter == naive([jitter for _, _, jitter in kept if not math.isnan(jitter)])


def test_the_memory_is_fixed() -> None:
    statistics = Statistics(64)
    statistics.record(0.5, 0.25)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(10_000):
            statistics.record(number + 0.5, number + 0.25)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1024


def test_an_item_that_never_ran_has_no_figures() -> None:
    read = Statistics(8).read()
    assert (read.count, read.duration, read.lateness, read.jitter) == (0, None, None, None)

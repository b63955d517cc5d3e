"""The clock by which messages age: it is never set, and goes on while the machine is suspended.

A run of trio may have another one, by `use`: so a message ages by a virtual clock, where a test has one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import trio

__all__ = ["boottime_ns", "clock_of_run", "machine_clock", "use"]

machine_clock: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
"""Returns the nanoseconds since the machine was started (clock_gettime(2))."""
_OF_RUN = trio.lowlevel.RunVar("boottime", machine_clock)


def clock_of_run() -> Callable[[], int]:
    """Return the clock of this run of trio; the machine's where there is none, as in a worker thread."""
    try:
        return _OF_RUN.get()
    except RuntimeError:
        return machine_clock


def boottime_ns() -> int:
    """Return the time on the clock of this run."""
    return clock_of_run()()


@contextlib.contextmanager
def use(clock: Callable[[], int]) -> Iterator[None]:
    """Have messages of this run age by another clock in the block: those whose channels are opened in it."""
    token = _OF_RUN.set(clock)
    try:
        yield
    finally:
        _OF_RUN.reset(token)

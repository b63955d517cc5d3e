"""The delays between the restarts of a policy, without jitter."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from taktora_trio.supervision.backoff import Backoff
from taktora_trio.supervision.policy import RestartPolicy

__all__ = ["growing_delays", "longest_delay", "sum_of_delays"]


def longest_delay(backoff: Backoff) -> float:
    """Return the delay after which none is longer."""
    return backoff.initial if backoff.factor == 1 else backoff.maximum


def growing_delays(backoff: Backoff, restarts: int) -> list[float]:
    """Return the first `restarts` delays, but none behind the first one that is the longest."""
    delays: list[float] = []
    for attempt in range(restarts):
        delays.append(backoff.delay(attempt, _middle))
        if delays[-1] == longest_delay(backoff):
            break
    return delays


def sum_of_delays(policy: RestartPolicy) -> Callable[[int], float]:
    """Return a function that adds up the first `count` delays."""
    growing = growing_delays(policy.backoff, policy.intensity)
    sums = list(itertools.accumulate(growing, initial=0.0))

    def total(count: int) -> float:
        return sums[count] if count < len(sums) else sums[-1] + (count - len(growing)) * longest_delay(policy.backoff)

    return total


def _middle() -> float:
    return 0.5

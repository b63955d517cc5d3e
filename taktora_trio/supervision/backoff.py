"""Exponential backoff as a pure series."""

from __future__ import annotations

import itertools
import math
import random as random_module
from collections.abc import Callable, Iterator

import attrs

from taktora_trio.errors import ConfigError

__all__ = ["Backoff"]


@attrs.frozen(kw_only=True)
class Backoff:
    """The delays between attempts: `initial`, `initial * factor`, `initial * factor**2`, ... clamped to `maximum`.

    Each is then spread by up to `jitter` of itself in either direction, so that many clients of one server that died
    do not come back in step. All times in seconds. Raises `ConfigError` naming the field that can't be.
    """

    initial: float = 0.1
    """The first delay."""
    maximum: float = 30.0
    """The longest delay."""
    factor: float = 2.0
    """By how much each delay is longer than the one before."""
    jitter: float = 0.1
    """The share of a delay by which it is spread, from 0 to 1."""

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"backoff {name} is {value!r}; it must be a number")
        if not 0 < self.initial < math.inf:
            raise ConfigError(f"backoff initial is {self.initial!r}; it must be more than 0 seconds")
        if not self.initial <= self.maximum < math.inf:
            raise ConfigError(f"backoff maximum is {self.maximum!r}; it must be at least initial ({self.initial!r})")
        if not self.factor >= 1:  # infinite: the longest delay from the second on
            raise ConfigError(f"backoff factor is {self.factor!r}; it must be at least 1")
        if not 0 <= self.jitter <= 1:
            raise ConfigError(f"backoff jitter is {self.jitter!r}; it must be from 0 to 1 (a share of the delay)")

    def delay(self, attempt: int, random: Callable[[], float] = random_module.random) -> float:
        """Return the delay in seconds before an attempt, counted from 0. `random` returns from 0 to 1."""
        try:
            delay = min(self.initial * self.factor**attempt, self.maximum)
        except OverflowError:
            delay = self.maximum
        return delay * (1 + self.jitter * (2 * random() - 1))

    def delays(self, random: Callable[[], float] = random_module.random) -> Iterator[float]:
        """Yield the endless series of delays."""
        return (self.delay(attempt, random) for attempt in itertools.count())

    def __str__(self) -> str:
        return f"initial={self.initial:g},maximum={self.maximum:g},factor={self.factor:g},jitter={self.jitter:g}"

"""Rates of a run, second by second, from one reading to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from taktora_trio import vitals
from taktora_trio.vitals import ChannelRates, ChannelVitals, DomainVitals
from taktora_trio.vitals.model import ChannelKey

__all__ = ["Tracker"]

_KEPT = 120  # rates of each channel
_STALE = 2.5  # seconds without a page after which nothing is going on, as far as can be seen


class Tracker:
    """The last rates of each channel, and what a half takes of a processor."""

    def __init__(self) -> None:
        self._before: DomainVitals | None = None
        self._rates: dict[ChannelKey, deque[float | None]] = {}
        self._now: dict[ChannelKey, ChannelRates] = {}
        self.cpu: dict[str, float] = {}

    def add(self, reading: DomainVitals) -> None:
        """Take a reading. The halves write once a second: where none has written anew there is no new rate."""
        before, reading = self._before, _as_written(reading)
        if before is None:
            self._before = reading
            return
        found = vitals.rates(before, reading)
        if found.seconds <= 0:
            if all(half is None or (half.age or 0.0) > _STALE for half in reading.halves.values()):
                self._stand_still(reading)
            return
        self._before = reading
        self.cpu = {name: half.cpu for name, half in found.halves.items()}
        self._now = dict(found.channels)
        for channel in reading.channels:
            known = self._now.get(channel.key)
            self._history(channel).append(None if known is None else known.messages)

    def now(self, channel: ChannelVitals) -> ChannelRates | None:
        """Return the last rates of a channel; `None` where there are none yet."""
        return self._now.get(channel.key)

    def history(self, channel: ChannelVitals) -> Sequence[float | None]:
        """Return the messages in a second, the newest last."""
        return self._rates.get(channel.key, ())

    def _history(self, channel: ChannelVitals) -> deque[float | None]:
        return self._rates.setdefault(channel.key, deque(maxlen=_KEPT))

    def _stand_still(self, reading: DomainVitals) -> None:
        self.cpu = {}
        self._now = {}
        for channel in reading.channels:
            self._history(channel).append(None)


def _as_written(reading: DomainVitals) -> DomainVitals:
    """Return the reading with the time at which its figures were written, so that no rate depends on when we look."""
    times = [half.written_at for half in reading.halves.values() if half is not None and half.written_at is not None]
    return msgspec.structs.replace(reading, read_at=max(times)) if times else reading

"""A fault that repeats is logged a few times in a minute; of the rest, the log has the number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

__all__ = ["Repeats"]

_OFTEN, _WINDOW = 10, 60.0  # times in so many seconds
_KEPT = 256  # faults that are counted at once


class Repeats:
    """Counts how often each fault was logged lately: a warning or an error with the code of an event.

    Two are the same if they have the same code and are about the same: a connector, a channel, a half. What an app
    logs without codes is its own, and what is critical is never left out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[object, _Fault] = {}

    def leaves_out(self, record: logging.LogRecord) -> bool:
        """Return whether this record has come too often to be logged. It is counted then."""
        event = getattr(record, "event", None)
        if event is None or not logging.WARNING <= record.levelno < logging.CRITICAL:
            return False
        subject = record.args[0] if isinstance(record.args, tuple) and record.args else None
        key = (event, record.levelno, subject if isinstance(subject, str) else None)
        now = self._clock()
        fault = self._faults.get(key)
        if fault is None:
            while len(self._faults) >= _KEPT:
                del self._faults[next(iter(self._faults))]
            fault = self._faults[key] = _Fault(now)
        return fault.leaves_out(record)

    def over(self, *, at_end: bool = False) -> Iterator[logging.LogRecord]:
        """Yield a record for each fault of which some were left out, once its time is over, or at once at the end."""
        now = self._clock()
        for key, fault in list(self._faults.items()):
            if at_end or now - fault.since >= _WINDOW:
                del self._faults[key]
                if fault.last is not None:
                    yield _summary(fault.last, fault.left_out, now - fault.since)


class _Fault:
    __slots__ = ("last", "left_out", "logged", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.logged = self.left_out = 0
        self.last: logging.LogRecord | None = None

    def leaves_out(self, record: logging.LogRecord) -> bool:
        if self.logged < _OFTEN:
            self.logged += 1
            return False
        self.left_out += 1
        self.last = record
        return True


def _summary(last: logging.LogRecord, count: int, seconds: float) -> logging.LogRecord:
    event = getattr(last, "event", "")
    try:
        text = last.getMessage().partition("\n")[0]
    except Exception:  # noqa: BLE001 - arguments that don't fit
        text = str(last.msg)
    record = logging.LogRecord(
        last.name,
        last.levelno,
        last.pathname,
        last.lineno,
        "%d more in the last %.0f s of: %s",
        (count, seconds, text),
        None,
    )
    record.event, record.of, record.count = "repeated", event, count
    return record

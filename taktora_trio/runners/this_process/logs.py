"""Logging of a command: lines for people, for the journal, or JSON for machines, on standard error.

The library itself only uses `logging.getLogger`. structlog would add 7 MB to a supervisor that is to stay under 35.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Callable, Iterator

import trio

from taktora_trio.errors import summary
from taktora_trio.runners.this_process.log_formats import LogFormat, LogLevel, formatter, goes_to_journal, prioritized
from taktora_trio.runners.this_process.repeats import Repeats

__all__ = ["is_set_up", "logging_to", "set_up_logging", "shown_as", "tell_repeats"]

_PATIENCE = 1.0  # seconds to wait for a descriptor that does not block, and takes nothing
_LOOK = 60.0  # seconds between two looks for faults that were left out


def shown_as(log_format: LogFormat) -> LogFormat:
    """Return the format in which lines for people go to standard error: the journal's, if they go there."""
    return "journal" if log_format == "console" and goes_to_journal(2) else log_format


def set_up_logging(log_format: LogFormat, process: str, *, level: LogLevel = "info", tagged: bool = False) -> None:
    """Log from this level up; `process` says which half a line is from, unless each line is `tagged` with that."""
    shown = shown_as(log_format)
    handler = _Handler(_Output(2).write, priorities=shown == "journal" or goes_to_journal(2))
    handler.setFormatter(formatter(shown, process, tagged))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def is_set_up() -> bool:
    """Return whether the log of this process is ours: that of a command, and not of a program of somebody else's."""
    return any(isinstance(handler, _Handler) for handler in logging.getLogger().handlers)


@contextlib.contextmanager
def logging_to(write: Callable[[bytes], None], log_format: LogFormat, process: str) -> Iterator[None]:
    """Log by `write`, which takes a line without its end, for as long as the block lasts."""

    def write_lines(text: bytes) -> None:
        for line in text.splitlines():
            write(line)

    handler = _Handler(write_lines, priorities=log_format == "journal")
    handler.setFormatter(formatter(log_format, process, tagged=True))
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    try:
        yield
    finally:
        handler.close()
        root.handlers = before


async def tell_repeats() -> None:
    """Serve: log how often faults have repeated that were left out. Runs until cancelled."""
    while True:
        await trio.sleep(_LOOK)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, _Handler):
                handler.tell_repeats()


class _Handler(logging.Handler):
    """A handler that never raises, whatever is logged, and never suffers from an earlier record.

    What can't be shown is named instead. What can't be written (a full disk) is lost, and the next record that can be
    is preceded by the number of those lost. A fault that repeats is left out and counted.
    """

    def __init__(self, write: Callable[[bytes], None], *, priorities: bool) -> None:
        super().__init__()
        self._write = write
        self._priorities = priorities
        self._repeats = Repeats()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._repeats.leaves_out(record):
            self._emit(record)

    def tell_repeats(self, *, at_end: bool = False) -> None:
        """Write how often each fault has repeated whose time is over."""
        with self.lock or contextlib.nullcontext():
            for record in self._repeats.over(at_end=at_end):
                self._emit(record)

    def close(self) -> None:
        self.tell_repeats(at_end=True)
        super().close()

    def _emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost:
                self._write(
                    self._shown(
                        _like(record, "log-lost", f"{self._lost} log records could not be written, and are lost")
                    )
                )
                self._lost = 0
            self._write(self._shown(record))
        except OSError:
            self._lost += 1

    def _shown(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as exc:  # noqa: BLE001 - arguments that don't fit, or whose own methods raise
            what = f"a log record of {record.pathname}:{record.lineno} can't be shown: {summary(exc)}"
            text = self.format(_like(record, "log-unshowable", what))
        if self._priorities:
            text = prioritized(record.levelno, text)
        return text.encode(errors="backslashreplace")


def _like(record: logging.LogRecord, event: str, message: str) -> logging.LogRecord:
    like = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, (), None)
    like.event = event
    return like


class _Output:
    """A descriptor, written to directly: a buffer in between would keep what was refused once, and fail again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._is_within_line = False

    def write(self, text: bytes) -> None:
        """Write `text` and end its line. Raises `OSError`, after which a next call begins on a line of its own."""
        rest = b"\n" * self._is_within_line + text + b"\n"
        while rest:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                if not poll.poll(_PATIENCE * 1000):
                    raise
                continue
            rest = rest[written:]
            self._is_within_line = bool(rest)

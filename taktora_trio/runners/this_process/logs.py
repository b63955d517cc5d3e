"""Logging of a command: lines for people, or JSON for machines, on standard error.

The library itself only uses `logging.getLogger`. structlog would add 7 MB to a supervisor that is to stay under 35.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

import msgspec

from taktora_trio.errors import summary

__all__ = ["LOG_FORMATS", "LogFormat", "LogLevel", "logging_to", "set_up_logging"]

LogFormat: TypeAlias = Literal["console", "json"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

_PATIENCE = 1.0  # seconds to wait for a descriptor that does not block, and takes nothing


class _JsonFormatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": _encodable(record.name),
            "message": _encodable(record.getMessage()),
        }
        if health := getattr(record, "health", None):
            entry["health"] = [_encodable(text) for text in health]
        if record.exc_info:
            entry["exception"] = _encodable(self.formatException(record.exc_info))
        return msgspec.json.encode(entry).decode()


def set_up_logging(log_format: LogFormat, process: str, *, level: LogLevel = "info", tagged: bool = False) -> None:
    """Log from this level up; `process` says which half a line is from, unless each line is `tagged` with that."""
    handler = _Handler(_Output(2).write)
    handler.setFormatter(_formatter(log_format, process, tagged))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


@contextlib.contextmanager
def logging_to(write: Callable[[bytes], None], log_format: LogFormat, process: str) -> Iterator[None]:
    """Log by `write`, which takes a line without its end, for as long as the block lasts."""

    def write_lines(text: bytes) -> None:
        for line in text.splitlines():
            write(line)

    handler = _Handler(write_lines)
    handler.setFormatter(_formatter(log_format, process, tagged=True))
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    try:
        yield
    finally:
        root.handlers = before


class _Handler(logging.Handler):
    """A handler that never raises, whatever is logged, and never suffers from an earlier record.

    What can't be shown is named instead. What can't be written (a full disk) is lost, and the next record that can be
    is preceded by the number of those lost.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost:
                self._write(self._shown(_like(record, f"{self._lost} log records could not be written, and are lost")))
                self._lost = 0
            self._write(self._shown(record))
        except OSError:
            self._lost += 1

    def _shown(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as exc:  # noqa: BLE001 - arguments that don't fit, or whose own methods raise
            text = self.format(
                _like(record, f"a log record of {record.pathname}:{record.lineno} can't be shown: {summary(exc)}")
            )
        return text.encode(errors="backslashreplace")


def _like(record: logging.LogRecord, message: str) -> logging.LogRecord:
    return logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, message, (), None)


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


def _formatter(log_format: LogFormat, process: str, tagged: bool) -> logging.Formatter:
    if log_format == "json":
        return _JsonFormatter(process)
    name = "" if tagged else f"{process:<10} "
    return logging.Formatter(f"%(asctime)s.%(msecs)03d %(levelname)-8s {name}%(message)s", datefmt="%H:%M:%S")


def _encodable(text: str) -> str:
    r"""Return the same text; what UTF-8 can't encode (halves of surrogate pairs) as \udc80."""
    return text.encode(errors="backslashreplace").decode()

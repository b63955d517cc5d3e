"""Logging of a command: lines for people, or JSON for machines, on standard error.

The library itself only uses `logging.getLogger`. structlog would add 7 MB to a supervisor that is to stay under 35.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

__all__ = ["LogFormat", "logging_to", "set_up_logging"]

LogFormat: TypeAlias = Literal["console", "json"]


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
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def set_up_logging(log_format: LogFormat, process: str, *, tagged: bool = False) -> None:
    """Log from INFO up; `process` says which half a line is from, unless each line is `tagged` with that anyway."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format, process, tagged))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


@contextlib.contextmanager
def logging_to(write: Callable[[bytes], None], log_format: LogFormat, process: str) -> Iterator[None]:
    """Log by `write`, which takes a line without its end, for as long as the block lasts."""
    handler = _LineHandler(write)
    handler.setFormatter(_formatter(log_format, process, tagged=True))
    root = logging.getLogger()
    before, root.handlers = root.handlers, [handler]
    try:
        yield
    finally:
        root.handlers = before


class _LineHandler(logging.Handler):
    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).encode().splitlines():
            self._write(line)


def _formatter(log_format: LogFormat, process: str, tagged: bool) -> logging.Formatter:
    if log_format == "json":
        return _JsonFormatter(process)
    name = "" if tagged else f"{process:<10} "
    return logging.Formatter(f"%(asctime)s.%(msecs)03d %(levelname)-8s {name}%(message)s", datefmt="%H:%M:%S")

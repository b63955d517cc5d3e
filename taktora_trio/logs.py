"""Logging of a command: lines for people, or JSON for machines, on standard error.

The library itself only uses `logging.getLogger`. structlog would add 7 MB to a supervisor that is to stay under 35.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

__all__ = ["LogFormat", "set_up_logging"]

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


def set_up_logging(log_format: LogFormat, process: str) -> None:
    """Log from INFO up; `process` says which half a line is from."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(_JsonFormatter(process))
    else:
        line = f"%(asctime)s.%(msecs)03d %(levelname)-8s {process:<10} %(message)s"
        handler.setFormatter(logging.Formatter(line, datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

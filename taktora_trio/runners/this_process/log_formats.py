"""What a log record looks like: a line for people, one for the journal, or a JSON object for machines."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Literal, TypeAlias, get_args

import msgspec

from taktora_trio.errors import summary

__all__ = ["LOG_FORMATS", "LogFormat", "LogLevel", "formatter", "goes_to_journal", "prioritized"]

LogFormat: TypeAlias = Literal["console", "json", "journal"]
LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # sd-daemon(3)
_DEBUG = 7
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}  # all else came by `extra=`


def formatter(log_format: LogFormat, process: str, tagged: bool) -> logging.Formatter:
    """Return what formats records of this process, whose name is in each line unless somebody tags the lines."""
    if log_format == "json":
        return _JsonFormatter(process)
    name = "" if tagged else f"{process:<10} "
    if log_format == "journal":
        return _LineFormatter(f"{name}%(message)s")  # the journal has its own time, and a priority
    return _LineFormatter(f"%(asctime)s.%(msecs)03d %(levelname)-8s {name}%(message)s", datefmt="%H:%M:%S")


def goes_to_journal(fd: int) -> bool:
    """Return whether the journal is at the other end of this descriptor (`JOURNAL_STREAM`, systemd.exec(5))."""
    try:
        there = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def prioritized(level: int, text: str) -> str:
    """Put the priority before each line, for the journal takes each for an entry of its own (sd-daemon(3))."""
    priority = next((number for least, number in _PRIORITIES if level >= least), _DEBUG)
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


class _LineFormatter(logging.Formatter):
    """A line for people, with the code of the event at its end, by which docs/events.md says what to do."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in the library
        text = super().formatMessage(record)
        event = getattr(record, "event", None)
        if event is None:
            return text
        first, end, rest = text.partition("\n")
        return f"{first} [{event}]{end}{rest}"


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
        if record.exc_info:
            entry["exception"] = _encodable(self.formatException(record.exc_info))
        for name, value in vars(record).items():
            if name not in _OWN:
                name = _encodable(name)
                entry[name if name not in entry else f"extra.{name}"] = _shown(value)
        return msgspec.json.encode(entry).decode()


def _shown(value: object) -> object:
    """Return a value that came by `extra=` as JSON can have it: as it is, or else as text."""
    if isinstance(value, str):
        return _encodable(value)
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except Exception:  # noqa: BLE001 - it may be of any type, with methods that raise
        return _encodable(_text(value))


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception as exc:  # noqa: BLE001 - as above
        return f"a {type(value).__name__}, which can't be shown: {summary(exc)}"


def _encodable(text: str) -> str:
    r"""Return the same text; what UTF-8 can't encode (halves of surrogate pairs) as \udc80."""
    return text.encode(errors="backslashreplace").decode()

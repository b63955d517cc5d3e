"""The output of a gateway's process, in the log of the program that has started it."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from taktora_trio.escaping import escaped
from taktora_trio.processes.parent.output import Stream

__all__ = ["log_line"]

log = logging.getLogger(__name__)

_LENGTH = 10_000  # characters of one record


def log_line(stream: Stream, line: bytes) -> None:
    """Log a line of a process that was started with `--log json`, by the logger and at the level that it names.

    Other lines are warnings if they come from standard error. What is not printable is escaped.
    """
    entry = _entry(line)
    if entry is None:
        log.log(
            logging.INFO if stream == "stdout" else logging.WARNING,
            "%s",
            _shown(line.decode(errors="replace")),
            extra={"event": "output"},
        )
        return
    level = logging.getLevelNamesMapping().get(str(entry.get("level")).upper(), logging.INFO)
    text = "\n".join(_shown(part) for part in (entry["message"], entry.get("exception")) if part)
    logging.getLogger(str(entry.get("logger") or __name__)).log(level, "%s", text)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any]) if line.startswith(b"{") else None
    except msgspec.DecodeError:
        return None
    return entry if entry is not None and "message" in entry else None


def _shown(text: object) -> str:
    return "\n".join(escaped(line, _LENGTH) for line in str(text).splitlines())

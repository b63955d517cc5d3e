"""The last lines that a process wrote to standard error."""

from __future__ import annotations

import contextlib
from collections import deque

import msgspec

from taktora_trio.escaping import escaped

__all__ = ["StderrTail"]

_REMEMBERED, _SHOWN = 100, 12  # lines


class StderrTail:
    """Keeps the last lines that a process wrote to standard error, as people read them.

    If the interpreter itself has written where it was (faulthandler, the most recent call first), they begin there.
    """

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_REMEMBERED)

    def add(self, line: bytes) -> None:
        if line.strip() and b"<frozen importlib" not in line:
            self._lines.append(line)

    def lines(self) -> tuple[str, ...]:
        lines = list(self._lines)
        fatal = next((index for index, line in enumerate(lines) if line.startswith(b"Fatal Python error")), None)
        shown = lines[-_SHOWN:] if fatal is None else lines[fatal : fatal + _SHOWN]
        return tuple(escaped(_readable(line), 400) for line in shown)


def _readable(line: bytes) -> str:
    if line.startswith(b"{"):
        with contextlib.suppress(msgspec.DecodeError):
            entry = msgspec.json.decode(line)
            if isinstance(entry, dict) and "message" in entry:
                exception = str(entry.get("exception") or "").strip().rpartition("\n")[2]
                message = str(entry["message"])
                return f"{message}: {exception}" if exception and exception not in message else message
    return line.decode(errors="replace")

"""Lines of a process's output as its supervisor writes them: with the name of the process."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from taktora_trio.escaping import escaped
from taktora_trio.processes.parent.output import Stream

__all__ = ["tag_console", "tag_json", "without_controls"]


def without_controls(line: bytes) -> bytes:
    """Escape what is not printable, so that a terminal does not obey it."""
    text = line.decode(errors="backslashreplace")
    return escaped(text, len(text)).encode()


def tag_console(name: str, stream: Stream, line: bytes) -> bytes:
    """Put the name before the line."""
    return b"%-10s | %s\n" % (name.encode(), line)


def tag_json(name: str, stream: Stream, line: bytes) -> bytes:
    """Return a log entry of the process as it is, for it has the name; make an entry of any other line."""
    if line.startswith(b"{") and b'"process":"%s"' % name.encode() in line and _is_json(line):
        return line + b"\n"
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": "info",
        "process": name,
        "stream": stream,
        "message": line.decode(errors="replace"),
    }
    return msgspec.json.encode(entry) + b"\n"


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True

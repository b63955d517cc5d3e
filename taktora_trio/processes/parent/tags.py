"""Lines of a process's output as its supervisor writes them: with the name of the process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from taktora_trio.escaping import escaped
from taktora_trio.processes.parent.output import Stream, Tag

__all__ = ["TAGS", "TAGS_OF_JOURNAL", "tag_console", "tag_journal", "tag_json", "without_controls"]

_PRIORITY = re.compile(rb"<[0-7]>")  # before a line, for the journal (sd-daemon(3))
_LEVEL = re.compile(rb'"level":"(\w+)"')
_BY_LEVEL = {b"debug": b"<7>", b"info": b"<6>", b"error": b"<3>", b"critical": b"<2>"}
_UNSAID = b"<4>"  # what comes on standard error without one, such as the interpreter's last words


def without_controls(line: bytes) -> bytes:
    """Escape what is not printable, so that a terminal does not obey it."""
    text = line.decode(errors="backslashreplace")
    return escaped(text, len(text)).encode()


def tag_console(name: str, stream: Stream, line: bytes) -> bytes:
    """Put the name before the line."""
    return b"%-10s | %s\n" % (name.encode(), line)


def tag_journal(name: str, stream: Stream, line: bytes) -> bytes:
    """Put the name between the line and its priority. What a program prints to standard output gets none."""
    if stream == "stdout":
        return tag_console(name, stream, line)
    if said := _PRIORITY.match(line):
        return said.group() + tag_console(name, stream, line[said.end() :])
    return _UNSAID + tag_console(name, stream, line)


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


def _tag_json_journal(name: str, stream: Stream, line: bytes) -> bytes:
    entry = tag_json(name, stream, line)
    if stream == "stdout":
        return entry
    level = _LEVEL.search(entry)  # its first one, for what was logged comes later
    return _BY_LEVEL.get(level.group(1) if level else b"", _UNSAID) + entry


TAGS: Mapping[str, Tag] = {"console": tag_console, "json": tag_json, "journal": tag_journal}
"""By the format of the log."""
TAGS_OF_JOURNAL: Mapping[str, Tag] = {"console": tag_journal, "json": _tag_json_journal, "journal": tag_journal}
"""The same where the journal takes the lines."""


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True

"""The latest log lines of a run, from the rings that its processes have in shared memory. Nobody is asked for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import trio

from taktora_trio.errors import ConfigError, TransportError
from taktora_trio.escaping import escaped
from taktora_trio.runners.parts.flight import LOG_LINE
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.flight import FlightRecord, read_flight
from taktora_trio.transport.folder import FLIGHT, FLIGHT_BEFORE
from taktora_trio.vitals.reading import no_such

__all__ = ["Line", "Wanted", "follow", "read", "shown"]

_LOOK = 0.1  # seconds between two looks of who follows
_LONGEST = 10_000  # characters of a line


class Line(msgspec.Struct, frozen=True):
    """A log line, as the process has written it, which may be anything."""

    time_ns: int
    entry: Mapping[str, Any]


class Wanted(msgspec.Struct, frozen=True):
    """Which lines are wanted."""

    half: str = ""
    """`plugin`, `gateway` or `supervisor`; empty for all."""
    events: Sequence[str] = ()
    """Codes of events, or patterns of the shell; none for all lines."""
    since_ns: int = 0

    def has(self, line: Line) -> bool:
        if line.time_ns < self.since_ns:
            return False
        code = str(line.entry.get("event", ""))
        return not self.events or any(fnmatchcase(code, pattern) for pattern in self.events)


def read(domain: Domain, wanted: Wanted) -> list[Line]:
    """Return the lines that are there and wanted, the oldest first. Raises `NoSuchDomain` and `ConfigError`.

    What a killed run has left counts, until the next one begins.
    """
    return sorted(_Rings(domain, wanted).new(), key=lambda line: line.time_ns)


async def follow(domain: Domain, wanted: Wanted) -> AsyncGenerator[list[Line], None]:
    """Yield the lines that are there, then those that come, until the run has ended. Raises `NoSuchDomain`."""
    rings = _Rings(domain, wanted)
    while True:
        has_ended = domain.generation is None or rings.folder != domain.root
        if lines := sorted(rings.new(), key=lambda line: line.time_ns):
            yield lines
        if has_ended:
            return
        await trio.sleep(_LOOK)


def shown(line: Line) -> str:
    """Return a line for people, as the run itself shows it. What is not printable is escaped."""
    entry = line.entry
    at = datetime.fromtimestamp(line.time_ns / 1e9).astimezone()
    event = f" [{entry['event']}]" if entry.get("event") else ""
    text = str(entry.get("message", ""))
    first, *rest = [escaped(part, _LONGEST) for part in (*text.splitlines(), *_exception(entry))] or [""]
    head = f"{entry.get('process', '')!s:<10} | {at:%H:%M:%S}.{at.microsecond // 1000:03} {_level(entry):<8} "
    return "\n".join([escaped(head, 200) + first + escaped(event, 100), *(f"    {part}" for part in rest)])


class _Rings:
    """The rings of a run's processes, and how far each was read."""

    def __init__(self, domain: Domain, wanted: Wanted) -> None:
        if domain.generation is None:
            raise no_such(domain)
        self.folder = domain.root
        there = sorted({_half(path) for path in self.folder.glob(f"{FLIGHT}*")})
        if wanted.half and there and wanted.half not in there:
            raise ConfigError(
                f"there are no lines of the {wanted.half}: domain {domain.name!r} has those of {', '.join(there)};"
                " in one process, all are the plugin's"
            )
        self._wanted = wanted
        self._read: dict[str, tuple[int, int]] = {}  # by file: the boottime of the last record, and how many had it

    def new(self) -> Iterator[Line]:
        for path in sorted(self.folder.glob(f"{FLIGHT}*")):
            if self._wanted.half in ("", _half(path)):
                with contextlib.suppress(TransportError):  # it is about to be made, or is of another version
                    yield from self._of(path)

    def _of(self, path: Path) -> Iterator[Line]:
        last, seen = self._read.get(path.name, (-1, 0))
        records = [record for record in read_flight(path) if record.boottime_ns >= last]
        fresh = records[seen:] if records and records[0].boottime_ns == last else records
        if fresh:
            newest = fresh[-1].boottime_ns
            self._read[path.name] = (newest, sum(record.boottime_ns == newest for record in records))
        for record in fresh:
            if record.kind == LOG_LINE and (line := _line(record)) is not None and self._wanted.has(line):
                yield line


def _half(path: Path) -> str:
    return path.name.removeprefix(FLIGHT_BEFORE).removeprefix(FLIGHT).partition(":")[0]


def _line(record: FlightRecord) -> Line | None:
    try:
        return Line(record.time_ns, msgspec.json.decode(record.content, type=dict[str, Any]))
    except msgspec.MsgspecError:
        return None


def _level(entry: Mapping[str, Any]) -> str:
    return str(entry.get("level", "")).upper()


def _exception(entry: Mapping[str, Any]) -> list[str]:
    return str(entry["exception"]).splitlines() if entry.get("exception") else []

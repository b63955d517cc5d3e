"""What a file of the flight recorder holds: log lines, changes of health, vitals; messages where they are wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from taktora_trio import vitals
from taktora_trio.errors import ConnectorError, TransportError
from taktora_trio.recorder.follower import open_follower
from taktora_trio.recorder.layout import HEALTH, LOG, VITALS
from taktora_trio.recorder.record import add_channels, write_messages
from taktora_trio.recorder.writing import Recording
from taktora_trio.runners.parts.flight import LOG_LINE, VITALS_PAGE
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.flight import FlightRecord, read_flight
from taktora_trio.transport.folder import FLIGHT, FLIGHT_BEFORE
from taktora_trio.vitals.model import Page

__all__ = ["add_messages", "add_rings", "add_vitals", "forget_left"]

# As Foxglove's schema of log lines has them, so that its panel shows them.
_LEVELS = {"debug": 1, "info": 2, "warning": 3, "error": 4, "critical": 5}
_TEXT = {"type": "string"}
_SCHEMAS: dict[str, dict[str, Any]] = {
    LOG: {
        "title": "foxglove.Log",
        "type": "object",
        "properties": {
            "timestamp": {
                "type": "object",
                "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}},
            },
            "level": {"type": "integer", "description": "1 debug, 2 info, 3 warning, 4 error, 5 critical"},
            "message": _TEXT,
            "name": {**_TEXT, "description": "The process and its logger"},
            "event": {**_TEXT, "description": "The event code"},
            "extra": {"type": "object", "description": "All else that the line has as JSON"},
        },
    },
    HEALTH: {
        "type": "object",
        "properties": {"process": _TEXT, "connector": _TEXT, "state": _TEXT, "reason": _TEXT},
    },
    VITALS: {"type": "object", "properties": {"name": {**_TEXT, "description": "The half"}}},
}
_PLAIN = frozenset({"time", "level", "process", "pid", "logger", "message", "event"})


def add_rings(recording: Recording, domain: Domain) -> None:
    """Add what the halves have in their rings, in order of time. What can't be read is a line of the log."""
    for topic, schema in _SCHEMAS.items():
        recording.add_channel(topic, msgspec.json.encode(schema), {})
    for record in sorted(_all(domain), key=lambda record: record.time_ns):
        if record.kind == LOG_LINE:
            _add_line(recording, record)
        elif record.kind == VITALS_PAGE:
            with contextlib.suppress(msgspec.MsgspecError):
                page = msgspec.msgpack.decode(record.content, type=Page)
                recording.write(VITALS, record.time_ns, msgspec.json.encode(page))


def add_vitals(recording: Recording, domain: Domain) -> None:
    """Add what is known of the run now, of all halves together."""
    with contextlib.suppress(ConnectorError):
        now = vitals.read(domain)
        at = int(datetime.now().astimezone().timestamp() * 1e9)
        recording.write(VITALS, at, msgspec.json.encode({"name": "all", **msgspec.to_builtins(now)}))


def add_messages(recording: Recording, domain: Domain) -> None:
    """Add the messages that lie in shared memory now: the last window of each channel."""
    with open_follower(domain, recent=True) as follower:
        add_channels(recording, follower.channels, None)
        while messages := follower.take():
            write_messages(recording, messages)


def forget_left(domain: Domain) -> None:
    """Remove the rings of a run that was killed, which are in a file by now."""
    with contextlib.suppress(ConnectorError):
        for path in domain.present().path.glob(f"{FLIGHT_BEFORE}*"):
            path.unlink(missing_ok=True)


def _all(domain: Domain) -> Iterator[FlightRecord]:
    folder = domain.present().path
    for path in sorted(folder.glob(f"{FLIGHT}*")):
        with contextlib.suppress(TransportError):
            yield from read_flight(path)


def _add_line(recording: Recording, record: FlightRecord) -> None:
    try:
        line = msgspec.json.decode(record.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return
    at = record.time_ns
    recording.write(LOG, at, msgspec.json.encode(_as_log(line, at)))
    health = line.get("health")
    if isinstance(health, list) and len(health) == 3:
        connector, state, reason = health
        change = {"process": line.get("process"), "connector": connector, "state": state, "reason": reason}
        recording.write(HEALTH, at, msgspec.json.encode(change))


def _as_log(line: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {
        "timestamp": {"sec": at // 10**9, "nsec": at % 10**9},
        "level": _LEVELS.get(str(line.get("level")), 0),
        "message": line.get("message", ""),
        "name": f"{line.get('process', '')} {line.get('logger', '')}",
        "file": "",
        "line": 0,
        "event": line.get("event", ""),
        "extra": {name: value for name, value in line.items() if name not in _PLAIN},
    }

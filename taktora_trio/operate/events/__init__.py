"""The codes of all that the package logs, each with its level, what it means, and what to do.

A log line has its code in brackets at its end, or as `event` in JSON. What a line says may change with any version; its
code does not. docs/events.md is made from here (`python -m tests.events_page`), and a test finds calls that have no
code. Only those who show or check events import this: the calls themselves have their codes as plain text. What a
protocol logs alone stands in a table of its own package.
"""

from __future__ import annotations

from collections.abc import Mapping

from taktora_trio.operate.events.connections import CONNECTIONS
from taktora_trio.operate.events.event import Event
from taktora_trio.operate.events.halves import HALVES
from taktora_trio.operate.events.memory import MEMORY
from taktora_trio.operate.events.messages import MESSAGES
from taktora_trio.operate.events.storing import STORING

__all__ = ["AREAS", "EVENTS", "Event"]

AREAS: Mapping[str, Mapping[str, Event]] = {
    "Connections and health": CONNECTIONS,
    "Messages": MESSAGES,
    "The store and dead letters": STORING,
    "Halves and their supervision": HALVES,
    "Shared memory": MEMORY,
}
EVENTS: Mapping[str, Event] = {code: event for area in AREAS.values() for code, event in area.items()}

"""The real brokers behind one interface, and where they differ: the suite asserts it, docs/brokers.md tells it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import pytest

from tests.brokers.nats import nats_version, needs_nats, open_nats
from tests.brokers.sessions import Kind
from tests.mosquitto import open_mosquitto

__all__ = ["Broker", "Traits", "each_broker", "open_broker"]


class Broker(Protocol):
    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self, signum: signal.Signals = ...) -> None: ...


@attrs.frozen
class Traits:
    """The choices of a broker where MQTT 3.1.1 leaves one, and where it does not follow it."""

    name: str
    highest_qos: int
    """A PUBLISH above it ends the connection; a subscription above it is granted this."""
    copies_for_overlapping_filters: Mapping[int, int]
    """The number of times a message comes that two filters of one client match, by protocol level (section 3.3.5)."""
    protocols: frozenset[int] = frozenset({4})
    """Protocol levels (section 3.1.2.2): 4 is MQTT 3.1.1, 5 is MQTT 5."""
    forbidden_in_topics: str = ""
    """Characters that MQTT allows in a topic, and for which this broker ends the connection."""
    forbidden_in_client_ids: str = ""
    """The same of a client id, for which it refuses the login."""
    redelivers_after: bool = False
    """True if what was not acknowledged comes again after a time, also without a new connection, and not at once with
    a new one (section 4.4 says the opposite)."""

    def __str__(self) -> str:
        return self.name


MOSQUITTO = Traits("mosquitto", highest_qos=2, protocols=frozenset({4, 5}), copies_for_overlapping_filters={4: 1, 5: 2})
_NATS_2_10 = nats_version() >= (2, 10)
NATS = Traits(
    "nats",
    highest_qos=2 if _NATS_2_10 else 1,
    forbidden_in_topics=" " if _NATS_2_10 else ". ",
    forbidden_in_client_ids="." if _NATS_2_10 else "",
    copies_for_overlapping_filters={4: 2},
    redelivers_after=True,
)


def each_broker(sessions: Iterable[Kind]) -> pytest.MarkDecorator:
    """Run a test with each broker and each of these sessions that it understands, as `kind` and `session`."""
    cases = [
        pytest.param(kind, session, id=f"{kind}-{session}", marks=[needs_nats] if kind is NATS else [])
        for kind in (MOSQUITTO, NATS)
        for session in sessions
        if session.level in kind.protocols
    ]
    return pytest.mark.parametrize(("kind", "session"), cases)


@contextlib.asynccontextmanager
async def open_broker(kind: Traits, folder: Path) -> AsyncIterator[Broker]:
    """It keeps sessions, retained messages and what waits for a subscriber over a restart by SIGTERM."""
    if kind is NATS:
        async with open_nats(folder, mqtt_lines=['ack_wait: "500ms"']) as nats:
            yield nats
    else:
        lines = ["persistence true", f"persistence_location {folder}/"]
        lines += ["allow_duplicate_messages false"]  # the default before mosquitto 2.1; heeded with 3.1.1 alone
        async with open_mosquitto(folder, lines) as mosquitto:
            yield mosquitto

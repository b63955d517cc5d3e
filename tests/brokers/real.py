"""The real brokers behind one interface, and where they differ: the suite asserts it, docs/brokers.md tells it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

import attrs
import pytest

from tests.brokers.nats import find_nats, open_nats
from tests.mosquitto import open_mosquitto

__all__ = ["BROKERS", "Broker", "Traits", "each_broker", "open_broker"]


class Broker(Protocol):
    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...

    async def start(self) -> None: ...

    async def stop(self, signum: signal.Signals = ...) -> None: ...


@attrs.frozen
class Traits:
    """What a broker does where MQTT 3.1.1 leaves a choice, or where it does not follow it."""

    name: str
    highest_qos: int
    """A PUBLISH above it ends the connection; a subscription above it is granted this."""
    copies_for_overlapping_filters: Mapping[int, int]
    """How often a message comes that two filters of one client match, by protocol level (section 3.3.5)."""
    protocols: frozenset[int] = frozenset({4})
    """Protocol levels (section 3.1.2.2): 4 is MQTT 3.1.1, 5 is MQTT 5."""
    forbidden_in_topics: str = ""
    """Characters that MQTT allows in a topic, and for which this broker ends the connection."""
    redelivers_after: bool = False
    """Whether what was not acknowledged comes again after a time, also without a new connection, and not at once with
    a new one (section 4.4 says the opposite)."""

    def __str__(self) -> str:
        return self.name


MOSQUITTO = Traits("mosquitto", highest_qos=2, protocols=frozenset({4, 5}), copies_for_overlapping_filters={4: 1, 5: 2})
NATS = Traits(
    "nats", highest_qos=1, forbidden_in_topics=". ", copies_for_overlapping_filters={4: 2}, redelivers_after=True
)
BROKERS = (MOSQUITTO, NATS)

each_broker = pytest.mark.parametrize("kind", BROKERS, ids=str)


@contextlib.asynccontextmanager
async def open_broker(kind: Traits, folder: Path) -> AsyncIterator[Broker]:
    """It keeps sessions, retained messages and what waits for a subscriber over a restart by SIGTERM."""
    if kind is NATS:
        find_nats()
        async with open_nats(folder, mqtt_lines=['ack_wait: "500ms"']) as nats:
            yield nats
    else:
        async with open_mosquitto(folder, ["persistence true", f"persistence_location {folder}/"]) as mosquitto:
            yield mosquitto

"""What is varied from one attack to another."""

from __future__ import annotations

from itertools import product
from typing import Literal, TypeAlias

import msgspec

__all__ = ["CASES", "MODULES", "VARIABLE", "Case", "Orders"]

Victim: TypeAlias = Literal["gateway", "plugin", "process", "task"]
App: TypeAlias = Literal["fast", "slow"]
Broker: TypeAlias = Literal["works", "stands still", "is away"]
Storing: TypeAlias = Literal["none", "always", "when-behind"]
MODULES = (
    "connectors/bridge.py",
    "connectors/outbox.py",
    "connectors/inbox.py",
    "connectors/storing/backlog.py",
    "connectors/dead_letters/letter.py",
    "connectors/dead_letters/letters.py",
    "connectors/sending_again.py",
    "connectors/storing/outbound.py",
    "connectors/storing/keeper.py",
    "connectors/storing/begun.py",
    "connectors/storing/unappended.py",
    "connectors/storing/catching_up.py",
    "connectors/gateway.py",
    "store/disk.py",
    "store/log.py",
    "store/recover.py",
    "store/segment.py",
    "store/writer.py",
    "host/handover.py",
    "host/reader.py",
    "host/writer.py",
    "transport/attaching.py",
    "transport/cleaning.py",
    "transport/cursor.py",
    "transport/deliveries.py",
    "transport/incoming.py",
    "transport/lasting.py",
    "transport/outgoing.py",
    "transport/publisher.py",
    "transport/receipts.py",
    "transport/ring.py",
    "transport/sink.py",
    "transport/source.py",
    "transport/subscriber.py",
    "transport/trunk.py",
    "mqtt/connection.py",
    "mqtt/wire/engine.py",
    "mqtt/wire/state.py",
    "mqtt/wire/inbound.py",
    "mqtt/wire/outbound.py",
    "mqtt/sessions/native.py",
    "mqtt/sessions/engine.py",
    "mqtt/sessions/aiomqtt.py",
)
VARIABLE = "TAKTORA_TEST_CRASH_POINTS"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One attack."""

    victim: Victim
    """A half of the split shape; or the whole process of the in-process shape, or its gateway's task."""
    app: App = "fast"
    broker: Broker = "works"
    """It works all the time, or is stopped (SIGSTOP) or ended for most of it."""
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    session: Literal["native", "aiomqtt"] = "native"
    store: Storing = "none"

    @property
    def qos(self) -> tuple[int, ...]:
        return (1,) if self.session == "aiomqtt" else (1, 2)

    @property
    def name(self) -> str:
        return ", ".join(
            [
                self.victim,
                f"{self.app} app",
                f"broker {self.broker}",
                f"MQTT {self.protocol}",
                self.session,
                f"store {self.store}",
            ]
        )


class Orders(msgspec.Struct, kw_only=True):
    """What the victim is told."""

    case: Case
    folder: str
    files: tuple[str, ...]


_VICTIMS: tuple[Victim, ...] = ("gateway", "plugin", "process", "task")
_BROKERS: tuple[Broker, ...] = ("works", "stands still", "is away")
_APPS: tuple[App, ...] = ("fast", "slow")
_STORES: tuple[Storing, ...] = ("none", "always")


def _cases() -> list[Case]:
    found = [
        Case(victim=victim, app=app, broker=broker, store=store)
        for victim, app, broker, store in product(_VICTIMS, _APPS, _BROKERS, _STORES)
    ]
    found += [
        Case(victim=victim, broker=broker, protocol="5", store="when-behind")
        for victim, broker in product(_VICTIMS, _BROKERS)
    ]
    found += [Case(victim=victim, session="aiomqtt", app=app) for victim, app in product(_VICTIMS[:3], _APPS)]
    return found


CASES = _cases()

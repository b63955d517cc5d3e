"""The Zenoh connector passes the conformance suite on a network in memory, too, where it costs nothing."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self

import trio

from taktora_trio import (
    Backoff,
    Connector,
    Inbound,
    Outbound,
    RawCodec,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.connectors.zenoh.memory.node import open_memory_node
from taktora_trio.connectors.zenoh.session import Quality, Sample, Session
from taktora_trio.testing.conformance import ConnectorConformance
from taktora_trio.testing.rig import ConnectorRig
from tests.zenoh.host import Host

QUICKLY = Backoff(initial=0.01, maximum=0.1)
TAKEN = "topic/o$*"  # what somebody else gets


class MemoryRig(ConnectorRig):
    """Somebody else is a node of the same network, who acknowledges and sends again as a gateway does."""

    declared_in = "taktora_trio.connectors.zenoh"
    protocol_stack = ("zenoh", "taktora_trio.connectors.zenoh.client", "taktora_trio.connectors.zenoh.memory")
    carries_metadata: ClassVar[bool] = True
    notices_silence = False
    acknowledged: ClassVar[bool] = True

    def __init__(self, connect: str, session: Session, nursery: trio.Nursery) -> None:
        self._connect, self._session = connect, session
        self._line = MemoryNetwork.line_at((connect,))
        self._put, self._take = trio.open_memory_channel[tuple[str, bytes]](math.inf)
        self._host = Host(session, nursery)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        connect, there = (f"tcp/{uuid.uuid4().hex}.example:7447" for _ in range(2))
        options = ZenohOptions(session="memory", connect=there)
        MemoryNetwork.lay_line((connect,), MemoryNetwork.line_at((there,)).network)
        async with (
            open_memory_node(options) as node,
            node.open_session() as session,
            trio.open_nursery() as nursery,
        ):
            rig = cls(connect, session, nursery)
            if cls.acknowledged:
                await rig._host.start(TAKEN)
            else:
                await session.subscribe(TAKEN, rig._came, others_only=True)
            yield rig
            nursery.cancel_scope.cancel()
        for endpoint in (connect, there):
            MemoryNetwork.forget((endpoint,))

    def _came(self, sample: Sample) -> None:
        self._put.send_nowait((sample.key, sample.payload))

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return Outbound(name, bytes, ZenohRouting(f"topic/{name}", acknowledged=self.acknowledged), **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, ZenohRouting(f"topic/{name}", acknowledged=self.acknowledged), **options)

    def connector(self, *channels: Any) -> Connector:
        options = ZenohOptions(session="memory", connect=self._connect, reconnect=QUICKLY)
        return ZenohConnector(channels, options=options, codec=RawCodec())

    async def publish(self, topic: str, payload: bytes) -> None:
        if self.acknowledged:
            await self._host.publish(topic, payload)
        else:
            await trio.lowlevel.checkpoint()
            self._session.put(topic, payload, Quality())

    async def receive(self) -> tuple[str, bytes]:
        return await (self._host.receive() if self.acknowledged else self._take.receive())

    def cut(self, *, reset: bool = True) -> None:
        self._line.cut()

    def leave(self) -> None:
        self._line.set(unreachable=True)

    def refuse(self) -> None:
        self._line.set(refuses=True)

    def come_back(self) -> None:
        self._line.set(unreachable=False, refuses=False)

    async def next_attempt(self) -> None:
        before = self._line.joined.value
        await self._line.joined.wait_value(lambda count: count > before)


class AtMostOnceRig(MemoryRig):
    """Nothing is acknowledged, either way."""

    acknowledges: ClassVar[bool] = False
    redelivers: ClassVar[bool] = False
    acknowledged: ClassVar[bool] = False


class TestAcknowledged(ConnectorConformance):
    rig_type = MemoryRig


class TestAtMostOnce(ConnectorConformance):
    rig_type = AtMostOnceRig
    test_declaring_it_imports_no_protocol_stack = None  # type: ignore[assignment] # it is the same module

"""The Zenoh connector passes the conformance suite, as a client of a real router."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
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
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.testing.conformance import ConnectorConformance
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.rig import Echo, TcpRig
from taktora_trio.testing.zenoh.router import ZenohRouter, open_router
from tests.zenoh.host import Host
from tests.zenoh.outsider import Outsider, open_outsider

ECHO_REQUEST = "taktora/echo/request/me"
QUICKLY = Backoff(initial=0.01, maximum=0.1)


# Messages of the transport (zenoh-protocol, transport/mod.rs): a length and an identifier come before the rest.
INIT, OPEN, CLOSE, FRAME, FRAGMENT = 0x01, 0x02, 0x03, 0x05, 0x06


def frame(kind: int, content: bytes) -> bytes:
    return struct.pack("<HB", 1 + len(content), kind) + content


class AtMostOnceRig(TcpRig):
    """Nothing is acknowledged, either way."""

    declared_in = "taktora_trio.connectors.zenoh"
    protocol_stack = ("zenoh", "taktora_trio.connectors.zenoh.native.node")
    acknowledges: ClassVar[bool] = False
    redelivers: ClassVar[bool] = False
    carries_metadata: ClassVar[bool] = True
    refuses: ClassVar[bool] = False
    silence = 1.0
    patience = 1.0
    garbage = (
        frame(CLOSE, b"\0"),
        frame(INIT, b"\xff\xff\xff"),
        frame(OPEN, b"") + frame(OPEN, b""),
        frame(FRAME, b"\0\xff\xff\xff"),
        frame(FRAME, b"\0" + b"\x1d" * 500) * 100,
        frame(FRAGMENT, b"\0" + bytes(60_000)) * 20,
        b"\0\0" * 1000,
        b"\xff\xff" + bytes(70_000),
    )

    def __init__(self, network: Network, outsider: Outsider) -> None:
        super().__init__(network)
        self._outsider = outsider
        self._taken = outsider.subscribe("topic/o$*")

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        async with (
            open_router(folder, lease=cls.silence) as router,
            open_network(router.port) as network,
            open_outsider(router.endpoint) as outsider,
        ):
            yield cls(network, outsider)

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return Outbound(name, bytes, ZenohRouting(f"topic/{name}"), **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, ZenohRouting(f"topic/{name}"), **options)

    def connector(self, *channels: Any) -> Connector:
        options = ZenohOptions(
            connect=f"tcp/127.0.0.1:{self._network.port}",
            lease=self.silence,
            connect_timeout=self.patience,
            reconnect=QUICKLY,
        )
        return ZenohConnector(channels, options=options, codec=RawCodec())

    async def publish(self, topic: str, payload: bytes) -> None:
        await self._outsider.put(topic, payload)

    async def receive(self) -> tuple[str, bytes]:
        return await self._taken.receive()


class AcknowledgedRig(AtMostOnceRig):
    """Somebody else acknowledges, and sends again, by the code of a gateway's: no other program does it."""

    acknowledges: ClassVar[bool] = True
    redelivers: ClassVar[bool] = True
    refuses: ClassVar[bool] = True
    has_echo: ClassVar[bool] = True
    patience = 1.0

    def __init__(self, network: Network, host: Host, router: ZenohRouter, strict: ZenohRouter) -> None:
        TcpRig.__init__(self, network)
        self._host, self._router, self._strict = host, router, strict
        self.behind = router
        """The one behind the network."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        async def connect() -> trio.SocketStream:
            if network.connections == 1:  # a connector's next one: for a moment the router has the one before, too
                await host.until_left()
            return await trio.open_tcp_stream("127.0.0.1", rig.behind.port)

        async with (
            open_router(folder, lease=cls.silence) as router,
            open_router(folder, users={"somebody": "else"}) as strict,
            open_node(ZenohOptions(connect=router.endpoint)) as node,
            node.open_session() as session,
            trio.open_nursery() as nursery,
        ):
            host = Host(session, nursery)
            await host.start("topic/o$*", "taktora/echo/reply")
            async with open_network(connect) as network:
                rig = cls(network, host, router, strict)
                yield rig
            nursery.cancel_scope.cancel()

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return Outbound(name, bytes, ZenohRouting(f"topic/{name}", acknowledged=True), **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, ZenohRouting(f"topic/{name}", acknowledged=True), **options)

    async def publish(self, topic: str, payload: bytes) -> None:
        await self._host.publish(topic, payload)

    async def receive(self) -> tuple[str, bytes]:
        return await self._host.receive()

    def refuse(self) -> None:
        self.behind = self._strict

    def come_back(self) -> None:
        super().come_back()
        self.behind = self._router

    @property
    def echo(self) -> Echo:
        return Echo(
            "examples.zenoh_echo:deployment", ["--connect", self._router.endpoint], ECHO_REQUEST, "taktora/echo/reply"
        )


@pytest.mark.zenoh
class TestAcknowledged(ConnectorConformance):
    rig_type = AcknowledgedRig


@pytest.mark.zenoh
class TestAtMostOnce(ConnectorConformance):
    rig_type = AtMostOnceRig

"""The Zenoh connector passes the conformance suite, as a client of a real router."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from taktora_trio import Backoff, Connector, Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.testing.conformance import ConnectorConformance
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.rig import TcpRig
from taktora_trio.testing.zenoh.router import open_router
from tests.zenoh.outsider import Outsider, open_outsider

QUICKLY = Backoff(initial=0.01, maximum=0.1)


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


@pytest.mark.zenoh
class TestAtMostOnce(ConnectorConformance):
    rig_type = AtMostOnceRig

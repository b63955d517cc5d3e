"""Zenoh's side of a gateway: what outlives its connections."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, cast

import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.inbox import DEGRADED_FOR
from taktora_trio.connectors.zenoh.acknowledged import AcknowledgedChannel
from taktora_trio.connectors.zenoh.acknowledging import Acknowledging
from taktora_trio.connectors.zenoh.connection import ZenohConnection
from taktora_trio.connectors.zenoh.keytree import KeyTree
from taktora_trio.connectors.zenoh.lasting import Lasting
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Session

__all__ = ["ZenohClient"]

_PATIENCE = 60.0  # seconds for an acknowledgement, after which the message is sent again


class ZenohClient(Client):
    """One node, or one after the other."""

    def __init__(
        self,
        declared: Sequence[ChannelDescriptor[Any]],
        options: ZenohOptions,
        name: str,
        on_message: OnMessage,
        carrier: Carrier,
        memory: Callable[[str, int], memoryview],
        degrade: Callable[[str, float], None],
    ) -> None:
        """`name` is the gateway's, as others know it (`GatewayChannels.name`), and `memory` is that of its channels.

        `degrade(reason, seconds)` shows in the health what ends no connection.
        """
        self._options, self._name, self._on_message = options, name, on_message
        self._carrier = carrier
        self._degrade = degrade
        self._acknowledging = Acknowledging()
        # A successor numbers its messages perhaps otherwise, so it is another sender.
        self._sender = f"{name}/{os.urandom(8).hex()}"
        self._inbound = [channel for channel in declared if channel.direction == "in"]
        self._tree = KeyTree((channel.routing.address, channel.name) for channel in self._inbound)
        self._outbound = {
            channel.name: cast(ZenohRouting, channel.routing) for channel in declared if channel.direction == "out"
        }
        self._lasting = Lasting(declared, options, memory, degrade, carrier.truths, on_message)

    @property
    def address(self) -> str:
        return self._options.address

    def channels_of(self, topic: str) -> Iterable[str]:
        return self._tree.match(topic)

    def guarantee(self, channel: str) -> Guarantee:
        return self._outbound[channel].guarantee

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[ZenohConnection]:
        async with open_node(self._options) as node:
            await node.wait_until_linked()
            async with node.open_session() as session, trio.open_nursery() as nursery:
                connection = ZenohConnection(
                    session,
                    self._outbound,
                    self._inbound,
                    self._on_message,
                    self._carrier,
                    self._lasting,
                    self._options.presence_key(self._name),
                    self._acknowledging,
                    {name: self._on(session, name) for name, to in self._outbound.items() if to.acknowledged},
                )
                nursery.start_soon(connection.serve)
                yield connection
                nursery.cancel_scope.cancel()

    def _on(self, session: Session, channel: str) -> AcknowledgedChannel:
        routing = self._outbound[channel]
        return AcknowledgedChannel(
            routing.address,
            routing.quality,
            session,
            f"{self._sender}/{channel}",
            self._carrier.carry,
            _PATIENCE,
            lambda reason: self._degrade(f"channel {channel}: {reason}", DEGRADED_FOR),
        )

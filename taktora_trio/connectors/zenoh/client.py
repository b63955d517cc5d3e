"""Zenoh's side of a gateway: what outlives its connections."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.connection import Client, Guarantee, OnMessage
from taktora_trio.connectors.inbox import DEGRADED_FOR
from taktora_trio.connectors.retry import Retry
from taktora_trio.connectors.zenoh.connection import ZenohConnection
from taktora_trio.connectors.zenoh.keytree import KeyTree
from taktora_trio.connectors.zenoh.lasting.lasting import Lasting
from taktora_trio.connectors.zenoh.membership import Membership, NobodyThere
from taktora_trio.connectors.zenoh.metadata import Carrier
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.queries.acknowledged_inbound import Acknowledging
from taktora_trio.connectors.zenoh.queries.queries import Queries
from taktora_trio.connectors.zenoh.routing import ZenohRouting, guarantee_of

__all__ = ["ZenohClient"]


class Degrade(Protocol):
    """`Health.degrade` of this connector."""

    def __call__(self, reason: str, seconds: float, *, instead_of: str | None = None) -> None: ...


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
        degrade: Degrade,
    ) -> None:
        """`name` is the gateway's, as others know it (`GatewayChannels.name`), and `memory` is that of its channels.

        `degrade(reason, seconds, instead_of=before)` shows in the health what ends no connection.
        """
        self._options, self._name, self._on_message = options, name, on_message
        self._carrier = carrier
        self._queries = partial(
            Queries,
            declared,
            carrier=carrier,
            acknowledging=Acknowledging(),
            name=name,
            # A successor numbers its messages perhaps otherwise, so it is another sender.
            sender=f"{name}/{os.urandom(8).hex()}",
            on_trouble=lambda reason, before: degrade(reason, DEGRADED_FOR, instead_of=before),
        )
        self._inbound = [channel for channel in declared if channel.direction == "in"]
        self._guarantees = {channel.name: guarantee_of(channel) for channel in declared if channel.direction == "out"}
        self._tree = KeyTree((channel.routing.address, channel.name) for channel in self._inbound)
        self._outbound = {
            channel.name: cast(ZenohRouting, channel.routing) for channel in declared if channel.direction == "out"
        }
        self._membership = Membership(options)
        self._is_alone = False
        self._lasting = Lasting(declared, options, memory, degrade, carrier.truths, on_message)

    @property
    def address(self) -> str:
        return self._options.address

    def channels_of(self, topic: str) -> Iterable[str]:
        return self._tree.match(topic)

    def guarantee(self, channel: str) -> Guarantee:
        return self._guarantees[channel]

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[ZenohConnection]:
        async with (
            self._membership.joined() as node,
            node.open_session() as session,
            trio.open_nursery() as nursery,
        ):
            connection = ZenohConnection(
                session,
                self._outbound,
                self._inbound,
                self._on_message,
                self._carrier,
                self._lasting,
                self._options.presence_key(self._name),
                self._queries,
            )
            nursery.start_soon(connection.serve)
            yield connection
            nursery.cancel_scope.cancel()

    async def serve(self) -> None:
        await self._membership.serve()

    def ended(self, failure: Exception) -> None:
        self._is_alone = isinstance(failure, NobodyThere)

    def next_attempt(self, retry: Retry) -> Retry:
        # Who waits for others to come is told of them: so it waits there, instead of before the next attempt.
        self._membership.patience = self._options.connect_timeout + (retry.delay if self._is_alone else 0)
        return attrs.evolve(retry, delay=0.0) if self._is_alone else retry

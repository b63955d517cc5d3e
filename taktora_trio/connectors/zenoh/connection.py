"""One connection of a gateway to the network, as the bridge knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.connection import Connection, ConnectionLost, Incoming, OnDone, OnMessage
from taktora_trio.connectors.zenoh.keys import intersects
from taktora_trio.connectors.zenoh.keytree import earlier_overlapping, minimal_expressions
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Sample, Session

__all__ = ["ZenohConnection"]


class ZenohConnection(Connection):
    """A session, with the client's knowledge of its channels."""

    def __init__(
        self,
        session: Session,
        outbound: Mapping[str, ZenohRouting],
        inbound: Sequence[ChannelDescriptor[Any]],
        on_message: OnMessage,
        carrier: Carrier,
    ) -> None:
        self._session, self._on_message = session, on_message
        self._outbound = outbound
        self._carry = carrier.carry
        self._for_others = [
            channel.routing.address for channel in inbound if cast(ZenohRouting, channel.routing).others_only
        ]
        self._keys = earlier_overlapping(minimal_expressions(channel.routing.address for channel in inbound))

    async def start(self) -> None:
        for key, others in self._keys.items():
            take = partial(self._came_also, others) if others else self._came
            await self._session.subscribe(key, take, others_only=self.is_for_others(key))

    def is_for_others(self, key: str) -> bool:
        """Return whether what this node sends itself is not for the channels on these keys, which all say the same."""
        return any(intersects(key, one) for one in self._for_others)

    def _came_also(self, others: Sequence[str], sample: Sample) -> None:
        """Take what comes to a key expression that overlaps with others: those get what matches them."""
        if not any(intersects(other, sample.key) for other in others):
            self._came(sample)

    def _came(self, sample: Sample) -> None:
        beside = read_beside(sample.encoding, sample.attachment)
        self._on_message(
            Incoming(sample.key, sample.payload, metadata=beside.metadata, correlation_id=beside.correlation_id)
        )

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        done = partial(on_done, envelope.header.sequence_number, "")
        encoding, attachment = self._carry(envelope)
        self._session.put(envelope.topic, envelope.payload, self._outbound[channel].quality, encoding, attachment, done)

    def acknowledge(self, message: Incoming) -> None:
        """Nothing is kept for it."""

    def pause_reading(self) -> None:
        self._session.pause()

    def resume_reading(self) -> None:
        self._session.resume()

    async def wait_until_lost(self) -> ConnectionLost:
        return await self._session.wait_until_lost()

    async def farewell(self) -> None:
        await self._session.flush()

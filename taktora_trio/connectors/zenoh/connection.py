"""One connection of a gateway to the network, as the bridge knows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, cast

import trio

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.connection import Connection, ConnectionLost, Incoming, OnDone, OnMessage
from taktora_trio.connectors.zenoh.keys import intersects
from taktora_trio.connectors.zenoh.keytree import earlier_overlapping, minimal_expressions
from taktora_trio.connectors.zenoh.lasting.lasting import Lasting
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.queries.queries import Queries, is_query
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
        lasting: Lasting,
        presence: str | None,
        queries: Callable[..., Queries],
    ) -> None:
        """`presence` is the key of our own token; `queries` makes those of this connection."""
        self._session, self._on_message = session, on_message
        self._outbound = outbound
        self._carry = carrier.carry
        routings = [cast(ZenohRouting, channel.routing) for channel in inbound]
        self._for_others = [routing.address for routing in routings if routing.others_only]
        self._lasting, self._last_values, self._presence = lasting, lasting.last_values, presence
        self._queries = queries(
            session=session, on_message=on_message, on_asked=lasting.note_asked, is_for_others=self.is_for_others
        )
        self._publishers = self._queries.publishers
        subscribed = [channel for channel in inbound if not (is_query(channel) or _is_of_tokens(channel))]
        self._keys = earlier_overlapping(minimal_expressions(channel.routing.address for channel in subscribed))

    async def start(self) -> None:
        for key, others in self._keys.items():
            take = partial(self._came_also, others) if others else self._came
            await self._lasting.subscribe(self._session, key, take, others_only=self.is_for_others(key))
        await self._queries.start()
        await self._lasting.start(self._session)
        if self._presence is not None:
            await self._session.token(self._presence)
        await self._session.settle()

    def is_for_others(self, key: str) -> bool:
        """Return whether what this node sends itself is not for the channels on these keys, which all say the same."""
        return any(intersects(key, one) for one in self._for_others)

    async def serve(self) -> None:
        """Serve what it needs besides. Runs until it is cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._queries.serve)
            nursery.start_soon(self._lasting.serve, self._session, partial(self._came, retained=True))

    def _came_also(self, others: Sequence[str], sample: Sample) -> None:
        """Take what comes to a key expression that overlaps with others: those get what matches them."""
        if not any(intersects(other, sample.key) for other in others):
            self._came(sample)

    def _came(self, sample: Sample, *, retained: bool = False) -> None:
        beside = read_beside(sample.encoding, sample.attachment)
        self._on_message(
            Incoming(
                sample.key,
                sample.payload,
                metadata=beside.metadata,
                correlation_id=beside.correlation_id,
                retained=retained,
                reliable=retained,  # a value that is discarded for want of room would not come again
            )
        )

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
        routing = self._outbound[channel]
        publish = self._publishers.get(channel)
        if publish is not None:
            if routing.latched and self._last_values is not None:
                self._last_values.keep(self._session, envelope, self._carry(envelope)[0])
            publish(envelope, on_done, again=again)
            return
        done = partial(on_done, envelope.header.sequence_number, "")
        encoding, attachment = self._carry(envelope)
        if routing.latched and self._last_values is not None:
            self._last_values.put(self._session, envelope, routing.quality, (encoding, attachment), done)
        else:
            self._session.put(envelope.topic, envelope.payload, routing.quality, encoding, attachment, done)

    def acknowledge(self, message: Incoming) -> None:
        self._queries.acknowledge(message)
        self._lasting.acknowledge(message)

    def pause_reading(self) -> None:
        self._session.pause()

    def resume_reading(self) -> None:
        self._session.resume()

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        return self._session.in_batches(answers)

    async def wait_until_lost(self) -> ConnectionLost:
        return await self._session.wait_until_lost()

    async def farewell(self) -> None:
        await self._session.flush()


def _is_of_tokens(channel: ChannelDescriptor[Any]) -> bool:
    return cast(ZenohRouting, channel.routing).liveliness

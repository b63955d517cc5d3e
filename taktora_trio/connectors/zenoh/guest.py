"""Guest: whoever is on the other side of a connector, as the tests of an app have it. It is a node of its own.

It takes and acknowledges what the connector publishes, and publishes what the test says, by the gateway's own
code: so what is acknowledged is sent again until the app is done with it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import trio
from trio_util import RepeatedEvent

from taktora_trio.boottime import boottime_ns
from taktora_trio.channels import ChannelDescriptor, Envelope, Header, Metadata
from taktora_trio.channels.codec import RawCodec
from taktora_trio.connectors.connection import Guarantee, Incoming
from taktora_trio.connectors.peer import Published
from taktora_trio.connectors.zenoh.guest_exchanges import GuestExchanges
from taktora_trio.connectors.zenoh.keys import check_key, is_pattern
from taktora_trio.connectors.zenoh.keytree import KeyTree
from taktora_trio.connectors.zenoh.lasting.kept_pairs import memory_for
from taktora_trio.connectors.zenoh.lasting.latched import LastValues
from taktora_trio.connectors.zenoh.metadata import Carrier, read_beside
from taktora_trio.connectors.zenoh.queries.acknowledged_inbound import Acknowledging, Asked
from taktora_trio.connectors.zenoh.queries.acknowledged_outbound import AcknowledgedChannel
from taktora_trio.connectors.zenoh.routing import ZenohRouting
from taktora_trio.connectors.zenoh.session import Quality, Question, Sample, Session
from taktora_trio.errors import ConfigError
from taktora_trio.escaping import escaped

__all__ = ["Guest", "OnTaken"]

OnTaken: TypeAlias = Callable[[Published], None]

_TOKENS = {b"true": True, b"false": False, b"\xc3": True, b"\xc2": False}  # as JSON and MessagePack have it
_LATCHED = 2**18  # bytes of values that others are told later
_CARRIER = Carrier(RawCodec())  # a test says what the encoding is, if any


class Guest:
    """What one connector has on its other side."""

    def __init__(self, channels: Iterable[ChannelDescriptor[Any]]) -> None:
        """`channels` are the connector's."""
        channels = list(channels)
        routings = [(ch.direction, cast(ZenohRouting, ch.routing)) for ch in channels if not ch.exchange]
        self._routings = routings
        self._exchanging = GuestExchanges(channels, _CARRIER, self._take_query)
        self._outbound = KeyTree((to.address, to) for direction, to in routings if direction == "out")
        self._inbound = KeyTree((to.address, to) for direction, to in routings if direction == "in")
        latched = [to.address for direction, to in routings if direction == "in" and to.latched]
        self._last_values: LastValues | None = None
        if latched:
            self._last_values = LastValues(latched, memoryview(bytearray(memory_for(_LATCHED))), _forgotten)
        self._session: Session | None = None
        self._on_taken: OnTaken = lambda published: None
        self._acknowledging = Acknowledging()
        self._delay = 0.0
        self._held: deque[tuple[float, Asked]] = deque()  # what it has taken and not acknowledged, since when
        self._news = RepeatedEvent()
        self._sending: dict[str, AcknowledgedChannel] = {}  # by the addresses of channels
        self._sender = f"guest/{uuid.uuid4().hex}"
        self._number = 0

    async def start(self, session: Session, on_taken: OnTaken, *, takes_all: bool) -> None:
        """Join the network. `on_taken` is called with what the connector publishes: all, or what is acknowledged."""
        self._session, self._on_taken = session, on_taken
        if self._last_values is not None:
            await self._last_values.start(session)
        await self._exchanging.start(session)
        for direction, routing in self._routings:
            key = routing.address
            if direction == "out" and routing.acknowledged:
                await session.answer(key, self._asked, others_only=True)
            elif direction == "out" and takes_all:
                await session.subscribe(key, self._came, others_only=True)
            elif direction == "in" and routing.acknowledged and key not in self._sending:
                sender = f"{self._sender}/{key}"
                sending = AcknowledgedChannel(key, routing.quality, session, sender, _CARRIER.carry)
                self._sending[key] = sending
                await session.watch_matching(key, sending.matching, complete=not is_pattern(key))

    async def serve(self) -> None:
        """Serve: acknowledge when it is time, and send again what nobody has acknowledged. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            for sending in self._sending.values():
                nursery.start_soon(sending.serve)
            nursery.start_soon(self._exchanging.serve)
            while True:
                self._let_go()
                with trio.move_on_at(self._held[0][0] + self._delay if self._held else math.inf):
                    await self._news.wait()

    # What it takes

    def _came(self, sample: Sample) -> None:
        self._on_taken(self.published(sample))

    def _asked(self, question: Question) -> None:
        if (message := self._acknowledging.take(question)) is not None:
            self._on_taken(self._published(message, "at least once"))
            self._held.append((trio.current_time(), message))
            self._let_go()
            self._news.set()

    def _take_query(self, message: Incoming) -> None:
        self._on_taken(self._published(message, "at least once"))

    def published(self, sample: Sample) -> Published:
        """Return what the connector has put, as a test sees it."""
        beside = read_beside(sample.encoding, sample.attachment)
        message = Incoming(sample.key, sample.payload, metadata=beside.metadata, correlation_id=beside.correlation_id)
        return self._published(message, "at most once")

    def _published(self, message: Incoming, guarantee: Guarantee) -> Published:
        return Published(
            topic=message.topic,
            payload=message.payload,
            metadata=message.metadata,
            correlation_id=message.correlation_id,
            retained=any(routing.latched for routing in self._outbound.match(message.topic)),
            guarantee=guarantee,
        )

    def set_delay(self, seconds: float) -> None:
        """Change the time from each message to its acknowledgement, also of those that it has taken already."""
        self._delay = seconds
        self._let_go()
        self._news.set()

    def _let_go(self) -> None:
        while self._held and self._held[0][0] + self._delay <= trio.current_time():
            self._acknowledging.acknowledge(self._held.popleft()[1])

    # What it publishes

    async def flush(self) -> None:
        """Wait until the library has what was published so far."""
        assert self._session is not None
        await self._session.flush()

    def puts(self, topic: str) -> bool:
        """Return whether it puts what it publishes there, for some channel of the app's: nobody acknowledges that."""
        return any(not (routing.acknowledged or routing.liveliness) for routing in self._inbound.match(topic))

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        metadata: Metadata | None,
        correlation_id: bytes,
        retain: bool,
        **unknown: Any,
    ) -> None:
        """Publish a message, to each of the app's channels as it is declared.

        Raises `ConfigError` for what can't be published, and for options that there are not.
        """
        if names := ", ".join(unknown):
            raise ConfigError(
                f"Zenoh has no {names}: a content type, a response topic, an expiry and user properties are in"
                " metadata=Metadata(...)"
            )
        check_key(topic)
        assert self._session is not None
        routings = self._inbound.match(topic)
        if routings and all(routing.liveliness for routing in routings):
            self._put_token(topic, payload)
            return
        self._number += 1
        header = Header(self._number, time.time_ns(), boottime_ns(), correlation_id)
        envelope = Envelope(payload, header, topic, metadata)
        if self._exchanging.publish(envelope):
            return
        for key in dict.fromkeys(routing.address for routing in routings if routing.acknowledged):
            self._sending[key].publish(envelope, _done)
        if retain:
            self._put_latched(envelope, any(routing.latched for routing in routings))
        elif not routings or self.puts(topic):
            self._session.put(topic, payload, Quality(), *_CARRIER.carry(envelope))

    def _put_token(self, key: str, payload: bytes) -> None:
        if payload not in _TOKENS:
            raise ConfigError(f"a token is there (true) or not (false), and '{escaped(payload)}' says neither")
        assert self._session is not None
        self._session.put_token(key, is_there=_TOKENS[payload])

    def _put_latched(self, envelope: Envelope, somebody_asks: bool) -> None:
        if not somebody_asks or self._last_values is None:
            raise ConfigError(f"retain=True: no channel of the app's that is for {envelope.topic!r} is latched")
        assert self._session is not None
        self._last_values.put(self._session, envelope, Quality(), _CARRIER.carry(envelope), _written)


def _done(number: int, refusal: str) -> None:
    """Nothing waits for it."""


def _written() -> None:
    """Nor for this."""


def _forgotten(reason: str, seconds: float) -> None:
    """A test has no health to show it in."""

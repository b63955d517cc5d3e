"""MQTT's side of a gateway: what outlives its connections to a broker."""

from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import attrs
import msgspec
import trio
from trio_util import AsyncValue

from taktora_trio.channels import ChannelDescriptor, Envelope
from taktora_trio.connectors.connection import Client, ConnectRefused, Guarantee, OnMessage
from taktora_trio.connectors.mqtt.choice import BrokerChoice, broker_number, order_for
from taktora_trio.connectors.mqtt.connection import MqttConnection, Place
from taktora_trio.connectors.mqtt.filters import ChannelFilters
from taktora_trio.connectors.mqtt.handover import SessionAhead, open_ahead
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.outbound import outbound_channels
from taktora_trio.connectors.mqtt.presence import Presence, with_presence
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.client_state import ClientState, client_state
from taktora_trio.connectors.mqtt.sessions.session import Session, SessionLost
from taktora_trio.connectors.mqtt.subscriptions import Subscriptions
from taktora_trio.connectors.mqtt.topics import FilterTree
from taktora_trio.connectors.mqtt.wire.reasons import TAKEN_OVER
from taktora_trio.connectors.reconnect import is_overdue
from taktora_trio.connectors.retry import Retry
from taktora_trio.errors import ConnectorError, leaves
from taktora_trio.escaping import escaped
from taktora_trio.supervision.backoff import Backoff

if TYPE_CHECKING:
    from taktora_trio.connectors.source import Source

__all__ = ["MqttClient", "hint_of_client_id", "patience"]

log = logging.getLogger(__name__)

_NUMBER = struct.Struct("<Q")  # of a broker, as `broker_number` has it; 0 for none
_AGAIN_AND_AGAIN = 3  # connections in a row that were soon over, after which a possible cause is named
_GUARANTEES: tuple[Guarantee, ...] = ("at most once", "at least once", "exactly once")


class _Broker(msgspec.Struct):
    """One broker, or a cluster of several nodes, with what this client keeps of it from connection to connection."""

    options: MqttOptions
    """With its address alone, and the last will."""
    presence: Presence
    subscriptions: Subscriptions
    state: ClientState
    overdue: int = 0
    """The attempts in a row that it accepted and did not answer in time."""


class MqttClient(Client):
    """One client of one broker, or of several: which is used, and for each its session's state and subscriptions.

    Each broker has a session of its own, so all that a session knows is kept for each: what is acknowledged to one of
    them is unknown to the others. The nodes of a cluster have one session.
    """

    def __init__(
        self,
        name: str,
        declared: Sequence[ChannelDescriptor[Any]],
        options: MqttOptions,
        sources: Mapping[str, Source],
        on_message: OnMessage,
        memory: Callable[[str, int], memoryview],
        own_topics: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`name` is the connector's, for the log; `sources` are the open ends of its outbound channels.

        `memory` is `GatewayChannels.memory`, and `own_topics` are those that `of_client` returns.
        """
        self._own_topics = own_topics
        self._name = name
        self._options = options
        self._on_message: Callable[[Any], None] = on_message
        outbound = [channel for channel in declared if channel.direction == "out"]
        inbound = [channel for channel in declared if channel.direction == "in"]
        in_order = options.brokers_are == "in-order"
        self._addresses = list(options.brokers) if in_order else order_for(options.client_id, options.brokers)
        self._has_one_session = len(self._addresses) == 1 or options.brokers_are == "cluster"
        remembers = None if self._has_one_session else memory
        self._outbound = outbound_channels(outbound, options.max_inflight, sources, remembers)
        self._of_qos_2 = sum(channel.qos == 2 for channel in self._outbound.values())
        exactly_once = any(cast(MqttRouting, channel.routing).qos == 2 for channel in declared)
        self._max_payload = max((channel.max_payload for channel in inbound), default=0)
        self._tree = FilterTree((channel.routing.address, channel.name) for channel in inbound)
        self._brokers = self._brokers_for(inbound, memory if exactly_once else None)
        self._choice = BrokerChoice(len(self._addresses))
        self._latest: MqttConnection | None = None  # of the last attempt, if that came so far
        self._before: int | None = None  # the broker of the last connection of this gateway,
        self._last = None if self._has_one_session else memory("last-broker", _NUMBER.size)  # and of any
        self._return = options.return_to_first if in_order and len(self._addresses) > 1 else None
        self._working = AsyncValue[tuple[int, MqttConnection] | None](None)
        self._ahead: SessionAhead | None = None
        self._attempt: trio.CancelScope | None = None  # to open one ahead
        self._no_attempt = trio.Event()
        self._no_attempt.set()

    def _brokers_for(
        self, inbound: Sequence[ChannelDescriptor[Any]], memory: Callable[[str, int], memoryview] | None
    ) -> list[_Broker]:
        """Return what is kept for each address: the same for all where they have one session."""

        packet_ids = " ".join(f"{name} {channel.first_id} {channel.ids}" for name, channel in self._outbound.items())

        def make(options: MqttOptions) -> _Broker:
            with_will, presence = with_presence(options)
            subscriptions = Subscriptions(self._name, ChannelFilters(inbound), record_of(options))
            state = ClientState() if memory is None else client_state(options, memory, packet_ids)
            return _Broker(with_will, presence, subscriptions, state)

        if self._has_one_session:
            return [make(self._options)] * len(self._addresses)
        return [make(self._options.at(address)) for address in self._addresses]

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[MqttConnection]:
        if self._attempt is not None:  # it would throw this one out, or be thrown out by it
            self._attempt.cancel()
        await self._no_attempt.wait()
        self._latest = None
        ahead, self._ahead = self._ahead, None
        at = self._choice.current = 0 if ahead is not None else self._choice.current
        broker = self._brokers[at]
        opened = self._open(at, self._on_message) if ahead is None else ahead.use()
        async with opened as session:
            self._choice.connected()
            self._warn_of_qos_2(session)
            if at != (self._before or 0):
                self._say_where(at, session)
            place = None if self._last is None else self._place(self._last, at, ahead)
            connection = MqttConnection(
                session, self._outbound, broker.subscriptions, broker.presence, place, self._own_topics
            )
            self._latest = connection
            self._before, self._working.value = at, (at, connection)
            try:
                yield connection
            finally:
                self._working.value = None
                if connection.is_left:
                    await connection.finish(self._options.drain_timeout)

    def _place(self, last: memoryview, at: int, ahead: SessionAhead | None) -> Place:
        number = broker_number(self._addresses[at])
        return Place(
            number,
            has_moved=_NUMBER.unpack(last)[0] not in (0, number),
            note=partial(_NUMBER.pack_into, last, 0, number),
            others=[other.state.session for index, other in enumerate(self._brokers) if index != at],
            begin=None if ahead is None else ahead.begin,
        )

    def _open(self, at: int, on_message: OnMessage) -> AbstractAsyncContextManager[Session]:
        broker = self._brokers[at]
        options = broker.presence.applied_to(broker.options.at(self._addresses[at]))
        options = attrs.evolve(options, connect_timeout=patience(options, broker.overdue))
        return open_session(options, on_message, broker.state, self._max_payload)

    async def serve(self) -> None:
        """Serve: while another broker than the first is in use, connect to the first one now and then, and go there."""
        if self._return is None:
            return
        delays = Backoff(initial=self._return, maximum=16 * self._return, factor=2, jitter=0.2)
        setbacks = 0  # in a row: the first refused the login, or did not last
        while True:
            await self._working.wait_value(_is_elsewhere)
            await trio.sleep(delays.delay(setbacks))
            if not _is_elsewhere(self._working.value):
                continue
            began = trio.current_time()
            try:
                await self._return_to_first()
            except* ConnectorError as group:
                failure = leaves(group)[0]
                setbacks += isinstance(failure, ConnectRefused)
                log.info(
                    "%s: %s is not back: %s",
                    self._name,
                    self._addresses[0],
                    failure,
                    extra={"event": "broker-not-back", "connector": self._name, "address": str(self._addresses[0])},
                )
            else:
                setbacks = 0 if trio.current_time() - began >= self._return else setbacks + 1

    async def _return_to_first(self) -> None:
        """Connect to the first broker, have the bridge leave the other one, and return when the first was used."""
        first = self._addresses[0]
        try:
            with trio.CancelScope() as self._attempt:
                self._no_attempt = trio.Event()
                async with open_ahead(partial(self._open, 0), self._on_message) as ahead:
                    self._end_attempt()
                    self._ahead = ahead
                    if self._working.value is not None:
                        _, connection = self._working.value
                        connection.leave(f"{first} is back, and has accepted the login")
        finally:
            self._end_attempt()

    def _end_attempt(self) -> None:
        self._attempt = None
        self._no_attempt.set()

    def channels_of(self, topic: str) -> Iterable[str]:
        return self._tree.match(topic)

    @property
    def address(self) -> str:
        return str(self._addresses[self._choice.current])

    @property
    def place(self) -> str:
        return self.address if len(self._addresses) > 1 else ""

    def guarantee(self, channel: str) -> Guarantee:
        return _GUARANTEES[self._outbound[channel].qos]

    def ended(self, failure: Exception) -> None:
        broker = self._brokers[self._choice.current]
        broker.presence.ended(failure)
        was_up = self._latest is not None and self._latest.is_up
        broker.overdue = broker.overdue + 1 if is_overdue(failure) and not was_up else 0

    def next_attempt(self, retry: Retry) -> Retry:
        if self._ahead is not None:
            self._choice.current = 0
            return attrs.evolve(retry, delay=0.0, refused=False)
        if len(self._addresses) == 1:
            return retry
        return self._choice.failed(retry, trio.current_time())

    def revived(self) -> None:
        self._choice = BrokerChoice(len(self._addresses))
        for broker in self._brokers:
            broker.presence.revived()

    def set_aside(self, channel: str, envelope: Envelope) -> None:
        to = self._outbound[channel]
        if to.exactly_once is not None:
            to.exactly_once.set_aside(to.packet_id(envelope.header.sequence_number))

    def hint(self, failure: Exception, losses: int) -> str:
        client_id = self._options.client_id
        return "" if client_id is None else hint_of_client_id(failure, losses, client_id)

    def _say_where(self, at: int, session: Session) -> None:
        """Log what a change of the broker means for messages."""
        here, there = self._addresses[at], self._addresses[self._before or 0]
        if self._has_one_session:
            log.info(
                "%s: at %s now, not %s",
                self._name,
                here,
                there,
                extra={"event": "broker-changed", "connector": self._name, "address": str(here)},
            )
            return
        log.warning(
            "%s: at %s now, which has %s session of this client: inbound messages that wait at %s come when that is"
            " used again; messages of QoS 2 that were on their way there are published again, and may arrive twice",
            self._name,
            here,
            "a" if session.session_present else "no",
            there,
            extra={"event": "session-elsewhere", "connector": self._name, "address": str(here)},
        )

    def _warn_of_qos_2(self, session: Session) -> None:
        most = session.limits.of_qos_2
        if self._of_qos_2 > most:
            text = "%s: %d channels of QoS 2, and a broker may drop what is beyond %d messages at once%s"
            way_out = "" if self._options.protocol == "5" else "; with protocol='5' it says how many it takes"
            log.warning(
                text,
                self._name,
                self._of_qos_2,
                most,
                way_out,
                extra={"event": "qos2-many-channels", "connector": self._name},
            )


def _is_elsewhere(working: tuple[int, MqttConnection] | None) -> bool:
    return working is not None and working[0] != 0


def patience(options: MqttOptions, overdue: int) -> float:
    """Return the seconds for the next attempt, after so many in a row that the broker did not answer in time.

    They double, up to the longest delay. A broker works through its queue of logins in their order, also those that
    nobody waits for any more. A fleet that gives up before its turn comes, and asks again, is never answered.
    """
    within = options.connect_timeout
    return min(within * 2.0 ** min(overdue, 30), max(within, options.reconnect.maximum))


def hint_of_client_id(failure: Exception, losses: int, client_id: str) -> str:
    """Return the hint that another client may have the same id; empty if nothing speaks for it.

    MQTT 3.1.1 has no word for a client that was thrown out by another, so there it can only be guessed.
    """
    if not isinstance(failure, SessionLost):
        return ""
    if failure.code == TAKEN_OVER:
        return f"another client uses the client id '{escaped(client_id)}'"
    if losses >= _AGAIN_AND_AGAIN and not failure.code and not failure.silent:
        guess = f"soon after it began, {losses} times in a row; does another client use the client id"
        return f"{guess} '{escaped(client_id)}', or does the broker not take what is published?"
    return ""

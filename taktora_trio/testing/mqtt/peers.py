"""The real brokers of a deployment under test, and the test's own client at each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.connector import MqttConnector
from taktora_trio.connectors.mqtt.forget import forget_client
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.peer import message_of_a_test
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.endpoints import open_socket
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed, ConnectRefused, Session
from taktora_trio.connectors.mqtt.sessions.streams import open_stream
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message
from taktora_trio.connectors.mqtt.wire.packets import AS_PUBLISHED, NOT_OWN, NOTHING_RETAINED
from taktora_trio.connectors.peer import Published
from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.testing.backend import Broker
from taktora_trio.testing.live import LivePeer, OnPublishedBy, for_connector
from taktora_trio.testing.mqtt.acknowledging import Acknowledging
from taktora_trio.testing.mqtt.mosquitto import open_mosquitto
from taktora_trio.testing.network import Network, open_network

__all__ = ["open_mqtt_peers"]

_GUARANTEES: tuple[Guarantee, ...] = ("at most once", "at least once", "exactly once")
_NOT_AUTHORIZED = {"3.1.1": b"\x20\x02\x00\x05", "5": b"\x20\x03\x00\x87\x00"}  # CONNACK (section 3.2)
_NOBODYS = "taktora/test/settled"
_PATIENCE = 5.0  # seconds for the broker to forget a client, or to acknowledge


class _Broker:
    """One broker, and the test's client there: it publishes, and hears all that others do."""

    def __init__(self, options: MqttOptions, on_published: OnPublishedBy, *, is_own: bool) -> None:
        """`options` are those of the test's client. A broker of the test's own has no clients but it and the app's."""
        self.options = options
        self.is_own = is_own
        self.peers: list[MqttPeer] = []
        self._on_published = on_published
        self._session: Session | None = None
        self._last_id = 0
        self._retained = set[str]()  # the topics of what it keeps since this test

    async def open_stream(self) -> trio.abc.Stream:
        """Connect to it as far as where MQTT begins, for a network. Raises `OSError`."""
        try:
            return await open_stream(await open_socket(self.options.broker), self.options)
        except ConnectFailed as exc:
            raise OSError(str(exc)) from exc

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be connected and subscribed in the block, to all, or to what the app may publish where others do too."""
        filters = ["#"] if self.is_own else sorted({one for peer in self.peers for one in peer.filters})
        where = self.options.broker
        try:
            async with open_session(self.options, self._hear) as session, trio.open_nursery() as nursery:
                self._session = session
                subscription = 2 | NOT_OWN | AS_PUBLISHED | NOTHING_RETAINED
                if refused := await session.subscribe(dict.fromkeys(filters, subscription)):
                    raise ConfigError(f"the broker at {where} does not show the test what the app publishes: {refused}")
                nursery.start_soon(self._watch)
                try:
                    yield
                finally:
                    if not self.is_own:
                        await self._forget_retained()
                nursery.cancel_scope.cancel()
        except (ConnectFailed, ConnectRefused) as exc:
            raise ConfigError(f"the broker at {where} can't be used for a test: {exc}") from exc

    async def publish(self, message: Message) -> None:
        assert self._session is not None
        if message.retained:
            self._retained.add(message.topic)
        self._last_id = self._last_id % (OWN_PACKET_IDS - 1) + 1
        answers: list[str] = []
        answered = trio.Event()

        def done(packet_id: int, refusal: str) -> None:
            answers.append(refusal)
            answered.set()

        self._session.publish(message, self._last_id, done)
        with trio.move_on_after(_PATIENCE):
            await answered.wait()
        if answers != [""]:
            raise ConnectorError(
                f"the broker does not take a message on {message.topic!r}: {answers[0] if answers else 'no answer'}"
            )

    async def _forget_retained(self) -> None:
        patience = trio.CancelScope(shield=True, deadline=trio.current_time() + _PATIENCE)
        with patience, contextlib.suppress(ConnectorError):
            for topic in sorted(self._retained):
                await self.publish(Message(topic, b"", 1, retained=True))

    async def _watch(self) -> None:
        assert self._session is not None
        lost = await self._session.wait_until_lost()
        raise ConnectorError(f"the test's own connection to the broker at {self.options.broker} has ended: {lost}")

    def _hear(self, message: Message) -> None:
        assert self._session is not None
        if message.qos:
            self._session.acknowledge(message)
        if message.retained:
            self._retained.add(message.topic)
        if any(message.topic == peer.presence_topic for peer in self.peers):
            return
        peer = next((peer for peer in self.peers if peer.may_publish(message.topic)), self.peers[0])
        self._on_published(
            peer.connector,
            Published(
                topic=message.topic,
                payload=bytes(message.payload),
                metadata=message.metadata,
                correlation_id=message.correlation_id,
                retained=message.retained,
                guarantee=_GUARANTEES[message.qos],
            ),
        )


class MqttPeer(LivePeer):
    """A real broker, behind a network of the connector's own."""

    def __init__(
        self,
        connector: MqttConnector,
        options: MqttOptions,
        broker: _Broker,
        network: Network,
        acknowledging: Acknowledging,
    ) -> None:
        """`options` are the connector's, with the client id by which the broker knows it."""
        self.connector = connector.name
        self.presence_topic = options.presence_topic
        self.filters = [channel.routing.address for channel in connector.channels if channel.direction == "out"]
        """What the app may publish through the connector, a last will too."""
        if options.will is not None:
            self.filters.append(options.will.topic)
        self._overlap = connector.overlap
        self._greeting = _NOT_AUTHORIZED[options.protocol]
        self._broker, self._network, self._acknowledging = broker, network, acknowledging
        there = broker.options.broker
        self.address = BrokerAddress("127.0.0.1", network.port, username=there.username, password=there.password)
        # With its client id the gateway does not warn that it made one for this run.
        self.settings = {"broker": self.address.url, "client-id": options.client_id or connector.name}

    def may_publish(self, topic: str) -> bool:
        """Return whether the app may publish to this topic through the connector."""
        return any(self._overlap(one, topic) for one in self.filters)

    async def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        """See `LivePeer`, and `message_of_a_test` for the options."""
        await self._broker.publish(message_of_a_test(topic, payload, **options))

    async def settle(self) -> None:
        await self._broker.publish(Message(_NOBODYS, b"", 1))  # its answer comes behind all that came before

    def cut(self) -> None:
        self._network.cut()

    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        if unreachable is not None:
            self._network.is_down = unreachable
        if refusing is not None:
            self._network.greeting = self._greeting if refusing else None
        if delay is not None:
            self._acknowledging.set_delay(delay)


@contextlib.asynccontextmanager
async def open_mqtt_peers(
    connectors: Sequence[MqttConnector],
    known_as: Mapping[str, str],
    folder: Path,
    broker: Broker,
    on_published: OnPublishedBy,
) -> AsyncIterator[Mapping[str, LivePeer]]:
    """See `PeerOpener`. Without an address each broker of the deployment is a mosquitto of the test's own.

    Connectors that are declared with the same broker have the same one. A broker that was given has to speak MQTT 5.
    After the block it has forgotten the gateways' sessions and presence, and what was retained since the block began.
    """
    async with contextlib.AsyncExitStack() as stack:
        brokers: dict[object, _Broker] = {}
        peers: dict[str, LivePeer] = {}
        for connector in connectors:
            if connector.options.session == "memory":
                raise ConfigError(
                    f"connector {connector.name!r} has its broker in memory by MqttOptions(session='memory'), and so no"
                    " real one: leave session out, for open_app says where the broker is"
                )
            given = for_connector(broker, connector.name)
            key: object = given or tuple(map(str, connector.options.brokers))
            if key not in brokers:
                brokers[key] = await _start(stack, given, connector.options, folder, on_published)
            at = brokers[key]
            options = connector.options_as(known_as[connector.name])
            acknowledging = Acknowledging()
            network = await stack.enter_async_context(open_network(at.open_stream, acknowledging.hand_on))
            peer = MqttPeer(connector, options, at, network, acknowledging)
            at.peers.append(peer)
            peers[connector.name] = peer
            stack.push_async_callback(_forget, options, peer, at)
        for each in brokers.values():
            await stack.enter_async_context(each.connected())
        yield peers


async def _start(
    stack: contextlib.AsyncExitStack,
    given: str | None,
    declared: MqttOptions,
    folder: Path,
    on_published: OnPublishedBy,
) -> _Broker:
    url = given if given is not None else (await stack.enter_async_context(open_mosquitto(folder))).url
    guest = MqttOptions(broker=BrokerAddress.parse(url), protocol="5", presence=None, ca_file=declared.ca_file)
    return _Broker(guest, on_published, is_own=given is None)


async def _forget(options: MqttOptions, peer: MqttPeer, at: _Broker) -> None:
    """Remove what is left of a session: here, and at a broker that goes on."""
    if record := record_of(attrs.evolve(options, broker=peer.address)):
        with contextlib.suppress(OSError):
            await trio.to_thread.run_sync(record.remove)
    if not at.is_own:
        at_broker = attrs.evolve(options, broker=at.options.broker, ca_file=at.options.ca_file)
        patience = trio.CancelScope(shield=True, deadline=trio.current_time() + _PATIENCE)
        with patience, contextlib.suppress(ConnectorError):
            await forget_client(at_broker)

"""The broker within this process, as the tests of an app see it."""

from __future__ import annotations

from typing import Any

import attrs

from taktora_trio.channels import Metadata
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.topics import check_topic
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.connectors.peer import MemoryPeer, OnPublished, Published
from taktora_trio.digest import sha256
from taktora_trio.errors import ConfigError

__all__ = ["MqttMemoryPeer", "message_of_a_test", "options_in_memory"]

_GUARANTEES: tuple[Guarantee, ...] = ("at most once", "at least once", "exactly once")


def options_in_memory(options: MqttOptions, run: str) -> MqttOptions:
    """Return the options by which a connector has its brokers in this process, those of this run alone.

    Two connectors of a run that have the same address have the same broker.
    """
    return attrs.evolve(options, session="memory", broker=[_address(one, run) for one in options.brokers])


def _address(address: BrokerAddress, run: str) -> BrokerAddress:
    where = f"{address.host}:{address.port}{address.path}"
    return BrokerAddress(f"{run}-{sha256(where.encode()).hexdigest()[:12]}", 1883)


def message_of_a_test(
    topic: str,
    payload: bytes,
    *,
    metadata: Metadata | None,
    correlation_id: bytes,
    retain: bool,
    qos: int = 2,
    **unknown: Any,
) -> Message:
    """Return what a test publishes. The app gets it at this QoS, or at that of its subscription, whichever is lower.

    Raises `ConfigError` for what can't be published, and for options that there are not.
    """
    if names := ", ".join(unknown):
        raise ConfigError(
            f"MQTT has no {names}: it has qos=; a response topic, a content type, an expiry and user properties are in"
            " metadata=Metadata(...)"
        )
    if qos not in (0, 1, 2):
        raise ConfigError(f"qos is {qos!r}; it must be 0, 1 or 2")
    check_topic(topic)
    return Message(topic, payload, qos, retained=retain, metadata=metadata, correlation_id=correlation_id)


class MqttMemoryPeer(MemoryPeer):
    """The brokers of one connector, and what the connector publishes there."""

    def __init__(self, options: MqttOptions, on_published: OnPublished) -> None:
        """`options` are those in memory, with the client id by which the brokers know the connector."""
        self._addresses = [(address.host, address.port) for address in options.brokers]
        self._brokers = [MemoryBroker.at(*address) for address in self._addresses]
        self._client_id = options.client_id
        self._presence_topic = options.presence_topic
        self._on_published = on_published
        for broker in self._brokers:
            broker.watchers.append(self._watch)

    def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        """See `MemoryPeer`, and `message_of_a_test` for the options."""
        message = message_of_a_test(topic, payload, **options)
        for broker in self._brokers:
            broker.deliver(message)

    def cut(self) -> None:
        for broker in self._brokers:
            for session in list(broker.sessions):
                if session.client_id == self._client_id:
                    session.lose("connection reset")

    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        for broker in self._brokers:
            line = broker.lines[self._client_id]
            if unreachable is not None:
                line.unreachable = unreachable
            if refusing is not None:
                line.refuses_login = refusing
            if delay is not None:
                broker.set_delay(self._client_id, delay)

    def close(self) -> None:
        for address in self._addresses:
            MemoryBroker.forget(*address)

    def _watch(self, client_id: str | None, message: Message) -> None:
        if client_id == self._client_id and message.topic != self._presence_topic:
            self._on_published(
                Published(
                    topic=message.topic,
                    payload=bytes(message.payload),
                    metadata=message.metadata,
                    correlation_id=message.correlation_id,
                    retained=message.retained,
                    guarantee=_GUARANTEES[message.qos],
                )
            )

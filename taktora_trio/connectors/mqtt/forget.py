"""Has the broker forget a client that is gone for good: its session, and its retained presence."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import trio
from trio_util import move_on_when

from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.presence import UP
from taktora_trio.connectors.mqtt.record import record_of
from taktora_trio.connectors.mqtt.sessions import open_session
from taktora_trio.connectors.mqtt.sessions.session import Session
from taktora_trio.connectors.mqtt.wire.message import OWN_PACKET_IDS, Message
from taktora_trio.errors import ConfigError, ConnectorError

__all__ = ["check_is_gone", "forget_client", "forget_everywhere"]

_ANYHOW = "give --even-if-up"
_RETAINED_COMES_WITHIN = 1.0  # seconds: nothing tells that a topic has no retained message


async def forget_everywhere(options: MqttOptions, *, even_if_up: bool) -> str:
    """Have each broker of these options forget the client, and return a line that says what was forgotten where.

    Nothing is forgotten unless the client is gone from all of them. The nodes of a cluster have one session, so the
    first node that answers is asked. Raises `ConfigError` and `ConnectorError`.
    """
    each = [options.at(broker) for broker in options.brokers]
    if options.brokers_are == "cluster":
        return await _forget_at_first(each, even_if_up=even_if_up)
    for one in each if not even_if_up else ():
        await check_is_gone(one)
    for one in each:
        await forget_client(one)
    return "; ".join(map(_forgotten, each))


async def _forget_at_first(nodes: Sequence[MqttOptions], *, even_if_up: bool) -> str:
    failures: list[ConnectorError] = []
    for node in nodes:
        try:
            if not even_if_up:
                await check_is_gone(node)
            await forget_client(node)
        except ConfigError:
            raise
        except ConnectorError as exc:
            failures.append(exc)
        else:
            return _forgotten(node)
    raise failures[0]


def _forgotten(client: MqttOptions) -> str:
    presence = f", and {client.presence_topic}" if client.presence_topic else ""
    return f"{client.broker} has forgotten client {client.client_id}: its session{presence}"


async def check_is_gone(options: MqttOptions) -> None:
    """Raise `ConfigError` if the client's presence is `Up`: then a gateway is connected as this client.

    Asks as another client, which closes no connection. Raises `ConnectorError` if the broker can't be asked.
    """
    topic = options.presence_topic
    if topic is None:
        return
    said: list[bytes] = []
    there = trio.Event()

    def hear(message: Message) -> None:
        said.append(message.payload)
        there.set()

    guest = attrs.evolve(options, client_id=None, persistent=False)
    async with open_session(guest, hear) as session:
        if refused := await session.subscribe({topic: 0}):
            raise ConfigError(f"the broker does not show {topic!r} ({refused[topic]}): to forget it unseen, {_ANYHOW}")
        async with move_on_when(session.wait_until_lost):
            with trio.move_on_after(_RETAINED_COMES_WITHIN):
                await there.wait()
    if said[:1] == [UP]:
        raise ConfigError(
            f"client {options.client_id!r} is connected to {options.broker}, for {topic!r} says Up: stop its gateway"
            f" first; if it is long gone, {_ANYHOW}"
        )


async def forget_client(options: MqttOptions) -> None:
    """Have the broker delete the client's session, with the messages that wait in it, and its retained presence.

    A connection with a clean session discards the old session (MQTT 3.1.1, section 3.1.2.4), and an empty retained
    message removes the retained one (section 3.3.1.3). This machine's record of the session is removed, too. A gateway
    that is connected as this client loses its connection. Raises `ConnectorError`.
    """
    async with open_session(attrs.evolve(options, persistent=False, will=None), lambda message: None) as session:
        if options.presence_topic is not None:
            await _clear(session, options.presence_topic, options.connect_timeout)
    if record := record_of(options):
        try:
            record.remove()
        except OSError as exc:
            raise ConnectorError(
                f"the broker has forgotten {options.client_id!r}, but this file is left: {exc}"
            ) from exc


async def _clear(session: Session, topic: str, seconds: float) -> None:
    refusals: list[str] = []
    answered = trio.Event()

    def done(packet_id: int, refusal: str) -> None:
        refusals.append(refusal)
        answered.set()

    session.publish(Message(topic, b"", 1, retained=True), OWN_PACKET_IDS, done)
    async with move_on_when(session.wait_until_lost):
        with trio.move_on_after(seconds):
            await answered.wait()
    if refusals != [""]:
        why = refusals[0] if refusals else "it does not answer"
        raise ConnectorError(f"the broker has deleted the session, but not the retained message of {topic!r}: {why}")

"""A bridge: what comes by MQTT goes on by Zenoh, and the other way, and nothing goes in circles.

    taktora-trio run examples.bridge:deployment --mode split --broker mqtt://localhost --connect tcp/localhost:7447

    mosquitto_pub -V 5 -q 1 -t plant/hall/temperature -m 21.5

An acknowledgement goes the whole way: the broker gets it when the message was put into Zenoh, or in an acknowledged
tree when somebody there has replied; and whoever asked by Zenoh gets the reply when the broker has acknowledged. Until
then a message waits where it came from.
"""

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
import trio

from taktora_trio import (
    ChannelReader,
    ChannelWriter,
    Connector,
    ConnectorHost,
    Deployment,
    Inbound,
    MessageError,
    Metadata,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Received,
    Routing,
    ZenohConnector,
    ZenohRouting,
)

ROOM = 4096  # bytes of metadata
AT_ONCE = 64  # messages on their way, of each direction of each tree
BRIDGED_FROM = "bridged-from"  # the user property that names a network which the message has been on
BRIDGED_AS = "bridged-as"  # and the one with its topic: whoever answers may have copied both from the question


# Topics and keys: each topic has one key, each key one topic

_SIGNS = re.compile(r"^@|[*$?+\0]|%(?:25)*(?:2A|24|3F|2B|00)|^%(?:25)*40|^%(?:25)*2F$")


def key_of(topic: str) -> str:
    """Return the key for a topic. An empty level is `%2F` there, and `*`, `$` and `?` are written in this way,
    too, and `@` at the beginning of a level, for no `*` or `**` would match it."""
    return _written(topic, "*$?@/")


def topic_of(key: str) -> str:
    """Return the topic for a key: the other way. `+` is `%2B` there."""
    return _written(key, "+\0")


def _written(text: str, has_none: str) -> str:
    def write(found: re.Match[str]) -> str:
        part = found[0]
        if len(part) == 1:
            return f"%{ord(part):02X}" if part in has_none else part
        sign = chr(int(part[-2:], 16))
        if sign in has_none:  # it stands there as such: so that it is not taken for one that was written by us
            return f"%25{part[1:]}"
        return f"%{part[3:]}" if len(part) > 3 else sign.replace("/", "")

    levels = (_SIGNS.sub(write, level) for level in text.split("/"))
    return "/".join(level or ("%2F" if "/" in has_none else "") for level in levels)


# Trees: what is bridged


@attrs.frozen
class Tree:
    """A topic with all below it, which is bridged both ways: at QoS 1 on the one side, and on the other by puts, which
    everybody there hears."""

    topic: str
    acknowledged: bool = attrs.field(default=False, kw_only=True)
    """True if nothing may be lost in Zenoh either. Then both ways are for those who have acknowledged channels."""
    lasting: bool = attrs.field(default=False, kw_only=True)
    """True for values of which whoever comes later gets the last: retained at the broker, latched in Zenoh."""
    max_payload: int = attrs.field(default=16_384, kw_only=True)

    def mqtt(self, direction: str) -> MqttRouting:
        return MqttRouting(f"{self.topic}/#", qos=1, retain=self.lasting and direction == "out")

    def zenoh(self, direction: str) -> ZenohRouting:
        return ZenohRouting(
            f"{key_of(self.topic)}/**",
            acknowledged=self.acknowledged,
            latched=self.lasting,
            others_only=direction == "in",
        )

    def inbound(self, network: str, routing: Routing) -> Inbound[bytes]:
        name = f"{self.topic.replace('/', '-')}-from-{network}"
        return Inbound(name, bytes, routing, max_payload=self.max_payload, max_metadata=ROOM, window=AT_ONCE)

    def outbound(self, network: str, routing: Routing) -> Outbound[bytes]:
        name = f"{self.topic.replace('/', '-')}-to-{network}"
        return Outbound(name, bytes, routing, max_payload=self.max_payload, max_metadata=ROOM, window=AT_ONCE)


@attrs.frozen
class Way:
    """One direction of a tree: from a channel of one network to a channel of the other."""

    source: Inbound[bytes]
    target: Outbound[bytes]
    networks: tuple[str, str]
    translate: Callable[[str], str]

    async def serve(self, host: ConnectorHost) -> None:
        """Carry messages until cancelled."""
        turn = trio.StrictFIFOLock()
        async with (
            host.open_reader(self.source) as reader,
            host.open_writer(self.target) as writer,
            trio.open_nursery() as nursery,
        ):
            for _ in range(AT_ONCE):
                nursery.start_soon(self._carry, reader, writer, turn)

    async def _carry(
        self, reader: ChannelReader[bytes], writer: ChannelWriter[bytes], turn: trio.StrictFIFOLock
    ) -> None:
        """Carry one message after the other. It is done with when the other side has acknowledged it, or when it is
        refused: then it is a dead letter. While the target's channel is full no more are taken."""
        while True:
            async with contextlib.AsyncExitStack() as until_done:
                async with turn:  # so they are sent in the order in which they came
                    received = await until_done.enter_async_context(reader.take())
                    sending = self._sent(received)
                    number = 0 if sending is None else await self._send(reader, writer, received, sending)
                if number:
                    try:
                        await writer.wait_acknowledged(number)
                    except MessageError as exc:
                        reader.reject(received, str(exc))

    async def _send(
        self, reader: ChannelReader[bytes], writer: ChannelWriter[bytes], received: Received[bytes], sending: Metadata
    ) -> int:
        topic = self.translate(received.topic)
        try:
            return await writer.send(
                received.value, topic=topic, correlation_id=received.header.correlation_id, metadata=sending
            )
        except MessageError as exc:  # too long a topic, say
            reader.reject(received, str(exc))
            return 0

    def _sent(self, received: Received[bytes]) -> Metadata | None:
        """Return the metadata to send it with; none if it has been on the other network already."""
        source, target = self.networks
        metadata = received.metadata or Metadata()
        properties = metadata.user_properties
        others = tuple(pair for pair in properties if pair[0] not in (BRIDGED_FROM, BRIDGED_AS))
        before: tuple[tuple[str, str], ...] = ()
        if (BRIDGED_AS, received.topic) in properties:
            before = tuple(pair for pair in properties if pair[0] == BRIDGED_FROM)
        if (BRIDGED_FROM, target) in before:
            return None
        return Metadata(
            metadata.content_type,
            self.translate(metadata.response_topic) if metadata.response_topic else "",
            metadata.message_expiry,
            (*others, *before, (BRIDGED_FROM, source), (BRIDGED_AS, self.translate(received.topic))),
        )


_Channel: TypeAlias = Inbound[bytes] | Outbound[bytes]


def bridge(name: str, trees: Sequence[Tree], *, mqtt: str = "mqtt", zenoh: str = "zenoh") -> Deployment:
    """Return a deployment that bridges these trees.

    `mqtt` and `zenoh` name the two networks: all bridges of the same network call it the same, and no other one so.
    """
    ways = list[Way]()
    messages, values, there = list[_Channel](), list[_Channel](), list[_Channel]()
    for tree in trees:
        from_mqtt, to_mqtt = tree.inbound("mqtt", tree.mqtt("in")), tree.outbound("mqtt", tree.mqtt("out"))
        from_zenoh, to_zenoh = tree.inbound("zenoh", tree.zenoh("in")), tree.outbound("zenoh", tree.zenoh("out"))
        ways += Way(from_mqtt, to_zenoh, (mqtt, zenoh), key_of), Way(from_zenoh, to_mqtt, (zenoh, mqtt), topic_of)
        (values if tree.lasting else messages).extend((from_mqtt, to_mqtt))
        there += from_zenoh, to_zenoh
    connectors = list[Connector]()
    if messages:
        connectors.append(MqttConnector(messages, options=MqttOptions(protocol="5"), codec=RawCodec()))
    if values:  # a session that does not last is told anew what is retained, and so is Zenoh after a restart
        last = MqttOptions(protocol="5", persistent=False)
        connectors.append(MqttConnector(values, name="mqtt-values", options=last, codec=RawCodec()))
    connectors.append(ZenohConnector(there, codec=RawCodec()))

    async def app(host: ConnectorHost) -> None:
        async with trio.open_nursery() as nursery:
            for way in ways:
                nursery.start_soon(way.serve, host)

    return Deployment(name, app, connectors)


deployment = bridge(
    "bridge", [Tree("plant"), Tree("orders", acknowledged=True), Tree("state", lasting=True)], mqtt="hall", zenoh="site"
)

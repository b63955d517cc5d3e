"""The MQTT connector passes the conformance suite: each session, with a real broker where it needs one."""

from __future__ import annotations

import contextlib
import math
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import trio

from taktora_trio import Backoff, Connector, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.connectors.mqtt.sessions.memory import MemoryBroker
from taktora_trio.connectors.mqtt.wire.message import Message
from taktora_trio.testing.conformance import ConnectorConformance
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.rig import ConnectorRig, Echo, TcpRig
from tests.brokers.packets import CONNACK, PUBACK, PUBLISH, packet
from tests.client import Client, open_client
from tests.mosquitto import Mosquitto, open_mosquitto

SECRET = "not-for-everybody"
QUICKLY = Backoff(initial=0.01, maximum=0.1)
WATCHED = ("topic/out", "topic/other", "taktora/echo/reply")
PROTOCOL_STACK = ("aiomqtt", "paho", "trio_asyncio", "wsproto", "taktora_trio.connectors.mqtt.sessions")


def outbound(name: str, **options: Any) -> Outbound[bytes]:
    return Outbound(name, bytes, MqttRouting(f"topic/{name}", qos=1), **options)


def inbound(name: str, **options: Any) -> Inbound[bytes]:
    return Inbound(name, bytes, MqttRouting(f"topic/{name}", qos=1), **options)


class MqttRig(TcpRig):
    declared_in = "taktora_trio.connectors.mqtt"
    protocol_stack = PROTOCOL_STACK
    carries_metadata: ClassVar[bool] = True  # MQTT 5
    has_echo: ClassVar[bool] = True
    session: ClassVar[str] = "native"
    silence = 1.0  # the shortest keep-alive there is
    patience = 1.0  # a busy machine takes more than 0.3 s at times
    secret = SECRET
    garbage = (
        packet(CONNACK, b"\0\0\0"),
        packet(CONNACK, b"\0\0\0") + packet(CONNACK, b"\0\0\0"),
        packet(CONNACK, b"\0\0\0") + packet(PUBACK, b"\0\x07"),
        packet(CONNACK, b"\0\0\0") + packet(PUBLISH, b"\0\2\x1b\xffpayload"),
    )

    def __init__(self, network: Network, broker: Mosquitto, outsider: Client) -> None:
        super().__init__(network)
        self._broker, self._outsider = broker, outsider

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        async with (
            open_mosquitto(folder) as broker,
            open_network(broker.port) as network,
            open_client(broker.port, *WATCHED) as outsider,
        ):
            yield cls(network, broker, outsider)

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return outbound(name, **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return inbound(name, **options)

    def connector(self, *channels: Any) -> Connector:
        options: dict[str, Any] = {
            "broker": f"mqtt://me:{SECRET}@127.0.0.1:{self._network.port}",
            "session": self.session,
            "protocol": "5",
            "persistent": True,
            "keepalive": 1,
            "connect_timeout": self.patience,
            "reconnect": QUICKLY,
        }
        return MqttConnector(channels, options=MqttOptions(**options), codec=RawCodec())

    async def publish(self, topic: str, payload: bytes) -> None:
        self._outsider.publish(topic, payload)

    async def receive(self) -> tuple[str, bytes]:
        message = await self._outsider.receive()
        return message.topic, message.payload

    def refuse(self) -> None:
        self._network.greeting = packet(CONNACK, b"\0\x87\0")  # not authorized

    def come_back(self) -> None:
        super().come_back()
        self._network.greeting = None

    @property
    def echo(self) -> Echo:
        return Echo("examples.echo:deployment", ["--broker", self._broker.url], "taktora/echo/request/me", WATCHED[2])


class MemoryRig(ConnectorRig):
    """The broker is in this process, where nothing goes over a network."""

    declared_in = "taktora_trio.connectors.mqtt"
    protocol_stack = PROTOCOL_STACK
    carries_metadata: ClassVar[bool] = True
    notices_silence = False

    def __init__(self) -> None:
        self._host = f"{uuid.uuid4().hex}.example"
        self._broker = MemoryBroker.at(self._host, 1883)
        self._put, self._take = trio.open_memory_channel[Message](math.inf)
        self._deliver = self._broker.deliver
        self._broker.deliver = self._delivered  # type: ignore[method-assign]

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        yield cls()

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return outbound(name, **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return inbound(name, **options)

    def connector(self, *channels: Any) -> Connector:
        options = MqttOptions(
            broker=f"mqtt://{self._host}", session="memory", protocol="5", persistent=True, reconnect=QUICKLY
        )
        return MqttConnector(channels, options=options, codec=RawCodec())

    async def publish(self, topic: str, payload: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._deliver(Message(topic, payload, 1))

    async def receive(self) -> tuple[str, bytes]:
        message = await self._take.receive()
        return message.topic, message.payload

    def cut(self, *, reset: bool = True) -> None:
        self._broker.drop_all()

    def leave(self) -> None:
        self._broker.unreachable = True

    def refuse(self) -> None:
        self._broker.refuses_login = True

    def come_back(self) -> None:
        self._broker.unreachable = self._broker.refuses_login = False

    async def next_attempt(self) -> None:
        before = self._broker.connects
        while self._broker.connects == before:  # noqa: ASYNC110 - the broker tells nobody
            await trio.sleep(0.001)

    def _delivered(self, message: Message) -> None:
        self._deliver(message)
        if message.topic in WATCHED:
            self._put.send_nowait(message)


class AtMostOnceRig(MemoryRig):
    """With QoS 0 nothing is acknowledged, either way."""

    acknowledges: ClassVar[bool] = False
    redelivers: ClassVar[bool] = False

    def outbound(self, name: str, **options: Any) -> Outbound[bytes]:
        return Outbound(name, bytes, MqttRouting(f"topic/{name}"), **options)

    def inbound(self, name: str, **options: Any) -> Inbound[bytes]:
        return Inbound(name, bytes, MqttRouting(f"topic/{name}"), **options)


class AiomqttRig(MqttRig):
    session: ClassVar[str] = "aiomqtt"


class TestNativeSession(ConnectorConformance):
    rig_type = MqttRig


class TestMemorySession(ConnectorConformance):
    rig_type = MemoryRig
    test_declaring_it_imports_no_protocol_stack = None  # type: ignore[assignment] # it is the same module


class TestAtMostOnce(ConnectorConformance):
    rig_type = AtMostOnceRig
    test_declaring_it_imports_no_protocol_stack = None  # type: ignore[assignment] # it is the same module


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="trio-asyncio can't run with Python 3.14")
class TestAiomqttSession(ConnectorConformance):
    """A selection: what a session may get wrong; all else is the same code as with the native one."""

    rig_type = AiomqttRig


SELECTED = (
    "in_order",
    "any_bytes",
    "comes_again",
    "next_gateway",
    "paused",
    "refuses",
    "drains",
    "no_message_and_no",
    "block_is_left",
    "a_repeat_says_so",
    "next_checkpoint",
    "next_run",
)
for test in [name for name in dir(ConnectorConformance) if name.startswith("test_")]:
    if "killed" in test or not any(part in test for part in SELECTED):
        setattr(TestAiomqttSession, test, None)

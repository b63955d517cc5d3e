"""An app in several versions, of which `VERSION` says which one: what it is asked it answers, with what it knows."""

from __future__ import annotations

import os

import msgspec

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound

VERSION = os.environ.get("VERSION", "1")


class Order(msgspec.Struct):
    number: int


class OrderWithNote(msgspec.Struct):
    number: int
    note: str = "none"


KIND = OrderWithNote if VERSION == "other type" else Order
WINDOW = 128 if VERSION == "other window" else 64
ASKED = Inbound("asked", KIND, MqttRouting("versions/asked", qos=1))
TOLD = Outbound("told", KIND, MqttRouting("versions/told", qos=1), window=WINDOW)


async def echo(host: ConnectorHost) -> None:
    async with host.open_reader(ASKED) as asked, host.open_writer(TOLD) as told:
        async for received in asked:
            await told.send(received.value)


deployment = Deployment("versions", echo, [MqttConnector([ASKED, TOLD])])

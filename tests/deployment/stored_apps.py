"""An app that sends `COUNT` messages at QoS 1 and at QoS 2, `LIFE` part of each, and says what its receipts say."""

from __future__ import annotations

import os

import trio

from taktora_trio import (
    ChannelWriter,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    RawCodec,
    Store,
)
from taktora_trio.supervision.backoff import Backoff

WINDOW = 32
CHANNELS = [
    Outbound(f"q{qos}", bytes, MqttRouting(f"stored/{qos}", qos=qos), max_payload=64, window=WINDOW) for qos in (1, 2)
]
IN = Inbound("in", bytes, MqttRouting("stored/in", qos=1), max_payload=64)  # so the broker keeps the session


async def app(host: ConnectorHost) -> None:
    async def send(writer: ChannelWriter[bytes]) -> None:
        for number in range(int(os.environ["COUNT"])):
            await writer.send(f"{os.environ['LIFE']} {number}".encode())
        await writer.wait_stored()

    async with (
        host.open_writer(CHANNELS[0]) as one,
        host.open_writer(CHANNELS[1]) as two,
    ):
        async with trio.open_nursery() as sending:
            sending.start_soon(send, one)
            sending.start_soon(send, two)
        print("all is stored", flush=True)  # noqa: T201 - the test waits for it
        for writer in (one, two):
            await writer.wait_acknowledged()
        print("all is acknowledged", flush=True)  # noqa: T201
        await trio.sleep_forever()


options = MqttOptions(presence=None, reconnect=Backoff(initial=0.02, maximum=0.1))
deployment = Deployment(
    "stored", app, [MqttConnector([*CHANNELS, IN], codec=RawCodec(), options=options)], store=Store(policy="always")
)

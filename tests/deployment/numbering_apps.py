"""An app that sends at once as it starts, before its gateway is there; `LIFE` is part of what it sends."""

from __future__ import annotations

import os

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec
from taktora_trio.supervision.backoff import Backoff

COUNT = 30
TOPIC = "numbering/out"
OUT = Outbound("out", bytes, MqttRouting(TOPIC, qos=2), max_payload=64)
IN = Inbound("in", bytes, MqttRouting("numbering/in", qos=1), max_payload=64)  # so the broker keeps the session


async def app(host: ConnectorHost) -> None:
    async with host.open_writer(OUT) as writer:
        for number in range(COUNT):
            await writer.send(f"{os.environ['LIFE']} {number}".encode())
        await trio.sleep_forever()


options = MqttOptions(presence=None, reconnect=Backoff(initial=0.02, maximum=0.1), drain_timeout=0.2)
deployment = Deployment("numbering", app, [MqttConnector([OUT, IN], codec=RawCodec(), options=options)])

"""An app that sends without an end, or `COUNT` messages, and prints how many its receipts call stored."""

from __future__ import annotations

import os

import trio

from taktora_trio import ConnectorHost, Deployment, MqttConnector, MqttOptions, MqttRouting, Outbound, RawCodec, Store
from taktora_trio.supervision.backoff import Backoff

TOPIC = "power-cut/out"
OUT = Outbound("out", bytes, MqttRouting(TOPIC, qos=1), max_payload=64, window=200)
_BETWEEN = 20  # messages from one receipt to the next


async def app(host: ConnectorHost) -> None:
    count = int(os.environ["COUNT"])
    number = 0
    async with host.open_writer(OUT) as writer:
        while number < count or not count:
            for _ in range(_BETWEEN):
                await writer.send(f"{os.environ['LIFE']} {number}".encode())
                number += 1
            await writer.wait_stored()
            print(f"stored {number}", flush=True)  # noqa: T201 - the test counts them
        await writer.wait_acknowledged()
        print("all is acknowledged", flush=True)  # noqa: T201
        await trio.sleep_forever()


options = MqttOptions(presence=None, reconnect=Backoff(initial=0.02, maximum=0.1))
deployment = Deployment(
    "power-cut", app, [MqttConnector([OUT], codec=RawCodec(), options=options)], store=Store(policy="always")
)

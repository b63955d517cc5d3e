"""The app in the image: it counts, and answers every order with its number and the image's version."""

from __future__ import annotations

import os

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound, Store

VERSION = os.environ.get("GREENHOUSE_VERSION", "1")
PERIOD = 0.002

NUMBERS = Outbound("numbers", int, MqttRouting("greenhouse/numbers", qos=1))
ORDERS = Inbound("orders", str, MqttRouting("greenhouse/orders", qos=1))
DONE = Outbound("done", str, MqttRouting("greenhouse/done", qos=1))


async def app(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count, host)
        async with host.open_writer(DONE) as done, host.open_reader(ORDERS) as orders:
            async for order in orders:
                await done.send(f"{order.value} by {VERSION}")


async def count(host: ConnectorHost) -> None:
    sent = 0
    async with host.open_writer(NUMBERS) as numbers:
        try:
            while True:
                await numbers.send(sent)
                sent += 1
                await trio.sleep(PERIOD)
        finally:
            print(f"sent {sent}", flush=True)  # noqa: T201 - the test reads it


deployment = Deployment(
    "greenhouse",
    app,
    [MqttConnector([NUMBERS, ORDERS, DONE], options=MqttOptions(persistent=True))],
    store=Store(),
)

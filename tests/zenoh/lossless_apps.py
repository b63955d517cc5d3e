"""An app on acknowledged channels: it sends back each order, and fails at the one that is poison."""

from __future__ import annotations

from taktora_trio import (
    Backoff,
    ConnectorHost,
    Deployment,
    Inbound,
    Outbound,
    RawCodec,
    RestartPolicy,
    Store,
    ZenohConnector,
    ZenohRouting,
)
from tests.zenoh.crashing_apps import Breakable

ORDERS = Inbound("orders", bytes, ZenohRouting("test/orders", acknowledged=True), max_deliveries=2)
DONE = Outbound("done", bytes, ZenohRouting("test/done", acknowledged=True))
NUMBERS = Outbound("numbers", bytes, ZenohRouting("test/numbers", acknowledged=True))
POISON, COUNT = b"poison", 500


async def obey(host: ConnectorHost) -> None:
    async with host.open_reader(ORDERS) as orders, host.open_writer(DONE) as done:
        while True:
            async with orders.take() as order:
                if order.value == POISON:
                    raise ValueError("this one can't be done")
                await done.send(order.value)


async def count(host: ConnectorHost) -> None:
    """Send numbers, which the gateway's store takes while nobody is there for them; say so, and go on."""
    async with host.open_writer(NUMBERS) as numbers:
        for number in range(COUNT):
            await numbers.send(b"%d" % number)
        await numbers.wait_stored()
        print("all is stored", flush=True)  # noqa: T201
        await numbers.wait_acknowledged()
        print("all is acknowledged", flush=True)  # noqa: T201


_AT_ONCE = RestartPolicy(restart="on-failure", backoff=Backoff(initial=0.01, maximum=0.01))
obeying = Deployment(
    "obeying",
    obey,
    [Breakable([ORDERS, DONE], codec=RawCodec())],
    plugin_policy=_AT_ONCE,
)
counting = Deployment("counting", count, [ZenohConnector([NUMBERS], codec=RawCodec())], store=Store())

"""What an operator has before them: an app that answers orders and counts, on Zenoh alone, or on MQTT."""

from __future__ import annotations

from taktora_trio import ConnectorHost, Deployment, Inbound, Outbound, RawCodec, ZenohConnector, ZenohRouting
from tests.deployment.lean import recording

__all__ = ["deployment", "recording"]

ORDERS = Inbound("orders", bytes, ZenohRouting("test/orders"))
DONE = Outbound("done", bytes, ZenohRouting("test/done"))


async def obey(host: ConnectorHost) -> None:
    async with host.open_reader(ORDERS) as orders, host.open_writer(DONE) as done:
        async for order in orders:
            await done.send(order.value)


deployment = Deployment("obeying", obey, [ZenohConnector([ORDERS, DONE], codec=RawCodec())])

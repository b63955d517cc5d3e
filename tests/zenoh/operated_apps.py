"""What an operator has before them: an app that answers orders, with everything declared as on any other protocol."""

from __future__ import annotations

import msgspec

from taktora_trio import ConnectorHost, Deployment, Inbound, Outbound, ZenohConnector, ZenohRouting
from tests.deployment.lean import recording

__all__ = ["DONE", "ORDERS", "Done", "Order", "deployment", "recording"]


class Order(msgspec.Struct):
    number: int


class Done(msgspec.Struct):
    number: int


ORDERS = Inbound("orders", Order, ZenohRouting("test/orders"))
DONE = Outbound("done", Done, ZenohRouting("test/done"))


async def obey(host: ConnectorHost) -> None:
    async with host.open_reader(ORDERS) as orders, host.open_writer(DONE) as done:
        async for order in orders:
            await done.send(Done(order.value.number))


deployment = Deployment("obeying", obey, [ZenohConnector([ORDERS, DONE])])

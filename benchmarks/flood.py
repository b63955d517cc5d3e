"""The app of `to_broker.py`: told how many, it sends as many numbered messages as fast as the channel takes them."""

from __future__ import annotations

from benchmarks import message
from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec, Up

ORDERS = Inbound("orders", bytes, MqttRouting("benchmark/split/orders", qos=1), max_payload=64)
MESSAGES = Outbound("messages", bytes, MqttRouting("benchmark/split/messages", qos=1), max_payload=message.LENGTH)


async def flood(host: ConnectorHost) -> None:
    async with host.open_reader(ORDERS) as orders, host.open_writer(MESSAGES) as messages:
        await host.wait_for_health(Up)
        number = 1
        await messages.send(message.pack(number))  # the first one says: ready for orders
        async for order in orders:
            for _ in range(int(order.value)):
                number += 1
                await messages.send(message.pack(number))


deployment = Deployment("benchmark-flood", flood, [MqttConnector([ORDERS, MESSAGES], codec=RawCodec())])

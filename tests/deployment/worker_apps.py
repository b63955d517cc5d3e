"""A worker: one of many hosts' apps that divide work by a shared subscription. It prints what it is done with."""

from __future__ import annotations

import sys

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttOptions, MqttRouting, RawCodec

WORK = Inbound("work", bytes, MqttRouting("$share/workers/work", qos=1), window=8, max_deliveries=100)


async def work(host: ConnectorHost) -> None:
    async with host.open_reader(WORK) as reader:
        async for received in reader:
            await trio.sleep(0.01)  # the work; whoever is killed in it has not done it
            sys.stdout.write(f"{received.value.decode()}\n")
            sys.stdout.flush()


options = MqttOptions(persistent=True, session_expiry=3600)
worker = Deployment("worker", work, [MqttConnector([WORK], options=options, codec=RawCodec())])

"""What is deployed: an app that counts, at QoS 1, and says at its end how far it has come."""

from __future__ import annotations

import logging
import sys
import time

import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec

READINGS = Outbound("readings", bytes, MqttRouting("greenhouse/readings", qos=1))
COMMANDS = Inbound("commands", bytes, MqttRouting("greenhouse/commands", qos=0))

log = logging.getLogger("greenhouse")


async def obey(host: ConnectorHost) -> None:
    async with host.open_reader(COMMANDS) as commands:
        async for command in commands:
            match command.value.decode().split():
                case ["exit", code]:
                    sys.exit(int(code))
                case words:
                    log.warning("no command: %s", " ".join(words))


async def app(host: ConnectorHost) -> None:
    run, sent = time.time_ns(), 0
    async with trio.open_nursery() as nursery, host.open_writer(READINGS) as readings:
        nursery.start_soon(obey, host)
        try:
            while True:
                await readings.send(f"{run} {sent + 1}".encode())
                sent += 1
                await trio.sleep(0.002)
        finally:
            log.info("run %d has sent %d", run, sent)


deployment = Deployment("greenhouse", app, [MqttConnector([READINGS, COMMANDS], codec=RawCodec())])

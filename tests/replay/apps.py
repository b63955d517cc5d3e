"""Apps to which recordings are given."""

from __future__ import annotations

import attrs
import trio

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttOptions, MqttRouting, Outbound

MQTT5 = MqttOptions(protocol="5")


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Heater:
    on: bool
    at: float = 0.0


@attrs.frozen
class Settings:
    low: float = 10.0


READINGS = Inbound("readings", Reading, MqttRouting("greenhouse/+/reading", qos=1))
SAME = Inbound("same", Reading, MqttRouting("greenhouse/#", qos=1))
HEATER = Outbound("heater", Heater, MqttRouting("greenhouse-heater", qos=1))


async def heat(host: ConnectorHost) -> None:
    low = host.settings.low
    async with host.open_reader(READINGS) as readings, host.open_writer(HEATER) as heater:
        async for received in readings:
            await trio.sleep(0.5)
            await heater.send(Heater(received.value.celsius < low, trio.current_time()))


deployment = Deployment("greenhouse", heat, [MqttConnector([READINGS, HEATER, SAME], options=MQTT5)], settings=Settings)

BEAT = Outbound("beat", int, MqttRouting("beat", qos=1))
OWN = Inbound("own", int, MqttRouting("beat", qos=1))


async def beat(host: ConnectorHost) -> None:
    """Send a number each second, for ever."""
    async with host.open_writer(BEAT) as writer:
        for number in range(10**9):
            await writer.send(number)
            await trio.sleep(1)


beating = Deployment("beating", beat, [MqttConnector([BEAT, OWN], options=MQTT5)])


async def fail(host: ConnectorHost) -> None:
    async with host.open_reader(READINGS) as readings:
        await readings.receive()
        raise ValueError("the app's own fault")


failing = Deployment("failing", fail, [MqttConnector([READINGS], options=MQTT5)])


async def leave(host: ConnectorHost) -> None:
    async with host.open_reader(READINGS) as readings:
        await readings.receive()


leaving = Deployment("leaving", leave, [MqttConnector([READINGS], options=MQTT5)])
without_app = Deployment("without", None, [MqttConnector([READINGS], options=MQTT5)])

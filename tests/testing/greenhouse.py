"""An app under test: it turns a heater on where it is cold."""

from __future__ import annotations

import attrs

from taktora_trio import ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Heater:
    on: bool


READINGS = Inbound("readings", Reading, MqttRouting("greenhouse/+/reading", qos=1))
HEATER = Outbound("heater", Heater, MqttRouting("greenhouse/heater", qos=1), window=4)


async def app(host: ConnectorHost) -> None:
    async with host.open_reader(READINGS) as readings, host.open_writer(HEATER) as heater:
        async for received in readings:
            await heater.send(Heater(on=received.value.celsius < 10))


deployment = Deployment("greenhouse", app, [MqttConnector([READINGS, HEATER])])
by_name = Deployment("greenhouse", "tests.testing.greenhouse:app", [MqttConnector([READINGS, HEATER])])

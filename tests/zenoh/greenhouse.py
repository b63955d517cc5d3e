"""An app under test: it turns a heater on where it is cold."""

from __future__ import annotations

import attrs

from taktora_trio import ConnectorHost, Deployment, Inbound, Outbound, ZenohConnector, ZenohOptions, ZenohRouting


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Heater:
    on: bool


READINGS = Inbound("readings", Reading, ZenohRouting("greenhouse/*/reading"))
HEATER = Outbound("heater", Heater, ZenohRouting("greenhouse/heater"), window=4)


async def app(host: ConnectorHost) -> None:
    async with host.open_reader(READINGS) as readings, host.open_writer(HEATER) as heater:
        async for received in readings:
            await heater.send(Heater(on=received.value.celsius < 10))


deployment = Deployment("greenhouse", app, [ZenohConnector([READINGS, HEATER])])
waiting = ZenohOptions(mode="peer", listen="tcp/0.0.0.0:7447")
peer = Deployment("greenhouse", app, [ZenohConnector([READINGS, HEATER], options=waiting)])
"""The same, of a node that others come to."""

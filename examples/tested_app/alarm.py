"""The app: it takes the level of a tank, and says once that it is too high, and once that it no longer is."""

from __future__ import annotations

from typing import Literal

import attrs

from taktora_trio import BackPressure, ConnectorHost, Deployment, Inbound, MqttConnector, MqttRouting, Outbound


@attrs.frozen
class Settings:
    high: float = 90.0
    """Percent from which on the alarm is raised."""
    low: float = 80.0
    """Percent below which it is cleared. What lies between changes nothing, so that it does not flutter."""


@attrs.frozen
class Level:
    percent: float


@attrs.frozen
class Alarm:
    state: Literal["raised", "cleared"]
    percent: float


LEVELS = Inbound("levels", Level, MqttRouting("tank/level", qos=1))
ALARMS = Outbound("alarms", Alarm, MqttRouting("tank/alarm", qos=1, retain=True))


async def app(host: ConnectorHost) -> None:
    settings: Settings = host.settings
    raised = False
    async with host.open_writer(ALARMS) as alarms, host.open_reader(LEVELS) as levels:
        async for received in levels:
            percent = received.value.percent
            if percent >= settings.high if not raised else percent < settings.low:
                raised = not raised
                alarm = Alarm("raised" if raised else "cleared", percent)
                print(alarm, flush=True)  # the horn: it sounds whatever the network does
                try:
                    alarms.send_nowait(alarm)
                except BackPressure:
                    print("the broker takes nothing: this alarm was not sent", flush=True)


deployment = Deployment("tank", app, [MqttConnector([LEVELS, ALARMS])], settings=Settings)

"""A thermostat: a control loop that must not stop, whatever becomes of the network.

Twenty times a second it reads a (simulated) room and switches its heating. It publishes what it measures, and takes
its setpoint from whoever publishes one; here a small schedule does, through the broker as anybody else would.

    taktora-trio run examples.thermostat:deployment --mode split --broker embedded --for 15
"""

import itertools
import time

import attrs
import trio
from trio.abc import ReceiveChannel
from trio_util import periodic

from taktora_trio import (
    BackPressure,
    ConnectorHost,
    Deployment,
    HealthEvent,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
)

PERIOD = 0.05  # seconds


@attrs.frozen
class Reading:
    celsius: float
    heating: bool
    setpoint: float


READINGS = Outbound("readings", Reading, MqttRouting("plant/hall/reading", qos=1, retain=True))
SCHEDULE = Outbound("schedule", float, MqttRouting("plant/hall/setpoint", qos=1))
SETPOINTS = Inbound("setpoints", float, MqttRouting("plant/+/setpoint", qos=1))


@attrs.define
class Room:
    """A room that cools towards 12 degrees and can be heated: 1.5 degrees a second at most."""

    celsius: float = 18.0
    heating: bool = False
    setpoint: float = 20.0

    def step(self, seconds: float) -> None:
        self.heating = self.celsius < self.setpoint + (0.1 if self.heating else -0.1)
        self.celsius += seconds * (1.5 * self.heating - 0.05 * (self.celsius - 12.0))


async def control(host: ConnectorHost) -> None:
    room = Room()
    events = host.health_events()  # before anything is awaited, so that not even the first is missed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_setpoints, host, room)
        nursery.start_soon(publish_schedule, host)
        nursery.start_soon(tell_health, events)
        await control_loop(host, room)


async def control_loop(host: ConnectorHost, room: Room) -> None:
    ticks, skipped, longest, last = 0, 0, 0.0, time.perf_counter()
    try:
        async with host.open_writer(READINGS) as readings:
            async for _ in periodic(PERIOD):
                now = time.perf_counter()
                longest, last, ticks = max(longest, now - last), now, ticks + 1
                room.step(PERIOD)
                try:
                    readings.send_nowait(Reading(round(room.celsius, 2), room.heating, room.setpoint))
                except BackPressure:
                    skipped += 1  # a reading may be left out, a tick may not
                if ticks % 20 == 1:
                    flame = "heating" if room.heating else "       "
                    print(f"{room.celsius:5.1f} °C  {flame}  setpoint {room.setpoint:.1f} °C", flush=True)
    finally:
        print(
            f"control loop: {ticks} ticks, the longest {longest * 1e3:.0f} ms, {skipped} readings left out", flush=True
        )


async def follow_setpoints(host: ConnectorHost, room: Room) -> None:
    async with host.open_reader(SETPOINTS) as setpoints:
        async for received in setpoints:
            room.setpoint = received.value
            print(f"new setpoint from {received.topic}: {received.value} °C", flush=True)


async def publish_schedule(host: ConnectorHost) -> None:
    async with host.open_writer(SCHEDULE) as schedule:
        for setpoint in itertools.cycle([21.0, 19.5]):
            await trio.sleep(4)
            await schedule.send(setpoint)


async def tell_health(events: ReceiveChannel[HealthEvent]) -> None:
    async for event in events:
        print(f"health: {event.before} -> {event.after}", flush=True)


deployment = Deployment("thermostat", control, [MqttConnector([READINGS, SCHEDULE, SETPOINTS])])

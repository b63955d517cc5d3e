"""A thermostat: a control loop that must not stop, whatever becomes of the network.

Twenty times a second an item reads a (simulated) room and switches its heating. It publishes what it measures. Another
takes the setpoint from whoever publishes one; here a small schedule does, through the broker as anybody else would.

    taktora-trio run examples.thermostat:deployment --mode split --broker embedded --for 15
"""

import itertools

import attrs

from taktora_trio import (
    BackPressure,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
    Received,
)
from taktora_trio.executor import Context, Executor, Late, any_of, every, on_deadline, on_health, on_message

PERIOD = 0.05  # seconds
FALLBACK = 18.0  # degrees, when nobody has published a setpoint for long


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


async def thermostat(host: ConnectorHost) -> None:
    room, executor, left_out = Room(), Executor(), 0

    @executor.item(on_health(host))  # before anything is awaited, so that not even the first is missed
    async def tell_health(ctx: Context) -> None:
        print(f"health: {ctx.transition.before} -> {ctx.transition.after}", flush=True)

    async with (
        host.open_writer(READINGS) as readings,
        host.open_writer(SCHEDULE) as schedule,
        host.open_reader(SETPOINTS) as setpoints,
    ):
        planned = itertools.cycle([21.0, 19.5])

        @executor.item(every(PERIOD), budget=PERIOD / 2)
        async def control(ctx: Context) -> None:
            nonlocal left_out
            room.step(PERIOD)
            try:
                readings.send_nowait(Reading(round(room.celsius, 2), room.heating, room.setpoint))
            except BackPressure:
                left_out += 1  # a reading may be left out, a tick may not

        @executor.item(every(1))
        async def show(ctx: Context) -> None:
            flame = "heating" if room.heating else "       "
            print(f"{room.celsius:5.1f} °C  {flame}  setpoint {room.setpoint:.1f} °C", flush=True)

        @executor.item(any_of(on_message(setpoints), on_deadline(setpoints, within=20)))
        async def follow(ctx: Context[Received[float]]) -> None:
            if isinstance(ctx.wake, Late):
                room.setpoint = FALLBACK
                print(f"no setpoint for 20 s: back to {FALLBACK} °C", flush=True)
            else:
                room.setpoint = ctx.message.value
                print(f"new setpoint from {ctx.message.topic}: {room.setpoint} °C", flush=True)

        @executor.item(every(4))
        async def publish_schedule(ctx: Context) -> None:
            await schedule.send(next(planned))

        try:
            await executor.run()
        finally:
            stats = executor.stats()["control"]
            latest = stats.lateness.maximum * 1e3 if stats.lateness else 0
            print(
                f"control loop: {stats.count} ticks, at most {latest:.0f} ms late, {stats.skipped} skipped,"
                f" {left_out} readings left out",
                flush=True,
            )


deployment = Deployment("thermostat", thermostat, [MqttConnector([READINGS, SCHEDULE, SETPOINTS])])

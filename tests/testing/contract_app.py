"""Deployments for `test_contract.py`, in a module of their own: in the split shape other processes import them."""

from __future__ import annotations

from functools import partial

import attrs
import trio

from taktora_trio import (
    BackPressure,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    Up,
)


@attrs.frozen
class Job:
    number: int


@attrs.frozen
class Report:
    count: int
    seconds: float = 0.0
    text: str = ""


ASKED = [Inbound(f"asked{qos}", Job, MqttRouting(f"asked/{qos}", qos=qos), max_metadata=200) for qos in (0, 1, 2)]
TOLD = [Outbound(f"told{qos}", Job, MqttRouting(f"told/{qos}", qos=qos), max_metadata=200) for qos in (0, 1, 2)]
TIME = Inbound("time", Job, MqttRouting("time", qos=1))
FILL = Inbound("fill", Job, MqttRouting("fill", qos=1))
STATE = Outbound("state", Job, MqttRouting("state", qos=1, retain=True), window=4)
REPORT = Outbound("report", Report, MqttRouting("report"))  # at QoS 0, which no slow acknowledgement holds up


async def app(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery, host.open_writer(STATE) as state, host.open_writer(REPORT) as report:
        for asked, told in zip(ASKED, TOLD, strict=True):
            nursery.start_soon(answer, host, asked, told)
        async with host.open_reader(TIME) as times, host.open_reader(FILL) as fills:

            async def time_each() -> None:
                async for received in times:
                    start = trio.current_time()
                    number = await state.send(received.value)
                    await state.wait_acknowledged(number)
                    await report.send(Report(1, trio.current_time() - start))

            nursery.start_soon(time_each)
            async for received in fills:
                sent = 0
                try:
                    while True:
                        state.send_nowait(received.value)
                        sent += 1
                except BackPressure:
                    await report.send(Report(sent, text=type(host.health()).__name__))


async def answer(host: ConnectorHost, asked: Inbound[Job], told: Outbound[Job]) -> None:
    async with host.open_reader(asked) as jobs, host.open_writer(told) as answers:
        async for received in jobs:
            await answers.send(
                Job(received.value.number + 1),
                metadata=received.metadata,
                correlation_id=received.header.correlation_id,
            )


options = MqttOptions(protocol="5")
answering = Deployment("answering", app, [MqttConnector([*ASKED, *TOLD, TIME, FILL, STATE, REPORT], options=options)])

# Two connectors: what comes from the one goes to the other.

MEASURED = Inbound("measured", Job, MqttRouting("plant/+/measured"))
FORWARDED = Outbound("forwarded", Report, MqttRouting("cloud/forwarded", qos=2))


async def forward(host: ConnectorHost) -> None:
    async with host.open_reader(MEASURED) as measured, host.open_writer(FORWARDED) as forwarded:
        async for received in measured:
            text = f"{received.topic}{' retained' if received.retained else ''}"
            await forwarded.send(Report(received.value.number, text=text))


forwarding = Deployment(
    "forwarding",
    forward,
    [
        MqttConnector([MEASURED], name="plant", options=MqttOptions(broker="mqtt://plant.example")),
        MqttConnector([FORWARDED], name="cloud", options=MqttOptions(broker="mqtt://cloud.example", persistent=True)),
    ],
)

# Apps that end, the first one after it has said what its operator has set.


@attrs.frozen
class Settings:
    prefix: str = "none"
    times: int = 1


async def end(host: ConnectorHost, *, fails: bool) -> None:
    await host.wait_for_health(Up)
    if not fails:
        async with host.open_writer(REPORT) as report:
            await report.send(Report(host.settings.times, text=host.settings.prefix))
    async with host.open_writer(STATE) as state, host.open_reader(TIME) as times:
        await state.send(Job((await times.receive()).value.number))
    if fails:
        raise ValueError("the sensor is broken")


ending = Deployment("ending", partial(end, fails=False), [MqttConnector([TIME, STATE, REPORT])], settings=Settings)
failing = Deployment("failing", partial(end, fails=True), [MqttConnector([TIME, STATE])])

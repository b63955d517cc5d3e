"""An app whose messages name their topics, for test_topics.py. It runs, unchanged, in both shapes."""

from __future__ import annotations

import os

import attrs
import trio

from taktora_trio import (
    CodecError,
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttRouting,
    Outbound,
)


@attrs.frozen
class Setpoint:
    unit: int
    celsius: float


@attrs.frozen
class State:
    unit: int
    celsius: float = 0.0
    problem: str = ""


@attrs.frozen
class Job:
    number: int
    answer_to: str


SETPOINTS = Inbound("setpoints", Setpoint, MqttRouting("plant/{unit}/setpoint", qos=1))
STATES = Outbound("states", State, MqttRouting("plant/{unit}/state", qos=1))
JOBS = Inbound("jobs", Job, MqttRouting("$share/workers/jobs/{number}", qos=1))
ANSWERS = Outbound("answers", Job, MqttRouting("answers/#", qos=1))


async def control(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_work, host)
        async with host.open_reader(SETPOINTS, on_error="raise") as setpoints, host.open_writer(STATES) as states:
            while True:
                try:
                    setpoint = (await setpoints.receive()).value
                except CodecError as exc:
                    await states.send(State(0, problem=exc.topic))
                else:
                    await states.send(State(setpoint.unit, setpoint.celsius))


async def _work(host: ConnectorHost) -> None:
    async with host.open_reader(JOBS) as jobs, host.open_writer(ANSWERS) as answers:
        async for job in jobs:
            await answers.send(job.value, topic=f"answers/{job.value.answer_to}/{os.getpid()}")


deployment = Deployment("topics", control, [MqttConnector([SETPOINTS, STATES, JOBS, ANSWERS])])

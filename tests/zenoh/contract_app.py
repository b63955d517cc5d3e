"""Deployments for `test_contract.py`, in a module of their own: in the split shape other processes import them."""

from __future__ import annotations

import attrs
import trio

from taktora_trio import (
    BackPressure,
    ConnectorHost,
    Deployment,
    Exchange,
    Inbound,
    Outbound,
    Request,
    RequestFailed,
    ZenohConnector,
    ZenohOptions,
    ZenohRouting,
)


@attrs.frozen
class Job:
    number: int


@attrs.frozen
class Report:
    count: int
    seconds: float = 0.0
    text: str = ""


def routing(key: str, *, acknowledged: bool = True, latched: bool = False) -> ZenohRouting:
    return ZenohRouting(key, acknowledged=acknowledged, latched=latched)


ASKED = [
    Inbound("asked0", Job, routing("asked/0", acknowledged=False), max_metadata=200),
    Inbound("asked1", Job, routing("asked/1"), max_metadata=200),
]
TOLD = [
    Outbound("told0", Job, routing("told/0", acknowledged=False), max_metadata=200),
    Outbound("told1", Job, routing("told/1"), max_metadata=200),
]
TIME = Inbound("time", Job, routing("time"))
FILL = Inbound("fill", Job, routing("fill"))
STATE = Outbound("state", Job, routing("state"), window=4)
REPORT = Outbound("report", Report, routing("report", acknowledged=False))  # which no slow acknowledgement holds up


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


answering = Deployment("answering", app, [ZenohConnector([*ASKED, *TOLD, TIME, FILL, STATE, REPORT])])

# Two connectors: what comes from the one goes to the other.

MEASURED = Inbound("measured", Job, routing("plant/*/measured", acknowledged=False, latched=True))
FORWARDED = Outbound("forwarded", Report, routing("cloud/forwarded"))


async def forward(host: ConnectorHost) -> None:
    async with host.open_reader(MEASURED) as measured, host.open_writer(FORWARDED) as forwarded:
        async for received in measured:
            text = f"{received.topic}{' retained' if received.retained else ''}"
            await forwarded.send(Report(received.value.number, text=text))


forwarding = Deployment(
    "forwarding",
    forward,
    [
        ZenohConnector([MEASURED], name="plant", options=ZenohOptions(connect="tcp/plant.example:7447")),
        ZenohConnector([FORWARDED], name="cloud", options=ZenohOptions(connect="tcp/cloud.example:7447")),
    ],
)

# Requests and replies.

SQUARE = Exchange("square", int, int, ZenohRouting("calculator/square"))
ASK = Inbound("ask", int, routing("ask"))
ANSWER = Outbound("answer", int, routing("answer"))


async def square(request: Request[int]) -> int:
    if request.value < 0:
        raise RequestFailed("no roots here")
    return request.value**2


async def calculate(host: ConnectorHost) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(host.serve, SQUARE, square)


async def ask(host: ConnectorHost) -> None:
    async with (
        host.open_requester(SQUARE) as calculator,
        host.open_reader(ASK) as reader,
        host.open_writer(ANSWER) as writer,
    ):
        async for received in reader:
            await writer.send(await calculator.request(received.value, timeout=20))


calculating = Deployment("calculating", calculate, [ZenohConnector(SQUARE.for_responder)])
asking = Deployment("asking", ask, [ZenohConnector([*SQUARE.for_requester, ASK, ANSWER])])

"""A fleet: 20 simulated machines make parts, and three inspectors divide the work of testing them.

    python -m examples.fleet mqtt://localhost --for 10

Each machine, each inspector and the office is a deployment of its own, as on 24 hosts. This program has all of them.
On a host of its own each runs by the command, under a client id that stays; and there may be more inspectors:

    taktora-trio run examples.fleet:inspector --broker mqtt://plant --client-id inspector-4

The broker has to know shared subscriptions: mosquitto does, the embedded one does not.
"""

import argparse
import itertools
import platform
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from taktora_trio import (
    ConnectorHost,
    Deployment,
    Inbound,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Outbound,
    Up,
    open_deployment,
)
from taktora_trio.executor import Context, Executor, every

MACHINES = [f"press-{number:02}" for number in range(1, 21)]
INSPECTORS = [f"inspector-{number}" for number in range(1, 4)]
HERE = platform.node()


@attrs.frozen
class Part:
    machine: str
    number: int
    weight: float


@attrs.frozen
class Verdict:
    machine: str
    number: int
    is_good: bool
    inspector: str


# A machine

MADE = Outbound("made", Part, MqttRouting("fleet/{machine}/part", qos=1))


async def make_parts(host: ConnectorHost, name: str = HERE) -> None:
    numbers, executor = itertools.count(1), Executor()
    async with host.open_writer(MADE) as made:

        @executor.item(every(0.5))
        async def press(ctx: Context) -> None:
            await made.send(Part(name, next(numbers), random.gauss(100, 2)))

        await executor.run()


# An inspector. The broker gives each part to one of them, who has eight in hand at most: others can't test those.

TO_TEST = Inbound("to-test", Part, MqttRouting("$share/inspectors/fleet/{machine}/part", qos=1), window=8)
TESTED = Outbound("tested", Verdict, MqttRouting("fleet/{machine}/verdict", qos=1))


async def inspect_parts(host: ConnectorHost, name: str = HERE) -> None:
    async with host.open_reader(TO_TEST) as parts, host.open_writer(TESTED) as tested:
        async for received in parts:  # only when it asks for the next one, the one before is acknowledged
            part = received.value
            await trio.sleep(0.01)  # the test
            await tested.send(Verdict(part.machine, part.number, 95 < part.weight < 105, name))


# The office

VERDICTS = Inbound("verdicts", Verdict, MqttRouting("fleet/{machine}/verdict", qos=1))


async def report(host: ConnectorHost, name: str = HERE) -> None:
    by_inspector, bad, machines = Counter[str](), 0, set[str]()
    shown = trio.current_time()
    async with host.open_reader(VERDICTS) as verdicts:
        async for received in verdicts:
            verdict = received.value
            by_inspector[verdict.inspector] += 1
            machines.add(verdict.machine)
            bad += not verdict.is_good
            if trio.current_time() >= shown + 1:
                shown = trio.current_time()
                shares = ", ".join(f"{count} by {who}" for who, count in sorted(by_inspector.items()))
                print(f"{by_inspector.total()} parts of {len(machines)} machines, {bad} bad: {shares}", flush=True)


FIVE = MqttOptions(protocol="5", receive_maximum=8)
machine = Deployment("machine", make_parts, [MqttConnector([MADE], options=FIVE)])
inspector = Deployment("inspector", inspect_parts, [MqttConnector([TO_TEST, TESTED], options=FIVE)])
office = Deployment("office", report, [MqttConnector([VERDICTS], options=MqttOptions(protocol="5"))])


# All of them in one program

App = Callable[[ConnectorHost, str], Awaitable[None]]


async def run_one(
    deployment: Deployment, app: App, name: str, prefix: str, broker: str, *, task_status: trio.TaskStatus[None]
) -> None:
    known_as = f"{prefix}-{name}"  # in shared memory, and to the broker
    settings = {"broker": broker, "client-id": known_as}
    async with open_deployment(deployment, domain=known_as, settings=settings) as host:
        await host.wait_for_health(Up)
        task_status.started()
        await app(host, name)


async def main(broker: str, seconds: float, prefix: str) -> None:
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            start = partial(nursery.start, run_one)
            await start(office, report, "office", prefix, broker)
            for name in INSPECTORS:
                await start(inspector, inspect_parts, name, prefix, broker)
            for name in MACHINES:
                await start(machine, make_parts, name, prefix, broker)
            print(f"{len(MACHINES)} machines and {len(INSPECTORS)} inspectors are at work", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fleet of simulated machines, in one program.")
    parser.add_argument("broker", metavar="URL", help="a broker that knows shared subscriptions, as mqtt://localhost")
    parser.add_argument("--for", type=float, default=float("inf"), dest="seconds", help="stop after so many seconds")
    parser.add_argument("--prefix", default="fleet", help="what the names of all of them begin with")
    given = parser.parse_args()
    try:
        trio.run(main, given.broker, given.seconds, given.prefix)
    except* KeyboardInterrupt:
        pass

"""Apps that ask and answer, for test_asking.py and test_asking_under_fire.py. Each runs, unchanged, in both shapes.

A handler writes each request that it is called for into the file `LEDGER` names, with its process id: who counts there
knows how often each was begun.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import attrs
import trio

from taktora_trio import (
    Backoff,
    ConnectorError,
    ConnectorHost,
    Deployment,
    Exchange,
    MqttConnector,
    MqttOptions,
    MqttRouting,
    Request,
    RequestFailed,
    RestartPolicy,
    Up,
)

LEDGER, PLAN = "ASKING_LEDGER", "ASKING_PLAN"
MQTT_5 = MqttOptions(protocol="5")
POLICY = RestartPolicy(restart="always", backoff=Backoff(initial=0.02, maximum=0.1), intensity=100_000)


@attrs.frozen
class Plan:
    """What the requester does, as JSON in the environment."""

    calls: int
    at_once: int
    timeout: float
    hurry: float
    """The timeout of every tenth call."""
    work: float = 0.0
    """Seconds that each takes."""


@attrs.frozen
class Work:
    number: int
    seconds: float = 0.0


@attrs.frozen
class Done:
    number: int
    pid: int
    redelivered: bool


WORK = Exchange("work", Work, Done, MqttRouting("asking/work", qos=1), window=200)
SHARED = Exchange("work", Work, Done, MqttRouting("asking/work", qos=1), window=200, share="workers")


def begun(ledger: Path) -> Counter[int]:
    """Return how often the work at each number was begun."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Counter(int(line.split()[0]) for line in lines)


def asked(line: str) -> Counter[str]:
    """Return what `ask` has told in this line of a run's output, which is a log entry in the split shape."""
    told = json.loads(line)["message"] if line.startswith("{") else line
    return Counter(json.loads(told.removeprefix("asked ")))


async def _work(request: Request[Work]) -> Done:
    work = request.value
    note(f"{work.number} {os.getpid()} {request.redelivered}")
    await trio.sleep(work.seconds)
    if work.number < 0:
        raise RequestFailed(f"there is no number {work.number}")
    return Done(work.number, os.getpid(), request.redelivered)


def note(line: str) -> None:
    """By one write, so that it is there whatever happens next."""
    if LEDGER in os.environ:
        ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(ledger, f"{line}\n".encode())
        finally:
            os.close(ledger)


async def respond(host: ConnectorHost, exchange: Exchange[Work, Done] = WORK) -> None:
    await host.serve(exchange, _work, concurrency=100)


async def respond_shared(host: ConnectorHost) -> None:
    await host.serve(SHARED, _work)


async def ask(host: ConnectorHost, exchange: Exchange[Work, Done] = WORK) -> None:
    """Ask as the plan says, tell what came of it in one line, and stay."""
    plan = Plan(**json.loads(os.environ[PLAN]))
    outcomes: Counter[str] = Counter()
    numbers = iter(range(plan.calls))

    async def one() -> None:
        for number in numbers:
            in_hurry = number % 10 == 0
            try:
                done = await asking.request(Work(number, plan.work), timeout=plan.hurry if in_hurry else plan.timeout)
                outcomes["answered" if done.number == number else "wrong"] += 1
                note(f"{number} answered")
            except ConnectorError as exc:
                outcomes[f"{type(exc).__name__}{' in a hurry' * in_hurry}"] += 1

    async with host.open_requester(exchange, limit=plan.at_once) as asking:
        await host.wait_for_health(Up)
        async with trio.open_nursery() as nursery:
            for _ in range(plan.at_once):
                nursery.start_soon(one)
        counts = {**outcomes, **attrs.asdict(asking.statistics())}
        print(f"asked {json.dumps(counts)}", flush=True)  # noqa: T201 - the test reads it
        await trio.sleep_forever()


_ASKS = MqttConnector(WORK.for_requester, options=MQTT_5)
_ANSWERS = MqttConnector(WORK.for_responder, options=MQTT_5)
requester = Deployment("requester", ask, [_ASKS], gateway_policy=POLICY, plugin_policy=POLICY)
responder = Deployment("responder", respond, [_ANSWERS], gateway_policy=POLICY, plugin_policy=POLICY)
shared = Deployment("shared", respond_shared, [MqttConnector(SHARED.for_responder, options=MQTT_5)])

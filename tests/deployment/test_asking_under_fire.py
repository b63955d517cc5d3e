"""10,000 requests while the gateways of both sides are killed: each is answered once, or fails at its deadline."""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections import Counter
from pathlib import Path

import attrs
import pytest
import trio

from taktora_trio.transport.domain import Domain
from tests.command import Command, open_run
from tests.deployment.asking_apps import LEDGER, PLAN, Plan, asked, begun
from tests.mosquitto import Mosquitto

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(120)]

APPS = "tests.deployment.asking_apps"
CALLS = 10_000
KILLS = 6
EVERY_CALL = json.dumps(attrs.asdict(Plan(CALLS, at_once=100, timeout=60, hurry=0.5)))


async def kill_gateways(run: Command, times: int, chance: random.Random) -> None:
    """At random moments of their lives: most while they carry messages, some from their very start on."""
    for incarnation in range(1, times + 1):
        await run.until_event("process-started", half="gateway", count=incarnation)
        if chance.random() < 0.75:
            await run.until_event("connected", pid=run.half("gateway"))
        await trio.sleep(chance.uniform(0, 0.4))
        run.signal(signal.SIGKILL, run.half("gateway"))
    await run.until_event("process-started", half="gateway", count=times + 1)


async def until_begun(ledger: Path, count: int) -> None:
    with trio.fail_after(40):
        while begun(ledger).total() < count:  # noqa: ASYNC110 - a file of another process
            await trio.sleep(0.01)


async def ask_under_fire(responder: Command, requester: Command, ledger: Path, answers: Path) -> None:
    """Kill the gateways of both while one asks the other, then stop both; and look at what became of each call."""
    chance = random.Random(50)
    async with trio.open_nursery() as nursery:
        for run in (responder, requester):
            nursery.start_soon(kill_gateways, run, KILLS, chance)
        line = await requester.until_printed("asked ", 90)
    for run in (responder, requester):
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    _check_each(asked(line), ledger, answers)


def _check_each(counts: Counter[str], ledger: Path, answers: Path) -> None:
    print(f"{dict(counts)}")  # noqa: T201 - shown with -s
    times = begun(ledger)
    answered = Counter(int(line.split()[0]) for line in answers.read_text().splitlines())
    assert counts["answered"] + counts["RequestTimeout in a hurry"] == CALLS, counts
    assert counts["requests"] == counts["answered"] + counts["timed_out"] == CALLS
    assert len(answered) == counts["answered"]
    assert set(answered.values()) == {1}
    assert set(answered) <= set(times)
    assert set(times.values()) == {1}, "no request was carried out twice"


async def test_each_of_10_000_calls_is_answered_once_or_fails_at_its_deadline(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    ledger, answers, other = tmp_path / "begun", tmp_path / "answered", Domain(f"test-{uuid.uuid4().hex[:12]}")
    async with open_run(f"{APPS}:responder", "split", broker, domain, env={LEDGER: str(ledger)}) as responder:
        await responder.until_event("health-up")  # it is subscribed: before, the broker keeps nothing for it
        asking = {LEDGER: str(answers), PLAN: EVERY_CALL}
        async with open_run(f"{APPS}:requester", "split", broker, other, env=asking) as requester:
            await ask_under_fire(responder, requester, ledger, answers)


async def test_the_app_that_answers_is_killed_and_only_what_is_marked_is_begun_again(
    broker: Mosquitto, domain: Domain, tmp_path: Path
) -> None:
    ledger, other = tmp_path / "begun", Domain(f"test-{uuid.uuid4().hex[:12]}")
    plan = json.dumps(attrs.asdict(Plan(2000, at_once=50, timeout=60, hurry=60, work=0.1)))
    async with open_run(f"{APPS}:responder", "split", broker, domain, env={LEDGER: str(ledger)}) as responder:
        await responder.until_event("health-up")
        async with open_run(f"{APPS}:requester", "split", broker, other, env={PLAN: plan}) as requester:
            for incarnation in range(1, 5):
                await responder.until_event("process-started", half="plugin", count=incarnation)
                await until_begun(ledger, 300 * incarnation)
                responder.signal(signal.SIGKILL, responder.half("plugin"))
            line = await requester.until_printed("asked ", 60)
            for run in (responder, requester):
                run.signal(signal.SIGTERM)
                assert await run.wait(10) == 0
    counts = asked(line)
    print(f"{dict(counts)}")  # noqa: T201 - shown with -s
    assert counts["answered"] == 2000, counts
    begins = [line.split() for line in ledger.read_text().splitlines()]
    unmarked = Counter(int(number) for number, _, marked in begins if marked == "False")
    assert set(unmarked.values()) == {1}, "none was begun twice without its handler being told"
    assert {int(number) for number, _, _ in begins} == set(range(2000))
    assert len(begins) > 2000, "it was killed at its work"

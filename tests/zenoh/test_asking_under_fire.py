"""10,000 requests over Zenoh while the gateways of both sides are killed: each is answered once, or fails in time."""

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

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.deployment.asking_apps import LEDGER, PLAN, Plan, asked, begun
from tests.deployment.test_asking_under_fire import kill_gateways

pytestmark = [pytest.mark.chaos, pytest.mark.zenoh, pytest.mark.timeout(120)]

APPS = "tests.zenoh.asking_apps"
CALLS = 10_000
KILLS = 6


async def test_each_of_10_000_calls_is_answered_once_or_fails_at_its_deadline(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    ledger, answers, other = tmp_path / "begun", tmp_path / "answered", Domain(f"test-{uuid.uuid4().hex[:12]}")
    plan = json.dumps(attrs.asdict(Plan(CALLS, at_once=100, timeout=60, hurry=0.5)))
    options = ("--mode", "split", "--connect", router.endpoint, "--domain")
    env = {LEDGER: str(ledger)}
    async with open_command("run", f"{APPS}:responder", *options, domain.name, env=env) as responder:
        await responder.until_event("health-up")
        env = {LEDGER: str(answers), PLAN: plan}
        async with open_command("run", f"{APPS}:requester", *options, other.name, env=env) as requester:
            chance = random.Random(50)
            async with trio.open_nursery() as nursery:
                for run in (responder, requester):
                    nursery.start_soon(kill_gateways, run, KILLS, chance)
                line = await requester.until_printed("asked ", 90)
            for run in (responder, requester):
                run.signal(signal.SIGTERM)
                assert await run.wait(10) == 0
    counts = asked(line)
    print(f"{dict(counts)}")  # noqa: T201 - shown with -s
    times = begun(ledger)
    answered = Counter(int(line.split()[0]) for line in answers.read_text().splitlines())
    assert counts["answered"] + counts["RequestTimeout in a hurry"] == CALLS, counts
    assert counts["requests"] == counts["answered"] + counts["timed_out"] == CALLS
    assert len(answered) == counts["answered"]
    assert set(answered.values()) == {1}
    assert set(answered) <= set(times)
    assert set(times.values()) == {1}, "no request was carried out twice"

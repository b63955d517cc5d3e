"""10,000 requests over Zenoh while the gateways of both sides are killed: each is answered once, or fails in time."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.deployment.asking_apps import LEDGER, PLAN
from tests.deployment.test_asking_under_fire import EVERY_CALL, ask_under_fire

pytestmark = [pytest.mark.chaos, pytest.mark.zenoh, pytest.mark.timeout(120)]

APPS = "tests.zenoh.asking_apps"


async def test_each_of_10_000_calls_is_answered_once_or_fails_at_its_deadline(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    ledger, answers, other = tmp_path / "begun", tmp_path / "answered", Domain(f"test-{uuid.uuid4().hex[:12]}")
    options = ("--mode", "split", "--connect", router.endpoint, "--domain")
    answering, asking = {LEDGER: str(ledger)}, {LEDGER: str(answers), PLAN: EVERY_CALL}
    async with (
        open_command("run", f"{APPS}:responder", *options, domain.name, env=answering) as responder,
        open_command("run", f"{APPS}:requester", *options, other.name, env=asking) as requester,
    ):
        await ask_under_fire(responder, requester, ledger, answers)

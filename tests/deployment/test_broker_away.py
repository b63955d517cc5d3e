"""The broker is away, and the plugin is killed: whatever its `send` has returned for is in the gateway."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from taktora_trio.transport.domain import Domain
from tests.brokers.sessions import SESSIONS
from tests.deployment.delivery import Rig, open_rig
from tests.deployment.delivery_apps import LEVELS
from tests.deployment.delivery_table import outcome_of

LIVES, EACH = 2, 30


def _has_opened(rig: Rig, before: int) -> bool:
    return rig.counts["opened"] >= before + len(LEVELS)


@pytest.mark.parametrize("mode", ["split"])
async def test_plugin_killed_again_and_again_without_a_broker(mode: str, tmp_path: Path, domain: Domain) -> None:
    """Each of its lives sends something, and is killed at once. What they send is more than a window."""
    async with open_rig(mode, SESSIONS[0], tmp_path, domain) as rig, rig.running() as run:
        rig.tap.refuses = True
        rig.tap.cut()
        await run.until_event("connection-lost")
        for life in range(LIVES):
            before = rig.counts["opened"]
            await rig.send(EACH * life, EACH * (life + 1))
            run.signal(signal.SIGKILL, run.half("plugin"))
            await rig.until(partial(_has_opened, rig, before))
        await rig.send(EACH * LIVES, EACH * LIVES + 1)
        rig.mend()
        await rig.until_outside_heard(EACH * LIVES)
        outside = [[int(payload) for payload in rig.listener.heard[f"delivery/out/{qos}"]] for qos in LEVELS]
    assert [outcome_of(came, range(EACH * LIVES + 1)) for came in outside] == ["once"] * len(LEVELS)
    assert outside == [sorted(came) for came in outside]

"""A whole run in the split shape: what others see of it while its gateway is killed, hangs and is started again."""

from __future__ import annotations

import math
import signal

import pytest
import trio
import zenoh

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.patience import PATIENCE
from tests.zenoh.outsider import Outsider, open_outsider

pytestmark = pytest.mark.zenoh
TARGET = "tests.zenoh.lasting_apps:deployment"


def watch_presence(outsider: Outsider) -> trio.MemoryReceiveChannel[bool]:
    """Be told when a gateway comes and goes, by the library's own means."""
    sending, receiving = trio.open_memory_channel[bool](math.inf)
    token = trio.lowlevel.current_trio_token()

    def came(sample: zenoh.Sample) -> None:
        token.run_sync_soon(sending.send_nowait, sample.kind == zenoh.SampleKind.PUT)

    outsider.session.liveliness().declare_subscriber("taktora/*/presence", came, history=True)
    return receiving


async def state_of(outsider: Outsider) -> list[bytes]:
    return await outsider.ask("test/state", b"")


async def test_a_killed_gateway_is_gone_and_its_successor_has_the_values(router: ZenohRouter, domain: Domain) -> None:
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint, "--lease", "1")
    async with open_outsider(router.endpoint) as outsider, open_command("run", TARGET, *options) as run:
        there = watch_presence(outsider)
        with trio.fail_after(2 * PATIENCE):
            assert await there.receive() is True
            while await state_of(outsider) != [b"1"]:
                await outsider.put("test/request", b"1")
            run.signal(signal.SIGKILL, run.half("gateway"))
            assert await there.receive() is False
            assert await there.receive() is True
            assert await state_of(outsider) == [b"1"]  # though the app has sent it to another gateway
            gateway = run.half("gateway")
            run.signal(signal.SIGSTOP, gateway)
            assert await there.receive() is False
            run.signal(signal.SIGCONT, gateway)
            assert await there.receive() is True
            run.signal(signal.SIGTERM)
            assert await there.receive() is False
            assert await run.wait() == 0
            assert await state_of(outsider) == []

"""A whole run in the split shape: what others see of it while its gateway is killed, hangs and is started again."""

from __future__ import annotations

import math
import signal

import pytest
import trio
import zenoh

from taktora_trio import ConfigError, Connecting
from taktora_trio.testing import OpenApp
from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.patience import PATIENCE
from tests.zenoh.outsider import Outsider, open_outsider

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


@pytest.mark.zenoh
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
            assert not [line for line in run.output if "crashed" in line]
            assert await state_of(outsider) == []


@pytest.mark.taktora_shape("memory", pytest.param("in-process", marks=pytest.mark.zenoh))
async def test_in_the_tests_of_an_app_others_keep_values_and_have_tokens(open_app: OpenApp) -> None:
    async with open_app("tests.zenoh.lasting_apps:telling") as app:

        async def seen() -> object:
            return (await app.expect("test/seen")).value

        await app.publish("test/7/alive", True)
        assert await seen() == "test/7/alive True"
        async with app.unreachable():
            await app.wait_for_health(Connecting)
            await app.publish("test/wanted", "open", retain=True)
            with pytest.raises(ConfigError, match="is latched"):
                await app.publish("test/plain", "open", retain=True)
        assert await seen() == "open True"  # kept for the connector, which was away
        await app.publish("test/7/alive", False)
        assert await seen() == "test/7/alive False"
        with pytest.raises(ConfigError, match="neither"):
            await app.publish("test/7/alive", b"gone")
    assert len(app.sent()) == 3

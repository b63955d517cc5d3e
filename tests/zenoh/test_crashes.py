"""A gateway whose native code dies: its process is gone, and the app sees `Down` with the signal, and goes on."""

from __future__ import annotations

import signal

import psutil
import pytest
import trio

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.patience import PATIENCE
from tests.zenoh.outsider import Outsider, open_outsider

pytestmark = pytest.mark.zenoh
TARGET = "tests.zenoh.crashing_apps:deployment"


async def until_echoed(outsider: Outsider, replies: trio.MemoryReceiveChannel[tuple[str, bytes]], text: bytes) -> None:
    """Put it again until it comes back: at most once, nobody keeps what is put while the gateway is not there."""
    with trio.fail_after(PATIENCE):
        while True:
            await outsider.put("test/request", text)
            with trio.move_on_after(0.2):
                while (await replies.receive())[1] != text:
                    pass
                return


async def test_the_app_sees_why_the_gateways_process_is_gone_and_outlives_it(
    router: ZenohRouter, domain: Domain
) -> None:
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint)
    async with open_outsider(router.endpoint) as outsider, open_command("run", TARGET, *options) as run:
        replies = outsider.subscribe("test/reply")
        await run.until_event("health-up")
        plugin = psutil.Process(run.half("plugin"))
        deaths = {"null": "SIGSEGV", "abort": "SIGABRT", "raise": "SIGSEGV", "outside": "SIGSEGV"}
        for count, (how, signal_name) in enumerate(deaths.items(), 1):
            await until_echoed(outsider, replies, how.encode())
            if how == "outside":
                run.signal(signal.SIGSEGV, run.half("gateway"))
            else:
                await outsider.put(f"test/die/{how}", b"")
            down = await run.until_event("health-down", count=count, process="plugin")
            assert f"killed by {signal_name}" in down["message"], how
            await run.until_event("health-up", count=count + 1, process="plugin")
        await until_echoed(outsider, replies, b"last")
        assert run.half("plugin") == plugin.pid
        assert plugin.is_running()
        assert len(run.events("process-started", half="gateway")) == 5
        told = [line for line in run.output if "health Down" in line and "killed by SIG" in line]
        assert [name in line for name, line in zip(deaths.values(), told, strict=True)] == [True] * 4
        assert run.events("native-inside") == []
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0


async def test_in_one_process_it_takes_the_app_along(router: ZenohRouter, domain: Domain) -> None:
    options = ("--mode", "in-process", "--domain", domain.name, "--connect", router.endpoint)
    async with open_outsider(router.endpoint) as outsider:
        async with open_command("run", TARGET, *options) as run:
            await run.until_event("health-up")
            assert len(run.events("native-inside", "a crash of it ends the app, too", connector="zenoh")) == 1
            await outsider.put("test/die/null", b"")
            assert await run.wait() == -signal.SIGSEGV
        async with open_command("run", TARGET, *options) as again:  # and what it has left is no hindrance
            await again.until_event("health-up")
            again.signal(signal.SIGTERM)
            assert await again.wait() == 0


async def test_a_program_ends_though_its_gateways_thread_is_stuck_with_a_session_open(
    router: ZenohRouter, domain: Domain
) -> None:
    """The library calls back in threads that Python would wait for at its end, as long as the session is open."""
    options = ("--mode", "in-process", "--domain", domain.name, "--connect", router.endpoint)
    async with open_command("run", "tests.zenoh.crashing_apps:in_a_thread", *options) as run:
        await run.until_event("gateway-thread-hangs")
        run.signal(signal.SIGTERM)
        await run.until_event("gateway-thread-abandoned")
        assert await run.wait() == 0

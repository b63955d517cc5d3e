"""Acknowledged channels lose nothing, whatever ends: the gateway by its native code, the router, all of the run."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio

from taktora_trio.testing.zenoh.router import ZenohRouter, open_router
from taktora_trio.transport.domain import Domain
from tests.command import open_command
from tests.deployment.test_dead_letters import letters
from tests.patience import PATIENCE
from tests.recorder.test_flight import read as read_flight
from tests.zenoh.lossless_apps import COUNT, POISON
from tests.zenoh.outsider import Outsider, open_outsider

pytestmark = pytest.mark.zenoh
APPS = "tests.zenoh.lossless_apps"


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[ZenohRouter]:
    """A router that gives up a silent node after a second."""
    async with open_router(tmp_path, lease=1.0) as running:
        yield running


async def order(outsider: Outsider, orders: Sequence[bytes]) -> None:
    """Give each order until somebody says that it is done."""
    for one in orders:
        while not await outsider.ask("test/orders", one):  # noqa: ASYNC110 - nobody is there for it now
            await trio.sleep(0.01)


async def taken(done: trio.MemoryReceiveChannel[tuple[str, bytes]], orders: Sequence[bytes]) -> list[bytes]:
    """Return what has come, when all orders are among it."""
    came: list[bytes] = []
    with trio.fail_after(PATIENCE):
        while set(orders) - set(came):
            came.append((await done.receive())[1])
    return came


@pytest.mark.chaos
async def test_while_the_gateway_dies_of_native_code_and_is_stopped_and_the_router_is_killed(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint)
    more = ("--gateway-policy", "watchdog=1", "--reconnect", "initial=0.01", "--flight-recorder", "messages")
    state = {"XDG_STATE_HOME": str(tmp_path)}
    orders = [b"%d" % number for number in range(400)]
    async with open_command("run", f"{APPS}:obeying", *options, *more, env=state) as run:
        await run.until_event("health-up")

        async with open_outsider(router.endpoint) as outsider:

            async def crash() -> None:
                run.signal(signal.SIGSEGV, run.half("gateway"))

            async def follow_a_null_pointer() -> None:
                await outsider.put("test/die/null", b"")

            async def freeze() -> None:
                run.signal(signal.SIGSTOP, run.half("gateway"))
                await run.until_event("process-hangs", half="gateway")

            async def lose_the_router() -> None:
                await router.stop(signal.SIGKILL)
                await router.start()

            faults: list[Callable[[], Awaitable[None]]] = [follow_a_null_pointer, freeze, crash, lose_the_router]
            done = outsider.answer("test/done")
            came: list[bytes] = []
            for index, fault in enumerate(faults):
                ups = len(run.events("health-up", process="plugin"))
                part = orders[100 * index : 100 * (index + 1)]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(order, outsider, part)
                    came += await taken(done, part[:50])
                    await fault()
                    came += await taken(done, part[50:])
                await run.until_event("health-up", count=ups + 1, process="plugin")
        firsts = list(dict.fromkeys(came))
        assert firsts == orders, "in order, as far as the first of each goes"
        await run.until_event("flight-written", "killed by SIGSEGV")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0
    recordings = list(tmp_path.glob("taktora-trio/deployments/*/flight/*"))  # noqa: ASYNC240 - nothing else runs
    # What the killed gateway has received is freed once its successor is there, perhaps before the file is written.
    assert "zenoh/out/done" in {topic for file in recordings for topic in read_flight(file)}


async def test_while_each_half_of_two_units_is_replaced_and_the_gateway_reloads(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    config = tmp_path / "taktora.toml"
    config.write_text(f'[connector.zenoh]\nconnect = "{router.endpoint}"\n')
    options = (f"{APPS}:obeying", "--domain", domain.name, "--config", str(config))
    orders = [b"%d" % number for number in range(300)]
    async with (
        open_outsider(router.endpoint) as outsider,
        open_command("plugin", *options) as first_plugin,
        open_command("gateway", *options) as first_gateway,
        trio.open_nursery() as nursery,
    ):
        done = outsider.answer("test/done")
        await first_plugin.until_event("health-up")
        nursery.start_soon(order, outsider, orders)
        came = await taken(done, orders[:30])
        first_gateway.signal(signal.SIGTERM)
        assert await first_gateway.wait() == 0
        async with open_command("gateway", *options) as gateway:
            came += await taken(done, orders[30:100])
            first_plugin.signal(signal.SIGTERM)
            assert await first_plugin.wait() == 0
            async with open_command("plugin", *options) as plugin:
                came += await taken(done, orders[100:200])
                config.write_text(f'[connector.zenoh]\nconnect = "{router.endpoint}"\nlease = 3.5\n')
                gateway.signal(signal.SIGHUP)
                await gateway.until_event("reload-done")
                came += await taken(done, orders[200:])
                for half in (plugin, gateway):
                    half.signal(signal.SIGTERM)
                    assert await half.wait() == 0
    assert list(dict.fromkeys(came)) == orders


async def test_the_store_keeps_what_is_sent_without_a_router_and_the_next_run_sends_it(
    router: ZenohRouter, domain: Domain, tmp_path: Path
) -> None:
    await router.stop(signal.SIGKILL)
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint, "--await-peer")
    kept = ("--store", str(tmp_path / "store"))
    async with open_command("run", f"{APPS}:counting", *options, *kept) as run:
        await run.until_printed("all is stored")
        assert run.events("connected") == []
        run.signal(signal.SIGKILL)
        await run.wait()
    await router.start()
    async with open_outsider(router.endpoint) as outsider:
        numbers = outsider.answer("test/numbers")
        async with open_command("run", f"{APPS}:counting", *options, *kept) as again:
            await again.until_printed("all is acknowledged")
            assert await again.wait() == 0
        came = [payload async for _, payload in _of(numbers, 2 * COUNT)]
    assert came == [b"%d" % number for number in range(COUNT)] * 2, "those of the run that was killed come first"


async def _of(channel: trio.MemoryReceiveChannel[tuple[str, bytes]], count: int) -> AsyncIterator[tuple[str, bytes]]:
    with trio.fail_after(PATIENCE):
        for _ in range(count):
            yield await channel.receive()


async def test_what_the_app_cannot_get_done_with_is_a_dead_letter_and_acknowledged_then(
    router: ZenohRouter, domain: Domain
) -> None:
    options = ("--mode", "split", "--domain", domain.name, "--connect", router.endpoint)
    async with (
        open_outsider(router.endpoint) as outsider,
        open_command("run", f"{APPS}:obeying", *options) as run,
    ):
        done = outsider.answer("test/done")
        await run.until_event("health-up")
        orders = [b"before", POISON, b"behind"]
        with trio.fail_after(PATIENCE):
            await order(outsider, orders)
        assert await taken(done, [b"before", b"behind"]) == [b"before", b"behind"]
        await run.until_event("dead-letter", channel="orders")
        assert "ValueError: this one can't be done" in letters(domain, "list")
        run.signal(signal.SIGTERM)
        assert await run.wait() == 0

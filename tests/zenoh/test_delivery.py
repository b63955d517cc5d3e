"""What can be lost, and what can come twice, over Zenoh: each row of the table in docs/zenoh-delivery.md.

A cell that says `lost` is as exact as one that says `once`: each test provokes the worst that its fault can do. One
that says `twice`, or `at times lost`, allows for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio

from taktora_trio.testing.zenoh.router import ZenohRouter
from taktora_trio.transport.domain import Domain
from tests.command import MODES
from tests.deployment.delivery_table import Direction, Outcome, check_outcomes, check_table, read_table
from tests.zenoh.delivery import PAGE, Rig, open_rig
from tests.zenoh.delivery_apps import ACKNOWLEDGED, LEVELS, WINDOW

pytestmark = [pytest.mark.chaos, pytest.mark.zenoh]
in_both_shapes = pytest.mark.parametrize("mode", MODES)
only_split = pytest.mark.parametrize("mode", ["split"])


@pytest.fixture
async def rig(mode: str, router: ZenohRouter, tmp_path: Path, domain: Domain) -> AsyncIterator[Rig]:
    async with open_rig(mode, router, tmp_path, domain, store=tmp_path / "store") as ready:
        yield ready


@pytest.fixture
async def rig_without_store(mode: str, router: ZenohRouter, tmp_path: Path, domain: Domain) -> AsyncIterator[Rig]:
    async with open_rig(mode, router, tmp_path, domain) as ready:
        yield ready


def check(request: pytest.FixtureRequest, rig: Rig, outcomes: dict[Direction, list[Outcome]]) -> None:
    """Compare with what the table says of the test that calls this."""
    allowed = {"twice": {"once", "twice"}, "at times lost": {"once", "lost"}}
    check_outcomes(read_table(PAGE), request.node.originalname, rig.mode, outcomes, allowed)


@in_both_shapes
async def test_connection_cut(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        rig.network.cut()
        await _afterwards(rig, since)
        check(request, rig, rig.outcomes(range(50)))


@in_both_shapes
async def test_router_restarted(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        await rig.router.stop()
        rig.network.cut()
        await rig.router.start()
        await _afterwards(rig, since)
        check(request, rig, rig.outcomes(range(50)))


@only_split
async def test_gateway_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        run.signal(signal.SIGKILL, run.half("gateway"))
        await _afterwards(rig, since)
        check(request, rig, rig.outcomes(range(50)))


@in_both_shapes
async def test_gateway_crashes(rig: Rig, request: pytest.FixtureRequest) -> None:
    """By an exception."""
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        run.signal(signal.SIGUSR2, run.half("gateway") if rig.mode == "split" else run.pid)
        await run.until_logged("crash on purpose")
        await _afterwards(rig, since)
        check(request, rig, rig.outcomes(range(50)))


async def _afterwards(rig: Rig, since: int) -> None:
    """Numbers 30 to 39 while there is no connection, and 40 to 49 on the next one."""
    await rig.outside.say(30, 40)
    await rig.send(30, 40)
    rig.mend()
    await rig.until_connected_again(since)
    await rig.outside.until_acknowledged()
    await rig.outside.until_heard(39, [ACKNOWLEDGED])
    await rig.exchange(40, 50)


@only_split
async def test_gateway_stopped(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Politely, by SIGTERM to it alone, in the middle of traffic; its supervisor starts the next one."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.send(10, 30)
        since = len(run.log)
        rig.network.is_down = True  # so that it is away for long enough
        run.signal(signal.SIGTERM, run.half("gateway"))
        await run.until_event("restarting", "(exit code 0)", half="gateway")
        await _afterwards(rig, since)
        check(request, rig, rig.outcomes([*range(10), *range(30, 50)], sent=range(50)))


@in_both_shapes
async def test_everything_stopped(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Politely, with messages in shared memory that the app has not read; then started again."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.pause()
        await rig.outside.say(10, 20)
        await rig.send(10, 30, until_stored=True)
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    await rig.outside.say(30, 40)
    async with rig.running():
        await rig.outside.until_acknowledged()
        await rig.exchange(40, 50)
        check(request, rig, rig.outcomes([*range(20), *range(30, 50)], sent=[*range(30), *range(40, 50)]))


@only_split
async def test_plugin_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    """While it has one message in hand and others wait for it, and its gateway has not taken what it sent last."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.hold()
        await rig.outside.say(10, 20)
        await rig.until_app_heard(10)
        os.kill(run.half("gateway"), signal.SIGSTOP)
        try:
            await rig.send(10, 20)
            before = rig.counts["opened"]
            run.signal(signal.SIGKILL, run.half("plugin"))
            await rig.until(lambda: rig.counts["opened"] >= before + len(LEVELS))  # by the next one
        finally:
            os.kill(run.half("gateway"), signal.SIGCONT)
        await rig.exchange(20, 30)
        check(request, rig, rig.outcomes(range(30)))


@in_both_shapes
async def test_everything_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way(the_app_too=True)
        tree = run.tree()
        for process in tree:
            os.kill(process.pid, signal.SIGSTOP)  # so that none can clean up after another
        for process in tree:
            os.kill(process.pid, signal.SIGKILL)
        await run.wait()
    rig.mend()
    await rig.outside.say(30, 40)
    async with rig.running():
        await rig.outside.until_acknowledged()
        await rig.exchange(40, 50)
        check(request, rig, rig.outcomes(range(50), sent=[*range(30), *range(40, 50)]))


@in_both_shapes
async def test_everything_paused(rig: Rig, request: pytest.FixtureRequest) -> None:
    """By SIGSTOP, for so long that the connection has ended; then it all goes on."""
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        tree = run.tree()
        for process in tree:
            os.kill(process.pid, signal.SIGSTOP)
        rig.network.cut()
        await rig.outside.say(30, 40)
        rig.mend()
        for process in reversed(tree):
            os.kill(process.pid, signal.SIGCONT)
        await rig.until_connected_again(since)
        await rig.send(30, 40)
        await rig.outside.until_acknowledged()
        await rig.exchange(40, 50)
        started = [entry for entry in run.log[since:] if entry.get("event") == "process-started"]
        assert not started, "a pause is no failure"
        check(request, rig, rig.outcomes(range(50)))


@in_both_shapes
async def test_nobody_there(rig: Rig, request: pytest.FixtureRequest) -> None:
    """The other side is not there, while our connection is; then it is a new run of it."""
    async with rig.running():
        await rig.exchange(0, 10)
        await rig.outside.leave()
        await rig.send(10, 30, until_written=True)
        await rig.outside.come()
        await rig.outside.until_heard(29, [ACKNOWLEDGED])
        await rig.exchange(30, 40)
        check(request, rig, rig.outcomes([*range(10), *range(30, 40)], sent=range(40)))


@in_both_shapes
async def test_full_window(rig_without_store: Rig, request: pytest.FixtureRequest) -> None:
    """The router is away for more messages than the window takes, and there is no store: `send` waits."""
    rig = rig_without_store
    async with rig.running() as run:
        await rig.exchange(0, 10)
        rig.network.is_down = True
        rig.network.cut()
        await run.until_event("health-connecting")
        since = len(run.log)
        rig.order("send", 10, 2 * WINDOW)
        await rig.pause()  # which it does after it has tried
        assert not rig.has_sent(2 * WINDOW - 1), "the window has no end"
        rig.order("read")
        rig.mend()
        await rig.until_connected_again(since)
        await rig.until(partial(rig.has_sent, 2 * WINDOW - 1))
        await rig.outside.until_heard(2 * WINDOW - 1, [ACKNOWLEDGED])
        await rig.exchange(2 * WINDOW, 2 * WINDOW + 10)
        inbound = [*range(10), *range(2 * WINDOW, 2 * WINDOW + 10)]
        check(request, rig, rig.outcomes(inbound, sent=range(2 * WINDOW + 10)))


@in_both_shapes
async def test_slow_reader(rig: Rig, request: pytest.FixtureRequest) -> None:
    """One that reads nothing at all, until more has come than the window and the gateway's backlog take."""
    count = 400
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.pause()
        others = [level for level in LEVELS if level != ACKNOWLEDGED]
        await rig.outside.say(10, count, others)
        await run.until_event("inbound-discarded", "discarded 1 inbound messages")
        sent = trio.Event()

        async def say_more() -> None:
            await rig.outside.say(10, count, [ACKNOWLEDGED])
            sent.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_more)
            rig.order("read")
            await sent.wait()
        await rig.until_app_heard(count - 1, [ACKNOWLEDGED])
        await rig.exchange(count, count + 10)
        check(request, rig, rig.outcomes(range(count + 10), sent=[*range(10), *range(count, count + 10)]))


@in_both_shapes
async def test_oversized(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Larger than the channel takes: number 10, as a hundred digits. The others are not touched."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        rig.order("too-much")
        await rig.until(lambda: all(("overflow", level, 0) in rig.told for level in LEVELS))
        await rig.say_too_much()
        for level in LEVELS:
            await run.until_event("inbound-discarded", f"channel in{level}: discarded 1 ", "too large")
        await rig.exchange(11, 20)
        check(request, rig, rig.outcomes(range(20)))


def test_the_table_names_a_test_for_every_fault_and_has_every_cell() -> None:
    words = {"once", "lost", "at times lost", "twice", "lost, twice"}
    check_table(read_table(PAGE), globals(), words, columns=len(LEVELS))

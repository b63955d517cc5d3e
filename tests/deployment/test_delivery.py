"""What can be lost, and what can come twice: each row of the table in docs/delivery.md, fault by fault.

Every test provokes the worst that its fault can do, so that a cell which says `lost` or `twice` is as much a promise to
be kept as one that says `once`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import attrs
import pytest

from taktora_trio.transport.domain import Domain
from tests.brokers.sessions import SESSIONS
from tests.brokers.tap import ACKNOWLEDGEMENTS
from tests.command import MODES, ROOT
from tests.deployment.delivery import Rig, open_rig
from tests.deployment.delivery_apps import WINDOW
from tests.deployment.delivery_table import Direction, Outcome, check_outcomes, check_table, outcome_of, read_table
from tests.deployment.lossless import Figures, figures_of

pytestmark = pytest.mark.chaos
TABLE = read_table(ROOT / "docs" / "delivery.md")
in_both_shapes = pytest.mark.parametrize("mode", MODES)
only_split = pytest.mark.parametrize("mode", ["split"])


@pytest.fixture
async def rig_without_store(mode: str, tmp_path: Path, domain: Domain) -> AsyncIterator[Rig]:
    async with open_rig(mode, SESSIONS[0], tmp_path, domain) as ready:
        yield ready


@pytest.fixture
async def rig(mode: str, tmp_path: Path, domain: Domain) -> AsyncIterator[Rig]:
    async with open_rig(mode, SESSIONS[0], tmp_path, domain, store=tmp_path / "store") as ready:
        yield ready


def check(request: pytest.FixtureRequest, rig: Rig, outcomes: dict[Direction, list[Outcome]]) -> None:
    """Compare with what the table says of the test that calls this."""
    # Whether it is seldom depends on the broker alone.
    allowed = {"seldom twice": {"once", "twice"}}
    check_outcomes(TABLE, request.node.originalname, rig.mode, outcomes, allowed)


@in_both_shapes
async def test_connection_cut(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        rig.tap.cut()
        await _meanwhile_and_afterwards(rig, since)
        check(request, rig, rig.outcomes(range(60)))


async def test_connection_cut_without_a_persistent_session(tmp_path: Path, domain: Domain) -> None:
    """The page's section of that name: the broker keeps nothing, neither messages nor half an exchange."""
    clean = attrs.evolve(SESSIONS[0], fields={**SESSIONS[0].fields, "persistent": False})
    async with open_rig("in-process", clean, tmp_path, domain) as rig, rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        rig.tap.cut()
        await _meanwhile_and_afterwards(rig, since)
        outcomes = rig.outcomes(range(60))
        assert outcomes["in"] == ["lost", "lost", "lost"]
        assert outcomes["out"] == ["lost", "twice", "twice"]


@in_both_shapes
async def test_broker_restarted(rig: Rig, request: pytest.FixtureRequest) -> None:
    """By SIGTERM, so that it saves its sessions, with `persistence true`."""
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        await rig.broker.stop(signal.SIGTERM)
        await rig.broker.start()
        await _meanwhile_and_afterwards(rig, since)
        check(request, rig, rig.outcomes(range(60)))


@only_split
async def test_gateway_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        run.signal(signal.SIGKILL, run.half("gateway"))
        await _meanwhile_and_afterwards(rig, since)
        check(request, rig, rig.outcomes(range(60)))


@in_both_shapes
async def test_gateway_crashes(rig: Rig, request: pytest.FixtureRequest) -> None:
    """By an exception."""
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        run.signal(signal.SIGUSR2, run.half("gateway") if rig.mode == "split" else run.pid)
        await run.until_logged("crash on purpose")
        await _meanwhile_and_afterwards(rig, since)
        check(request, rig, rig.outcomes(range(60)))


async def _meanwhile_and_afterwards(rig: Rig, since: int) -> None:
    """Numbers 40 to 49 while there is no connection, and 50 to 59 on the next one."""
    rig.say(40, 50)
    await rig.talker.until_acknowledged()
    await rig.send(40, 50)
    rig.mend()
    await rig.until_connected_again(since)
    await rig.exchange(50, 60)


@only_split
async def test_gateway_stopped(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Politely, by SIGTERM to it alone, in the middle of traffic; its supervisor starts the next one."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.send(10, 40)
        since = len(run.log)
        rig.tap.refuses = True  # so that it is away for long enough
        run.signal(signal.SIGTERM, run.half("gateway"))
        await run.until_event("restarting", "(exit code 0)", half="gateway")
        await _meanwhile_and_afterwards(rig, since)
        inbound = [*range(10), *range(40, 60)]
        check(request, rig, rig.outcomes(inbound, sent=range(60)))


@in_both_shapes
async def test_everything_stopped(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Politely, with messages in shared memory that the app has not read; then started again."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.pause()
        await rig.say_to_gateway(10, 20)
        await rig.send(10, 40, until_stored=True)
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    rig.say(40, 50)
    await rig.talker.until_acknowledged()
    async with rig.running():
        await rig.exchange(50, 60)
        check(request, rig, rig.outcomes([*range(20), *range(40, 60)], sent=[*range(40), *range(50, 60)]))


@only_split
async def test_plugin_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    """While it has one message in hand and others wait for it, and its gateway has not taken what it sent last."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.hold()
        rig.say(10, 20)
        await rig.until_app_heard(10)
        os.kill(run.half("gateway"), signal.SIGSTOP)
        try:
            await rig.send(10, 20)
            before = rig.counts["opened"]
            run.signal(signal.SIGKILL, run.half("plugin"))
            await rig.until(lambda: rig.counts["opened"] >= before + 3)  # by the next one
        finally:
            os.kill(run.half("gateway"), signal.SIGCONT)
        await rig.exchange(20, 30)
        check(request, rig, rig.outcomes(range(30)))


@only_split
async def test_both_halves_killed(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Their supervisor lives, and starts both again; in one process that is a kill of everything."""
    async with rig.running() as run:
        await rig.have_much_on_the_way(the_app_too=True)
        before, since = rig.counts["opened"], len(run.log)
        for half in ("plugin", "gateway"):
            os.kill(run.half(half), signal.SIGSTOP)
        for half in ("plugin", "gateway"):
            os.kill(run.half(half), signal.SIGKILL)
        rig.mend()
        await rig.until(lambda: rig.counts["opened"] >= before + 3)
        await rig.until_connected_again(since)
        await rig.exchange(40, 50)
        check(request, rig, rig.outcomes(range(50)))


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
    rig.say(40, 50)
    await rig.talker.until_acknowledged()
    async with rig.running():
        await rig.exchange(50, 60)
        check(request, rig, rig.outcomes(range(60), sent=[*range(40), *range(50, 60)]))


@only_split
async def test_everything_killed_without_a_store(rig_without_store: Rig) -> None:
    """The page's section of that name: what the broker has not acknowledged was in memory alone."""
    rig = rig_without_store
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        tree = run.tree()
        for process in tree:
            os.kill(process.pid, signal.SIGSTOP)
        for process in tree:
            os.kill(process.pid, signal.SIGKILL)
        await run.wait()
    rig.mend()
    async with rig.running():
        await rig.exchange(60, 70)
        numbers = [*range(40), *range(60, 70)]
        outcomes = rig.outcomes(numbers)
        assert outcomes["out"] == ["lost", "lost", "lost"]
        assert outcomes["in"] == ["lost", "twice", "twice"]


@in_both_shapes
async def test_everything_paused(rig: Rig, request: pytest.FixtureRequest) -> None:
    """By SIGSTOP, for so long that the broker has ended the connection; then it all goes on."""
    async with rig.running() as run:
        await rig.have_much_on_the_way()
        since = len(run.log)
        tree = run.tree()
        for process in tree:
            os.kill(process.pid, signal.SIGSTOP)
        rig.tap.cut()
        rig.say(40, 50)
        await rig.talker.until_acknowledged()
        rig.mend()
        for process in reversed(tree):
            os.kill(process.pid, signal.SIGCONT)
        await rig.until_connected_again(since)
        await rig.send(40, 50)
        await rig.exchange(50, 60)
        check(request, rig, rig.outcomes(range(60)))
        assert not any(entry.get("event") == "process-started" for entry in run.log[since:]), "a pause is no failure"


@in_both_shapes
async def test_app_upgraded(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Stopped under load, and started again as another version, with larger channels."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        await rig.pause()
        await rig.say_to_gateway(10, 20)
        rig.tap.swallows = ACKNOWLEDGEMENTS  # the drain at the stop is in vain
        await rig.send(10, 40, until_stored=True)
        run.signal(signal.SIGTERM)
        assert await run.wait(10) == 0
    rig.mend()
    rig.say(40, 50)
    await rig.talker.until_acknowledged()
    rig.window += 10
    async with rig.running():
        await rig.exchange(50, 60)
        check(request, rig, rig.outcomes([*range(20), *range(40, 60)], sent=[*range(40), *range(50, 60)]))


@in_both_shapes
async def test_slow_reader(rig: Rig, request: pytest.FixtureRequest) -> None:
    """One that reads nothing at all, until more has come than the window and the gateway's backlog take."""
    count = 400
    async with rig.running() as run:
        await rig.pause()
        rig.say(0, count, [0])  # for which there is the backlog, and no more
        await run.until_event("inbound-discarded", "discarded 1 inbound messages")
        rig.say(0, count, [1, 2])
        await rig.talker.until_acknowledged()
        await run.until_event("reading-paused")
        rig.order("read")
        await rig.until_app_heard(count - 1, (1, 2))
        await rig.exchange(count, count + 10)
        check(request, rig, rig.outcomes(range(count + 10), sent=range(count, count + 10)))


@in_both_shapes
async def test_full_window(rig_without_store: Rig, request: pytest.FixtureRequest) -> None:
    """The broker is away for more messages than the window takes, and there is no store: `send` waits."""
    rig = rig_without_store
    async with rig.running() as run:
        await rig.exchange(0, 10)
        rig.tap.refuses = True
        rig.tap.cut()
        await run.until_event("health-connecting")
        since = len(run.log)
        await rig.send(
            10, WINDOW
        )  # with the first ten, whose acknowledgements may be lost, as many as there is room for
        rig.order("send", WINDOW, 2 * WINDOW)
        await rig.pause()  # which it does after it has tried
        assert not rig.has_sent(2 * WINDOW - 1), "the window has no end"
        rig.order("read")
        rig.mend()
        await rig.until_connected_again(since)
        await rig.until(partial(rig.has_sent, 2 * WINDOW - 1))
        await rig.exchange(2 * WINDOW, 2 * WINDOW + 10)
        inbound = [*range(10), *range(2 * WINDOW, 2 * WINDOW + 10)]
        check(request, rig, rig.outcomes(inbound, sent=range(2 * WINDOW + 10)))


@in_both_shapes
async def test_oversized(rig: Rig, request: pytest.FixtureRequest) -> None:
    """Larger than the channel takes: number 10, as a hundred digits. The others are not touched."""
    async with rig.running() as run:
        await rig.exchange(0, 10)
        rig.order("too-much")
        await rig.until(lambda: all(("overflow", qos, 0) in rig.told for qos in (0, 1, 2)))
        for qos in (0, 1, 2):
            rig.talker.say(f"delivery/in/{qos}", b"%0100d" % 10, qos)
        await rig.talker.until_acknowledged()
        for qos in (0, 1, 2):
            await run.until_event(
                "inbound-discarded", f"channel in{qos}: discarded 1 ", f"delivery/in/{qos}", "too large"
            )
        await rig.exchange(11, 20)
        check(request, rig, rig.outcomes(range(20)))


def test_the_table_names_a_test_for_every_fault_and_has_every_cell() -> None:
    check_table(TABLE, globals(), {"once", "lost", "twice", "lost, twice", "seldom twice"}, columns=3)


def test_what_the_figures_see() -> None:
    """So that no test of losslessness is one that can't fail."""
    assert outcome_of([0, 1, 2], range(3)) == "once"
    assert outcome_of([0, 2], range(3)) == "lost"
    assert outcome_of([0, 1, 1, 2], range(3)) == "twice"
    assert outcome_of([0, 0, 2], range(3)) == "lost, twice"
    with pytest.raises(AssertionError, match="never sent"):
        outcome_of([7], range(3))
    assert figures_of([0, 1, 1, 2, 0], 3) == Figures(3, lost=0, reordered=0, repeated=2, most=2)
    assert figures_of([0, 2, 1], 3) == Figures(3, lost=0, reordered=1, repeated=0, most=1)
    assert not figures_of([0, 2], 3).is_lossless
    assert not figures_of([1, 0], 2).is_lossless

"""Calls that may wait: in which thread they are made, in their order, and what becomes of one that fails."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import trio

from taktora_trio import ZenohOptions
from taktora_trio.connectors.zenoh.native.sender import Sender
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.session import Quality, Sample, Session
from taktora_trio.testing.zenoh.router import open_router
from tests.zenoh.hearing import Heard
from tests.zenoh.knowing import until_known

SMALL, LARGE = 100, 100_000


class Rig:
    """A sender that is served, and what it called: the number, and whether it was in trio's thread."""

    def __init__(self) -> None:
        token = trio.lowlevel.current_trio_token()
        self.calls: list[tuple[int, bool]] = []
        self.called: list[int] = []
        self.failures: list[Exception] = []
        self.is_clear = True
        self.go_on = threading.Event()
        self.is_waiting = threading.Event()
        self._here = threading.get_ident()
        self.sender = Sender(token.run_sync_soon, self.failures.append, lambda: self.is_clear)

    def send(self, number: int, size: int = SMALL, call: Callable[[], object] = bool) -> None:
        self.sender.later(self._call, (number, call), partial(self.called.append, number), size)

    def _call(self, number: int, call: Callable[[], object]) -> None:
        call()
        self.calls.append((number, threading.get_ident() == self._here))

    def wait(self) -> None:
        self.is_waiting.set()
        assert self.go_on.wait(5)


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig()
    nursery.start_soon(rig.sender.serve)
    return rig


async def test_what_is_sure_not_to_wait_is_called_here_at_the_end_of_the_block(rig: Rig) -> None:
    with rig.sender:
        rig.send(1)
        rig.send(2)
        assert rig.calls == []
    assert rig.calls == [(1, True), (2, True)]
    assert rig.called == [1, 2]
    rig.sender.close()


@pytest.mark.parametrize(("is_clear", "size"), [(False, SMALL), (True, LARGE)])
async def test_what_may_wait_is_called_in_a_thread(rig: Rig, is_clear: bool, size: int) -> None:
    rig.is_clear = is_clear
    with rig.sender:
        rig.send(1, size)
    await rig.sender.flush()
    assert rig.calls == [(1, False)]
    assert rig.called == [1]
    rig.sender.close()


async def test_nothing_overtakes_what_waits(rig: Rig) -> None:
    rig.is_clear = False
    with rig.sender:
        rig.send(1, call=rig.wait)
    await trio.to_thread.run_sync(rig.is_waiting.wait, 5)
    rig.is_clear = True
    with rig.sender:
        rig.send(2)
    assert rig.calls == []
    rig.go_on.set()
    await rig.sender.flush()
    assert rig.calls == [(1, False), (2, False)]
    with rig.sender:
        rig.send(3)
    assert rig.calls[-1] == (3, True)
    rig.sender.close()


@pytest.mark.parametrize("is_clear", [True, False])
async def test_behind_a_failure_nothing_is_called(rig: Rig, is_clear: bool) -> None:
    def fail() -> None:
        raise ValueError("no")

    rig.is_clear = is_clear
    with rig.sender:
        rig.send(1)
        rig.send(2, call=fail)
        rig.send(3)
    with trio.fail_after(5):
        while not rig.failures:
            await trio.lowlevel.checkpoint()
    rig.send(4)
    await rig.sender.flush()
    assert [number for number, _ in rig.calls] == [1]
    assert [str(failure) for failure in rig.failures] == ["no"]
    assert rig.called == []


IN_FLIGHT = 64
LONGEST = 2.5  # seconds that the loop may stand still on a machine with much to do; a call that waits takes 5


@pytest.mark.zenoh
@pytest.mark.parametrize("size", [10 * SMALL, LARGE])
async def test_a_router_that_takes_nothing_does_not_stop_the_loop(tmp_path: Path, size: int) -> None:
    async with (
        open_router(tmp_path) as router,
        open_node(ZenohOptions(connect=router.endpoint)) as sends,
        open_node(ZenohOptions(connect=router.endpoint)) as receives,
        sends.open_session() as one,
        receives.open_session() as other,
        trio.open_nursery() as nursery,
    ):
        heard = Heard[Sample]()
        await other.subscribe("flood", heard)
        await until_known(one, other)
        flood = Flood(one, size)
        nursery.start_soon(flood.go_on)
        nursery.start_soon(flood.watch_the_loop)
        with trio.fail_after(30):
            await heard.next()
            os.kill(router.pid, signal.SIGSTOP)
            try:
                await flood.until_nothing_is_taken()
            finally:
                os.kill(router.pid, signal.SIGCONT)
        assert flood.longest < LONGEST
        nursery.cancel_scope.cancel()


class Flood:
    """Puts as much as may be in flight, in batches, as a gateway does."""

    def __init__(self, session: Session, size: int) -> None:
        self._session, self._payload = session, bytes(size)
        self._in_flight = self._written = 0
        self.longest = 0.0
        """The longest time for which the loop stood still, in seconds."""

    async def go_on(self) -> None:
        batch = self._session.in_batches(nullcontext())
        while True:
            with batch:
                while self._in_flight < IN_FLIGHT:
                    self._in_flight += 1
                    self._session.put("flood", self._payload, Quality(), on_written=self._note_written)
                    if self._in_flight % 16 == 0:
                        break
            await trio.sleep(0.001)

    def _note_written(self) -> None:
        self._in_flight -= 1
        self._written += 1

    async def watch_the_loop(self) -> None:
        before = trio.current_time()
        while True:
            await trio.sleep(0.01)
            now = trio.current_time()
            self.longest, before = max(self.longest, now - before), now

    async def until_nothing_is_taken(self) -> None:
        written = -1
        while self._in_flight < IN_FLIGHT or self._written != written:
            written = self._written
            await trio.sleep(0.3)

"""Calls that may wait: in which thread they are made, in their order, and what becomes of one that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
import trio

from taktora_trio.connectors.zenoh.sender import Sender

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

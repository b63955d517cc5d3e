"""The order of a stop, in virtual time: whatever ends the block, its service works until then, and ends in time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from taktora_trio.runners.parts.outlasting import open_outlasting

GRACE = 2.5


class Service:
    """Works until it is asked to stop, and then for some time."""

    def __init__(self, drain: float) -> None:
        self.record: list[tuple[float, str]] = []
        self._drain = drain
        self._stop = trio.Event()
        self._start = trio.current_time()

    def stop(self, scope: trio.CancelScope) -> None:
        self.note("asked to stop")
        self._stop.set()

    async def serve(self) -> None:
        try:
            await self._stop.wait()
            await trio.sleep(self._drain)
            self.note("drained")
        except trio.Cancelled:
            self.note("cancelled")
            raise

    def note(self, what: str) -> None:
        self.record.append((round(trio.current_time() - self._start, 6), what))


async def run(service: Service, use: Callable[[], Awaitable[None]]) -> None:
    async with open_outlasting(service.serve, service.stop, GRACE):
        try:
            await use()
        finally:
            service.note("block ended")


async def test_in_order_it_drains_for_as_long_as_it_takes(autojump_clock: trio.testing.MockClock) -> None:
    service = Service(drain=60)
    await run(service, partial(trio.sleep, 1))
    assert service.record == [(1, "block ended"), (1, "asked to stop"), (61, "drained")]


@pytest.mark.parametrize("how", ["is cancelled", "raises"])
@pytest.mark.parametrize(("drain", "end"), [(1, (2, "drained")), (60, (1 + GRACE, "cancelled"))])
async def test_a_block_that_did_not_end_well_waits_for_the_grace(
    how: str, drain: float, end: tuple[float, str], autojump_clock: trio.testing.MockClock
) -> None:
    async def use() -> None:
        await trio.sleep(1)
        if how == "raises":
            raise LookupError("a fault of the block")
        await trio.sleep_forever()

    service = Service(drain)
    if how == "raises":
        with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
            await run(service, use)
    else:
        with trio.move_on_after(1):
            await run(service, use)
    assert service.record == [(1, "block ended"), (1, "asked to stop"), end]


async def test_what_drains_in_order_may_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    service = Service(drain=60)
    with trio.move_on_after(5) as scope:
        await run(service, partial(trio.sleep, 1))
    assert scope.cancelled_caught
    assert service.record == [(1, "block ended"), (1, "asked to stop"), (5, "cancelled")]


async def test_a_service_that_raises_ends_the_block(autojump_clock: trio.testing.MockClock) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise LookupError("a fault of the service")

    async def use() -> None:
        async with open_outlasting(fail, lambda scope: None, GRACE):
            await trio.sleep_forever()

    start = trio.current_time()
    with pytest.RaisesGroup(LookupError, flatten_subgroups=True):
        await use()
    assert trio.current_time() - start == pytest.approx(1)

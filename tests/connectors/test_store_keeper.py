"""The log of a connector, opened again and again; and what the health shows meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import RawCodec, Store, StoreError
from taktora_trio.connectors.storing.keeper import StoreKeeper
from taktora_trio.connectors.storing.stores import stores_of
from taktora_trio.health import HealthBoard, Up
from tests.connectors.memory_log import MemoryLog
from tests.connectors.rig import FakeClient, FakeConnector, outbound
from tests.connectors.test_stored import SharedMemory, numbered, payloads, publish


@attrs.define
class Disk:
    """What `open_log` finds: an error for the first tries, and then the log. Each open is recorded with its time."""

    log: MemoryLog
    failures: int = 0
    opens: list[float] = attrs.field(factory=list)

    @contextlib.asynccontextmanager
    async def open_log(self, folder: Path, **more: object) -> AsyncIterator[MemoryLog]:
        self.opens.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(self.opens) <= self.failures:
            raise StoreError("the disk is away")
        yield self.log


@contextlib.asynccontextmanager
async def open_keeper(
    disk: Disk, policy: Store, shared: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[StoreKeeper, HealthBoard]]:
    monkeypatch.setattr("taktora_trio.connectors.storing.opening.open_log", disk.open_log)
    connector = FakeConnector([outbound()], codec=RawCodec(), fake=FakeClient())
    health = HealthBoard([connector.name])
    health.report(connector.name, Up())
    store = stores_of([connector], policy, "domain")[connector.name]
    keeper = StoreKeeper(connector, store, cast(Any, {"out": shared}), health)
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(health.expire)
            await nursery.start(keeper.serve)
            with keeper.connected():
                yield keeper, health
            nursery.cancel_scope.cancel()


async def test_a_disk_that_is_away_is_tried_again_and_messages_flow_meanwhile(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, disk = SharedMemory(), Disk(MemoryLog(), failures=3)
    async with open_keeper(disk, Store(policy="always"), shared, monkeypatch) as (keeper, health):
        shared.send(*numbered(3))
        source = keeper.sources["out"]
        assert payloads(await publish(source, 3)) == numbered(3)
        assert shared.acknowledged == 3
        assert str(health.state("line")) == "Degraded (the disk is away)"
        await trio.sleep(20)
        assert len(disk.opens) == 4
        assert isinstance(health.state("line"), Up)
        shared.send(b"stored")
        await wait_all_tasks_blocked()
        assert disk.log.channel("out").count == 1


async def test_trouble_that_is_over_soon_is_shown(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(MemoryLog())
    async with open_keeper(disk, Store(), SharedMemory(), monkeypatch) as (_, health):
        assert disk.log.on_trouble is not None
        disk.log.on_trouble("the disk is full")
        disk.log.on_trouble("")
        assert str(health.state("line")) == "Degraded (the disk is full)"
        await trio.sleep(10)
        assert isinstance(health.state("line"), Up)


async def test_a_store_that_fills_up_is_shown_before_it_is_full(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, disk = SharedMemory(), Disk(MemoryLog())
    async with open_keeper(disk, Store(policy="always", max_messages=10), shared, monkeypatch) as (keeper, health):
        shared.send(*numbered(8))
        await trio.sleep(2)
        assert str(health.state("line")).startswith("Degraded (the store of channel out is 80 % full")
        shared.send(*numbered(2))
        await trio.sleep(2)
        assert str(health.state("line")) == "Degraded (the store of channel out is full)", "and no more"
        await publish(keeper.sources["out"], 10)
        await trio.sleep(10)
        assert isinstance(health.state("line"), Up)

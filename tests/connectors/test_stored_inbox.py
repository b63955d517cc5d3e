"""Inbound channels that acknowledge a message when it is stored: on a real disk, with an app of the test's own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio

from taktora_trio import ConfigError, ConnectorOptions, Deployment, Inbound, Metadata, MqttConnector, MqttRouting, Store
from taktora_trio.connectors.connection import Incoming
from taktora_trio.connectors.inbox import Inbox
from taktora_trio.connectors.pump import Pump
from taktora_trio.connectors.storing.inbound import StoredInbox
from taktora_trio.connectors.storing.stores import ConnectorStore
from taktora_trio.executor import Executor
from taktora_trio.health import HealthBoard, Up
from taktora_trio.runners.store_plan import plan_stores
from taktora_trio.store import open_log
from tests.connectors.rig import AnyTopic, FakeConnection, Sink, numbered
from tests.connectors.test_inbox import Kept, Letters, numbers

IDENTITY = "house/line"
MIB = 2**20


@attrs.frozen
class Gateway:
    """Channels `in` (stored) and `other` (when done), each for its own topic."""

    inbox: Inbox
    sink: Sink
    other: Sink
    connection: FakeConnection
    letters: Letters
    health: list[str]

    def deliver(self, *payloads: bytes, first_id: int = 1, **more: Any) -> None:
        for delivery_id, payload in enumerate(payloads, first_id):
            self.inbox.deliver(Kept("in", payload, number=delivery_id, delivery_id=delivery_id, **more))

    async def acknowledged(self, count: int) -> list[int]:
        await until(lambda: len(self.connection.acknowledged) >= count)
        return numbers(self.connection)

    async def arrived(self, count: int) -> list[bytes]:
        taken: list[bytes] = []

        def take() -> bool:
            taken.extend(self.sink.take(count - len(taken)))
            return len(taken) >= count

        await until(take)
        return taken


@contextlib.asynccontextmanager
async def open_gateway(
    folder: Path, *, window: int = 1000, connect: bool = True, **policy: Any
) -> AsyncIterator[Gateway]:
    channels = [
        Inbound("in", bytes, AnyTopic(), window=window, acknowledge="stored"),
        Inbound("other", bytes, AnyTopic()),
    ]
    connector = cast(Any, SimpleNamespace(name="line", channels=channels, options=ConnectorOptions()))
    health: list[str] = []
    board = HealthBoard(["line"], on_event=lambda event: health.append(str(event.after)))
    board.report("line", Up())
    sink, other, letters, connection = Sink(window=window), Sink(), Letters(), FakeConnection()
    store = ConnectorStore(folder, IDENTITY, {"in": Store(**policy)}, {})
    pump = Pump()
    stored = StoredInbox(connector, store, cast(Any, {"in": sink}), board, cast(Any, letters), pump)
    inbox = Inbox(
        "line",
        cast(Any, [(channels[0], stored.sinks["in"]), (channels[1], other)]),
        lambda topic: [topic],
        MIB,
        board,
        pump,
    )
    executor = Executor()
    pump.add_to(executor, "pump")
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):
            await nursery.start(stored.serve)
            nursery.start_soon(executor.run)
            if connect:
                inbox.attach(connection)
                inbox.started()
            yield Gateway(inbox, sink, other, connection, letters, health)
            stored.log_undelivered()
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - a disk has no event
        await trio.sleep(0.002)


async def stored_count(folder: Path) -> int:
    """Return what is in a copy of the store: as a gateway finds it that comes after a kill."""
    copy = folder.with_name(f"{folder.name}-looked-at")
    await trio.to_thread.run_sync(lambda: shutil.copytree(folder, copy))
    async with open_log(copy, identity=IDENTITY, max_bytes=256 * MIB) as log:
        count = log.channel("in").count
    await trio.to_thread.run_sync(shutil.rmtree, copy)
    return count


async def killed(folder: Path) -> Path:
    """Return the folder as it is now, for the next gateway, as if the one that runs were killed."""
    left = folder.with_name(f"{folder.name}-left")
    await trio.to_thread.run_sync(lambda: shutil.copytree(folder, left))
    return left


async def test_while_the_app_takes_nothing_messages_are_acknowledged_and_kept(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store", window=3) as gateway:
        said: dict[str, Any] = {"metadata": Metadata(content_type="a/b"), "correlation_id": b"id", "retained": True}
        gateway.deliver(*numbered(50), **said)
        gateway.inbox.deliver(Kept("other", b"x", number=99))
        gateway.other.take()
        assert sorted(await gateway.acknowledged(51)) == [*range(1, 51), 99]
        assert gateway.sink.done == 0
        assert await gateway.arrived(50) == numbered(50)
        assert gateway.sink.said[7] == (b"id", Metadata(content_type="a/b"))
        assert gateway.sink.retained == [True] * 50
        assert [again for again, _ in gateway.sink.redelivered] == [False] * 50
    assert await stored_count(tmp_path / "store") == 0


async def test_nothing_acknowledged_is_lost_when_the_gateway_is_killed(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store", window=10) as gateway:
        gateway.deliver(*numbered(30))
        assert await gateway.arrived(4) == numbered(4)
        await gateway.acknowledged(30)
        left = await killed(tmp_path / "store")
    async with open_gateway(left, window=10) as gateway:
        arrived: list[bytes] = []
        while not arrived or arrived[-1] != b"29":
            arrived += await gateway.arrived(1)
        assert arrived[-26:] == numbered(26, 4)
        assert arrived == numbered(len(arrived), 30 - len(arrived)), "some of the first four may come again"
        assert [again for again, _ in gateway.sink.redelivered] == [True] * len(arrived)
        gateway.deliver(b"new", first_id=31)
        assert await gateway.arrived(1) == [b"new"]
        assert gateway.sink.redelivered[-1][0] is False
    assert await stored_count(left) == 0


async def test_what_was_stored_and_not_acknowledged_is_known_when_it_comes_again(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store", connect=False) as gateway:
        gateway.deliver(*numbered(3))
        assert await gateway.arrived(3) == numbered(3)
        assert gateway.connection.acknowledged == []
        left = await killed(tmp_path / "store")
    async with open_gateway(left) as gateway:
        assert await gateway.arrived(3) == numbered(3)
        ids = gateway.sink.redelivered
        assert ids == [(True, 2), (True, 3), (True, 4)], "the app's reader knows them by these"
        gateway.deliver(b"0", b"1", b"another", b"3", redelivered=True)
        assert await gateway.acknowledged(4) == [1, 2, 3, 4]
        assert await gateway.arrived(2) == [b"another", b"3"]
        gateway.deliver(b"0", first_id=1)
        gateway.deliver(b"2", first_id=3, redelivered=True)
        assert await gateway.arrived(2) == [b"0", b"2"], "once the other side has gone on, nothing is taken for another"


async def test_a_connection_that_breaks_before_the_acknowledgement_stores_nothing_twice(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store", connect=False) as gateway:
        gateway.deliver(*numbered(3))
        await gateway.arrived(3)
        gateway.deliver(*numbered(3), redelivered=True)
        gateway.inbox.attach(gateway.connection)
        gateway.inbox.started()
        await gateway.acknowledged(6)
        assert gateway.sink.take() == []
    assert await stored_count(tmp_path / "store") == 0


async def test_when_it_is_full_no_more_is_acknowledged_and_nothing_lost(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store", window=2, max_messages=5) as gateway:
        gateway.deliver(*numbered(20))
        assert await gateway.acknowledged(5) == [1, 2, 3, 4, 5]
        await until(
            lambda: any("no more is acknowledged of in: the inbound store is full" in it for it in gateway.health)
        )
        assert len(gateway.connection.acknowledged) == 5
        assert await gateway.arrived(20) == numbered(20)
        assert await gateway.acknowledged(20) == list(range(1, 21))


async def test_what_the_app_gives_up_goes_from_the_store_to_the_dead_letters(tmp_path: Path) -> None:
    async with open_gateway(tmp_path / "store") as gateway:
        gateway.sink.dead = {2: ("it kills", 5)}
        gateway.deliver(b"1", b"2", b"x" * 101, b"4")
        assert await gateway.arrived(3) == [b"1", b"2", b"4"]
        await until(lambda: len(gateway.letters.put_there) == 2)
        reasons = {one.payload[:1]: one.reason for one in gateway.letters.put_there}
        assert reasons == {b"2": "it kills", b"x": "is too large: 101 bytes"}
        assert await stored_count(tmp_path / "store") >= 2, "as long as they are not there"
        gateway.letters.store()
        await gateway.acknowledged(4)
    assert await stored_count(tmp_path / "store") == 0


async def test_while_the_store_can_not_be_opened_nothing_is_acknowledged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_log(tmp_path / "store", identity=IDENTITY, max_bytes=256 * MIB),
        contextlib.AsyncExitStack() as stack,
    ):
        gateway = await stack.enter_async_context(open_gateway(tmp_path / "store"))
        gateway.deliver(*numbered(3))
        gateway.inbox.deliver(Incoming("in", b"not kept by the other side"))
        assert any("the inbound store can't be used" in it for it in gateway.health)
        assert gateway.connection.acknowledged == []
    assert "the inbound store can't be used" in caplog.text


def test_it_needs_a_store() -> None:
    channel = Inbound("orders", bytes, MqttRouting("orders", qos=1), acknowledge="stored")
    deployment = Deployment("house", None, [MqttConnector([channel])])
    with pytest.raises(ConfigError, match=r"channel 'orders': acknowledge='stored' needs a store: write Deployment"):
        deployment.check_stores("house")
    kept = deployment.with_store(Path("/data")).inbound_stores("house")
    assert kept["mqtt"].folder == Path("/data/inbound/mqtt")
    assert list(kept["mqtt"].channels) == ["orders"]
    [plan] = plan_stores(deployment.with_store(Path("/data")))
    assert (plan.folder, plan.policies) == ("/data/inbound/mqtt", {"orders": "inbound, acknowledged when stored"})

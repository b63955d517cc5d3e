"""What the gateway says of its channels: what waits, what is on disk, and what did not arrive, and why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import trio
from trio.testing import MockClock

from taktora_trio import Deployment, Inbound, MqttConnector, MqttRouting, Outbound, RawCodec, Store, Up
from taktora_trio.testing import open_app
from taktora_trio.transport.local import LocalNode
from taktora_trio.transport.snapshot import SnapshotWriter, newest_snapshot, snapshot_bytes
from taktora_trio.vitals.model import Channel, Page

OUT = Outbound("out", bytes, MqttRouting("plant/out", qos=1), window=8, max_payload=100)
KEPT = Outbound(
    "kept", bytes, MqttRouting("plant/kept", qos=1), window=8, max_payload=100, store=Store(max_bytes=2**20)
)
IN = Inbound("in", bytes, MqttRouting("plant/in", qos=1), window=8, max_payload=100)
DEPLOYMENT = Deployment("plant", None, [MqttConnector([OUT, KEPT, IN], codec=RawCodec())])


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Channel]:
    """What the gateway has said last of a channel, though in memory nobody can look."""
    pages: dict[str, bytearray] = {}

    def map_snapshot(node: LocalNode, name: str, most: int) -> SnapshotWriter:
        pages[name] = bytearray(snapshot_bytes(most))
        return SnapshotWriter(pages[name])

    def said(name: str) -> Channel:
        snapshot = newest_snapshot("gateway", bytes(pages["gateway"]))
        assert snapshot is not None
        page = msgspec.msgpack.decode(snapshot.content, type=Page)
        return next(channel for channel in page.channels if channel.name == name)

    monkeypatch.setattr(LocalNode, "map_snapshot", map_snapshot)
    return said


async def test_what_waits_for_the_other_side(gateway: Callable[[str], Channel], autojump_clock: MockClock) -> None:
    async with open_app(DEPLOYMENT) as app, app.host.open_writer(OUT) as out, app.host.open_writer(KEPT) as kept:
        await app.wait_for_health(Up)
        async with app.unreachable():
            app.cut()
            await trio.sleep(1)
            for _ in range(3):
                await out.send(b"x" * 10)
            for _ in range(20):
                await kept.send(b"x" * 10)
                await trio.sleep(1)
            waiting, stored = gateway("out"), gateway("kept")
            assert (waiting.messages, waiting.in_use, waiting.backlog, waiting.acknowledged) == (3, 3, 3, 0)
            assert 19 <= (waiting.oldest or 0) < 25
            assert waiting.store_bytes is None
            assert (stored.messages, stored.store_messages, stored.in_use, stored.acknowledged) == (20, 20, 0, 0)
            assert 0 < (stored.store_bytes or 0) < (stored.store_limit or 0) <= 2**20
            assert (stored.store_full_in or 0) > 60
        await app.revive()
        await app.wait_for_health(Up)
        await trio.sleep(10)
        waiting, stored = gateway("out"), gateway("kept")
        assert (waiting.in_use, waiting.backlog, waiting.acknowledged, waiting.oldest) == (0, 0, 3, None)
        assert (stored.store_messages, stored.acknowledged) == (0, 20)
        assert 20 <= (waiting.latency or 0) < 25


async def test_what_did_not_arrive(gateway: Callable[[str], Channel], autojump_clock: MockClock) -> None:
    async with open_app(DEPLOYMENT) as app, app.host.open_reader(IN) as reader:
        await app.wait_for_health(Up)
        await app.publish("plant/in", b"x" * 101)
        await app.publish("plant/in", b"bad")
        for number in range(12):
            await app.publish("plant/in", b"%d" % number)
        await trio.sleep(2)
        assert (gateway("in").discarded, gateway("in").backlog, gateway("in").in_use) == (1, 5, 8)
        reader.reject(await reader.receive(), "it is bad")
        for _ in range(12):
            await reader.receive()
        await trio.sleep(5)
        said = gateway("in")
        assert (said.dead_letters, said.backlog, said.in_use, said.messages, said.done) == (1, 0, 1, 13, 12)

"""A half's page is written again and again; whatever goes wrong with that, the half goes on."""

from __future__ import annotations

import errno
import os

import msgspec
import pytest
import trio
from trio.testing import MockClock

from taktora_trio.health import Connecting, Down, HealthBoard, Up
from taktora_trio.transport.descriptors import TooFewDescriptors
from taktora_trio.transport.local import LocalNode
from taktora_trio.transport.segments import SharedMemoryFull
from taktora_trio.transport.snapshot import Snapshot, SnapshotWriter, newest_snapshot, snapshot_bytes
from taktora_trio.vitals import serving
from taktora_trio.vitals.model import Page
from taktora_trio.vitals.record import HISTORY, HealthRecord
from taktora_trio.vitals.serving import HalfFigures, serve_vitals

from .pages import channel


class Node(LocalNode):
    """One whose pages this test reads; it has room for none so many times."""

    def __init__(self, *refusals: Exception) -> None:
        super().__init__()
        self.refusals = list(refusals)
        self.memory = bytearray()

    def map_snapshot(self, name: str, most: int) -> SnapshotWriter:  # type: ignore[override]
        if self.refusals:
            raise self.refusals.pop()
        self.memory = bytearray(snapshot_bytes(most))
        return SnapshotWriter(self.memory)

    def last_snapshot(self, name: str) -> Snapshot | None:  # type: ignore[override]
        return newest_snapshot(name, bytes(self.memory)) if self.memory else None

    def page(self) -> Page:
        snapshot = self.last_snapshot("plugin")
        assert snapshot is not None
        return msgspec.msgpack.decode(snapshot.content, type=Page)


class Half:
    """A half with one connector and one channel."""

    def __init__(self) -> None:
        self.record = HealthRecord(["mqtt"])
        self.board = HealthBoard(["mqtt"], on_event=self.record.note)
        self.messages = 0

    def figures(self, count: int = 1) -> HalfFigures:
        return HalfFigures(
            "plugin",
            "greenhouse",
            1,
            self.record,
            lambda: [self.record.connector("mqtt", self.board)],
            lambda: iter([channel(messages=self.messages)] * count),
            count,
        )


async def test_a_page_each_second_and_at_once_when_the_health_changes(autojump_clock: MockClock) -> None:
    node, half = Node(), Half()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_vitals, node, half.figures())
        await trio.sleep(0.1)
        assert node.page().connectors[0].health == "Connecting"
        half.messages = 7
        await trio.sleep(0.8)
        assert node.page().channels[0].messages == 0
        await trio.sleep(0.2)
        assert node.page().channels[0].messages == 7
        half.board.report("mqtt", Up())
        await trio.sleep(0.3)
        assert node.page().connectors[0].health == "Up"
        assert not node.page().has_ended
        nursery.cancel_scope.cancel()
    assert node.page().has_ended


async def test_who_comes_next_goes_on_with_the_history_and_counts_the_restarts(autojump_clock: MockClock) -> None:
    node = Node()
    for restarts in range(3):
        half = Half()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_vitals, node, half.figures())
            await trio.sleep(0.1)
            assert node.page().restarts == restarts
            assert len(node.page().history) == 3 * restarts
            for state in (Down("gone"), Connecting(), Up()):
                half.board.report("mqtt", state, "a cause")
            nursery.cancel_scope.cancel()
    assert [change.after for change in node.page().history] == 3 * ["Down", "Connecting", "Up"]
    assert node.page().history[0].cause == "a cause"


def test_the_history_is_bounded_and_so_is_each_text() -> None:
    half = Half()
    for number in range(HISTORY + 5):
        half.board.report("mqtt", Down(f"{number} " + "x" * 1000), ValueError("y" * 1000))
    assert len(half.record.history) == HISTORY
    last = half.record.history[-1]
    assert last.reason.startswith(f"{HISTORY + 4} ")
    assert max(len(last.reason), len(last.cause)) < 200


async def test_a_half_goes_on_without_room_for_its_page(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    node, half = Node(SharedMemoryFull("a page"), TooFewDescriptors("a page", 1, 1, 1)), Half()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_vitals, node, half.figures())
        await trio.sleep(15)
        assert node.memory == b""
        await trio.sleep(10)
        assert node.page().name == "plugin"
        nursery.cancel_scope.cancel()
    assert caplog.text.count("nobody sees from outside how it does") == 2


async def test_a_half_goes_on_without_a_descriptor(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    node, half = Node(), Half()

    def none_left(path: str) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_vitals, node, half.figures())
        await trio.sleep(0.1)
        memory = node.page().memory
        monkeypatch.setattr(serving, "read_proc", none_left)
        half.messages = 1
        await trio.sleep(1.5)
        assert (node.page().channels[0].messages, node.page().memory) == (1, memory)
        nursery.cancel_scope.cancel()


async def test_thousands_of_channels_are_written_less_often_and_in_pieces(autojump_clock: MockClock) -> None:
    node, half = Node(), Half()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_vitals, node, half.figures(count=3000))
        await trio.sleep(0.1)
        assert node.page().interval == 3.0
        half.messages = 1
        await trio.sleep(2.8)
        assert node.page().channels[0].messages == 0
        await trio.sleep(0.2)
        assert {one.messages for one in node.page().channels} == {1}
        nursery.cancel_scope.cancel()

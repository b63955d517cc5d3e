"""What comes together goes together: it is written at once, and the app is told of all of it at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio.channels import Envelope, Header
from taktora_trio.connectors.connection import Guarantee, OnDone
from taktora_trio.connectors.outbox import Outbox
from taktora_trio.connectors.pump import Pump
from tests.connectors.rig import FakeClient, FakeConnection, Source, numbered, open_bridge, outbound
from tests.patience import PATIENCE


class Recording(Source):
    """Records when the app is told."""

    def __init__(self, record: list[str], *payloads: bytes) -> None:
        super().__init__(*payloads)
        self._record = record

    def acknowledge(self, header: Header) -> None:
        super().acknowledge(header)
        self._record.append(f"told {header.sequence_number}")


class Batching(FakeConnection):
    """Writes at the end of a block, and hands over answers in one."""

    def __init__(self, record: list[str], *, is_answered: bool = True) -> None:
        super().__init__(acknowledges=False)
        self.answers: AbstractContextManager[object] = contextlib.nullcontext()
        self._record, self._is_answered = record, is_answered

    def in_batches(self, answers: AbstractContextManager[object]) -> AbstractContextManager[object]:
        self.answers = answers
        return self

    def __enter__(self) -> None:
        self._before = len(self.published)

    def __exit__(self, *failure: object) -> None:
        new = [envelope.header.sequence_number for _, envelope in self.published[self._before :]]
        if new:
            self._record.append(f"written {new}")
        if not self._is_answered:
            self.finish(*range(self._before, len(self.published)))


@contextlib.contextmanager
def carried(
    connection: FakeConnection,
    source: Source,
    pump: Pump,
    most: int = 64,
    guarantee: Guarantee = "at least once",
) -> Iterator[Outbox]:
    outbox = Outbox("out", cast(Any, source), most, pump, window=64, guarantee=guarantee)
    with pump.serving(connection), outbox.publishing(connection):
        yield outbox


async def test_an_app_is_told_once_of_answers_that_came_together_and_after_what_waited_is_written() -> None:
    record: list[str] = []
    source, connection, pump = Recording(record, *numbered(6)), Batching(record), Pump()
    with carried(connection, source, pump, 4):
        await pump.cycle(None)
        with connection.answers:
            connection.finish(0, 1, 2)
            assert source.acknowledged == []
        assert record == ["written [1, 2, 3, 4]", "written [5, 6]", "told 3"]
        connection.finish(3)  # and one that comes alone at once
        assert source.acknowledged == [3, 4]
    assert not isinstance(connection.answers, Pump), "it hands them over to nobody when it is given back"


async def test_exactly_once_what_is_done_counts_before_anything_takes_its_place() -> None:
    """Else a gateway that is killed in between leaves two messages for one identifier."""
    record: list[str] = []
    source, connection, pump = Recording(record, *numbered(6)), Batching(record), Pump()
    with carried(connection, source, pump, 4, "exactly once"):
        await pump.cycle(None)
        with connection.answers:
            connection.finish(0, 1, 2)
            assert source.acknowledged == []
        assert record == ["written [1, 2, 3, 4]", "told 3", "written [5, 6]"]


async def test_an_app_is_told_once_of_what_was_written_and_is_not_answered() -> None:
    record: list[str] = []
    source, connection, pump = Recording(record, *numbered(5)), Batching(record, is_answered=False), Pump()
    with carried(connection, source, pump):
        await pump.cycle(None)
    assert record == ["written [1, 2, 3, 4, 5]", "told 5"]


async def test_the_count_never_goes_back() -> None:
    """One that is done while others are published comes behind those that were answered."""

    class Refusing(Batching):
        def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None:
            super().publish(channel, envelope, on_done, again=again)
            if len(self.published) > 2:
                self.unacknowledged[-1]()

    record: list[str] = []
    source, connection, pump = Recording(record, *numbered(3)), Refusing(record), Pump()
    with carried(connection, source, pump, 2):
        await pump.cycle(None)
        with connection.answers:
            connection.finish(0, 1)
    assert source.acknowledged == [3]


async def test_an_app_is_told_of_what_came_before_an_error() -> None:
    def broken() -> None:
        raise ValueError("broken")

    source, connection, pump = Source(*numbered(2)), Batching([]), Pump()
    with carried(connection, source, pump):
        await pump.cycle(None)
        connection.unacknowledged[1] = broken
        with pytest.raises(ValueError, match="broken"), connection.answers:
            connection.finish(0, 1)
        assert source.acknowledged == [1]


async def test_a_pump_is_woken_for_what_a_batch_leaves(autojump_clock: MockClock) -> None:
    """More turns are asked for in the middle of answers than a batch may take."""
    record: list[str] = []
    pump, connection = Pump(), Batching(record)
    outboxes = 100
    with contextlib.ExitStack() as lent:
        lent.enter_context(pump.serving(connection))
        sources = [Source(*numbered(2)) for _ in range(outboxes)]
        for number, source in enumerate(sources):
            outbox = Outbox(str(number), cast(Any, source), 1, pump, window=64)
            lent.enter_context(outbox.publishing(connection))
        while pump.ready:
            await pump.cycle(None)
        assert len(connection.published) == outboxes
        with connection.answers:
            connection.finish(*range(outboxes))
        assert outboxes < len(connection.published) < 2 * outboxes
        assert all(source.acknowledged == [1] for source in sources)
        with trio.fail_after(PATIENCE):
            while len(connection.published) < 2 * outboxes:
                await pump.wait()
                await pump.cycle(None)


async def test_a_bridge_carries_in_batches(autojump_clock: MockClock) -> None:
    record: list[str] = []
    connection = Batching(record)
    async with open_bridge(FakeClient(connection), outbound()) as running:
        running.sources["out"].put(*numbered(3))
        await wait_all_tasks_blocked()
        with connection.answers:
            connection.finish(0, 1, 2)
            assert running.sources["out"].acknowledged == []
        assert running.sources["out"].acknowledged == [3]
    assert record == ["written [1, 2, 3]"]

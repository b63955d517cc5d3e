"""A stored channel, in virtual time: what is taken, stored, handed out, dropped, and what the app's end is told."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from taktora_trio import Header, Metadata, Store
from taktora_trio.channels import Envelope
from taktora_trio.connectors.connection import Guarantee
from taktora_trio.connectors.pump import Pump
from taktora_trio.connectors.storing.backlog import Backlog
from taktora_trio.connectors.storing.catching_up import CatchUp
from taktora_trio.connectors.storing.message import STORED_AT, boot_of_now, decode, encode
from taktora_trio.connectors.storing.outbound import StoredSource
from taktora_trio.connectors.storing.unappended import Unappended
from taktora_trio.errors import StoreError
from taktora_trio.transport.source import Discarded
from tests.connectors.memory_log import MemoryLog

INDEX = 1 << 40
WINDOW = 8


class SharedMemory:
    """The app's end: numbered from 1, and told what became of each."""

    def __init__(self, epoch: int = 7) -> None:
        self.epoch = epoch
        self.released = self.acknowledged = self.sent = 0
        self.settled_: dict[int, str] = {}
        self.begun_before = 0
        self.begun: list[int] = []
        self.has_writer = True
        self._queue: deque[Envelope | Exception] = deque()
        self._more = trio.Event()

    def send(self, *payloads: bytes, metadata: Metadata | None = None, age: float = 0) -> None:
        for payload in payloads:
            self.sent += 1
            boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(age * 1e9)
            header = Header(self.sent, time.time_ns() - int(age * 1e9), boottime_ns)
            self._queue.append(Envelope(payload, header, "topic", metadata))
        self._more.set()

    def send_rubbish(self) -> None:
        self.sent += 1
        self._queue.append(Discarded("rubbish", self.sent))
        self._more.set()

    def taken_over(self) -> SharedMemory:
        """Return it as the next gateway finds it: what is not released comes again."""
        after = SharedMemory(self.epoch)
        after.sent, after.released, after.acknowledged = self.sent, self.released, self.acknowledged
        after.begun_before = self.begun[-1] if self.begun else self.begun_before
        return after

    @property
    def waiting(self) -> int:
        return self.sent - self.released

    def receive_nowait(self) -> Envelope:
        if not self._queue:
            raise trio.WouldBlock
        one = self._queue.popleft()
        if isinstance(one, Exception):
            raise one
        return one

    async def wait(self) -> None:
        await self._more.wait()
        self._more = trio.Event()

    def attach(self) -> None: ...

    def acknowledge(self, header: Header) -> None:
        assert header.sequence_number > self.acknowledged
        self.acknowledged = header.sequence_number
        self.released = max(self.released, header.sequence_number)

    def release(self, number: int) -> None:
        assert number > self.released
        self.released = number

    def settled(self, number: int, refusal: str) -> None:
        self.settled_[number] = refusal

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        self.begun.append(header.sequence_number)
        begun()


@contextlib.asynccontextmanager
async def stored(
    policy: Store,
    shared: SharedMemory,
    log: MemoryLog | None,
    *,
    guarantee: Guarantee = "at least once",
    max_inflight: int = 4,
    catch_up: CatchUp | None = None,
    name: str = "out",
    trouble: list[str] | None = None,
) -> AsyncIterator[StoredSource]:
    source = StoredSource(
        name,
        cast(Any, shared),
        policy,
        topic="topic",
        window=WINDOW,
        max_inflight=max_inflight,
        guarantee=guarantee,
        catch_up=catch_up or CatchUp({}, policy.catch_up_rate),
        on_trouble=(list[str]() if trouble is None else trouble).append,
    )
    if log is not None:
        source.opened(cast(Any, log))
    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.serve)
            await wait_all_tasks_blocked()
            yield source
            source.stop()
            nursery.cancel_scope.cancel()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


async def publish(source: StoredSource, count: int, *, acknowledge: bool = True) -> list[Envelope]:
    """Take so many as an outbox does, and acknowledge each."""
    taken, pump = list[Envelope](), Pump()
    source.watch(pump.add("out", lambda: 0))
    with trio.fail_after(900):
        while len(taken) < count:
            try:
                taken.append(source.receive_nowait())
            except trio.WouldBlock:
                await pump.wait()
                await pump.cycle(None)
                continue
            if acknowledge:
                source.acknowledge(taken[-1].header)
    return taken


def payloads(envelopes: list[Envelope]) -> list[bytes]:
    return [envelope.payload for envelope in envelopes]


async def test_without_a_connection_everything_is_stored_and_makes_room(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(), shared, log) as source:
        for batch in range(5):
            shared.send(*numbered(WINDOW, batch * WINDOW))
            await wait_all_tasks_blocked()
            assert shared.waiting == 0
        assert shared.acknowledged == 0
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()
        source.connected(True)
        envelopes = await publish(source, 5 * WINDOW)
        assert payloads(envelopes) == numbered(5 * WINDOW)
        assert [envelope.header.sequence_number for envelope in envelopes] == [INDEX + n for n in range(1, 41)]
        assert shared.acknowledged == 5 * WINDOW
        assert log.channel("out").count == 0


@pytest.mark.parametrize("keeper", ["unappended", "backlog"])
async def test_a_message_at_which_the_gateway_crashes_as_it_takes_it_is_not_told_to_be_stored(
    keeper: str, autojump_clock: MockClock
) -> None:
    """The next gateway finds it in shared memory, or in the log; the app's end is told nothing else at the end."""
    kept = {"unappended": Unappended, "backlog": Backlog}[keeper]
    shared, log = SharedMemory(), MemoryLog()
    with pytest.MonkeyPatch.context() as patch, pytest.RaisesGroup(RuntimeError, flatten_subgroups=True):
        async with stored(Store(), shared, log) as source:
            patch.setattr(kept, "put", _crash)
            shared.send(b"0")
            try:
                await trio.sleep(10)
            finally:
                source.connected(False)
                source.stop()
                source.closed()
    assert shared.released == shared.acknowledged == 0 or log.channel("out").count == 1


def _crash(*args: object) -> None:
    raise RuntimeError("crash on purpose")


async def test_what_is_in_a_log_that_was_closed_is_not_told_to_be_acknowledged(autojump_clock: MockClock) -> None:
    """As where a gateway ends by an error, while the other side still answers."""
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(), shared, log) as source:
        shared.send(*numbered(WINDOW))
        await wait_all_tasks_blocked()
        source.connected(True)
        in_flight = await publish(source, 4, acknowledge=False)
        source.closed()
        for envelope in in_flight:
            source.acknowledge(envelope.header)
        assert shared.acknowledged == 4


async def test_memory_is_bounded_however_large_the_backlog(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(), shared, log) as source:
        for batch in range(100):
            shared.send(*numbered(WINDOW, batch * WINDOW))
            await wait_all_tasks_blocked()
        backlog = source._backlog
        assert len(backlog._ready) <= WINDOW
        assert len(backlog._loaded) <= WINDOW + 128
        source.connected(True)
        most = 0
        got = []
        for _ in range(100 * WINDOW):
            got += await publish(source, 1)
            most = max(most, len(backlog._loaded))
        assert payloads(got) == numbered(100 * WINDOW)
        assert most <= WINDOW + 128


async def test_what_is_acknowledged_in_time_is_never_stored_when_behind(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(behind_after=0.5), shared, log) as source:
        source.connected(True)
        shared.send(*numbered(3))
        await wait_all_tasks_blocked()
        assert len(await publish(source, 3)) == 3
        assert shared.acknowledged == shared.released == 3
        await trio.sleep(10)
        assert log.channel("out").last == 0


async def test_what_is_not_acknowledged_in_time_is_stored(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(behind_after=50), shared, log) as source:
        source.connected(True)
        shared.send(b"old", age=60)
        shared.send(b"young")
        envelopes = await publish(source, 2, acknowledge=False)
        assert shared.released == 0
        await trio.sleep(20)
        assert shared.released == 1
        assert shared.acknowledged == 0
        source.connected(False)
        assert shared.released == 2, "without a connection the rest is stored at once"
        source.acknowledge(envelopes[1].header)
        assert shared.acknowledged == 2
        assert log.channel("out").count == 0


async def test_always_stores_at_once_and_publishes_meanwhile(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog(commits=False)
    async with stored(Store(policy="always"), shared, log) as source:
        source.connected(True)
        shared.send(*numbered(4))
        envelopes = await publish(source, 4, acknowledge=False)
        await wait_all_tasks_blocked()
        assert (shared.released, log.channel("out").last) == (0, INDEX + 4)
        source.acknowledge(envelopes[1].header)
        assert (shared.released, shared.acknowledged) == (2, 2), "acknowledged even sooner"
        log.write()
        assert (shared.released, shared.acknowledged) == (4, 2)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_the_next_gateway_takes_nothing_twice_and_goes_on_with_the_same_numbers(
    newest_first: bool, autojump_clock: MockClock
) -> None:
    policy = Store(policy="always", catch_up="newest-first" if newest_first else "oldest-first")
    shared, log = SharedMemory(), MemoryLog(commits=False)
    async with stored(policy, shared, log):
        shared.send(*numbered(3))
        await wait_all_tasks_blocked()
        log.write()  # the gateway is killed before it has said so
        shared.send(*numbered(2, 3))
        await wait_all_tasks_blocked()
    after, log = shared.taken_over(), log.power_cut()
    after.released, after.sent = 0, 0
    after.send(*numbered(5))
    async with stored(policy, after, log) as source:
        assert after.released == 3
        source.connected(True)
        got = await publish(source, 5)
        assert sorted(payloads(got)) == numbered(5)
        if not newest_first:
            assert [one.header.sequence_number for one in got] == [INDEX + number for number in range(1, 6)]
        assert after.acknowledged == 5
        assert log.channel("out").count == 0


async def test_the_next_run_goes_on_with_the_backlog_and_repeats_no_number(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(epoch=7), MemoryLog()
    async with stored(Store(), shared, log):
        shared.send(*numbered(20))
        await wait_all_tasks_blocked()
    shared = SharedMemory(epoch=8)
    async with stored(Store(), shared, log.power_cut()) as source:
        shared.send(*numbered(2, 20))
        source.connected(True)
        got = await publish(source, 20)
        assert shared.acknowledged == 0, "those are of another app's numbering"
        got += await publish(source, 2)
        assert payloads(got) == numbered(22)
        numbers = [one.header.sequence_number for one in got]
        assert numbers == [*range(INDEX + 1, INDEX + 21), 2 * INDEX + 1, 2 * INDEX + 2]
        assert shared.acknowledged == 2


async def test_messages_flow_without_a_log_and_are_stored_when_it_is_there(autojump_clock: MockClock) -> None:
    """The disk hangs as the gateway starts; the log has messages of an earlier run."""
    log = MemoryLog()
    async with stored(Store(), SharedMemory(epoch=6), log):
        pass
    before = SharedMemory(epoch=6)
    async with stored(Store(), before, log):
        before.send(*numbered(3, 100))
        await wait_all_tasks_blocked()
    shared = SharedMemory(epoch=7)
    async with stored(Store(policy="always"), shared, None) as source:
        source.connected(True)
        shared.send(*numbered(3))
        got = await publish(source, 2)
        got += await publish(source, 1, acknowledge=False)
        assert [one.header.sequence_number for one in got] == [1, 2, 3]
        assert (shared.released, shared.acknowledged) == (2, 2)
        shared.send(*numbered(2, 3))
        await wait_all_tasks_blocked()
        assert shared.released == 2
        source.opened(cast(Any, log))
        assert shared.released == 5
        assert shared.acknowledged == 2
        got += await publish(source, 3, acknowledge=False)
        assert payloads(got[3:]) == numbered(3, 100)
        for one in got[2:]:
            source.acknowledge(one.header)
        got += await publish(source, 2)
        assert payloads(got[6:]) == numbered(2, 3)
        assert shared.acknowledged == 5
        assert log.channel("out").count == 0


async def test_a_log_that_opens_late_publishes_nothing_again_that_was_taken_meanwhile(
    autojump_clock: MockClock,
) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(), shared, log):
        shared.send(*numbered(3))
        await wait_all_tasks_blocked()
    after = shared.taken_over()  # killed before it said that they are stored
    after.released = after.sent = 0
    after.send(*numbered(4))
    async with stored(Store(), after, None) as source:
        source.connected(True)
        got = await publish(source, 2, acknowledge=False)
        source.opened(cast(Any, log))
        for one in got:
            source.acknowledge(one.header)
        got += await publish(source, 2)
        assert payloads(got) == numbered(4)
        assert after.acknowledged == 4
        assert log.channel("out").count == 0


async def test_what_can_not_be_read_of_shared_memory_holds_up_nobody(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(), shared, log) as source:
        source.connected(True)
        shared.send(b"0")
        shared.send_rubbish()
        assert payloads(await publish(source, 1)) == [b"0"]
        await wait_all_tasks_blocked()
        assert (shared.released, shared.acknowledged) == (2, 2)
        assert shared.settled_ == {2: "rubbish"}


# Full


async def test_when_full_the_window_fills_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(max_messages=5), shared, log) as source:
        shared.send(*numbered(8))
        await trio.sleep(1)
        assert shared.waiting == 3
        source.connected(True)
        assert payloads(await publish(source, 8)) == numbered(8)
        assert shared.waiting == 0
        assert source.dropped == 0


async def test_when_full_the_oldest_are_dropped_and_their_receipts_say_so(autojump_clock: MockClock) -> None:
    shared, log, trouble = SharedMemory(), MemoryLog(), list[str]()
    async with stored(Store(max_messages=5, when_full="drop-oldest"), shared, log, trouble=trouble) as source:
        for batch in range(5):
            shared.send(*numbered(4, 4 * batch))
            await trio.sleep(1)
            assert shared.waiting == 0
        assert source.dropped == 15
        assert sorted(shared.settled_) == list(range(1, 16))
        assert set(shared.settled_.values()) == {"dropped: the store was full, and newer messages came"}
        assert trouble
        source.connected(True)
        assert payloads(await publish(source, 5)) == numbered(5, 15)
        assert shared.acknowledged == 20


async def test_when_full_the_newest_are_dropped(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(max_messages=5, when_full="drop-newest"), shared, log) as source:
        shared.send(*numbered(8))
        await wait_all_tasks_blocked()
        assert (shared.waiting, source.dropped) == (0, 3)
        assert shared.settled_ == dict.fromkeys((6, 7, 8), "dropped: the store is full")
        source.connected(True)
        assert payloads(await publish(source, 5)) == numbered(5)
        shared.send(b"8")
        assert payloads(await publish(source, 1)) == [b"8"]


async def test_what_is_in_flight_is_not_dropped(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(max_messages=4, when_full="drop-oldest"), shared, log) as source:
        shared.send(*numbered(4))
        await wait_all_tasks_blocked()
        source.connected(True)
        in_flight = await publish(source, 2, acknowledge=False)
        source.connected(False)
        shared.send(*numbered(4, 4))
        await trio.sleep(1)
        assert sorted(shared.settled_) == [3, 4, 5, 6], "two are in flight, and take up room"
        source.connected(True)
        for one in in_flight:
            source.acknowledge(one.header)
        assert payloads(await publish(source, 2)) == numbered(2, 6)
        assert shared.acknowledged == 8


async def test_what_is_too_old_is_dropped(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(max_age=60), shared, log) as source:
        shared.send(*numbered(20), age=61)
        shared.send(*numbered(2, 20))
        await wait_all_tasks_blocked()
        for _ in range(3):
            source.drop_what_is_too_old()
            await wait_all_tasks_blocked()
        assert source.dropped == 20
        assert log.channel("out").count == 2


# Catching up


async def test_newest_first_lets_the_backlog_have_its_share(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(catch_up="newest-first"), shared, log) as source:
        shared.send(*numbered(40))
        await wait_all_tasks_blocked()
        source.connected(True)
        shared.send(*numbered(20, 100))
        await wait_all_tasks_blocked()
        got = await publish(source, 60)
        assert payloads(got)[:20] == [*numbered(9, 100), b"0", *numbered(9, 109), b"1"]
        assert sorted(payloads(got)[20:], key=int) == [*numbered(38, 2), *numbered(2, 118)]
        assert [one.header.sequence_number for one in got] == list(range(1, 61))
        assert (shared.acknowledged, log.channel("out").count) == (60, 0)


async def test_newest_first_the_live_ones_have_their_receipts_long_before_the_backlog(
    autojump_clock: MockClock,
) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(catch_up="newest-first"), shared, log) as source:
        shared.send(*numbered(40))
        await wait_all_tasks_blocked()
        source.connected(True)
        shared.send(b"live")
        await wait_all_tasks_blocked()
        assert payloads(await publish(source, 1)) == [b"live"]
        assert shared.settled_ == {41: ""}
        assert shared.acknowledged == 0


async def test_newest_first_nothing_is_published_twice_that_was_live_and_is_read_from_disk(
    autojump_clock: MockClock,
) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(policy="always", catch_up="newest-first"), shared, log, max_inflight=4) as source:
        shared.send(*numbered(30))
        await wait_all_tasks_blocked()
        source.connected(True)
        in_flight = await publish(source, 3, acknowledge=False)
        shared.send(*numbered(60, 30))  # more than memory holds: the live ones overflow to the disk
        await wait_all_tasks_blocked()
        got = [*in_flight, *await publish(source, 1, acknowledge=False)]
        for one in got:
            source.acknowledge(one.header)
        got += await publish(source, 86)
        assert sorted(payloads(got), key=int) == numbered(90)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()


async def test_the_backlog_is_slow_where_a_rate_is_given(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(catch_up_rate=10), shared, log) as source:
        shared.send(*numbered(40))
        await wait_all_tasks_blocked()
        source.connected(True)
        began = trio.current_time()
        await publish(source, 40)
        assert 3.8 <= trio.current_time() - began <= 4.1
        began = trio.current_time()
        shared.send(*numbered(40))
        await publish(source, 40)
        assert trio.current_time() == began, "what is sent now has no such limit"


async def test_the_backlog_can_be_marked(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(mark_backlog=True), shared, log) as source:
        shared.send(b"0", metadata=Metadata(user_properties=(("a", "b"),)))
        shared.send(*numbered(20, 1))
        await wait_all_tasks_blocked()
        source.connected(True)
        got = await publish(source, 21)
        assert all(one.metadata and one.metadata.user_properties[-1][0] == STORED_AT for one in got)
        (name, _), (_, stored_at) = cast(Metadata, got[0].metadata).user_properties
        assert (name, stored_at) == ("a", str(got[0].header.timestamp_ns))
        shared.send(b"live")
        assert (await publish(source, 1))[0].metadata is None


async def test_a_channel_of_a_higher_priority_goes_first(autojump_clock: MockClock) -> None:
    catch_up, log = CatchUp({"high": 1, "low": 0}), MemoryLog()
    high, low = SharedMemory(), SharedMemory()
    order: list[str] = []

    async def publish_all(source: StoredSource) -> None:
        for _ in range(30):
            await publish(source, 1)
            order.append(source.name)
            await trio.lowlevel.checkpoint()

    async with (
        stored(Store(), high, log, catch_up=catch_up, name="high") as first,
        stored(Store(), low, log, catch_up=catch_up, name="low") as second,
    ):
        for shared in (high, low):
            shared.send(*numbered(30))
        await wait_all_tasks_blocked()
        for source in (first, second):
            source.connected(True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_all, first)
            nursery.start_soon(publish_all, second)
    assert order[:30].count("high") >= 27
    assert sorted(order) == ["high"] * 30 + ["low"] * 30


async def test_a_disk_that_can_not_be_read_is_tried_again(autojump_clock: MockClock) -> None:
    shared, log, trouble = SharedMemory(), MemoryLog(), list[str]()
    log.fails_to_read = True
    async with stored(Store(), shared, log, trouble=trouble) as source:
        shared.send(*numbered(20))
        await wait_all_tasks_blocked()
        source.connected(True)
        await trio.sleep(3)
        assert trouble[0] == "the store can't be read: input/output error"
        log.fails_to_read = False
        assert payloads(await publish(source, 20)) == numbered(20)


# Exactly once


async def test_exactly_once_what_is_begun_is_on_disk_before_it_is_published(autojump_clock: MockClock) -> None:
    shared, log, begun = SharedMemory(), MemoryLog(commits=False), list[int]()
    async with stored(Store(policy="always"), shared, log, guarantee="exactly once") as source:
        source.connected(True)
        shared.send(*numbered(2))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()  # which numbering it is, is not on disk: after a power cut it would come again
        log.write()
        await wait_all_tasks_blocked()
        for one in await publish(source, 2, acknowledge=False):
            number = one.header.sequence_number
            source.begin(one.header, partial(begun.append, number))
        await wait_all_tasks_blocked()
        assert begun == []
        log.write()
        await wait_all_tasks_blocked()
        assert begun == [INDEX + 1, INDEX + 2]
    log = log.power_cut()
    log.commits = True
    async with stored(Store(), SharedMemory(8), log, guarantee="exactly once") as source:
        assert source.begun_before == INDEX + 2
        source.connected(True)
        assert [one.header.sequence_number for one in await publish(source, 2)] == [INDEX + 1, INDEX + 2]


async def test_exactly_once_what_is_not_on_disk_goes_behind_what_is_and_is_not_begun(autojump_clock: MockClock) -> None:
    shared, log, begun = SharedMemory(), MemoryLog(commits=False), list[int]()
    async with stored(Store(), shared, log, guarantee="exactly once") as source:
        log.write()
        shared.send(b"0")
        await wait_all_tasks_blocked()
        shared.send(b"1")  # while the disk is busy with the first
        source.connected(True)
        await wait_all_tasks_blocked()
        for one in await publish(source, 2, acknowledge=False):
            source.begin(one.header, partial(begun.append, one.header.sequence_number - INDEX))
        assert begun == []
        log.write()
        await wait_all_tasks_blocked()
        log.write()
        await wait_all_tasks_blocked()
        assert begun == [1, 2]


async def test_exactly_once_what_is_not_on_disk_is_begun_in_shared_memory(autojump_clock: MockClock) -> None:
    shared, log, begun = SharedMemory(), MemoryLog(), list[int]()
    async with stored(Store(), shared, log, guarantee="exactly once") as source:
        source.connected(True)
        shared.send(b"0")
        (one,) = await publish(source, 1, acknowledge=False)
        source.begin(one.header, lambda: begun.append(1))
        assert (begun, shared.begun) == ([1], [1])
        source.connected(False)  # now it is stored, and that it was begun, too
        log.write()
        assert log.channel("out").values_on_disk["begun"] == INDEX + 1
    after = shared.taken_over()
    async with stored(Store(), after, MemoryLog(), guarantee="exactly once") as source:
        assert source.begun_before == INDEX + 1


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_was_published_before_the_log_was_open_is_known_by_its_new_number(
    is_stored: bool, autojump_clock: MockClock
) -> None:
    shared, log = SharedMemory(), MemoryLog()
    async with stored(Store(policy="always" if is_stored else "when-behind"), shared, None) as source:
        source.connected(True)
        shared.send(*numbered(3))
        await wait_all_tasks_blocked()
        first, *others = await publish(source, 3, acknowledge=False)
        source.opened(cast(Any, log))
        await wait_all_tasks_blocked()
        assert log.channel("out").count == 3 * is_stored
        source.settled(others[0].header.sequence_number, "refused")
        source.acknowledge(first.header)
        for other in others:
            source.acknowledge(other.header)
        await trio.sleep(5)
        assert log.channel("out").count == 0
        assert (shared.acknowledged, shared.settled_) == (3, {2: "refused"})


async def test_exactly_once_nothing_is_published_without_the_log(autojump_clock: MockClock) -> None:
    shared = SharedMemory()
    async with stored(Store(), shared, None, guarantee="exactly once") as source:
        source.connected(True)
        shared.send(b"0")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            source.receive_nowait()
        source.opened(cast(Any, MemoryLog()))
        assert payloads(await publish(source, 1)) == [b"0"]


async def test_exactly_once_what_was_begun_is_not_dropped(autojump_clock: MockClock) -> None:
    shared, log = SharedMemory(), MemoryLog()
    policy = Store(policy="always", max_messages=4, when_full="drop-oldest")
    async with stored(policy, shared, log, guarantee="exactly once") as source:
        source.connected(True)
        shared.send(*numbered(3))
        for one in await publish(source, 2, acknowledge=False):
            source.begin(one.header, lambda: None)
        await wait_all_tasks_blocked()
    after = SharedMemory(8)
    async with stored(policy, after, log.power_cut(), guarantee="exactly once") as source:
        after.send(*numbered(5, 3))
        await trio.sleep(1)
        assert source.dropped == 0, "the oldest is begun"
        source.connected(True)
        assert payloads(await publish(source, 8)) == numbered(8)


# On disk


def test_a_message_of_an_earlier_boot_has_its_age_by_the_clock_for_people() -> None:
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    ago = 1000 * 10**9
    envelope = Envelope(b"x", Header(5, time.time_ns() - ago, now - ago, b"id"), "topic", Metadata("text"))
    content = encode(envelope, "topic")
    again = decode(content, 9, envelope.header.timestamp_ns, "topic")
    assert again == replace(envelope, header=replace(envelope.header, sequence_number=9))
    other_boot = content.replace(boot_of_now().to_bytes(4, "big"), b"\x00\x00\x00\x01")
    assert other_boot != content
    aged = decode(other_boot, 9, envelope.header.timestamp_ns, "topic")
    assert abs(aged.header.boottime_ns - (now - ago)) < ago / 2, "however slow the machine is"


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x91\xc4\x01x"])
def test_a_record_that_is_no_message_is_left_out(content: bytes) -> None:
    with pytest.raises(StoreError, match="record 3 is no message"):
        decode(content, 3, 0, "topic")

"""No ring is lost, whoever waits, leaves, is cancelled, interrupted or closed, in any order."""

from __future__ import annotations

import contextlib
import mmap
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from taktora_trio.transport.bell import Bell, Waiter, Wakeup, open_bell, open_ringer
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import SharedNode, open_node
from taktora_trio.transport.services import event_service
from taktora_trio.transport.spec import events_for


class Activation(NamedTuple):
    id: Any


class Id(NamedTuple):
    as_value: int


class Listener:
    """What iceoryx2's does: ids are gathered, and the socket is readable while there are some that nobody has taken."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self._ids: dict[int, None] = {}
        self.calls = 0

    def notify(self, number: int) -> None:
        if not self._ids:
            self.theirs.send(b"!")
        self._ids[number] = None

    def try_wait(self) -> list[Activation]:
        self.calls += 1
        with contextlib.suppress(BlockingIOError):
            self.ours.recv(1)
        ids, self._ids = self._ids, {}
        return [Activation(Id(number)) for number in ids]

    async def sleep(self) -> None:
        await trio.lowlevel.wait_readable(self.ours)

    def rouse(self) -> None:
        trio.lowlevel.notify_closing(self.ours)

    def delete(self) -> None:
        self.ours.close()
        self.theirs.close()


@contextlib.contextmanager
def bell_of(listener: Listener) -> Iterator[Bell]:
    bell = Bell(listener)
    try:
        yield bell
    finally:
        bell.close()


# Each of these sees what was sent on its channels, as long as it lives.

CHANNELS = 5


class World:
    def __init__(self, bell: Bell, listener: Listener) -> None:
        self.bell = bell
        self.listener = listener
        self.sent = [1] * CHANNELS  # before anybody came

    def send(self, channel: int) -> None:
        self.sent[channel] += 1
        self.listener.notify(1 + channel)

    def ring_all(self) -> None:
        self.sent = [count + 1 for count in self.sent]
        self.listener.notify(0)


@attrs.define(eq=False)
class Watcher:
    """A task that looks at one channel."""

    world: World
    channel: int
    place: Waiter
    looks_first: bool
    """True if it clears, looks and waits; false if it waits, clears and looks."""
    seen: int = 0
    interrupted: int = 0
    expected: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_waiting: bool = False
    held: trio.Event | None = None
    """While it is set, it does something else between being woken and looking."""
    closed: bool = False
    ended: bool = False

    async def run(self) -> None:
        while not self.ended:
            if self.looks_first:
                self.look()
            await self.wait()
            if not self.looks_first:
                self.look()

    def look(self) -> None:
        self.place.clear()
        self.seen = self.world.sent[self.channel]

    async def wait(self) -> None:
        self.scope = trio.CancelScope()
        try:
            with self.scope:
                self.is_waiting = True
                await self.place.wait()
        except trio.ClosedResourceError:
            self.ended = self.closed
            self.interrupted += 1
        finally:
            self.is_waiting = False
        if self.held is not None:
            await self.held.wait()

    @property
    def is_right(self) -> bool:
        if self.closed or self.held is not None:
            return self.ended or self.held is not None
        return self.seen == self.world.sent[self.channel] and self.interrupted >= self.expected

    def interrupt(self) -> None:
        self.expected = self.interrupted + (self.is_asleep and not self.scope.cancel_called)
        self.place.interrupt()

    @property
    def is_asleep(self) -> bool:
        return self.is_waiting and not self.place._is_woken

    def hold(self) -> None:
        if self.held is None:
            self.held = trio.Event()

    def release(self) -> None:
        if self.held is not None:
            self.held.set()
            self.held = None

    def close(self) -> None:
        self.closed = True
        self.place.close()


class Pump(Watcher):
    """A task that looks at each channel that was rung, and at no other."""

    rung: dict[int, None]
    looked: list[int]

    def begin(self, world: World) -> None:
        self.rung = dict.fromkeys(range(CHANNELS))
        self.looked = [0] * CHANNELS
        for channel in range(CHANNELS):
            world.bell.call(channel, lambda channel=channel: self.ring(channel))  # type: ignore[misc]

    def ring(self, channel: int) -> None:
        self.rung[channel] = None
        self.place.wake()

    def look(self) -> None:
        self.place.clear()
        while self.rung:
            channel = self.rung.popitem()[0]
            self.looked[channel] = self.world.sent[channel]

    @property
    def is_right(self) -> bool:
        if self.closed or self.held is not None:
            return self.ended or self.held is not None
        return self.looked == self.world.sent and self.interrupted >= self.expected


def watcher(world: World, kind: int, channel: int) -> Watcher:
    if kind == 2:
        pump = Pump(world, channel, Waiter(world.bell), looks_first=True)
        pump.begin(world)
        return pump
    return Watcher(world, channel, world.bell.wakeup(channel), looks_first=kind == 0)


OPERATIONS = st.sampled_from(
    ["send", "send", "send", "ring all", "cancel", "interrupt", "close", "hold", "release", "run", "run", "settle"]
)
STEPS = st.lists(st.tuples(OPERATIONS, st.integers(0, 30)), max_size=40)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), STEPS, st.booleans())
def test_no_ring_is_lost(kinds: list[int], steps: list[tuple[str, int]], settles: bool) -> None:
    async def main() -> None:
        listener = Listener()
        with bell_of(listener) as bell:
            world = World(bell, listener)
            watchers = [watcher(world, kind, place % CHANNELS) for place, kind in enumerate(kinds)]

            async def settle() -> None:
                await wait_all_tasks_blocked()
                assert all(one.is_right for one in watchers), watchers

            async with trio.open_nursery() as nursery:
                for one in watchers:
                    nursery.start_soon(one.run)
                await trio.lowlevel.checkpoint()
                for what, which in steps:
                    one = watchers[which % len(watchers)]
                    if what == "send":
                        world.send(which % CHANNELS)
                    elif what == "ring all":
                        world.ring_all()
                    elif what == "cancel":
                        one.scope.cancel()
                    elif what == "interrupt":
                        one.interrupt()
                    elif what == "close":
                        one.close()
                    elif what == "hold":
                        one.hold()
                    elif what == "release":
                        one.release()
                    elif what == "run":
                        await trio.lowlevel.checkpoint()
                    else:
                        await settle()
                for one in watchers:
                    one.release()
                if settles:
                    await settle()
                for one in watchers:
                    one.closed = True
                bell.close()
                await settle()

    trio.run(main)


async def test_one_that_waits_alone_takes_nothing_by_itself() -> None:
    listener = Listener()
    with bell_of(listener) as bell:
        place, _other = bell.wakeup(0), bell.wakeup(1)
        place.clear()
        before = listener.calls
        listener.notify(1)
        await place.wait()
        assert listener.calls == before, "who looks after it clears"


async def test_two_tasks_cannot_wait_at_one_place() -> None:
    with bell_of(Listener()) as bell:
        place = bell.wakeup(0)
        place.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(place.wait)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await place.wait()
            nursery.cancel_scope.cancel()


async def test_a_closed_place_is_not_rung_and_refuses_to_wait() -> None:
    listener = Listener()
    with bell_of(listener) as bell:
        first, second = bell.wakeup(0), bell.wakeup(0)
        first.close()
        listener.notify(1)
        await second.wait()
        with pytest.raises(trio.ClosedResourceError):
            await first.wait()


# With iceoryx2


@contextlib.asynccontextmanager
async def open_events(domain: Domain, *names: str, channels: int) -> AsyncIterator[SharedNode]:
    with domain.hold("owner"):
        async with open_node(domain, "test") as node:
            services = [event_service(node.iox, name, events_for(channels), create=True) for name in names]
            yield node
            services.clear()


async def wait_for(place: Wakeup) -> None:
    place.clear()
    await place.wait()


async def test_each_channel_is_rung_by_itself(domain: Domain) -> None:
    rung: list[int] = []

    async def note(channel: int, place: Wakeup) -> None:
        await wait_for(place)
        rung.append(channel)

    with trio.fail_after(20):
        async with (
            open_events(domain, "events", channels=100) as node,
            open_bell(node, "events", 100) as bell,
            open_ringer(node, "events", 100) as ringer,
            trio.open_nursery() as nursery,
        ):
            for channel in range(100):
                nursery.start_soon(note, channel, bell.wakeup(channel))
            await wait_all_tasks_blocked()
            for channel in (50, 99, 0):
                assert ringer.of(channel)() == 1
                while len(rung) < 1:
                    await trio.lowlevel.checkpoint()
                await wait_all_tasks_blocked()
                assert rung == [channel]
                rung.clear()
            ringer.ring_all()
    assert sorted(rung) == sorted(set(range(100)) - {50, 99, 0})


async def test_so_many_channels_that_some_share_an_event(domain: Domain) -> None:
    with trio.fail_after(20):
        async with (
            open_events(domain, "events", channels=5_000) as node,
            open_bell(node, "events", 5_000) as bell,
            open_ringer(node, "events", 5_000) as ringer,
        ):
            places = [bell.wakeup(channel) for channel in (0, 1, 1_022, 1_023, 4_999)]
            for place in places:
                place.clear()
            for channel in (0, 1, 1_022, 1_023, 4_999):
                ringer.of(channel)()
            async with trio.open_nursery() as nursery:
                for place in places:
                    nursery.start_soon(place.wait)


async def test_nobody_hears_a_ringer_that_is_alone(domain: Domain) -> None:
    async with open_events(domain, "events", channels=1) as node, open_ringer(node, "events", 1) as ringer:
        assert ringer.of(0)() == ringer.ring_all() == 0


_OTHER = """
import mmap
import os
import sys
import trio
from taktora_trio.transport.bell import open_bell, open_ringer
from taktora_trio.transport.domain import Domain
from taktora_trio.transport.node import open_node

async def answer(place, ring, counts, channel, trips):
    for number in range(1, trips + 1):
        while counts[2 * channel] < number:
            place.clear()
            if counts[2 * channel] < number:
                await place.wait()
        counts[2 * channel + 1] = number
        ring()

async def main():
    domain, trips = Domain(sys.argv[1]), int(sys.argv[3])
    file = os.open(sys.argv[2], os.O_RDWR)
    counts = memoryview(mmap.mmap(file, 0)).cast("Q")
    with domain.hold("gateway"):
        async with (
            open_node(domain, "other") as node,
            open_bell(node, "there", 20) as bell,
            open_ringer(node, "back", 20) as ringer,
            trio.open_nursery() as nursery,
        ):
            for channel in range(20):
                nursery.start_soon(answer, bell.wakeup(channel), ringer.of(channel), counts, channel, trips)

trio.run(main)
"""


async def test_two_processes_ring_each_other(domain: Domain, tmp_path: Path) -> None:
    trips = 50
    file = tmp_path / "counts"
    file.write_bytes(bytes(16 * 20))

    async def ask(place: Wakeup, ring: Callable[[], int], counts: memoryview, channel: int) -> None:
        for number in range(1, trips + 1):
            counts[2 * channel] = number
            ring()
            while counts[2 * channel + 1] < number:
                place.clear()
                if counts[2 * channel + 1] < number:
                    await place.wait()

    with trio.fail_after(60), file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        async with open_events(domain, "there", "back", channels=20) as node:
            with memoryview(mapped) as view, view.cast("Q") as counts:
                async with (
                    open_bell(node, "back", 20) as bell,
                    open_ringer(node, "there", 20) as ringer,
                    trio.open_nursery() as nursery,
                ):
                    command = [sys.executable, "-c", _OTHER, domain.name, str(file), str(trips)]
                    nursery.start_soon(partial(trio.run_process, command, stdin=subprocess.DEVNULL))
                    for channel in range(20):
                        nursery.start_soon(ask, bell.wakeup(channel), ringer.of(channel), counts, channel)
                assert list(counts) == [trips] * 40

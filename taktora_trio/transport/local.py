"""LocalNode: plain memory and events in the place of shared memory, for two halves that are tasks of one trio run.

Nothing here is a file, a socket or a system call. Who waits, waits for trio alone, so that a virtual clock knows when
nothing happens any more.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import attrs
import trio

from taktora_trio.errors import TransportError
from taktora_trio.transport.cursor import plain_cursors
from taktora_trio.transport.plain import PlainMemory
from taktora_trio.transport.ports import REPORTS, Node
from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = ["LocalNode"]


@attrs.frozen
class _Id:
    as_value: int


@attrs.frozen
class _Rung:
    id: _Id


@attrs.frozen
class _Memory:
    """A sample: words that a writer has sent."""

    content: ctypes.Array[ctypes.c_uint64]

    @property
    def address(self) -> int:
        return ctypes.addressof(self.content)

    @property
    def words(self) -> int:
        return len(self.content)

    def delete(self) -> None:
        """Do nothing: it is collected when nobody refers to it."""


@attrs.define(eq=False)
class _Events:
    """An event service."""

    listener: _Listener | None = None


class _Listener:
    def __init__(self, events: _Events) -> None:
        self._events = events
        self._ids: dict[int, _Rung] = {}
        self._sleeper: trio.lowlevel.Task | None = None
        self._is_roused = False

    def ring(self, number: int) -> None:
        self._ids[number] = _Rung(_Id(number))
        self._wake()

    def try_wait(self) -> Sequence[_Rung]:
        rung, self._ids = list(self._ids.values()), {}
        return rung

    async def sleep(self) -> None:
        if self._ids:
            await trio.lowlevel.checkpoint()
            return
        self._sleeper, self._is_roused = trio.lowlevel.current_task(), False
        await trio.lowlevel.wait_task_rescheduled(self._leave)
        if self._is_roused:
            raise trio.ClosedResourceError("roused")

    def rouse(self) -> None:
        self._is_roused = True
        self._wake()

    def delete(self) -> None:
        if self._events.listener is self:
            self._events.listener = None

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            trio.lowlevel.reschedule(sleeper)

    def _leave(self, raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED


class _Notifier:
    def __init__(self, events: _Events) -> None:
        self._events = events

    def of(self, number: int) -> Callable[[], int]:
        return partial(self._ring, number)

    @property
    def has_listener(self) -> bool:
        return self._events.listener is not None

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        pass

    def _ring(self, number: int) -> int:
        if (listener := self._events.listener) is None:
            return 0
        listener.ring(number)
        return 1


@attrs.define(eq=False)
class _Service:
    """A publish-subscribe service, with one end of each kind at a time."""

    name: str
    publisher: object = None
    subscriber: _Subscriber | None = None
    newest: _Memory | bytes | None = None
    """What the publisher has sent last, for a subscriber that comes later."""

    def occupy(self, publisher: object) -> None:
        if self.publisher is not None:
            raise _taken(self.name)
        self.publisher = publisher

    def send(self, sent: _Memory | bytes) -> None:
        self.newest = sent
        if self.subscriber is not None:
            self.subscriber.queue.append(sent)

    def leave(self, publisher: object) -> None:
        if self.publisher is publisher:
            self.publisher = self.newest = None


class _Publisher:
    def __init__(self, service: _Service) -> None:
        self._service = service
        self._allocated: _Memory | None = None
        service.occupy(self)

    def allocate(self, words: int) -> tuple[int, Callable[[], None]]:
        self._allocated = memory = _Memory((ctypes.c_uint64 * words)())
        return memory.address, memory.delete  # which keeps it for as long as anybody looks there

    def send(self) -> None:
        assert self._allocated is not None
        self._service.send(self._allocated)

    @property
    def has_subscriber(self) -> bool:
        return self._service.subscriber is not None

    def update_connections(self) -> None:
        """Do nothing: a subscriber that comes takes what is there."""

    def close(self) -> None:
        self._service.leave(self)


class _ReportPublisher:
    def __init__(self, service: _Service) -> None:
        self._service = service
        service.occupy(self)

    def send(self, report: bytes) -> None:
        self._service.send(report)

    def update_connections(self) -> None:
        """Do nothing, as above."""

    def close(self) -> None:
        self._service.leave(self)


class _Subscriber:
    def __init__(self, service: _Service) -> None:
        if service.subscriber is not None:
            raise _taken(service.name)
        self.queue = deque[_Memory | bytes](maxlen=REPORTS)
        self._service = service
        self._begin()

    def _begin(self) -> None:
        self._service.subscriber = self
        if self._service.newest is not None:
            self.queue.append(self._service.newest)

    @property
    def is_open(self) -> bool:
        return self._service.subscriber is self

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        self.queue.clear()
        self._begin()

    @property
    def has_publisher(self) -> bool:
        return self._service.publisher is not None

    def close(self) -> None:
        if self.is_open:
            self._service.subscriber = None


class _MemorySubscriber(_Subscriber):
    def receive(self) -> _Memory | None:
        received = self.queue.popleft() if self.queue else None
        assert not isinstance(received, bytes)
        return received


class _ReportSubscriber(_Subscriber):
    def receive(self) -> bytes | None:
        received = self.queue.popleft() if self.queue else None
        assert not isinstance(received, _Memory)
        return received


def _taken(name: str) -> TransportError:
    return TransportError(f"cannot attach to {name}: its one place is taken: is it open already?")


class LocalNode(Node):
    """Both halves have the same one. What is kept for the next run lasts as long as it does."""

    def __init__(self) -> None:
        self._events: dict[str, _Events] = {}
        self._services: dict[str, _Service] = {}
        self._memories: dict[str, PlainMemory] = {}

    @property
    def generation(self) -> int:
        return 1

    @contextlib.asynccontextmanager
    async def reserve(self, needed: int, what: str) -> AsyncIterator[None]:
        await trio.lowlevel.checkpoint()
        yield

    async def open_listener(self, name: str, ids: int) -> _Listener:
        await trio.lowlevel.checkpoint()
        events = self._events_of(name)
        if events.listener is not None:
            raise _taken(name)
        events.listener = _Listener(events)
        return events.listener

    async def open_notifier(self, name: str, ids: int) -> _Notifier:
        await trio.lowlevel.checkpoint()
        return _Notifier(self._events_of(name))

    async def open_publisher(self, spec: TrunkSpec, direction: Direction) -> _Publisher:
        await trio.lowlevel.checkpoint()
        return _Publisher(self._service_of(spec.service(direction)))

    async def open_subscriber(self, spec: TrunkSpec, direction: Direction) -> _MemorySubscriber:
        await trio.lowlevel.checkpoint()
        return _MemorySubscriber(self._service_of(spec.service(direction)))

    async def open_report_publisher(self, name: str) -> _ReportPublisher:
        await trio.lowlevel.checkpoint()
        return _ReportPublisher(self._service_of(name))

    async def open_report_subscriber(self, name: str) -> _ReportSubscriber:
        await trio.lowlevel.checkpoint()
        return _ReportSubscriber(self._service_of(name))

    def map_cursors(self, spec: TrunkSpec) -> PlainMemory:
        if (memory := self._memories.get(spec.name)) is None:
            self._memories[spec.name] = memory = plain_cursors(spec)
        return memory

    def map_lasting(self, connector: str, name: str, size: int) -> PlainMemory:
        return self._memories.setdefault(f"lasting {connector} {name}", PlainMemory(size))

    def map_kept(self, name: str, size: int) -> PlainMemory:
        return self._memories.setdefault(f"kept {name}", PlainMemory(size))

    def map_snapshot(self, name: str, most: int) -> None:
        return None

    def last_snapshot(self, name: str) -> None:
        return None

    async def clean_up(self) -> None:
        await trio.lowlevel.checkpoint()

    def _events_of(self, name: str) -> _Events:
        return self._events.setdefault(name, _Events())

    def _service_of(self, name: str) -> _Service:
        return self._services.setdefault(name, _Service(name))

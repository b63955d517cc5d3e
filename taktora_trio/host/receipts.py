"""Tasks of the app wait at a channel: for room, and until messages are stored, or acknowledged by the other side."""

from __future__ import annotations

import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, TypeAlias

import trio

from taktora_trio.errors import MessageError, MessageRefused
from taktora_trio.escaping import escaped
from taktora_trio.transport.publisher import EnvelopePublisher

__all__ = ["Receipt", "Waiting"]

Receipt: TypeAlias = Literal["stored", "acknowledged"]
_NAMED = 3  # refused messages that are named at once


class _Waiter(ABC):
    """A task that waits. It looks itself whether it has what it waits for, in its own time."""

    def __init__(self) -> None:
        self.woken = trio.Event()

    @abstractmethod
    def look(self) -> bool: ...


class _ForRoom(_Waiter):
    def __init__(self, send: Callable[[], int]) -> None:
        super().__init__()
        self._send = send
        self.number = 0

    def look(self) -> bool:
        self.number = self.number or self._send()
        return self.number > 0


class _ForReceipt(_Waiter):
    """Waits for a message, or for all up to it."""

    def __init__(self, port: EnvelopePublisher, number: int, receipt: Receipt, *, alone: bool) -> None:
        super().__init__()
        self.number = number
        self.queued = self.gone = False
        self._port = port
        self._receipt = receipt
        self.alone = alone

    def look(self) -> bool:
        reached = self._port.done if self._receipt == "stored" else self._port.acknowledged
        return reached >= self.number or self.is_settled()

    def is_settled(self) -> bool:
        return self.alone and self._port.receipts.outcome(self.number) is not None


class _Queue:
    """Those who wait for receipts of one kind, the smallest number first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _ForReceipt]] = []
        self._order = itertools.count()

    def add(self, waiter: _ForReceipt) -> None:
        waiter.queued = True
        heapq.heappush(self._heap, (waiter.number, next(self._order), waiter))

    def first(self) -> _ForReceipt | None:
        while self._heap and self._heap[0][2].gone:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def wake(self, reached: int, *, settled: bool) -> None:
        """Wake all up to a number; with `settled`, also those beyond it whose message alone is settled."""
        while (waiter := self.first()) is not None and waiter.number <= reached:
            heapq.heappop(self._heap)
            waiter.queued = False
            waiter.woken.set()
        if settled:
            for _, _, waiter in self._heap:
                if not waiter.gone and waiter.is_settled():
                    waiter.woken.set()

    def wake_all(self) -> None:
        for _, _, waiter in self._heap:
            waiter.woken.set()


class Waiting:
    """Any number of tasks wait at the one wake-up of a port. One of them watches it for all.

    The other end is asked to wake us for the smallest number that somebody waits for. So nothing costs more where
    nobody waits, and each wake-up concerns those alone who have got what they wait for.
    """

    def __init__(self, port: EnvelopePublisher) -> None:
        self._port = port
        self._queues: dict[Receipt, _Queue] = {"stored": _Queue(), "acknowledged": _Queue()}
        self._for_room: _ForRoom | None = None  # a writer's senders wait in turn
        self._watched = False
        self._settled = port.receipts.settled
        self._told: dict[Receipt, int] = {"stored": port.done, "acknowledged": port.acknowledged}
        self._closed = False
        port.want(0)  # a process that was killed may have wanted something

    async def until_sent(self, send: Callable[[], int]) -> int:
        """Wait until `send` returns a number, and return that. One task at a time.

        Raises `trio.ClosedResourceError`, as all methods do.
        """
        self._for_room = waiter = _ForRoom(send)
        try:
            await self._wait(waiter)
        finally:
            self._for_room = None
            self._pass_on()
        return waiter.number

    async def until_received(self, receipt: Receipt, number: int | None) -> None:
        """Wait for the receipt of a message, or of all so far. Raises `MessageRefused` and `MessageError`."""
        port, last = self._port, self._port.last_sent
        if number is None:
            told = self._told[receipt]
            if last > told:
                await self._until(_ForReceipt(port, last, receipt, alone=False), receipt)
                self._told[receipt] = max(self._told[receipt], last)
                self._check_all(told + 1, last)
            return
        if not isinstance(number, int) or isinstance(number, bool) or not port.first < number <= last:
            raise MessageError(
                f"{port.spec.name}: no message {number!r} was sent by this process of the app, whose numbers are"
                f" {port.first + 1} to {last}: give the number that send has returned"
            )
        await self._until(_ForReceipt(port, number, receipt, alone=True), receipt)
        self._check(number)

    def close(self) -> None:
        """Have all that wait raise `trio.ClosedResourceError`."""
        self._closed = True
        self._port.space.interrupt()
        if self._for_room is not None:
            self._for_room.woken.set()
        for queue in self._queues.values():
            queue.wake_all()
        self._port.want(0)

    async def _until(self, waiter: _ForReceipt, receipt: Receipt) -> None:
        queue = self._queues[receipt]
        try:
            while True:
                if not waiter.queued:
                    queue.add(waiter)
                    self._want()
                if await self._wait(waiter):
                    return
        finally:
            waiter.gone = True
            self._want()
            self._pass_on()

    async def _wait(self, waiter: _Waiter) -> bool:
        """Wait until it finds what it looks for. Returns false if it has to be queued again."""
        while not waiter.look():
            if self._closed:
                raise trio.ClosedResourceError("this writer was closed")
            if isinstance(waiter, _ForReceipt) and not waiter.queued:
                return False  # the counts went back: the other end is broken
            if self._watched:
                waiter.woken = trio.Event()
                await waiter.woken.wait()
            else:
                await self._watch(waiter)
        return True

    async def _watch(self, waiter: _Waiter) -> None:
        self._watched = True
        try:
            # Whoever looked before this has not found it, and whoever looks after it is told by us.
            self._port.space.clear()
            self._wake()
            if not waiter.look():
                await self._port.space.wait()
        except trio.ClosedResourceError:
            if not self._closed:
                raise
        finally:
            self._watched = False
            self._wake()

    def _wake(self) -> None:
        """Wake those who have got what they wait for, and the one who waits for room."""
        port = self._port
        settled, self._settled = self._settled, port.receipts.settled
        if self._for_room is not None:
            self._for_room.woken.set()
        self._queues["stored"].wake(port.done, settled=settled != self._settled)
        self._queues["acknowledged"].wake(port.acknowledged, settled=settled != self._settled)

    def _pass_on(self) -> None:
        """Have another one watch, if nobody does."""
        if not self._watched:
            firsts = (self._for_room, *(queue.first() for queue in self._queues.values()))
            if waiter := next((waiter for waiter in firsts if waiter is not None), None):
                waiter.woken.set()

    def _want(self) -> None:
        wanted = [waiter.number for queue in self._queues.values() if (waiter := queue.first()) is not None]
        self._port.want(0 if self._closed else min(wanted, default=0))

    def _check(self, number: int) -> None:
        receipts = self._port.receipts
        outcome = receipts.outcome(number)
        if outcome:
            raise MessageRefused(f"{self._port.spec.name}: message {number}: {escaped(outcome)}", {number: outcome})
        if outcome is None and number <= receipts.forgotten:
            raise MessageError(
                f"{self._port.spec.name}: what became of message {number} was not kept: so many were refused since"
                " that it may be one of them; wait for a receipt sooner"
            )

    def _check_all(self, first: int, last: int) -> None:
        receipts, name = self._port.receipts, self._port.spec.name
        if not receipts.refused:
            return
        refused = dict(receipts.refusals(first, last))
        forgotten = first <= receipts.forgotten
        if refused or forgotten:
            named = [f"{number}: {escaped(refused[number])}" for number in list(refused)[:_NAMED]]
            more = ["..."] if len(refused) > _NAMED else []
            at_least = "at least " if forgotten else ""
            raise MessageRefused(
                f"{name}: {at_least}{len(refused)} of the messages {first} to {last} were refused"
                + (f" ({'; '.join([*named, *more])})" if named else ""),
                refused,
            )

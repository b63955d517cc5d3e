"""The bell of one half: one listener for all channels of a connector, at which any number of tasks wait, each for its
own channel.

trio lets one task wait for a descriptor. So the first that waits, the leader, watches the listener's socket for all,
and wakes the others when they are rung; when it leaves, another takes its place. A task that waits alone gets by with
no hop through another one.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import trio

from taktora_trio.transport.ports import Listening, Node, Ringing
from taktora_trio.transport.spec import MOST_EVENTS, events_for

__all__ = ["Bell", "Ringer", "Waiter", "Wakeup", "open_bell", "open_ringer"]

_EVERYBODY = 0


def _id_of(channel: int) -> int:
    return 1 + channel % MOST_EVENTS


class Bell:
    """The receiving end of an event service, shared by many. Use `open_bell`."""

    def __init__(self, listener: Listening) -> None:
        self._listener = listener
        self._try_wait, self._sleep, self._rouse = listener.try_wait, listener.sleep, listener.rouse
        self._rings: dict[int, tuple[Callable[[], None], ...]] = {}  # what is called for each id
        self._leader: Waiter | None = None
        self._is_watched = False  # the leader is asleep
        self._parked: dict[Waiter, trio.lowlevel.Task] = {}  # wait to be rung, or to become the leader
        self._closed = False

    def wakeup(self, channel: int) -> Wakeup:
        """Return a new place to wait at for the channel of this index. It begins rung: see `Waiter.wait`."""
        return Wakeup(self, channel)

    def collect(self) -> None:
        """Take what has come, and tell everybody who is rung by it."""
        if self._closed:
            return
        rings = self._rings
        for activation in self._try_wait():
            number = activation.id.as_value
            if number == _EVERYBODY:
                for each in list(rings.values()):
                    for ring in each:
                        ring()
            else:
                for ring in rings.get(number, ()):
                    ring()

    def call(self, channel: int, ring: Callable[[], None]) -> Callable[[], None]:
        """Call `ring` whenever this channel is rung, as soon as anybody looks. Returns what ends it."""
        number = _id_of(channel)
        self._rings[number] = (*self._rings.get(number, ()), ring)

        def end() -> None:
            if left := tuple(other for other in self._rings.get(number, ()) if other is not ring):
                self._rings[number] = left
            else:
                self._rings.pop(number, None)

        return end

    def close(self) -> None:
        """Close at once. Whoever waits gets `trio.ClosedResourceError`."""
        if not self._closed:
            self._closed = True
            self._rouse()  # wakes the leader, and each that leaves wakes the next one
            self._listener.delete()

    # For those who wait

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def watch(self, waiter: Waiter) -> None:
        """Wait until it may have been rung, or is woken: as the leader if there is none. It may return early."""
        if self._leader is not None:
            self._parked[waiter] = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(partial(self._leave, waiter))
            return
        self._leader = waiter
        self._is_watched = True
        try:
            await self._sleep()
        except trio.ClosedResourceError:
            return  # it is woken by somebody of this process, and what has come meanwhile is the next leader's
        finally:
            self._leader = None
            self._is_watched = False
        if self._parked or not waiter.may_be_early:
            self.collect()
        else:
            waiter.wake()  # for it alone not to find out by whom is cheaper: it looks at its channel anyway

    def wake(self, waiter: Waiter) -> None:
        """Have its `watch` return."""
        if (task := self._parked.pop(waiter, None)) is not None:
            trio.lowlevel.reschedule(task)
        elif waiter is self._leader and self._is_watched:
            self._is_watched = False
            self._rouse()

    def hand_over(self) -> None:
        """Have one of those who wait become the leader, if there is none. Call it when one has left."""
        if self._leader is None and self._parked:
            trio.lowlevel.reschedule(self._parked.popitem()[1])

    def _leave(self, waiter: Waiter, raise_cancel: object) -> trio.lowlevel.Abort:
        del self._parked[waiter]
        return trio.lowlevel.Abort.SUCCEEDED


class Waiter:
    """A place for one task to wait at a bell until it is woken, by a ring or by somebody of this process.

    `wake` may come early, or more than once. So call `clear()`, look for what you wait for, and `wait()` if it is not
    there; every time in this order.
    """

    may_be_early = False
    """True if it may be woken for what another one was rung for."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._is_woken = True
        self._is_waiting = False
        self._is_interrupted = False
        self._closed = False

    def clear(self) -> None:
        """Forget that it was woken."""
        self._is_woken = False

    def collect(self) -> None:
        """Wake all others that were rung by now, for one that does not come to wait."""
        self._bell.collect()

    async def wait(self) -> None:
        """Wait until it is woken, unless it was and that was not cleared. A cancelled wait misses nothing.

        Raises `trio.ClosedResourceError` if interrupted or closed, and `trio.BusyResourceError` if another task waits.
        """
        if self._is_waiting:
            raise trio.BusyResourceError("another task waits here already")
        if self._is_woken and not self._closed:
            await trio.lowlevel.checkpoint()
            return
        bell = self._bell
        self._is_waiting, self._is_interrupted = True, False
        try:
            while True:
                if self._is_interrupted or self._closed or bell.is_closed:
                    raise trio.ClosedResourceError("whoever waited here was interrupted")
                if self._is_woken:
                    return
                await bell.watch(self)
        finally:
            self._is_waiting = False
            bell.hand_over()

    def wake(self) -> None:
        """Have `wait()` return: the one that waits now, or the next."""
        self._is_woken = True
        if self._is_waiting:
            self._bell.wake(self)

    def interrupt(self) -> None:
        """Have the one that is in `wait()` now raise `trio.ClosedResourceError`."""
        if self._is_waiting:
            self._is_interrupted = True
            self._bell.wake(self)

    def close(self) -> None:
        self._closed = True
        self.interrupt()


class Wakeup(Waiter):
    """A place to wait at for one channel: it is woken when that is rung. Use `Bell.wakeup`."""

    may_be_early = True

    def __init__(self, bell: Bell, channel: int) -> None:
        super().__init__(bell)
        self._channel = channel
        self._end = bell.call(channel, self.wake)

    def watch(self, ring: Callable[[], None]) -> None:
        """Call `ring` whenever the channel is rung, instead of waking who waits here: nobody is to wait then."""
        self._end()
        self._end = self._bell.call(self._channel, ring)

    def clear(self) -> None:
        """Forget the rings that have come so far."""
        self._bell.collect()
        self._is_woken = False

    def close(self) -> None:
        self._end()
        super().close()


class Ringer:
    """The sending end of an event service. Use `open_ringer`."""

    def __init__(self, notifier: Ringing) -> None:
        self._notifier = notifier
        self.ring_all: Callable[[], int] = notifier.of(_EVERYBODY)
        """Rings all channels. It returns 0 if there is nobody."""

    def of(self, channel: int) -> Callable[[], int]:
        """Return what rings this channel: 0.1 us while the other half is awake. It returns 0 if there is nobody."""
        return self._notifier.of(_id_of(channel))

    @property
    def is_lacking(self) -> bool:
        """True if somebody listens whom it does not reach. Asking rings all."""
        return not self.ring_all() and self._notifier.has_listener

    async def open_again(self) -> None:
        """Try again to reach who listens. What `of` has returned before is void then."""
        try:
            await self._notifier.open()
        finally:
            self.ring_all = self._notifier.of(_EVERYBODY)

    def close(self) -> None:
        self._notifier.close()


@contextlib.asynccontextmanager
async def open_bell(node: Node, name: str, channels: int) -> AsyncIterator[Bell]:
    """Listen to the event service `name`, which is for so many channels."""
    bell = Bell(await node.open_listener(name, events_for(channels)))
    try:
        yield bell
    finally:
        bell.close()


@contextlib.asynccontextmanager
async def open_ringer(node: Node, name: str, channels: int) -> AsyncIterator[Ringer]:
    """Open the one notifier of the event service `name`, which is for so many channels."""
    ringer = Ringer(await node.open_notifier(name, events_for(channels)))
    try:
        yield ringer
    finally:
        ringer.close()

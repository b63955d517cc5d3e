"""The triggers: `every`, `on_message`, `on_deadline`, `on_health`, `when` and `any_of`, each with its source."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import trio

from taktora_trio.errors import ConfigError
from taktora_trio.executor.feed import Feed, Feeds, Readable, Work, Workable, as_readable
from taktora_trio.executor.grid import Grid
from taktora_trio.executor.wake import Late, Message, Outcome, Ready, Source, Tick, Transition, Trigger
from taktora_trio.health import Connecting, ConnectorHealth, Degraded, Down, HealthEvent, HealthEvents, Up

__all__ = ["HasHealth", "any_of", "every", "on_deadline", "on_health", "on_message", "when", "when_waited"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class HasHealth(Protocol):
    """A `ConnectorHost`, or an `Executor`."""

    def health_events(self) -> HealthEvents: ...


# Times


class _Every(Trigger[T_co]):
    def __init__(self, period: float) -> None:
        self.period = period

    def __repr__(self) -> str:
        return f"every({self.period:g})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        return [_Slots(self)]


class _Slots(Source):
    is_exact = True

    def __init__(self, trigger: _Every[Any]) -> None:
        self._trigger = trigger

    def begin(self, origin: float) -> None:
        self._grid = Grid(origin, self._trigger.period)
        self.due = self._grid.due

    def take(self, now: float) -> Tick | None:
        if now < self.due:
            return None
        tick = Tick(self._trigger, self.due, self._grid.slot, self._grid.skipped)
        self._grid.take()
        self.due = self._grid.due
        return tick

    def pass_over(self, now: float) -> int:
        if now <= self.due:
            return 0
        missed = self._grid.pass_over(now)
        self.due = self._grid.due
        return missed


def every(period: float) -> Trigger[Any]:
    """Wake at the slots `0, period, 2 * period, ...` seconds after the executor's start.

    A slot that comes while the item's last cycle still runs is skipped and counted, never made up for. One for which
    the item is merely woken late is run late. All items of an executor have the same start, so `every(0.1)` and
    `every(0.2)` coincide at every second slot.
    """
    if isinstance(period, bool) or not isinstance(period, int | float) or not 0 < period < math.inf:
        raise ConfigError(f"every({period!r}): the period must be more than 0 seconds")
    return _Every(period)


# Messages


class _OnMessage(Trigger[T]):
    def __init__(self, reader: Readable[T] | trio.abc.ReceiveChannel[T]) -> None:
        self._reader = reader
        self._readable = as_readable(reader)

    def __repr__(self) -> str:
        return f"on_message({self._reader!r})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        as_readable(self._reader)  # it may have been closed since
        feed = feeds.of(self._reader)
        if feed.receiver:
            raise ConfigError(f"item {item!r}: {self._reader!r} is received by {feed.receiver!r} already")
        feed.receiver, feed.readable = item, self._readable
        return [_Messages(self, self._readable, feed)]


class _Messages(Source):
    is_event = True

    def __init__(self, trigger: _OnMessage[Any], readable: Readable[Any], feed: Feed) -> None:
        self._trigger = trigger
        self._readable = readable
        self._workable = readable if isinstance(readable, Workable) else None
        self._work: Work[Any] | None = None
        self._feed = feed

    def take(self, now: float) -> Message | None:
        try:
            if self._workable is None:
                message = Message(self._trigger, now, self._readable.receive_nowait())
            else:
                self._work = self._workable.take_nowait()
                message = Message(self._trigger, now, self._work.received)
        except trio.WouldBlock:
            return None
        except trio.EndOfChannel:
            self.ended = True
            return None
        except trio.ClosedResourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - `ctx.message` raises it: it can't be decoded, or `on_error` failed
            message = Message(self._trigger, now, error=exc)
        self._feed.last = now
        return message

    def settle(self, outcome: Outcome, reason: str) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        if outcome is Outcome.DONE:
            work.done()
        elif outcome is Outcome.SKIPPED:
            work.reject(reason)
        else:
            work.give_back(reason if outcome is Outcome.AGAIN else None)

    async def wait(self) -> None:
        await self._readable.wait()


def on_message(reader: Readable[T] | trio.abc.ReceiveChannel[T]) -> Trigger[T]:
    """Wake for each message of this reader, in order; the item finds it in `ctx.message`.

    A message is taken from the reader right before its cycle: what waits for a busy item waits in the channel. Of a
    `ChannelReader` it is done with when its cycle has ended. If that fails, the item's policy decides: with "skip" the
    message goes to the dead letters; with a `RestartPolicy`, or "stop", it comes again, to this item or to the next run
    of the app, up to the channel's `max_deliveries`. Any `trio.abc.ReceiveChannel` will do; when one ends, its items
    have ended. Raises `ConfigError` if it is closed.
    """
    return _OnMessage(reader)


class _OnDeadline(Trigger[T_co]):
    def __init__(self, reader: Readable[Any] | trio.abc.ReceiveChannel[Any], within: float) -> None:
        as_readable(reader)
        self._reader = reader
        self.within = within

    def __repr__(self) -> str:
        return f"on_deadline({self._reader!r}, within={self.within:g})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        as_readable(self._reader)
        feed = feeds.of(self._reader)
        feed.watchers.append(item)
        return [_Deadline(self, feed)]


class _Deadline(Source):
    def __init__(self, trigger: _OnDeadline[Any], feed: Feed) -> None:
        self._trigger = trigger
        self._feed = feed
        self._told = math.nan  # since when, at what was told last

    def begin(self, origin: float) -> None:
        self.due = origin + self._trigger.within

    def take(self, now: float) -> Late | None:
        if now < self.due:
            return None
        since, within = self._feed.last, self._trigger.within
        if since == self._told:
            self.due = now + within  # nothing more to tell before something comes; which this notices in good time
        elif since + within > now:
            self.due = since + within
        elif self._feed.readable is not None and self._feed.readable.is_behind:
            self.due = now + within  # there is data, and an item that has no time for it
        else:
            self._told = since
            return Late(self._trigger, self.due, since)
        return None


def on_deadline(reader: Readable[Any] | trio.abc.ReceiveChannel[Any], within: float) -> Trigger[Any]:
    """Wake when no message has come for `within` seconds: once, and again only after one has come.

    It receives nothing: `on_message` does, for an item of the same executor (this one, by `any_of`, or another), and
    the time counts from what that has taken last, or from the executor's start. What waits unread is not late.
    """
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 < within < math.inf:
        raise ConfigError(f"on_deadline: within is {within!r}; it must be more than 0 seconds")
    return _OnDeadline(reader, within)


# Health


class _OnHealth(Trigger[T_co]):
    def __init__(self, source: HasHealth, kinds: tuple[type[ConnectorHealth], ...]) -> None:
        self._source = source
        self.kinds = kinds

    def __repr__(self) -> str:
        return f"on_health({', '.join([type(self._source).__name__, *(kind.__name__ for kind in self.kinds)])})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        return [_Transitions(self, self._source.health_events())]


class _Transitions(Source):
    is_event = True

    def __init__(self, trigger: _OnHealth[Any], events: HealthEvents) -> None:
        self._trigger = trigger
        self._events = events
        self._waiting: deque[HealthEvent] = deque()

    def take(self, now: float) -> Transition | None:
        while self._waiting:
            event = self._waiting.popleft()
            if not self._trigger.kinds or isinstance(event.after, self._trigger.kinds):
                return Transition(self._trigger, now, event)
        return None

    async def wait(self) -> None:
        try:
            self._waiting.append(await self._events.receive())
        except trio.EndOfChannel:
            self.ended = True

    def close(self) -> None:
        self._events.close()


def on_health(source: HasHealth, *kinds: type[ConnectorHealth]) -> Trigger[Any]:
    """Wake for each change of health from the moment the item is added; with kinds, only for changes to one of them.

    `source` is the host, or an executor (for the health of its items). The item finds the event in `ctx.wake.event`.
    """
    for kind in kinds:
        if kind not in (Up, Connecting, Degraded, Down):
            raise ConfigError(f"on_health: {kind!r} is no kind of health; use Up, Connecting, Degraded or Down")
    if not callable(getattr(source, "health_events", None)):
        raise ConfigError(f"on_health: {source!r} has no health_events(); give it the host, or an executor")
    return _OnHealth(source, kinds)


# Anything else


class _When(Trigger[T_co]):
    def __init__(self, wait: Callable[[], Awaitable[object]], *, lets_others_run: bool = False) -> None:
        self.wait = wait
        self.lets_others_run = lets_others_run

    def __repr__(self) -> str:
        return f"when({getattr(self.wait, '__qualname__', self.wait)})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        return [_Returns(self)]


class _Returns(Source):
    is_event = True

    def __init__(self, trigger: _When[Any]) -> None:
        self._trigger = trigger
        self._wait = trigger.wait
        self.always_waits = trigger.lets_others_run
        self._returned = False

    def take(self, now: float) -> Ready | None:
        if not self._returned:
            return None
        self._returned = False
        return Ready(self._trigger, now)

    async def wait(self) -> None:
        await self._wait()
        self._returned = True


def when(wait: Callable[[], Awaitable[object]]) -> Trigger[Any]:
    """Wake each time `await wait()` returns: for whatever else can be waited for.

    `wait` is called when the item is free, and again after each cycle. Its result is not given to the item. In an
    `any_of` it is cancelled when another trigger comes first, and later called again; so it must take nothing that a
    cancelled call would lose. If it raises, the item's `RestartPolicy` decides; without one the executor ends, with
    "skip" too, for the next call would fail as well.
    """
    if not callable(wait):
        raise ConfigError(f"when: {wait!r} can't be called; give it an async function without arguments")
    return _When(wait)


def when_waited(wait: Callable[[], Awaitable[object]]) -> Trigger[Any]:
    """Like `when`, for a `wait` that is known to let other tasks run: then the executor does not see to it."""
    return _When(wait, lets_others_run=True)


# Combinations


class _AnyOf(Trigger[T]):
    def __init__(self, triggers: tuple[Trigger[T], ...]) -> None:
        self._triggers = triggers

    def __repr__(self) -> str:
        return f"any_of({', '.join(map(repr, self._triggers))})"

    def sources(self, item: str, feeds: Feeds) -> list[Source]:
        return [source for trigger in self._triggers for source in trigger.sources(item, feeds)]


def any_of(*triggers: Trigger[T]) -> Trigger[T]:
    """Wake for each of these; `ctx.wake` says for which. They take turns when several have something.

    A slot of `every` that comes while the item is busy for another of them is run late, not skipped.
    """
    if not triggers:
        raise ConfigError("any_of(): give it at least one trigger")
    for trigger in triggers:
        if not isinstance(trigger, Trigger):
            raise ConfigError(f"any_of: {trigger!r} is no trigger; use every(...), on_message(...) and so on")
    return _AnyOf(triggers)

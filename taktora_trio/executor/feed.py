"""A reader as triggers see it: one receives from it, others watch that something comes."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import trio

from taktora_trio.errors import ConfigError

__all__ = ["Feed", "Feeds", "Readable", "Work", "Workable", "as_readable"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@runtime_checkable
class Readable(Protocol[T_co]):
    """A reader that can be waited for without receiving, as a `ChannelReader`. `on_message` then receives only when its
    item is free."""

    @property
    def is_closed(self) -> bool: ...

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""

    def receive_nowait(self) -> T_co: ...

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""


class Work(Protocol[T_co]):
    """One message as a piece of work: it is not done with before one of these is called."""

    @property
    def received(self) -> T_co:
        """The message. Raises what its reader raised for one that can't be decoded."""

    def done(self) -> None: ...

    def give_back(self, reason: str | None) -> None:
        """It comes again; without a reason its work was cancelled."""

    def reject(self, reason: str) -> None: ...


@runtime_checkable
class Workable(Readable[T_co], Protocol[T_co]):
    """A reader whose messages are done with when their work is, as a `ChannelReader`."""

    def take_nowait(self) -> Work[T_co]:
        """Return the next message. Raises as `receive_nowait` does."""


class _Held(Generic[T]):
    """Any other channel of trio's: it can't be waited for without receiving, so one message is held meanwhile."""

    def __init__(self, channel: trio.abc.ReceiveChannel[T]) -> None:
        self._channel = channel
        self._held: list[T] = []
        self._ended = False

    @property
    def is_closed(self) -> bool:
        if isinstance(self._channel, trio.MemoryReceiveChannel):
            try:
                self._channel.clone().close()
            except trio.ClosedResourceError:
                return True
        return False

    @property
    def is_behind(self) -> bool:
        if isinstance(self._channel, trio.MemoryReceiveChannel):
            return bool(self._held) or self._channel.statistics().current_buffer_used > 0
        return bool(self._held)

    def receive_nowait(self) -> T:
        if self._held:
            return self._held.pop()
        if self._ended:
            raise trio.EndOfChannel
        raise trio.WouldBlock

    async def wait(self) -> None:
        try:
            self._held.append(await self._channel.receive())
        except trio.EndOfChannel:
            self._ended = True


def as_readable(reader: Readable[T] | trio.abc.ReceiveChannel[T]) -> Readable[T]:
    """Return a reader as triggers see it. Raises `ConfigError` for what nothing can be received from."""
    if not isinstance(reader, Readable | trio.abc.ReceiveChannel):
        raise ConfigError(f"{reader!r} is no reader: open one with host.open_reader(channel)")
    readable = reader if isinstance(reader, Readable) else _Held(reader)
    check_open(reader, readable)
    return readable


def check_open(reader: object, readable: Readable[Any]) -> None:
    if readable.is_closed:
        raise ConfigError(f"{reader!r} is closed: a trigger must be made, and its executor run, while it is open")


class Feed:
    """One reader within one executor."""

    def __init__(self, reader: object) -> None:
        self.reader = reader
        """Kept, so that no other object gets its identity."""
        self.readable: Readable[Any] | None = None
        """Set when there is an item that receives from it."""
        self.receiver = ""
        """That item's name."""
        self.watchers: list[str] = []
        """Names of items that want to know when data is late."""
        self.last = 0.0
        """The time at which a message was taken last, on trio's clock."""


class Feeds:
    """The readers of one executor."""

    def __init__(self) -> None:
        self._feeds: dict[int, Feed] = {}

    def of(self, reader: object) -> Feed:
        """Return the one feed of this reader."""
        return self._feeds.setdefault(id(reader), Feed(reader))

    def begin(self, now: float) -> None:
        """Start the clock of each. Raises `ConfigError` for one that is watched, and received by nobody."""
        for feed in self._feeds.values():
            feed.last = now
            if feed.watchers and not feed.receiver:
                raise ConfigError(
                    f"item {feed.watchers[0]!r}: on_deadline watches {feed.reader!r}, from which no item of this"
                    f" executor receives: add one with on_message, or use any_of(on_message(...), on_deadline(...))"
                )
            if feed.readable is not None:
                check_open(feed.reader, feed.readable)

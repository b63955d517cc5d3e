"""The trunk: one half's end of all channels of a connector.

The channels share what costs: two publish-subscribe services, one for each direction, in which each publisher sends one
sample, with a ring for each channel in it; two event services, by which a half is told which channel there is something
for; and a file with the counters of all. So a channel costs no descriptor, and sending and receiving call nothing of
iceoryx2 but a notification.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

from taktora_trio.errors import TransportError
from taktora_trio.transport.bell import Bell, Ringer, open_bell, open_ringer
from taktora_trio.transport.counts import ChannelCounts, counts_of
from taktora_trio.transport.cursor import READER, CursorFile
from taktora_trio.transport.incoming import Incoming
from taktora_trio.transport.outgoing import Outgoing
from taktora_trio.transport.ports import Node
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.spec import End, TrunkSpec, read_by, written_by
from taktora_trio.transport.subscriber import EnvelopeSubscriber

__all__ = ["Trunk", "announce", "open_trunk"]


class Trunk:
    """One half's end of a connector's channels. Use `open_trunk`."""

    def __init__(
        self,
        node: Node,
        spec: TrunkSpec,
        cursors: CursorFile,
        bell: Bell,
        ringer: Ringer,
        outgoing: Outgoing | None,
        incoming: Incoming | None,
    ) -> None:
        self.node = node
        self.spec = spec
        self.bell = bell
        """It is rung for each channel that there is something for."""
        self._cursors = cursors
        self._ringer = ringer
        self._outgoing = outgoing
        self._incoming = incoming
        self._publishers: dict[str, EnvelopePublisher] = {}
        self._read: dict[str, EnvelopeSubscriber | None] = {}

    def __repr__(self) -> str:
        return f"Trunk({self.spec.name!r}, {len(self.spec.channels)} channels)"

    def publisher(self, name: str) -> EnvelopePublisher:
        """Return the writing end of this channel: always the same one. It lasts as long as the trunk."""
        outgoing = self._outgoing
        if (publisher := self._publishers.get(name)) is not None:
            return publisher
        if outgoing is None or name not in outgoing.first:
            raise TransportError(f"{name} is not written by this half of {self.spec.name}")
        index = self.spec.indexes[name]
        self._publishers[name] = publisher = EnvelopePublisher(
            self.spec.by_name[name],
            outgoing,
            outgoing.first[name],
            self._cursors.cursor(name),
            self._ringer.of(index),
            self.bell.wakeup(index),
        )
        return publisher

    @contextlib.contextmanager
    def open_subscriber(self, name: str) -> Iterator[EnvelopeSubscriber]:
        """Open the reading end of this channel. It has one at a time."""
        incoming, spec = self._incoming, self.spec.by_name.get(name)
        if incoming is None or spec is None or spec.direction != incoming.direction:
            raise TransportError(f"{name} is not read by this half of {self.spec.name}")
        if name in self._read:
            raise TransportError(f"cannot attach to {name}: its one place is taken: is the channel open already?")
        self._read[name] = None
        index = self.spec.indexes[name]
        try:
            subscriber = EnvelopeSubscriber(
                spec,
                incoming,
                self._cursors.cursor(name),
                self._ringer.of(index),
                self.bell.wakeup(index),
            )
            self._read[name] = subscriber
            try:
                subscriber.wake_writer()
                yield subscriber
            finally:
                subscriber.close()
        finally:
            del self._read[name]

    def counts(self, name: str) -> ChannelCounts:
        """Return what has gone through this channel, as far as this half can tell."""
        spec = self.spec.by_name[name]
        return counts_of(self._cursors.cursor(name), spec.window, self._publishers.get(name), self._read.get(name))

    @property
    def lacking(self) -> str:
        """What of the other half is not connected with us though it is there; empty if nothing is. Asking rings it."""
        return "; ".join(
            what
            for what, one in (
                ("what it sends can't be taken", self._incoming),
                ("it has not taken what is sent", self._outgoing),
                ("it is not rung", self._ringer),
            )
            if one is not None and one.is_lacking
        )

    async def connect_again(self) -> None:
        """Do our part to connect what is lacking. Raises `TransportError` and `TooFewDescriptors`."""
        if self._ringer.is_lacking:
            try:
                await self._ringer.open_again()
            finally:
                for name, port in [*self._publishers.items(), *self._read.items()]:
                    if port is not None:
                        port.ring = self._ringer.of(self.spec.indexes[name])
        if self._incoming is not None and self._incoming.is_lacking:
            await self._incoming.open_again()
            self._ringer.ring_all()

    def tell(self, on_doubt: Callable[[], None], on_wait: Callable[[], None]) -> None:
        """Call these when what the other half has stored can't be, and when somebody may wait for it to store more."""
        if self._incoming is not None:
            self._incoming.on_doubt = on_doubt
        if self._outgoing is not None:
            self._outgoing.on_wait = on_wait

    @property
    def is_disputed(self) -> bool:
        """True if the other half has counted an envelope as sent which is not there."""
        return self._incoming is not None and self._incoming.is_disputed

    def confirm(self) -> None:
        """Believe what the other half has counted, since it has been asked to store its counts again."""
        if self._incoming is not None:
            self._incoming.confirm()

    @property
    def waited_for(self) -> dict[str, int]:
        """The channels in which somebody waits for the other half, each with the number up to which that has come."""
        return {name: port.done for name, port in self._publishers.items() if port.is_waited_for}

    def update_connections(self) -> None:
        """Give our memory to another half that has come, and take its. Call it when one may have come, or asks.

        It also stores our counts again: a broken half may have written anything there.
        """
        if self._outgoing is not None:
            self._outgoing.update_connections()
            for port in self._publishers.values():
                port.store_again()
        if self._incoming is not None:
            self._incoming.look_around()


def announce(node: Node, spec: TrunkSpec, end: End) -> None:
    """Say that this half is about to write: the other one then lets go of the memory of the one before.

    `open_trunk` says so too, and rings those who wait. But a half that waits for nothing hears of it by the service of
    health alone, and for that it has to be said first. No other process may have this end.
    """
    cursors = CursorFile(node, spec)
    generation = cursors.generation(written_by(end))
    generation[0] = 0
    generation.release()
    cursors.close()


@contextlib.asynccontextmanager
async def open_trunk(node: Node, spec: TrunkSpec, end: End) -> AsyncIterator[Trunk]:
    """Open this half's end of all channels. The services must exist; no other process may have this end.

    Raises `TransportError` (`ServiceMismatch` and `SharedMemoryFull` are some) and `TooFewDescriptors`.
    """
    other: End = "gateway" if end == "app" else "app"
    writes, reads = written_by(end), read_by(end)
    count = len(spec.channels)
    # The bell comes first of all that is taken: where another process has this end, it is left alone.
    async with contextlib.AsyncExitStack() as stack:
        cursors = CursorFile(node, spec)
        stack.callback(cursors.close)
        bell = await stack.enter_async_context(open_bell(node, spec.event_service(end), count))
        ringer = await stack.enter_async_context(open_ringer(node, spec.event_service(other), count))
        for channel in spec.of(reads):
            cursors.cursor(channel.name).counters[READER] = 0  # one that was killed has left it
        if spec.of(writes):
            generation = cursors.generation(writes)
            generation[0] = 0
            generation.release()
            ringer.ring_all()  # the other half lets go of the memory before, which may be what we need
        outgoing = incoming = None
        async with node.reserve(spec.end_bytes(end), spec.name):
            if spec.of(writes):
                seen = cursors.attached(writes)[0]
                served = await node.open_publisher(spec, writes)
                stack.callback(served.close)
            if spec.of(reads):
                subscriber = await node.open_subscriber(spec, reads)
                stack.callback(subscriber.close)
        if spec.of(writes):
            outgoing = Outgoing(spec, writes, cursors, ringer, served, seen)
            stack.callback(outgoing.close)
        if spec.of(reads):
            incoming = Incoming(spec, reads, cursors, subscriber)
            stack.callback(incoming.close)
            incoming.announce()
            incoming.renew()
        ringer.ring_all()
        trunk = Trunk(node, spec, cursors, bell, ringer, outgoing, incoming)
        try:
            yield trunk
        finally:
            for port in trunk._publishers.values():
                port.close()
            del trunk.node  # a traceback may refer to us, and would keep it

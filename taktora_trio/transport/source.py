"""The gateway's end of an outbound channel: payloads that the app has sent, each acknowledged when done."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, cast

import trio
from msgspec.structs import force_setattr

from taktora_trio.channels import Envelope, Header, Metadata
from taktora_trio.errors import MessageError, TransportError
from taktora_trio.transport.subscriber import EnvelopeSubscriber, NotSent
from taktora_trio.transport.trunk import Trunk

__all__ = ["LENT_FROM", "Discarded", "LendingSource", "PayloadSource", "open_source"]

LENT_FROM = 2**14
"""Bytes of a payload from which on a copy costs more than what it takes to do without one."""


class Turn(Protocol):
    """What is asked for when there may be something to do."""

    def ask(self) -> None: ...


Check = Callable[[str, Metadata | None], None]


class Discarded(TransportError):
    """An envelope that can't be read or published was discarded. `number` is its sequence number."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class PayloadSource:
    """Receives envelopes, and keeps each in the channel's window until it is acknowledged. Use `open_source`."""

    announces = True

    def __init__(self, port: EnvelopeSubscriber, topic: str, check: Check | None) -> None:
        self._port = port
        self._topic = topic
        self._check = check
        self._keep: Callable[[memoryview], bytes] = bytes
        self._closed = False

    def __repr__(self) -> str:
        return f"PayloadSource({self._port.spec.name!r}, received={self._port.received})"

    def receive_nowait(self) -> Envelope:
        """Return the next envelope, with the concrete topic to publish it on.

        Raises `trio.WouldBlock` if there is none, and `Discarded` for one that can't be read or published.
        """
        port = self._port
        place = port.take()
        if place is None:
            raise trio.WouldBlock
        try:
            header, payload, topic, metadata = port.open(place)
            if self._check is not None and (topic or metadata is not None):
                self._check(topic, metadata)
            return Envelope(self._keep(payload), header, topic or self._topic, metadata)
        except NotSent:
            raise trio.WouldBlock from None
        except MessageError as exc:
            raise Discarded(f"an envelope was discarded: {exc}", port.taken) from exc

    async def wait(self) -> None:
        """Wait until `receive_nowait` may have something."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._port.data.wait()
        self._port.data.clear()

    def watch(self, turn: Turn) -> None:
        """Ask for this turn from now on whenever `receive_nowait` may have something, instead of `wait`."""
        self._port.data.watch(turn.ask)

    def attach(self) -> None:
        """Attach to a writer that has come, so that what it sends is ours even if it is killed. Takes nothing."""
        if not self._closed:
            self._port.attach()

    @property
    def epoch(self) -> int:
        """What tells this numbering from any other; 0 if it can't be told."""
        return self._port.epoch

    @property
    def acknowledged(self) -> int:
        """The number up to which all were acknowledged by the other side, as far as an earlier source has said so."""
        return self._port.receipts_through

    @property
    def released(self) -> int:
        """The number up to which all are released or acknowledged. A source that is opened goes on behind it."""
        return self._port.released

    @property
    def is_behind(self) -> bool:
        """True if something was sent that has not been received yet."""
        return self._port.is_behind

    @property
    def unacknowledged(self) -> int:
        """The number of messages that the app has sent and that are not acknowledged, received or not."""
        return self._port.unacknowledged

    @property
    def stored(self) -> int:
        """The number up to which all messages are on disk: none is."""
        return 0

    @property
    def has_writer(self) -> bool:
        """True if the app's end is open. Unacknowledged messages then wait there for the next gateway."""
        return self._port.has_writer

    @property
    def begun_before(self) -> int:
        """The sequence number of the last message that an earlier gateway has begun to publish."""
        return self._port.begun_before

    def begin(self, header: Header, begun: Callable[[], None]) -> None:
        """Record that this message is about to be published, for the next gateway to know, and call `begun`.

        Call it in order.
        """
        if not self._closed:
            self._port.begin(header.sequence_number)
            begun()

    def acknowledge(self, header: Header) -> None:
        """Count this message and all before it as acknowledged, and release them: see `Source.acknowledge`.

        What is neither released nor acknowledged, the next gateway publishes again.
        """
        if not self._closed:
            self._port.acknowledge_receipt(header.sequence_number)

    def settled(self, number: int, refusal: str) -> None:
        """Record what became of this message alone: see `Source.settled`."""
        if not self._closed:
            self._port.settle(number, refusal)

    def release(self, number: int) -> None:
        """Release this message and all before it, since they are stored: they make room in the channel, and a source
        that is opened later does not get them. The app's receipts say stored."""
        if not self._closed:
            self._port.release(number)

    def close(self) -> None:
        self._closed = True


class LendingSource(PayloadSource):
    """Does not copy the payloads of large messages, but lends them: views of the slots in which they lie.

    The app's writer uses a slot again when its message is acknowledged, so a view shows the message until then. It can
    be read longer, as long as anybody refers to it. But if the app ends, what is still lent is copied, so that its
    memory is not kept from the app's next incarnation; who has only the envelope sees no difference.

    A broken app may change what is lent. It garbles its own message then: the length was read once.
    """

    def __init__(self, port: EnvelopeSubscriber, topic: str, check: Check | None) -> None:
        super().__init__(port, topic, check)
        self._keep = _lend
        self._lent = deque[Envelope]()  # in order; all of the writer that is read now
        port.leaving = self._copy_lent

    def receive_nowait(self) -> Envelope:
        """See `PayloadSource`."""
        envelope = super().receive_nowait()
        if isinstance(envelope.payload, memoryview):
            self._forget_done()
            self._lent.append(envelope)
        return envelope

    def _forget_done(self) -> None:
        lent, done = self._lent, self._port.done
        while lent and lent[0].header.sequence_number <= done:
            lent.popleft()

    def _copy_lent(self) -> None:
        self._forget_done()
        while self._lent:
            envelope = self._lent.popleft()
            force_setattr(envelope, "payload", bytes(envelope.payload))

    def close(self) -> None:
        """Take back what is lent: the next gateway gets it. What refers to it by mistake keeps no memory."""
        super().close()
        while self._lent:
            payload = cast("memoryview", self._lent.popleft().payload)
            with contextlib.suppress(BufferError):
                payload.release()


def _lend(payload: memoryview) -> bytes:
    return bytes(payload) if len(payload) < LENT_FROM else cast("bytes", payload.toreadonly())


@contextlib.contextmanager
def open_source(
    trunk: Trunk, name: str, topic: str, check: Check | None = None, *, lends: bool = False
) -> Iterator[PayloadSource]:
    """Open the source of the channel of this whole name. `topic` stands for an envelope that carries none.

    `check(topic, metadata)` raises `MessageError` for what can't be published. If it `lends`, the payload of a large
    message is no bytes, but a read-only view of shared memory: see `LendingSource`.
    """
    with trunk.open_subscriber(name) as port:
        port.reopen_receipts()
        lends = lends and port.spec.max_payload >= LENT_FROM
        source = LendingSource(port, topic, check) if lends else PayloadSource(port, topic, check)
        try:
            yield source
        finally:
            source.close()

"""The gateway's end of an inbound channel: payloads for the app, as bytes, exactly as they came from outside."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from taktora_trio.channels import Metadata
from taktora_trio.errors import BackPressure, CodecError
from taktora_trio.transport.deliveries import Deliveries
from taktora_trio.transport.envelope import (
    AT_MOST_ONCE,
    CORRELATION_FIELD,
    DELIVERY_ID,
    REDELIVERED,
    RETAINED,
    pack_metadata,
)
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.source import Turn
from taktora_trio.transport.trunk import Trunk

__all__ = ["PayloadSink", "open_sink"]

log = logging.getLogger(__name__)


class PayloadSink:
    """Sends payloads to the app, whose channel decides what it has room for. Use `open_sink`."""

    def __init__(
        self,
        port: EnvelopePublisher,
        on_full: Callable[[], None],
        deliveries: Deliveries | None,
        keep: Callable[[Metadata], Metadata | None] | None,
    ) -> None:
        self._port = port
        self._keep = keep
        self._on_full = on_full
        self._deliveries = deliveries
        self._has_told = False
        self._closed = False

    def __repr__(self) -> str:
        return f"PayloadSink({self._port.spec.name!r}, sent={self._port.sent})"

    @property
    def unread(self) -> int:
        """The number of messages in shared memory with nobody there to receive them. They are lost with this end."""
        return 0 if self._port.has_reader else self._port.waiting

    def send_nowait(
        self,
        payload: bytes,
        *,
        topic: str = "",
        correlation_id: bytes = b"",
        metadata: Metadata | None = None,
        retained: bool = False,
        redelivered: bool = False,
        delivery_id: int = 0,
        reliable: bool = True,
    ) -> int:
        """Hand over a payload, its topic where the routing is a pattern, and what was said about it.

        Returns its sequence number. One that is not `reliable` reaches the app at most once: nobody keeps it.

        Metadata, and a correlation id of more than 42 bytes, are left out where the channel sets no room aside for
        them; the first such id is logged. Raises `BackPressure` if the window is full, and `MessageError` for what
        can't be encoded or is larger than the channel's limits (`PayloadOverflow`).
        """
        packed = b"" if metadata is None or not self._port.spec.metadata_space else self._packed(metadata)
        if len(correlation_id) > CORRELATION_FIELD:
            correlation_id = self._fitting(correlation_id)
        try:
            encoded_topic = topic.encode()
        except UnicodeEncodeError as exc:
            raise CodecError(f"the topic can't be encoded: {exc}") from exc
        flags = retained * RETAINED | redelivered * REDELIVERED | delivery_id << DELIVERY_ID
        if not reliable:
            flags |= AT_MOST_ONCE
        number = self._port.send(payload, encoded_topic, packed, correlation_id, flags)
        if not number:
            self._tell_full()
            raise BackPressure(f"{self._port.spec.name} is full")
        return number

    @property
    def done(self) -> int:
        """The sequence number up to which the app is done with all messages."""
        return self._port.done

    @property
    def has_given_up(self) -> bool:
        """True if the app has given up messages: see `given_up`."""
        return self._deliveries is not None and self._deliveries.has_buried

    def given_up(self, number: int) -> tuple[str, int] | None:
        """Return why the app has given this message up, and how often it was given it; `None` if it has not.

        Ask for each number as soon as `done` has passed it.
        """
        deliveries = self._deliveries
        if deliveries is None or (reason := deliveries.reason_of(number)) is None:
            return None
        return reason, deliveries.count_of(number)

    def was_given(self, number: int) -> bool:
        """True if the app has had this message, which arrives at most once, whether it is done with it or not."""
        return self._deliveries is not None and self._deliveries.was_given_once(number)

    def note_acknowledged(self, number: int) -> None:
        """Record that the acknowledgements of all up to this number are about to leave for the other side.

        The reader then knows which messages can't come again after this gateway was killed.
        """
        self._port.note_acknowledged(number)

    def note_forgotten(self) -> None:
        """Record that the other side has forgotten which messages it has sent: it has no session of ours any more.

        What comes under a delivery id that was used before is another message then, whatever is in it.
        """
        self._port.note_forgotten()

    def watch(self, turn: Turn) -> None:
        """Ask for this turn from now on whenever the app may be done with more, and there may be room. It may be asked
        for too early.

        Look at `done` then, and try again what found no room: what comes later is announced again.
        """
        self._port.space.watch(turn.ask)

    def close(self) -> None:
        self._closed = True

    def _packed(self, metadata: Metadata) -> bytes:
        kept = metadata if self._keep is None else self._keep(metadata)
        return b"" if kept is None else pack_metadata(kept)

    def _fitting(self, correlation_id: bytes) -> bytes:
        if self._port.spec.metadata_space and self._keep is None:
            return correlation_id
        if not self._has_told:
            self._has_told = True
            log.warning(
                "%s: a correlation id of %d bytes was left out, and so is every other longer than %d: set the"
                " channel's max_metadata",
                self._port.spec.name,
                len(correlation_id),
                CORRELATION_FIELD,
                extra={"event": "correlation-dropped", "service": self._port.spec.name},
            )
        return b""

    def _tell_full(self) -> None:
        if self._port.has_reader:
            self._on_full()


@contextlib.contextmanager
def open_sink(
    trunk: Trunk,
    name: str,
    *,
    on_full: Callable[[], None] = lambda: None,
    keep: Callable[[Metadata], Metadata | None] | None = None,
) -> Iterator[PayloadSink]:
    """Open the sink of the channel of this whole name. `on_full` is called whenever its reader has no room.

    `keep` returns what is left of a message's metadata where there is room for a part of it alone; a long correlation
    id is left out there.
    """
    port = trunk.publisher(name)
    port.note_opened()
    spec = port.spec
    deliveries = Deliveries(trunk.node, name, spec.window) if spec.counts_deliveries else None
    sink = PayloadSink(port, on_full, deliveries, keep)
    try:
        yield sink
    finally:
        sink.close()
        if deliveries is not None:
            deliveries.close()

"""Stamps: what a writer adds to the metadata of each message by itself. One that adds nothing sends as it is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from taktora_trio.channels import Metadata
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.channels.message import with_properties
from taktora_trio.tracing.fields import Trace, with_trace
from taktora_trio.transport.envelope import CORRELATION_FIELD, pack_metadata, unpack_metadata
from taktora_trio.transport.publisher import EnvelopePublisher, Loan

__all__ = ["CONTENT_ENCODING", "Ways", "ways_of"]

log = logging.getLogger(__name__)

CONTENT_ENCODING = "content-encoding"
"""The user property that says how a payload is encoded beyond its content type; the name is that of HTTP's header."""

_Send: TypeAlias = Callable[[Buffer, bytes, bytes, bytes], int]
_Lend: TypeAlias = Callable[[int, bytes, bytes, bytes], Loan]


class Ways(NamedTuple):
    """How a writer sends: by the methods of its port, or by what is between. Chosen once, so that it costs nothing
    where there is nothing to add."""

    send: _Send
    """`send(payload, topic, metadata, correlation_id)`, as `EnvelopePublisher.send`."""
    lend: _Lend
    """`lend(length, topic, metadata, correlation_id)`, as `EnvelopePublisher.loan`."""


def ways_of(port: EnvelopePublisher, codec: PayloadCodec, *, tracing: bool) -> Ways:
    """Return how to send by this port. `tracing` says whether there is room for a trace in each message."""
    send: _Send = port.send
    lend: _Lend = port.loan
    encoding_of = codec.content_encoding()
    if tracing:
        from taktora_trio.tracing.context import trace_in

        stamp = _TraceStamp(port.spec.name, port.spec.metadata_space, trace_in)
        send, lend = stamp.sending(send), stamp.lending(lend)
    if encoding_of is not None and port.spec.metadata_space:
        send = _saying_encoding(send, encoding_of)
    return Ways(send, lend)


def _saying_encoding(send: _Send, encoding_of: Callable[[Buffer], str]) -> _Send:
    def send_saying(payload: Buffer, topic: bytes, packed: bytes, correlation_id: bytes) -> int:
        if encoding := encoding_of(payload):
            said = ((CONTENT_ENCODING, encoding),)
            packed = pack_metadata(with_properties(_unpacked(packed), (CONTENT_ENCODING,), said))
        return send(payload, topic, packed, correlation_id)

    return send_saying


class _TraceStamp:
    """Writes into each message the trace of the span that it is sent in, if there is one."""

    def __init__(self, name: str, space: int, present: Callable[[], Trace]) -> None:
        self._name = name
        self._space = space
        self._present = present
        self._has_told = False

    def sending(self, send: _Send) -> _Send:
        stamped = self._stamped
        return lambda payload, topic, packed, id_: send(payload, topic, stamped(packed, id_), id_)

    def lending(self, lend: _Lend) -> _Lend:
        stamped = self._stamped
        return lambda length, topic, packed, id_: lend(length, topic, stamped(packed, id_), id_)

    def _stamped(self, packed: bytes, correlation_id: bytes) -> bytes:
        trace = self._present()
        if not trace:
            return packed  # with the trace that the app itself has given it, if it has
        metadata = _unpacked(packed)
        space = self._space - max(0, len(correlation_id) - CORRELATION_FIELD)
        for part in (trace, trace[:1]):
            if len(with_it := pack_metadata(with_trace(metadata, part))) <= space:
                return with_it
        if not self._has_told:
            self._has_told = True
            log.warning(
                "%s: a message has no room for its trace, and goes without: raise max_metadata",
                self._name,
                extra={"event": "trace-dropped", "service": self._name},
            )
        return packed


def _unpacked(packed: bytes) -> Metadata:
    return unpack_metadata(packed) if packed else Metadata()

"""TracedSource: each message that belongs to a trace is published in a span of that trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace
from opentelemetry import trace

from taktora_trio.channels import Envelope, Header, Metadata
from taktora_trio.tracing.context import context_of, trace_in
from taktora_trio.tracing.fields import with_trace

if TYPE_CHECKING:
    from taktora_trio.connectors.pump import Turn
    from taktora_trio.connectors.source import Source

__all__ = ["TracedSource"]


class TracedSource:
    """A source between another one and its outbox. The message goes on as one that was sent in the span.

    The span lasts from when the gateway takes the message until the other side has acknowledged it. With a gateway that
    is killed its spans are lost; the next one publishes the message in a span of its own, of the same trace.
    """

    def __init__(self, source: Source, channel: str, address: str) -> None:
        """`address` is for messages that have no topic of their own."""
        self.announces = source.announces
        self.watch: Callable[[Turn], None] = source.watch
        self.attach: Callable[[], None] = source.attach
        self.begin: Callable[[Header, Callable[[], None]], None] = source.begin
        self._source = source
        self._name = f"publish {channel}"
        self._channel = channel
        self._address = address
        self._tracer = trace.get_tracer("taktora_trio.connectors")
        self._spans: dict[int, trace.Span] = {}  # of messages that are not acknowledged, by number, in order

    def receive_nowait(self) -> Envelope:
        envelope = self._source.receive_nowait()
        metadata = envelope.metadata
        return envelope if metadata is None else self._in_span(envelope, metadata)

    def _in_span(self, envelope: Envelope, metadata: Metadata) -> Envelope:
        context = context_of(metadata)
        if context is None:
            return envelope
        number = envelope.header.sequence_number
        span = self._tracer.start_span(
            self._name,
            context,
            trace.SpanKind.PRODUCER,
            {
                "messaging.destination.name": envelope.topic or self._address,
                "messaging.operation.type": "send",
                "taktora.channel": self._channel,
                "taktora.number": number,
            },
        )
        if not span.get_span_context().is_valid:
            return envelope  # nobody has configured a tracer here
        if span.is_recording():
            self._spans[number] = span
        here = trace_in(trace.set_span_in_context(span, context))
        return replace(envelope, metadata=with_trace(metadata, here))

    def acknowledge(self, header: Header) -> None:
        spans = self._spans
        while spans and (number := next(iter(spans))) <= header.sequence_number:
            spans.pop(number).end()
        self._source.acknowledge(header)

    def settled(self, number: int, refusal: str) -> None:
        if (span := self._spans.pop(number, None)) is not None:
            if refusal:
                span.set_status(trace.StatusCode.ERROR, refusal)
            span.end()
        self._source.settled(number, refusal)

    @property
    def is_behind(self) -> bool:
        return self._source.is_behind

    @property
    def unacknowledged(self) -> int:
        return self._source.unacknowledged

    @property
    def stored(self) -> int:
        return self._source.stored

    @property
    def has_writer(self) -> bool:
        return self._source.has_writer

    @property
    def begun_before(self) -> int:
        return self._source.begun_before

"""Between the trace of a message and OpenTelemetry's contexts. It imports the library (extra `opentelemetry`)."""

from __future__ import annotations

from typing import Any

from taktora_trio.channels import Metadata, Received
from taktora_trio.errors import missing_extra
from taktora_trio.tracing.fields import Trace, trace_of

try:
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as exc:
    raise missing_extra("trace_context", "opentelemetry-api", "opentelemetry") from exc

__all__ = ["context_of", "trace_context", "trace_in"]

# Not the propagators that are configured for the process: baggage has no bound, and is nobody's business outside.
_w3c = TraceContextTextMapPropagator()


def trace_context(received: Received[Any] | Metadata | None) -> Context:
    """Return the context of the span that a message was sent in, for OpenTelemetry.

        with tracer.start_as_current_span("work", trace_context(received)):
            ...

    It is an empty one if the message says nothing of a trace, or nothing valid: the span then begins a trace of its
    own.
    """
    metadata = received.metadata if isinstance(received, Received) else received
    context = context_of(metadata) if metadata is not None else None
    return Context() if context is None else context


def context_of(metadata: Metadata) -> Context | None:
    """Return the same for metadata; `None` if it says nothing valid of a trace."""
    trace = trace_of(metadata)
    if not trace:
        return None
    context = _w3c.extract(dict(trace), Context())
    return context if get_current_span(context).get_span_context().is_valid else None


def trace_in(context: Context | None = None) -> Trace:
    """Return the trace of the span in this context, or in the present one; empty if there is none."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, context)
    return tuple(carrier.items())

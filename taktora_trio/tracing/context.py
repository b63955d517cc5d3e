"""Between the trace of a message and OpenTelemetry's contexts. It imports the library (extra `opentelemetry`)."""

from __future__ import annotations

from taktora_trio.channels import Metadata
from taktora_trio.errors import missing_extra
from taktora_trio.tracing.fields import Trace, trace_of

try:
    from opentelemetry.context import Context
    from opentelemetry.trace import get_current_span
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as exc:
    raise missing_extra("trace_context", "opentelemetry-api", "opentelemetry") from exc

__all__ = ["context_of", "context_or_empty", "trace_in"]

# Not the propagators that are configured for the process: baggage has no bound, and is nobody's business outside.
_w3c = TraceContextTextMapPropagator()


def context_or_empty(metadata: Metadata | None) -> Context:
    """Return the context of the span that a message with this metadata was sent in; an empty one if there is none."""
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

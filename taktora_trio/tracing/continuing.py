"""What an app continues the trace of a message with. It imports OpenTelemetry when it is called, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taktora_trio.channels import Metadata, Received

if TYPE_CHECKING:
    from opentelemetry.context import Context

__all__ = ["trace_context"]


def trace_context(received: Received[Any] | Metadata | None) -> Context:
    """Return the context of the span that a message was sent in, for OpenTelemetry.

        with tracer.start_as_current_span("work", trace_context(received)):
            ...

    It is an empty one if the message says nothing of a trace, or nothing valid: the span then begins a trace of its
    own. Raises `ConfigError` where OpenTelemetry is not installed.
    """
    from taktora_trio.tracing.context import context_or_empty  # so that the name can be had without the library

    return context_or_empty(received.metadata if isinstance(received, Received) else received)

"""SpanObserver: each cycle is a span, by the OpenTelemetry API (extra `opentelemetry`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import time_ns
from typing import Any

from taktora_trio.channels import Received
from taktora_trio.errors import missing_extra, summary
from taktora_trio.executor.observer import Cycle, Observer
from taktora_trio.executor.wake import Message, Tick, Wake

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
except ModuleNotFoundError as exc:
    raise missing_extra("SpanObserver", "opentelemetry-api", "opentelemetry") from exc

from taktora_trio.tracing.context import context_of

__all__ = ["SpanObserver"]


class SpanObserver(Observer):
    """One span a cycle, named after its item, with what the item has told meanwhile as the span's events.

    It is the present span during the cycle, so spans that the item opens are below it. The span of a message that says
    which trace it belongs to is part of that trace, below the span that it was sent in. Every other one begins a trace
    of its own, whatever the app has opened around the executor.
    """

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        """`tracer` is the global provider's unless given."""
        self._tracer = trace.get_tracer("taktora_trio.executor") if tracer is None else tracer
        self._spans: dict[str, tuple[trace.Span, int]] = {}  # of cycles that have not ended, with the time they began

    @contextmanager
    def around(self, item: str, wake: Wake) -> Iterator[None]:
        context, kind = None, trace.SpanKind.INTERNAL
        if isinstance(wake, Message) and isinstance(wake.value, Received):
            kind = trace.SpanKind.CONSUMER
            if wake.value.metadata is not None:
                context = context_of(wake.value.metadata)
        began = time_ns()
        span = self._tracer.start_span(
            item,
            Context() if context is None else context,
            kind,
            {"taktora.wake": type(wake).__name__.lower()},
            start_time=began,
        )
        self._spans[item] = span, began
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
        except Exception:
            raise  # `cycle` is called with it
        except BaseException:
            del self._spans[item]
            span.set_attribute("taktora.cancelled", True)
            span.end()
            raise

    def cycle(self, item: str, cycle: Cycle) -> None:
        if item not in self._spans:
            return
        span, began = self._spans.pop(item)
        ended = began + int(cycle.duration * 1e9)
        span.set_attributes(
            {
                "taktora.lateness": cycle.lateness,
                "taktora.skipped": cycle.wake.skipped if isinstance(cycle.wake, Tick) else 0,
                "taktora.overrun": cycle.budget is not None and cycle.duration > cycle.budget,
            }
        )
        if cycle.error is not None:
            span.record_exception(cycle.error, timestamp=ended)
            span.set_status(trace.StatusCode.ERROR, summary(cycle.error))
        span.end(ended)

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        if item in self._spans:
            plain = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in fields.items()}
            self._spans[item][0].add_event(name, plain)

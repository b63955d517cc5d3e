"""SpanObserver: each cycle is a span, by the OpenTelemetry API (extra `opentelemetry`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from taktora_trio.errors import missing_extra, summary
from taktora_trio.executor.observer import Cycle, Observer
from taktora_trio.executor.wake import Tick

try:
    from opentelemetry import trace
    from opentelemetry.context import Context
except ModuleNotFoundError as exc:
    raise missing_extra("SpanObserver", "opentelemetry-api", "opentelemetry") from exc

__all__ = ["SpanObserver"]

_WAITING = 128  # events of an item at most, that are kept until its cycle ends; as many as the SDK gives a span


class SpanObserver(Observer):
    """One span a cycle, named after its item, with what the item has told meanwhile as the span's events.

    The span is made when the cycle has ended, so spans that the item opens itself are not below it.
    """

    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        """`tracer` is the global provider's unless given."""
        self._tracer = trace.get_tracer("taktora_trio.executor") if tracer is None else tracer
        self._events: dict[str, list[tuple[str, dict[str, Any], int]]] = {}

    def cycle(self, item: str, cycle: Cycle) -> None:
        ended = time.time_ns()
        span = self._tracer.start_span(
            item,
            Context(),  # a trace of its own, whatever the app has opened around the executor
            attributes={
                "taktora.wake": type(cycle.wake).__name__.lower(),
                "taktora.lateness": cycle.lateness,
                "taktora.skipped": cycle.wake.skipped if isinstance(cycle.wake, Tick) else 0,
                "taktora.overrun": cycle.budget is not None and cycle.duration > cycle.budget,
            },
            start_time=ended - int(cycle.duration * 1e9),
        )
        for name, fields, at in self._events.pop(item, ()):
            span.add_event(name, fields, at)
        if cycle.error is not None:
            span.record_exception(cycle.error, timestamp=ended)
            span.set_status(trace.StatusCode.ERROR, summary(cycle.error))
        span.end(ended)

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        events = self._events.setdefault(item, [])
        if len(events) < _WAITING:
            plain = {key: v if isinstance(v, bool | int | float | str) else str(v) for key, v in fields.items()}
            events.append((name, plain, time.time_ns()))

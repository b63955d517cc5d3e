"""PrometheusObserver: metrics of each item, by prometheus_client (extra `prometheus`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from taktora_trio.errors import missing_extra
from taktora_trio.executor.observer import Cycle, Observer
from taktora_trio.executor.wake import Late, Tick

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ModuleNotFoundError as exc:
    raise missing_extra("PrometheusObserver", "prometheus-client", "prometheus") from exc

__all__ = ["PrometheusObserver"]

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@attrs.frozen
class _Metrics:
    """One item's own; looking them up by label costs more than counting."""

    duration: Any
    lateness: Any
    overruns: Any
    skipped: Any
    failures: Any
    running: Any


class PrometheusObserver(Observer):
    """Metrics of each item, with a label `item`; serve the registry as you serve your others.

    `taktora_cycle_seconds` and `taktora_lateness_seconds` (histograms), `taktora_overruns_total`,
    `taktora_skipped_slots_total`, `taktora_failures_total`, `taktora_events_total` (with `name`), and
    `taktora_item_running` (1 or 0).
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, buckets: Sequence[float] = _BUCKETS) -> None:
        """One observer a registry: it may serve several executors. `buckets` are in seconds."""
        item = ["item"]
        self._duration = Histogram("taktora_cycle_seconds", "Duration", item, buckets=buckets, registry=registry)
        self._lateness = Histogram(
            "taktora_lateness_seconds", "Start after due time", item, buckets=buckets, registry=registry
        )
        self._overruns = Counter("taktora_overruns", "Cycles longer than their budget", item, registry=registry)
        self._skipped = Counter("taktora_skipped_slots", "Slots that were missed", item, registry=registry)
        self._failures = Counter("taktora_failures", "Failures of the item", item, registry=registry)
        self._running = Gauge("taktora_item_running", "Whether the item is in service", item, registry=registry)
        self._events = Counter("taktora_events", "What items have told", ["item", "name"], registry=registry)
        self._items: dict[str, _Metrics] = {}

    def started(self, item: str) -> None:
        self._of(item).running.set(1)

    def stopped(self, item: str) -> None:
        self._of(item).running.set(0)

    def crashed(self, item: str, error: Exception, then: str) -> None:
        metrics = self._of(item)
        metrics.failures.inc()
        if not then.startswith("skips"):
            metrics.running.set(0)

    def cycle(self, item: str, cycle: Cycle) -> None:
        metrics, wake = self._of(item), cycle.wake
        metrics.duration.observe(cycle.duration)
        if isinstance(wake, Tick | Late):
            metrics.lateness.observe(cycle.lateness)
        if isinstance(wake, Tick) and wake.skipped:
            metrics.skipped.inc(wake.skipped)

    def overrun(self, item: str, cycle: Cycle) -> None:
        self._of(item).overruns.inc()

    def event(self, item: str, name: str, fields: Mapping[str, Any]) -> None:
        self._events.labels(item, name).inc()

    def _of(self, item: str) -> _Metrics:
        if item not in self._items:
            self._items[item] = _Metrics(
                *(
                    metric.labels(item)
                    for metric in (
                        self._duration,
                        self._lateness,
                        self._overruns,
                        self._skipped,
                        self._failures,
                        self._running,
                    )
                )
            )
        return self._items[item]

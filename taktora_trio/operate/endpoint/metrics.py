"""Vitals as Prometheus and OpenMetrics have them. `docs/how-to/probe-and-measure.md` lists the names.

What nobody knows now has no sample: a gap says so, and a 0 would be a lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from taktora_trio import __version__
from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals, HalfVitals

__all__ = ["exposition", "families"]

_STATES = ("Up", "Degraded", "Connecting", "Down")

# By the last part of the name: what it is, and what gives the value.
_HALF: tuple[tuple[type[Metric], str, str, Callable[[HalfVitals], float | None]], ...] = (
    (GaugeMetricFamily, "up", "1 if this half is there and its loop turns.", lambda half: half.is_well),
    (CounterMetricFamily, "restarts", "How often it was started again in this run.", lambda half: half.restarts),
    (GaugeMetricFamily, "uptime_seconds", "Since it has started.", lambda half: half.uptime),
    (GaugeMetricFamily, "resident_memory_bytes", "Physical memory of its process.", lambda half: half.memory),
    (CounterMetricFamily, "cpu_seconds", "Processor time of its process.", lambda half: half.cpu),
    (GaugeMetricFamily, "loop_lag_seconds", "By how much its loop was late lately.", lambda half: half.loop_lag),
    (GaugeMetricFamily, "silence_seconds", "Since it has said something of itself.", lambda half: half.age),
)
_CONNECTOR: tuple[tuple[type[Metric], str, str, Callable[[ConnectorVitals], float | None]], ...] = (
    (GaugeMetricFamily, "since_timestamp_seconds", "When its health changed last.", lambda one: one.since),
    (CounterMetricFamily, "reconnects", "Connections that were made after one was lost.", lambda one: one.reconnects),
)
_CHANNEL: tuple[tuple[type[Metric], str, str, Callable[[ChannelVitals], float | None]], ...] = (
    (CounterMetricFamily, "messages", "Messages that its writer has sent.", lambda one: one.messages),
    (CounterMetricFamily, "payload_bytes", "Bytes of their payloads.", lambda one: one.payload_bytes),
    (CounterMetricFamily, "done_messages", "Messages that its reader is done with.", lambda one: one.done),
    (
        CounterMetricFamily,
        "acknowledged_messages",
        "Outbound messages that the other side has acknowledged or refused.",
        lambda one: one.acknowledged,
    ),
    (GaugeMetricFamily, "window_messages", "How many fit into its window.", lambda one: one.window),
    (GaugeMetricFamily, "window_used_messages", "Messages in its window.", lambda one: one.in_use),
    (GaugeMetricFamily, "backlog_messages", "Messages that wait in the gateway.", lambda one: one.backlog),
    (GaugeMetricFamily, "store_bytes", "What its connector's messages take on disk.", lambda one: one.store_bytes),
    (GaugeMetricFamily, "store_limit_bytes", "What they may take there.", lambda one: one.store_limit),
    (GaugeMetricFamily, "store_messages", "Messages of this channel on disk.", lambda one: one.store_messages),
    (
        GaugeMetricFamily,
        "store_full_in_seconds",
        "Until the store is full, should it go on as it does; absent while it does not grow.",
        lambda one: one.store_full_in,
    ),
    (CounterMetricFamily, "discarded_messages", "Messages that were thrown away.", lambda one: one.discarded),
    (CounterMetricFamily, "expired_messages", "Messages whose time was over.", lambda one: one.expired),
    (CounterMetricFamily, "refused_messages", "Messages that the other side refused.", lambda one: one.refused),
    (CounterMetricFamily, "rejected_messages", "Messages that the app could not read.", lambda one: one.rejected),
    (
        CounterMetricFamily,
        "redelivered_messages",
        "Messages that the app was given again.",
        lambda one: one.redelivered,
    ),
    (CounterMetricFamily, "waited_messages", "Messages that found no room at first.", lambda one: one.waited),
    (GaugeMetricFamily, "dead_letters", "Messages that were set aside.", lambda one: one.dead_letters),
    (GaugeMetricFamily, "last_message_age_seconds", "Since its last message was sent.", lambda one: one.age),
    (GaugeMetricFamily, "oldest_message_age_seconds", "Age of the oldest one in its window.", lambda one: one.oldest),
    (GaugeMetricFamily, "latency_seconds", "From a message's sending to its being done with.", lambda one: one.latency),
)


class _Once(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(vitals: DomainVitals | None, domain: str, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of a run, or of one that is not there, and their content type, as `accept` asks for it."""
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families(vitals, domain)))
    return encode(registry), content_type


def families(vitals: DomainVitals | None, domain: str) -> Iterator[Metric]:
    """Yield the metrics of a run; of one that is not there, that it isn't."""
    up = GaugeMetricFamily("taktora_up", "1 if there is a run in this domain.", labels=["domain"])
    up.add_metric([domain], vitals is not None)
    yield up
    build = InfoMetricFamily("taktora_build", "What serves this.")
    build.add_metric([], {"version": __version__})
    yield build
    if vitals is None:
        return
    info = InfoMetricFamily("taktora_run", "Which app runs, and in which shape.", labels=["domain"])
    info.add_metric([domain], {"app": vitals.app, "mode": vitals.mode})
    yield info
    halves = {
        name: HalfVitals(name=name, state="gone") if half is None else half for name, half in vitals.halves.items()
    }
    yield from _table("half", _HALF, ["half"], [((name,), half) for name, half in halves.items()], domain)
    connectors = [((one.name,), one) for one in vitals.connectors.values()]
    yield from _table("connector", _CONNECTOR, ["connector"], connectors, domain)
    yield from _healths(vitals, domain)
    labels = ["connector", "channel", "direction"]
    channels = [((one.connector, one.name, one.direction), one) for one in vitals.channels]
    yield from _table("channel", _CHANNEL, labels, channels, domain)


def _healths(vitals: DomainVitals, domain: str) -> Iterator[Metric]:
    health = GaugeMetricFamily(
        "taktora_connector_health", "1 for the state that a connector is in.", labels=["domain", "connector", "state"]
    )
    peer = InfoMetricFamily("taktora_connector", "Its other side.", labels=["domain", "connector"])
    for one in vitals.connectors.values():
        peer.add_metric([domain, one.name], {"peer": one.peer})
        for state in _STATES:
            health.add_metric([domain, one.name, state.lower()], one.health == state)
    yield health
    yield peer


def _table(
    kind: str, columns: Iterable[tuple[Any, ...]], labels: list[str], rows: list[tuple[Any, Any]], domain: str
) -> Iterator[Metric]:
    for family, name, help_, value_of in columns:
        metric = family(f"taktora_{kind}_{name}", help_, labels=["domain", *labels])
        for values, row in rows:
            if (value := value_of(row)) is not None:
                metric.add_metric([domain, *values], value)
        yield metric

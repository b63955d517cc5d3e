"""What a contest on Zenoh has measured, as tables and as promises."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import attrs
import msgspec

from benchmarks.contest import Entry, Flooded, Network
from benchmarks.peers.control import QoS
from benchmarks.report import Figure, as_documents, grid, median_of_ratios, percentile

__all__ = ["QOS", "SIZES", "Results", "figures_of", "side_by_side", "to_json"]

QOS: tuple[QoS, ...] = (0, 1)
SIZES = (100, 10_000)
BATCHES = (0, 20, 100)
"""Messages each way at each tick of 10 ms."""
_HALVES = {"app": "app", "gateway": "gateway", "broker": "server"}
"""The processes, as a contest and as the tables call them."""
_WORDS = {0: "at most once", 1: "acknowledged"}
_RIVAL = "zenoh"
Floods = dict[tuple[QoS, int], list[Flooded]]


def _floods() -> Floods:
    return {(qos, length): [] for qos in QOS for length in SIZES}


@attrs.define
class Results:
    """The figures of one contestant, round by round."""

    network: Network
    entry: Entry
    out: Floods = attrs.field(factory=_floods)
    into: Floods = attrs.field(factory=_floods)
    p50: dict[QoS, list[float]] = attrs.field(factory=lambda: {qos: [] for qos in QOS})
    """The round trips of each round, in us."""
    p99: dict[QoS, list[float]] = attrs.field(factory=lambda: {qos: [] for qos in QOS})
    late: dict[int, dict[QoS, list[float]]] = attrs.field(
        factory=lambda: {batch: {qos: [] for qos in QOS} for batch in BATCHES}
    )
    """How late each tick was, in us, by the messages at each."""

    @property
    def trip_qos(self) -> tuple[QoS, ...]:
        """Round trips over MQTT are at QoS 1 alone."""
        return QOS if self.network.protocol == "zenoh" else (1,)

    @property
    def tick_qos(self) -> tuple[QoS, ...]:
        """What is used directly has no ticks, but for Zenoh, whose threads are in the same process, too."""
        return QOS if self.entry.mode is not None or self.entry.name == _RIVAL else ()

    def note_trips(self, qos: QoS, trips: Sequence[float]) -> None:
        self.p50[qos].append(percentile(trips, 0.5))
        self.p99[qos].append(percentile(trips, 0.99))


def side_by_side(results: Mapping[str, Results]) -> str:
    """Return all tables."""
    tables = [
        _floods_table(results, qos, length, which) for length in SIZES for qos in QOS for which in ("out", "into")
    ]
    return "\n\n".join([*tables, _trips_table(results), _ticks_table(results)])


def _floods_table(results: Mapping[str, Results], qos: QoS, length: int, which: str) -> str:
    way = "app to server" if which == "out" else "server to app"
    head = [f"{length:,} B, {way}, {_WORDS[qos]}", "msg/s", f"of {_RIVAL}"]
    rows = [[*head, *(f"{'CPU us/msg: ' if half == 'app' else ''}{shown}" for half, shown in _HALVES.items())]]
    for name, one in results.items():
        floods: list[Flooded] = getattr(one, which)[qos, length]
        rates = [flood.rate for flood in floods]
        row = [name, f"{statistics.median(rates):,.0f}"]
        rival = [flood.rate for flood in getattr(results[_RIVAL], which)[qos, length]] if _RIVAL in results else []
        row.append(f"{median_of_ratios(rates, rival):.2f}" if rival else "-")
        row += [_cell(floods, half) for half in _HALVES]
        rows.append(row)
    return grid(rows)


def _cell(floods: Sequence[Flooded], half: str) -> str:
    return f"{statistics.median(flood.cpu[half] for flood in floods):.1f}" if half in floods[0].cpu else "-"


def _trips_table(results: Mapping[str, Results]) -> str:
    rows = [["100 B, there and back"]]
    for qos in QOS:
        rows[0] += [f"{_WORDS[qos]}: p50, us", "p99, us"]
    for name, one in results.items():
        rows.append([name])
        for qos in QOS:
            values = (one.p50[qos], one.p99[qos])
            rows[-1] += [f"{statistics.median(them):,.0f}" if them else "-" for them in values]
    return grid(rows)


def _ticks_table(results: Mapping[str, Results]) -> str:
    rows = [["10 ms tick, ms late", "messages/s each way", "quality", "p50", "p99", "worst", "ticks"]]
    for name, one in results.items():
        for batch, by_qos in one.late.items():
            for qos, late in by_qos.items():
                if late and (batch or not qos):
                    amounts = [percentile(late, 0.5), percentile(late, 0.99), max(late)]
                    quality = _WORDS[qos] if batch else "-"
                    row = [name, f"{100 * batch:,}", quality, *(f"{amount / 1e3:.2f}" for amount in amounts)]
                    rows.append([*row, f"{len(late):,}"])
    return grid(rows)


def figures_of(results: Mapping[str, Results]) -> list[Figure]:
    """Return the promises about the split shape, as far as its rivals took part."""
    ours = results.get("zenoh-split")
    if ours is None:
        return []
    figures = []
    for which, way in (("out", "app to server"), ("into", "server to app")):
        for rival, qos, target in ((_RIVAL, 0, 0.5), ("mqtt-split", 0, 1.0), ("mqtt-split", 1, 1.0)):
            if theirs := results.get(rival):
                rates = [[flood.rate for flood in getattr(one, which)[qos, SIZES[0]]] for one in (ours, theirs)]
                medians = " / ".join(f"{statistics.median(them):,.0f}" for them in rates)
                figures.append(
                    Figure(
                        what=f"{SIZES[0]} B, {way}, {_WORDS[qos]}: zenoh-split / {rival}",
                        measured=median_of_ratios(*rates),
                        target=target,
                        unit="x",
                        at_most=False,
                        beside=f"{medians} messages/s",
                    )
                )
    return figures


def to_json(results: Mapping[str, Results], figures: Sequence[Figure], where: str) -> bytes:
    def floods(them: Floods) -> dict[str, object]:
        return {
            f"{_WORDS[qos]}, {length} B": {
                "messages_per_second": [flood.rate for flood in some],
                "cpu_us_per_message": [flood.cpu for flood in some],
            }
            for (qos, length), some in them.items()
        }

    document = {
        "machine": where,
        "contestants": {
            name: {
                "app to server": floods(one.out),
                "server to app": floods(one.into),
                "round_trip_us": {_WORDS[qos]: {"p50": one.p50[qos], "p99": one.p99[qos]} for qos in one.trip_qos},
                "tick_us_late": {
                    str(100 * batch): {_WORDS[qos]: late for qos, late in by_qos.items()}
                    for batch, by_qos in one.late.items()
                },
            }
            for name, one in results.items()
        },
        "figures": as_documents(figures),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2)

"""What an operator is told at a glance: the worst first, and nothing that is well."""

from __future__ import annotations

from typing import Any

import pytest

from taktora_trio.operate.endpoint.verdict import Level, verdict_of
from taktora_trio.vitals import ChannelVitals, ConnectorVitals, DomainVitals, HalfVitals


def run(**more: Any) -> DomainVitals:
    """A run that is well; `more` are its other fields."""
    values: dict[str, Any] = {
        "domain": "plant",
        "app": "plant",
        "mode": "split",
        "read_at": 1.0,
        "owner": 1,
        "halves": {name: HalfVitals(name=name, state="runs", loop_lag=0.002) for name in ("plugin", "gateway")},
        "connectors": {"mqtt": ConnectorVitals(name="mqtt", health="Up", since=0.0)},
        "channels": [channel()],
        "history": [],
        **more,
    }
    return DomainVitals(**values)


def channel(**more: Any) -> ChannelVitals:
    values = {"connector": "mqtt", "name": "c", "direction": "out", "address": "c", "window": 64, "in_use": 3, **more}
    return ChannelVitals(**values)


def half(**more: Any) -> dict[str, HalfVitals | None]:
    return {**run().halves, "gateway": HalfVitals(**{"name": "gateway", **more})}


def connector(health: str, reason: str = "") -> dict[str, ConnectorVitals]:
    return {"mqtt": ConnectorVitals(name="mqtt", health=health, since=0.0, reason=reason)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("more", "level", "reasons"),
    [
        ({}, "well", []),
        ({"halves": {**run().halves, "gateway": None}}, "broken", ["there is no gateway"]),
        ({"halves": half(state="hangs", problem="for 9 s")}, "broken", ["the gateway hangs: for 9 s"]),
        ({"halves": half(state="stopped")}, "broken", ["the gateway is stopped"]),
        ({"halves": half(state="gone")}, "broken", ["the gateway is gone"]),
        ({"halves": half(state="unreadable", problem="torn")}, "broken", ["the gateway can't be read: torn"]),
        ({"halves": half(state="starts")}, "impaired", ["the gateway starts"]),
        ({"halves": half(state="runs", loop_lag=2.0)}, "impaired", ["the gateway is slow: its loop was 2.0 s late"]),
        ({"connectors": connector("Down", "refused")}, "broken", ["connector mqtt is Down: refused"]),
        ({"connectors": connector("Connecting")}, "impaired", ["connector mqtt is Connecting"]),
        ({"connectors": connector("Degraded", "lost 3")}, "impaired", ["connector mqtt is Degraded: lost 3"]),
        ({"channels": [channel(in_use=64, oldest=0.1)]}, "well", []),  # busy
        (
            {"channels": [channel(in_use=64, oldest=9.0)]},
            "impaired",
            ["channel c stands still: its window is full for 9 s"],
        ),
        ({"channels": [channel(store_full_in=7200.0)]}, "well", []),
        ({"channels": [channel(store_full_in=600.0)]}, "impaired", ["channel c: its store is full in 10 min"]),
        ({"channels": [channel(dead_letters=2)]}, "impaired", ["channel c: 2 dead letters wait to be looked after"]),
    ],
)
def test_a_run(more: dict[str, Any], level: Level, reasons: list[str]) -> None:
    verdict = verdict_of(run(**more))
    assert (verdict.level, verdict.reasons) == (level, reasons)


def test_the_worst_comes_first() -> None:
    several = {"halves": half(state="starts"), "connectors": connector("Down"), "channels": [channel(dead_letters=1)]}
    verdict = verdict_of(run(**several))
    assert verdict.level == "broken"
    assert [reason.split(" ")[0] for reason in verdict.reasons] == ["connector", "the", "channel"]

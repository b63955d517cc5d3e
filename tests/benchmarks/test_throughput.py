"""The contest's figures from its rounds; and one small contest with real processes, so that it does not rot."""

from __future__ import annotations

import pytest
import trio

from benchmarks.contest import Entry, Flooded, open_contest
from benchmarks.throughput import SESSIONS, Results, figures_of

FAST = SESSIONS[0]


def results(name: str, rates: list[float], p50: list[float], **cpu: float) -> Results:
    floods = {qos: [Flooded(rate * (1 + qos), cpu) for rate in rates] for qos in (0, 1)}
    return Results(Entry(name, ""), floods, p50, p50)  # type: ignore[arg-type]


def test_ratios_and_differences_are_taken_round_by_round() -> None:
    ours = results(f"split-{FAST}", [10, 100, 1_000], [500, 900, 700], app=5, gateway=12.5, broker=8)
    peer = results("gmqtt", [5, 200, 400], [1, 1, 1], app=9, broker=8)
    direct = results(f"session-{FAST}", [1, 1, 1], [400, 600, 650], app=9, broker=8)
    figures = {f.what: f.measured for f in figures_of({r.entry.name: r for r in (ours, peer, direct)})}
    assert figures == {
        f"100 B, QoS 0: split-{FAST} / gmqtt": 2.0,  # of 2, 0.5 and 2.5
        f"100 B, QoS 1: split-{FAST} / gmqtt": 2.0,
        f"round trip, QoS 1, p50: split-{FAST} - session-{FAST}": 100,  # of 100, 300 and 50
        "CPU time of the gateway process for a message, QoS 0": 12.5,
        "CPU time of the gateway process for a message, QoS 1": 12.5,
    }


@pytest.mark.parametrize(
    ("entry", "halves"),
    [
        (
            Entry(
                "ours", "through_gateway", "split", {"session": FAST, "channels": 2, "receipts": True, "paced": True}
            ),
            {"app", "gateway", "broker"},
        ),
        (Entry("directly", "session_directly", None, {"session": FAST}), {"app", "broker"}),
        (Entry("peer", "with_paho"), {"app", "broker"}),
        (Entry("under-asyncio", "with_aiomqtt", None, {"at_once": 4}), {"app", "broker"}),
    ],
    ids=lambda value: value.name if isinstance(value, Entry) else None,
)
async def test_a_contestant_floods_keeps_a_schedule_and_makes_round_trips(entry: Entry, halves: set[str]) -> None:
    with trio.fail_after(60):
        async with open_contest() as contest, contest.open(entry) as one:
            for _ in range(2):  # the numbers go on
                for qos in (0, 1):
                    flooded = await one.flood(qos, 70, length=120 if qos else 100)
                    assert flooded.rate > 0
                    assert flooded.cpu.keys() == halves
                    assert flooded.cpu["app"] > 0
            for _ in range(2):
                kept = await one.pace(1, 1_000, 0.05)
                assert len(kept.latencies) == 50  # those that a busy machine has not sent in time count, too
                assert kept.unsent < 50
                assert min(kept.latencies) > 0
                assert kept.cpu.keys() - {"supervisor"} == halves
            assert len(await one.trips(3)) == 3
            if one.domain is not None:
                assert len(await one.sends(3)) == 3

"""The scaling benchmark's tables and targets, of measurements that were made up."""

from __future__ import annotations

from benchmarks.scaling import payloads
from benchmarks.scaling.channels import Beside, ByChannels, Shape, figures, tables
from benchmarks.scaling.payloads import ByPayload, Direction


def made(count: int, shape: Shape) -> ByChannels:
    """A deployment whose start takes 1 s and 2 ms a channel, and each of whose halves has 3 descriptors a channel."""
    names = ["app", "gateway", "supervisor"] if shape == "split" else ["app"]
    return ByChannels(
        channels=count,
        shape=shape,
        start_seconds=1 + 0.002 * count,
        stop_seconds=0.5,
        start_cpu=dict.fromkeys(names, 0.5),
        shared_bytes=18_000 * count,
        descriptors={name: 50 + (3 * count if name != "supervisor" else 0) for name in names},
        resident_bytes=dict.fromkeys(names, 40_000_000 + 120_000 * count),
        rate=10_000,
        cpu={"app": 5, "broker": 15, **({"gateway": 10} if shape == "split" else {})},
    )


MEASURED = [made(count, shape) for count in (1, 10, 100, 1_000) for shape in ("split", "in-process")]


def test_each_target_is_beside_what_was_measured_of_it() -> None:
    compared = Beside(few=10, many=1_000, few_rates=[100, 200, 400], many_rates=[90, 140, 400])
    assert {it.what: (round(it.measured, 9), it.ok) for it in figures(MEASURED, compared)} == {
        "start with 1,000 channels, split": (3.0, False),
        "start with 1,000 channels, in-process": (3.0, False),
        "descriptors for each more channel, in a half": (3.0, True),
        "resident, the gateway with 1,000 channels": (160.0, False),
        "QoS 1, split: with 1,000 channels / with 10": (0.9, True),  # of 0.9, 0.7 and 1
    }


def test_what_was_not_measured_has_no_target_and_fewer_channels_do_not_stand_for_a_thousand() -> None:
    few = [it for it in MEASURED if it.channels < 1_000]
    assert figures(few, Beside(few=10, many=100, few_rates=[1], many_rates=[1])) == []


def test_costs_that_grow_in_proportion_are_seen_under_what_is_spent_before_the_first() -> None:
    costs, growth = tables(MEASURED)
    assert len(costs.splitlines()) == 2 + len(MEASURED)
    start = next(line for line in growth.splitlines() if line.startswith("start"))
    assert "1.00" in start
    assert start.endswith("2 ms")
    supervisor = next(line for line in growth.splitlines() if line.startswith("descriptors, supervisor"))
    assert "0.00" in supervisor


def test_a_payloads_target_is_that_of_large_ones_from_app_to_broker() -> None:
    out = Direction(rates=[90, 190], session_rates=[100, 200], cpu=dict.fromkeys(("app", "gateway", "broker"), 1.0))
    measured = [
        ByPayload(payload=size, to_broker=out, to_app=out, p50=1, session_p50=1) for size in (100, 2**16, 2**20)
    ]
    assert [(it.what.split(", QoS")[0], it.ok) for it in payloads.figures(measured)] == [
        ("64 KiB", False),
        ("1,024 KiB", False),
    ]
    assert [table.splitlines()[0].split(",")[0] for table in payloads.tables(measured)] == [
        "app to broker",
        "broker to app",
    ]

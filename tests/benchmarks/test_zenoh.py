"""The contest on Zenoh, small, with real processes, so that it does not rot; and what its figures are made of."""

from __future__ import annotations

import pytest
import trio

from benchmarks.contest import Entry, Flooded
from benchmarks.zenoh import __main__ as contest
from benchmarks.zenoh.network import ZENOH
from benchmarks.zenoh.results import QOS, SIZES, Results, figures_of, side_by_side, to_json

TINY = contest.Effort(rounds=1, seconds=0.02, trips=10, ticks=10)


@pytest.mark.zenoh
@pytest.mark.parametrize(("name", "halves"), [("zenoh", {"app", "broker"}), ("zenoh-in-process", {"app", "broker"})])
async def test_a_contestant_does_all_of_it(name: str, halves: set[str]) -> None:
    taking_part = [(network, entry) for network, entry in contest.entries() if entry.name == name]
    with trio.fail_after(60):
        results = await contest.measure(TINY, taking_part)
    (result,) = results.values()
    for floods in (result.out, result.into):
        assert {flood.cpu.keys() == halves and flood.rate > 0 for some in floods.values() for flood in some} == {True}
    assert all(len(result.p50[qos]) == 1 for qos in QOS)
    assert all(len(late) == TINY.ticks for by_qos in result.late.values() for late in by_qos.values())
    assert side_by_side(results).count(name) > 8
    assert to_json(results, figures_of(results), "here")


def test_ratios_are_taken_round_by_round() -> None:
    def results(name: str, rates: list[float]) -> Results:
        floods = {(qos, length): [Flooded(rate * (1 + qos), {}) for rate in rates] for qos in QOS for length in SIZES}
        return Results(ZENOH, Entry(name, ""), floods, floods)

    ours, theirs = results("zenoh-split", [10, 100, 1_000]), results("zenoh", [5, 200, 400])
    figures = {figure.what: figure.measured for figure in figures_of({"zenoh-split": ours, "zenoh": theirs})}
    assert figures == {
        "100 B, app to server, at most once: zenoh-split / zenoh": 2.0,  # of 2, 0.5 and 2.5
        "100 B, server to app, at most once: zenoh-split / zenoh": 2.0,
    }

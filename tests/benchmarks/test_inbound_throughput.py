"""What comes from the broker is counted by each kind of contestant: called back, fetching, and ours."""

from __future__ import annotations

import attrs
import trio

from benchmarks.contest import Entry, open_contest
from benchmarks.contestants import ours
from benchmarks.inbound_throughput import QOS, measure_throughput, report

FILTERS = {"filters": 2, "qos": QOS}


async def test_all_that_comes_is_counted_whatever_its_size() -> None:
    split = ours("split", max_payload=2000)
    entries = [
        attrs.evolve(split, options={**split.options, **FILTERS}),
        Entry("called", "with_paho", None, FILTERS),
        Entry("fetches", "with_aiomqtt", None, FILTERS),
    ]
    with trio.fail_after(60):
        async with open_contest() as contest:
            for entry in entries:
                async with contest.open(entry) as one:
                    for _ in range(2):  # the numbers go on
                        for qos in QOS:
                            flooded = await one.inflow(70, length=1500 if qos else 100, qos=qos)
                            assert flooded.rate > 0
                            assert flooded.cpu.keys() == one.pids.keys()


async def test_a_library_that_drops_at_qos_0_has_no_figure_there() -> None:
    entry = Entry("aiomqtt-3", "with_paho", None, {"filters": 1, "qos": (1,)})
    with trio.fail_after(60):
        results = await measure_throughput(1, 0.01, [entry])
    assert list(results["aiomqtt-3"]) == [1]
    assert " - " in report(results).splitlines()[2]

"""Who takes part: configurations that a contestant understands, and each peer that is installed, for a moment."""

from __future__ import annotations

import os
import time
from collections import Counter

import attrs
import msgspec
import pytest
import trio

from benchmarks import contestants, idle, latency, throughput
from benchmarks.children import ROOT
from benchmarks.contest import Entry, open_contest
from benchmarks.contestants import PEERS, Peer
from benchmarks.idle import Idle
from benchmarks.peers.control import Setting

IN_AN_ENVIRONMENT_OF_THEIR_OWN = [
    peer for peer in PEERS if peer.entry.name in {"aiomqtt-3", "mqttjs", "zmqtt", "mqttium"}
]


def every_entry() -> list[Entry]:
    return [*throughput.entries()[0], *latency.entries(), *(peer.entry for peer in PEERS)]


def test_each_has_a_module_and_options_that_it_understands() -> None:
    known = {field.name for field in msgspec.structs.fields(Setting)}
    for entry in every_entry():
        assert (ROOT / "benchmarks" / "peers" / f"{entry.module}.py").exists()
        assert entry.options.keys() <= known


def test_names_are_unique() -> None:
    for entries in (throughput.entries()[0], latency.entries(), [peer.entry for peer in PEERS]):
        assert max(Counter(entry.name for entry in entries).values()) == 1


def test_ours_is_measured_at_default_options_too() -> None:
    names = {entry.name: entry for entry in throughput.entries()[0]}
    assert "window" not in names["split-native-64"].options
    assert names["split-native"].options["window"] == contestants.WINDOW


def test_what_a_contestant_does_for_an_app() -> None:
    split = contestants.ours("split", stored=True)
    in_process = contestants.ours("in-process")
    peer = next(peer.entry for peer in PEERS if peer.entry.name == "mosquitto_pub")
    assert [contestants.features(entry) for entry in (split, in_process, peer, PEERS[0].entry)] == [
        ["yes", "yes", "yes"],
        ["no", "no", "no"],
        ["no", "yes", "no"],
        ["no", "no", "no"],
    ]


def test_who_is_left_out_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there() -> str:
        raise LookupError

    gone = attrs.evolve(PEERS[0], version=not_there, install="get it")
    monkeypatch.setattr(contestants, "PEERS", [gone, attrs.evolve(PEERS[1], version=lambda: "9.9")])
    assert contestants.peers() == [PEERS[1].entry]
    assert contestants.missing_peers() == [f"{gone.entry.name} is left out: get it"]
    assert "9.9" in contestants.configurations()
    assert f"{gone.entry.name} " not in contestants.configurations()


@pytest.mark.parametrize("peer", IN_AN_ENVIRONMENT_OF_THEIR_OWN, ids=lambda peer: peer.entry.name)
async def test_a_peer_that_is_installed_follows_orders(peer: Peer) -> None:
    try:
        peer.version()
    except LookupError:
        pytest.skip(f"not installed: {peer.install}")
    with trio.fail_after(60):
        async with open_contest() as contest, contest.open(peer.entry) as one:
            for qos in (0, 1):
                assert (await one.flood(qos, 70)).rate > 0
                kept = await one.pace(qos, 1_000, 0.03)
                assert (len(kept.latencies), kept.unsent) == (30, 0)
            assert len(await one.trips(3)) == 3


def test_waiting_is_what_counts_as_a_wakeup() -> None:
    before = idle.wakeups(os.getpid())
    for _ in range(5):
        time.sleep(0.0005)
    assert (idle.wakeups(os.getpid()) - before).total() >= 5


def test_the_figures_of_idle_processes_as_a_table() -> None:
    ours = idle.Results({"app": Idle(10, 0.5), "gateway": Idle(20, 1)}, {1: {"app": 3, "gateway": 4, "broker": 50}})
    table = idle.side_by_side({"ours": ours}, Idle(7, 2)).splitlines()
    assert table[2].split() == ["ours", "10", "20", "-", "30", "0.5", "1.0", "-", "1.5"]
    assert table[-2].split() == ["ours", "7", "3", "4", "-", "50"]

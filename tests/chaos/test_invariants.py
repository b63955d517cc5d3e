"""Each promise, broken on paper, is named; and none is where all is well."""

from __future__ import annotations

import re

import attrs
import pytest

from taktora_trio.chaos.faults import FAULTS
from taktora_trio.chaos.invariants import Snapshot, events_match, states_of, what_is_wrong
from taktora_trio.chaos.processes import Process

KILL = FAULTS["gateway-kill"]


def process(pid: int, state: str = "S") -> Process:
    return Process(pid=pid, parent=1, state=state, started=0, command="")


BEFORE = Snapshot(
    pids={"gateway": 10, "plugin": 11},
    processes=[process(10), process(11)],
    files=100,
    gaps=["an old one"],
    broken_chains=["an old one"],
    largest_gap=0.0,
    failures=frozenset(),
)
AFTER = attrs.evolve(
    BEFORE,
    pids={"gateway": 20, "plugin": 11},
    processes=[process(20), process(11)],
    largest_gap=0.03,
    failures=frozenset({"signal"}),
)
STATES = "Degraded Down Connecting Up "


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert what_is_wrong(KILL, BEFORE, AFTER, STATES) == []


@pytest.mark.parametrize(
    ("changes", "states", "said"),
    [
        ({"gaps": ["an old one", "series a: after 1 came 3"]}, STATES, "after 1 came 3"),
        ({"broken_chains": ["an old one", "Up -> Up"]}, STATES, "Up -> Up"),
        ({}, "Connecting Up ", "the app saw Connecting Up"),
        ({}, "", "the app saw nothing"),
        ({"pids": {"gateway": 10, "plugin": 11}}, STATES, "gateway (pid 10) should have been replaced"),
        ({"pids": {"gateway": 20, "plugin": 21}}, STATES, "plugin was replaced (pid 11, now 21)"),
        ({"largest_gap": 1.5}, STATES, "did not tick for 1500 ms"),
        ({"failures": frozenset[str]()}, STATES, "told of the failures [], and should have been of signal"),
        ({"processes": [process(20)]}, STATES, "should have 2 processes"),
        ({"processes": [process(20), process(11), process(30)]}, STATES, "should have 2 processes"),
        ({"processes": [process(20), process(11, "Z")]}, STATES, "should have 2 processes"),
        ({"files": 101}, STATES, "files of the domain: 100 before, 101 after"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], states: str, said: str) -> None:
    after = attrs.evolve(AFTER, **changes)  # type: ignore[arg-type]
    [wrong] = what_is_wrong(KILL, BEFORE, after, states)
    assert said in wrong


def test_an_app_that_is_the_victim_need_not_tick() -> None:
    after = attrs.evolve(BEFORE, pids={"gateway": 10, "plugin": 21}, largest_gap=9.0)
    assert what_is_wrong(FAULTS["plugin-kill"], BEFORE, after, "Up ") == []


def test_a_failure_that_none_was_expected_of_is_wrong() -> None:
    after = attrs.evolve(BEFORE, failures=frozenset({"hang"}))
    [wrong] = what_is_wrong(FAULTS["connection-cut"], BEFORE, after, "Connecting Up ")
    assert "hang" in wrong


def test_where_chance_decides_one_of_several_failures_is_enough() -> None:
    greedy = FAULTS["greedy"]
    for failures, right in (({"hang"}, True), ({"out-of-memory"}, True), ({"signal"}, False), (set[str](), False)):
        wrong = what_is_wrong(greedy, BEFORE, attrs.evolve(AFTER, failures=frozenset(failures)), STATES)
        assert (wrong == []) is right
        assert right or "should have been of hang or out-of-memory" in wrong[0]


def test_states_are_the_first_words() -> None:
    assert states_of(["Down (the gateway ended (why))", "Connecting", "Up"]) == "Down Connecting Up "


@pytest.mark.parametrize("kind", FAULTS)
def test_every_pattern_is_one_and_ends_with_up(kind: str) -> None:
    fault = FAULTS[kind]
    assert re.compile(fault.events)
    if fault.exit_code is None:
        assert not events_match(fault, "Down ")
        assert not events_match(fault, "Up Down Connecting ")

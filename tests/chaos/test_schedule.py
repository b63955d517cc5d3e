"""A schedule is a function of its seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.chaos.faults import FAULTS
from taktora_trio.chaos.schedule import Ranges, plan

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(0, 100)


@st.composite
def ranges(draw: st.DrawFn) -> Ranges:
    names = draw(st.lists(st.sampled_from(["seconds", "times", "bytes"]), unique=True))
    edges = st.tuples(st.integers(0, 100), st.integers(0, 100))
    return {name: (float(min(pair)), float(max(pair))) for name in names for pair in [draw(edges)]}


kinds = st.dictionaries(st.sampled_from(list(FAULTS)), ranges(), min_size=1)


@given(seeds, counts, kinds)
def test_the_same_seed_gives_the_same_faults(seed: int, count: int, known: dict[str, Ranges]) -> None:
    assert plan(seed, count, known) == plan(seed, count, dict(reversed(known.items())))


@given(seeds, counts, counts, kinds)
def test_a_longer_schedule_begins_with_the_shorter(seed: int, one: int, other: int, known: dict[str, Ranges]) -> None:
    shorter, longer = sorted((one, other))
    assert plan(seed, longer, known)[:shorter] == plan(seed, shorter, known)


@given(seeds, st.integers(1, 4), kinds)
def test_each_round_has_every_kind_once(seed: int, rounds: int, known: dict[str, Ranges]) -> None:
    planned = plan(seed, rounds * len(known), known)
    for start in range(0, len(planned), len(known)):
        assert sorted(fault.kind for fault in planned[start : start + len(known)]) == sorted(known)
    assert [fault.index for fault in planned] == list(range(1, len(planned) + 1))


@given(seeds, counts, kinds)
def test_parameters_are_within_their_ranges(seed: int, count: int, known: dict[str, Ranges]) -> None:
    for fault in plan(seed, count, known):
        assert fault.parameters.keys() == known[fault.kind].keys()
        for name, value in fault.parameters.items():
            least, greatest = known[fault.kind][name]
            assert least <= value <= greatest


def test_seeds_differ() -> None:
    known = {kind: fault.ranges for kind, fault in FAULTS.items()}
    assert len({str(plan(seed, 20, known)) for seed in range(50)}) == 50


def test_without_kinds_there_is_nothing() -> None:
    assert plan(1, 10, {}) == []

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.store.ranges import Ranges

NUMBER = st.integers(0, 40)


def numbers(ranges: Ranges) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]


@given(st.lists(st.tuples(st.booleans(), NUMBER, st.integers(0, 8))), NUMBER, NUMBER)
def test_like_a_set(steps: list[tuple[bool, int, int]], one: int, other: int) -> None:
    ranges, like = Ranges(), set[int]()
    for adds, first, length in steps:
        some = set(range(first, first + length + 1))
        if adds:
            ranges.add(first, first + length)
            like |= some
        else:
            assert ranges.remove(first, first + length) == len(like & some)
            like -= some
        assert numbers(ranges) == sorted(like)
        assert ranges.count == len(like)
    assert (one in ranges) == (one in like)
    assert ranges.count_within(one, other) == len(like & set(range(one, other + 1)))
    assert numbers(ranges.within(one, other)) == sorted(like & set(range(one, other + 1)))
    assert numbers(ranges.lowest(one, other)) == sorted(number for number in like if number > other)[:one]
    assert numbers(Ranges(ranges.bounds)) == sorted(like)


def test_a_million_numbers_in_order_take_no_memory_of_their_own() -> None:
    ranges = Ranges()
    for number in range(1, 10**5):
        ranges.add(number, number)
    ranges.remove(1, 10**4)
    assert list(ranges) == [(10**4 + 1, 10**5 - 1)]
    assert repr(ranges) == "Ranges(10001-99999)"


@pytest.mark.parametrize("bounds", [[1], [2, 1], [1, 1], [1, 3, 3, 5], [-1, 2], [2**64, 2**65], ["a", "b"]])
def test_bounds_that_are_none(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        Ranges(bounds)

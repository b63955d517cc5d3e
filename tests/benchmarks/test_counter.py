"""The independent subscriber notices what is missing, doubled, or out of order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import message
from benchmarks.counter import Count, Counted, Wrong


@given(number=st.integers(1, 10**9), last=st.booleans(), length=st.integers(21, 3_000))
def test_a_text_says_its_number_in_as_many_printable_bytes(number: int, last: bool, length: int) -> None:
    payload = message.text(number, last=last, length=length)
    assert len(payload) == length
    assert payload.decode("ascii").isprintable()
    assert message.read_text(payload) == (number, last)


def test_the_last_of_an_order_is_told_and_the_numbers_go_on() -> None:
    count = Count("t")
    told = [count.take(message.text(number, last=number in (2, 4)), number * 10) for number in range(1, 5)]
    assert told == [None, Counted("t", 2, 20), None, Counted("t", 4, 40)]


@pytest.mark.parametrize("numbers", [[2], [1, 1], [1, 3], [1, 2, 1]])
def test_any_other_message_than_the_next_is_told_once(numbers: list[int]) -> None:
    count = Count("t")
    *before, told = (count.take(message.text(number), 0) for number in numbers)
    assert before == [None] * len(before)
    assert told == Wrong("t", numbers[-1], len(numbers))
    assert count.take(message.text(len(numbers) + 1, last=True), 0) is None

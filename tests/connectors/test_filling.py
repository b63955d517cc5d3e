"""How full a store is, said before it is full, with the time left; and it changes seldom."""

from __future__ import annotations

import pytest

from taktora_trio.connectors.storing.filling import Filling, rounded


def test_nothing_is_said_below_eighty_percent() -> None:
    filling = Filling(1000)
    assert [filling.look(at, used) for at, used in ((0, 0), (1, 500), (2, 799))] == [None] * 3


def test_from_eighty_percent_on_the_time_left_is_said() -> None:
    filling = Filling(1000)
    for at in range(60):
        filling.look(at, at * 10)
    remark = "80 % full; at the present rate it is full in less than a minute"
    assert filling.look(80, 800) == remark
    assert filling.look(82, 820) == remark, "the same words, for each change of them is an event of the health"
    assert filling.look(200, 1000) == "full"
    assert filling.look(201, 995) == "full", "the next message may be larger than what is left"


def test_a_store_that_gets_no_fuller_lasts() -> None:
    filling = Filling(1000)
    filling.look(0, 900)
    assert filling.look(10, 850) == "85 % full"


def test_the_rate_is_that_of_the_last_minute() -> None:
    filling = Filling(100_000)
    filling.look(0, 0)
    filling.look(10, 80_000)  # a burst, long ago
    for at in range(100, 200):
        said = filling.look(at, 80_000 + (at - 100))
    assert said == "80 % full; at the present rate it is full in about 5 hours"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "less than a minute"),
        (61, "about 1 minute"),
        (700, "about 10 minutes"),
        (7300, "about 2 hours"),
        (86_400 * 40, "about 30 days"),
    ],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert rounded(seconds) == words

"""The subscriber's count: what is a gap to it, and what a repeat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from taktora_trio.chaos.mqtt.subscriber import split_packets
from taktora_trio.chaos.tally import Tally


def test_in_order_is_all_that_is_asked() -> None:
    tally = Tally()
    for number in range(1, 100):
        tally.add("a", number)
    assert (tally.gaps, tally.repeats, tally.last) == ([], 0, {"a": 99})


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20)), min_size=1))
def test_going_back_and_on_from_there_is_a_repeat_and_no_gap(restarts: list[tuple[int, int]]) -> None:
    """As a gateway does that was replaced: again what was not acknowledged, then what is new."""
    tally, sent, come = Tally(), 0, 0
    for back, ahead in restarts:
        for number in range(max(1, sent - back), sent + ahead + 1):
            tally.add("a", number)
            come += 1
        sent += ahead
    assert tally.gaps == []
    assert tally.last == {"a": sent}
    assert tally.repeats == come - sent


@given(st.integers(2, 50), st.data())
def test_one_that_is_left_out_is_a_gap(count: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(1, count - 1))
    tally = Tally()
    for number in range(1, count + 1):
        if number != missing:
            tally.add("a", number)
    assert tally.gaps == [f"series a: after {missing - 1} came {missing + 1}"]


@given(st.integers(2, 50), st.data())
def test_two_that_change_places_are_a_gap(count: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, count - 1))
    numbers = list(range(1, count + 1))
    numbers[first - 1 : first + 1] = reversed(numbers[first - 1 : first + 1])
    tally = Tally()
    for number in numbers:
        tally.add("a", number)
    assert len(tally.gaps) == 1


def test_series_are_counted_apart() -> None:
    tally = Tally()
    for series, number in [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 4)]:
        tally.add(series, number)
    assert tally.gaps == ["series b: after 2 came 4"]


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 1600), max_size=8))
def test_packets_are_found_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(b"\x30" + _length(len(body)) + body for body in bodies)
    found: list[tuple[int, bytes]] = []
    rest, start = b"", 0
    for end in sorted({*(min(cut, len(stream)) for cut in cuts), len(stream)}):
        packets, rest = split_packets(rest + stream[start:end])
        found += packets
        start = end
    assert found == [(0x30, body) for body in bodies]
    assert rest == b""


def _length(value: int) -> bytes:
    """Encode the remaining length as MQTT writes it (section 2.2.3)."""
    encoded = bytearray()
    while True:
        value, digit = divmod(value, 128)
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)

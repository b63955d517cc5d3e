"""The counter and the echo understand MQTT, in whatever pieces the bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks import wire

PAYLOADS = st.lists(st.one_of(st.binary(max_size=300), st.integers(16_370, 16_390).map(bytes)), max_size=6)


@given(payloads=PAYLOADS, size=st.integers(1, 5_000))
def test_packets_come_out_whole_whatever_the_chunks(payloads: list[bytes], size: int) -> None:
    stream = b"".join(wire.publish("a/b", payload) for payload in payloads)
    packets, bodies = wire.Packets(), []
    for start in range(0, len(stream), size):
        packets.feed(stream[start : start + size])
        for first, body in packets:
            assert first == wire.PUBLISH
            bodies.append(body)
    assert bodies == [b"\x00\x03a/b" + payload for payload in payloads]


def test_a_packet_id_asks_for_qos_1() -> None:
    assert wire.publish("t", b"!", 258) == b"\x32\x06\x00\x01t\x01\x02!"
    assert wire.puback(b"\x01\x02") == b"\x40\x02\x01\x02"


def test_the_length_takes_as_many_bytes_as_the_specification_says() -> None:
    """Its own examples: MQTT 3.1.1, section 2.2.3, table 2.4."""
    for rest, length in ((127, b"\x7f"), (128, b"\x80\x01"), (16_383, b"\xff\x7f"), (16_384, b"\x80\x80\x01")):
        packet = wire.publish("t", bytes(rest - 3))
        assert packet[1 : 1 + len(length)] == length
        assert len(packet) == 1 + len(length) + rest

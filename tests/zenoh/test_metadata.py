"""Metadata, correlation ids and what travels beside a payload: there and back, and as others write and read it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from taktora_trio import Inbound, JsonCodec, Metadata, Outbound, ZenohConnector, ZenohOptions, ZenohRouting, ZstdCodec
from taktora_trio.connectors.zenoh.attachment import Malformed, decode, encode
from taktora_trio.connectors.zenoh.metadata import FOREIGN, Carrier, attached, read_beside
from taktora_trio.testing.driver import Driver
from tests.zenoh.knowing import session_of, until_known

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)  # as `Metadata` in shared memory has it
NAMES = TEXT | st.sampled_from([".expiry", ".response", ".correlation", ".number", ".", "..", "..x", FOREIGN])
METADATA = st.builds(
    Metadata,
    content_type=TEXT,
    response_topic=TEXT,
    message_expiry=st.none() | st.integers(0, 2**32 - 1),
    user_properties=st.lists(st.tuples(NAMES, TEXT), max_size=5).map(tuple),
)


@given(METADATA, st.binary(max_size=50), st.dictionaries(st.sampled_from([".number", ".again"]), st.binary(max_size=9)))
def test_what_is_sent_with_a_message_arrives_with_it(
    metadata: Metadata, correlation_id: bytes, own: dict[str, bytes]
) -> None:
    there = read_beside(metadata.content_type, attached(metadata, correlation_id, own.items()))
    assert (there.metadata or Metadata()) == metadata
    assert there.correlation_id == correlation_id
    assert there.own == own


@given(st.lists(st.tuples(TEXT, st.binary(max_size=300)), max_size=5))
def test_pairs_come_back_in_their_order(pairs: list[tuple[str, bytes]]) -> None:
    assert decode(encode(pairs)) == pairs


@given(TEXT, st.binary(max_size=100))
@example("", b"\xff" * 100)
@example("", b"\x80\x80\x80\x80\x80\x80\x00")
def test_no_attachment_of_others_is_an_error(encoding: str, attachment: bytes) -> None:
    there = read_beside(encoding, attachment)
    assert there.metadata is None or there.metadata.content_type == encoding


@given(METADATA, st.data())
def test_no_attachment_that_is_cut_off_is_an_error(metadata: Metadata, data: st.DataObject) -> None:
    attachment = attached(metadata, b"id")
    read_beside("", attachment[: data.draw(st.integers(0, len(attachment) - 1))])


def test_plain_text_comes_as_a_user_property() -> None:
    there = read_beside("text/plain", b"from a plain app")
    assert there.metadata == Metadata("text/plain", user_properties=((FOREIGN, "from a plain app"),))


@pytest.mark.parametrize("digits", [b"", b"x", b"-1", b"1.5", b"9" * 11, "\u0663".encode()])
def test_an_expiry_that_is_none_is_left_out(digits: bytes) -> None:
    assert read_beside("", encode([(".expiry", digits)])).metadata is None


def test_nothing_beside_a_payload_takes_no_room() -> None:
    assert attached(None, b"") == attached(Metadata("application/json"), b"") == b""
    assert read_beside("", b"").metadata is None


@pytest.mark.parametrize("broken", [b"\x01", b"\x01\x01", b"\x01\x01a\x05xxxx", b"\x00rest", b"\x01\x01\xff\x00"])
def test_what_is_no_list_of_pairs_is_known(broken: bytes) -> None:
    with pytest.raises(Malformed):
        decode(broken)


@pytest.mark.zenoh
def test_others_read_and_write_it_by_the_librarys_own_functions() -> None:
    from zenoh import ZBytes
    from zenoh.ext import z_deserialize, z_serialize

    attachment = attached(Metadata(message_expiry=60, user_properties=(("unit", "bar"),)), b"\x00id")
    theirs = {".correlation": b"\x00id", ".expiry": b"60", "unit": b"bar"}
    assert z_deserialize(dict[str, bytes], ZBytes(attachment)) == theirs
    assert bytes(z_serialize(list(theirs.items()))) == attachment
    assert read_beside("", bytes(z_serialize({"unit": "bar"}))).metadata == Metadata(user_properties=(("unit", "bar"),))


async def test_metadata_goes_from_one_gateway_to_another(network: ZenohOptions) -> None:
    sends = Driver(ZenohConnector([Outbound("out", dict, ZenohRouting("a"))], options=network), "sends")
    receives = Driver(ZenohConnector([Inbound("in", dict, ZenohRouting("a"))], options=network), "receives")
    metadata = Metadata("text/plain", "reply/here", 60, (("unit", "bar"), ("unit", "psi"), (".own", "1")))
    async with receives.connected() as there, sends.connected() as connection:
        await until_known(session_of(connection), session_of(there))
        plain, full = sends.envelopes("out", b"{}", b"{}")
        full = replace(full, metadata=metadata, header=replace(full.header, correlation_id=b"id"))
        sends.publish(connection, "out", [plain, full])
        first, second = await receives.take(2)
    assert (first.metadata, first.correlation_id) == (Metadata("application/json"), b"")
    assert (second.metadata, second.correlation_id) == (metadata, b"id")


def test_the_encoding_is_the_codecs_unless_the_message_says_another() -> None:
    envelope = Driver(ZenohConnector([Outbound("out", dict, ZenohRouting("a"))]), "x").envelopes("out", b"{}")[0]
    typed = replace(envelope, metadata=Metadata("text/plain"))
    assert Carrier(JsonCodec()).carry(envelope) == ("application/json", b"")
    assert Carrier(JsonCodec()).carry(typed) == ("text/plain", b"")
    assert Carrier(ZstdCodec(JsonCodec())).carry(envelope) == ("", b"")
    own = [(".number", b"1")]
    assert decode(Carrier(JsonCodec()).carry(envelope, own)[1]) == own

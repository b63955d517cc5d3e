"""ZstdCodec: another codec's payloads, compressed from a size on, and read whether they are or not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from taktora_trio import (
    CodecError,
    ConfigError,
    Inbound,
    JsonCodec,
    MqttConnector,
    MqttRouting,
    MsgpackCodec,
    PayloadOverflow,
    RawCodec,
    ZstdCodec,
)
from taktora_trio.channels.zstd import MAGIC

LIMIT = 100_000


def codec_of(inner: Any = None, threshold: int = 100) -> ZstdCodec:
    return ZstdCodec(inner, threshold=threshold).for_channel(LIMIT)


@attrs.define
class Spectrum:
    unit: str
    levels: list[float]


@pytest.mark.parametrize("inner", [JsonCodec(), MsgpackCodec()])
def test_large_messages_are_compressed_and_small_ones_are_as_the_inner_codec_makes_them(inner: JsonCodec) -> None:
    codec = codec_of(inner)
    encode, decode = codec.encoder(Spectrum), codec.decoder(Spectrum)
    small, large = Spectrum("a", [0.5]), Spectrum("a", [0.5] * 1000)
    assert encode(small) == inner.encoder(Spectrum)(small)
    packed = encode(large)
    assert packed[:4] == MAGIC
    assert len(packed) < len(inner.encoder(Spectrum)(large)) / 10
    assert zstd.decompress(packed) == inner.encoder(Spectrum)(large)
    for message in (small, large):
        assert decode(memoryview(encode(message))) == message


def test_a_payload_of_somebody_who_does_not_compress_is_read_as_it_is() -> None:
    large = b'"' + b"x" * 1000 + b'"'
    assert codec_of().decoder(str)(large) == "x" * 1000


def test_what_compressing_would_not_make_smaller_is_sent_as_it_is() -> None:
    noise = bytes(range(256))
    assert codec_of(RawCodec()).encoder(bytes)(noise) == noise


@given(st.binary(max_size=300), st.booleans())
def test_bytes_come_back_as_they_were_also_those_that_look_compressed(payload: bytes, framed: bool) -> None:
    codec = codec_of(RawCodec())
    message = MAGIC + payload if framed else payload
    encode, decode = codec.encoder(bytes), codec.decoder(bytes)
    assert decode(encode(message)) == message
    assert codec.content_encoding()(encode(message)) in ("", "zstd")


def test_a_file_that_is_compressed_already_comes_back_compressed() -> None:
    file = zstd.compress(b"a log file" * 10)
    codec = codec_of(RawCodec())
    assert codec.decoder(bytes)(codec.encoder(bytes)(file)) == file


def test_a_topic_fills_in_a_compressed_message() -> None:
    codec = codec_of()
    payload = zstd.compress(b'{"levels":[%s]}' % b",".join([b"0.5"] * 200))
    assert codec.filling_decoder(Spectrum)(payload, {"unit": "hall"}) == Spectrum("hall", [0.5] * 200)


def test_a_sender_counts_the_size_before_compression() -> None:
    encode = codec_of().encoder(str)
    assert len(encode("x" * (LIMIT - 2))) < 100
    with pytest.raises(PayloadOverflow, match=r"100001 bytes before it is compressed.*max_payload"):
        encode("x" * (LIMIT - 1))


@pytest.mark.parametrize("says_size", [True, False])
def test_a_bomb_is_unpacked_no_further_than_the_channel_takes(says_size: bool) -> None:
    options: dict[int, int] = {zstd.CompressionParameter.content_size_flag: int(says_size)}
    compressor = zstd.ZstdCompressor(options=options)
    bomb = b"".join(compressor.compress(bytes(2**20)) for _ in range(64)) if not says_size else b""
    bomb += compressor.compress(bytes(2**20), mode=compressor.FLUSH_FRAME)
    assert len(bomb) < LIMIT
    with pytest.raises(CodecError, match=r"more than the channel's max_payload of 100000 bytes"):
        codec_of(RawCodec()).decoder(bytes)(bomb)


def test_exactly_as_much_as_the_channel_takes_is_unpacked() -> None:
    assert codec_of(RawCodec()).decoder(bytes)(zstd.compress(bytes(LIMIT))) == bytes(LIMIT)


FRAME = zstd.compress(b'"%s"' % (b"text " * 100), options={zstd.CompressionParameter.checksum_flag: 1})


@given(st.data())
def test_no_corrupt_frame_is_more_than_an_error_of_the_codec(data: st.DataObject) -> None:
    decode = codec_of().decoder(str)
    at = data.draw(st.integers(4, len(FRAME) - 1))
    kind = data.draw(st.sampled_from(["cut", "changed", "longer"]))
    corrupt = {
        "cut": FRAME[:at],
        "changed": FRAME[:at] + bytes([FRAME[at] ^ data.draw(st.integers(1, 255))]) + FRAME[at + 1 :],
        "longer": FRAME + FRAME[:at],
    }[kind]
    try:
        assert decode(corrupt) == "text " * 100  # a bit that stands for nothing may be changed
    except CodecError:
        return
    assert kind == "changed"


def test_a_window_that_takes_more_memory_than_decoders_have_to_give_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(b'"a"') + compressor.flush()
    with pytest.raises(CodecError, match="not a zstd frame"):
        codec_of().decoder(str)(frame)


def test_both_halves_know_that_payloads_may_be_compressed() -> None:
    assert ZstdCodec().name == "zstd+json"
    assert ZstdCodec(MsgpackCodec()).name == "zstd+msgpack"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"threshold": -1}, "threshold is -1"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"level": 0}, "level is 0; it must be a whole number from 1 to 22"),
        ({"inner": "json"}, "'json' is no codec"),
        ({"inner": ZstdCodec()}, "one is enough"),
    ],
)
def test_a_mistake_is_an_error_where_the_codec_is_made(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        ZstdCodec(**arguments)


def test_a_type_that_the_inner_codec_can_t_carry_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ConfigError, match="the raw codec carries bytes"):
        MqttConnector([Inbound("c", str, MqttRouting("t"))], codec=ZstdCodec(RawCodec()))


def test_where_the_library_is_missing_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ZstdCodec needs .*: pip install 'taktora-trio\[zstd\]'"):
        ZstdCodec()


def test_a_half_that_only_declares_it_has_not_imported_the_library() -> None:
    code = (
        "import sys\n"
        "from taktora_trio import *\n"
        "MqttConnector([Outbound('c', str, MqttRouting('t'))], codec=ZstdCodec())\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert not [name for name in done.stdout.split() if "zstd" in name and not name.startswith("taktora_trio")]

"""ZstdCodec: another codec's payloads, compressed by Zstandard (RFC 8878) from a size on (extra `zstd`)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from taktora_trio.channels.codec import Buffer, JsonCodec, PayloadCodec
from taktora_trio.errors import CodecError, ConfigError, PayloadOverflow, check_library

__all__ = ["MAGIC", "ZstdCodec"]

T = TypeVar("T")

MAGIC = b"\x28\xb5\x2f\xfd"
"""Each frame begins with these bytes (RFC 8878, section 3.1.1)."""
_LIMIT = 16 * 2**20  # bytes of a plain payload, where there is no channel to ask
_WINDOW_LOG = 23  # a decoder should take windows of 8 MiB, and need not take larger ones (RFC 8878, section 3.1.1.1.2)
_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


class ZstdCodec(PayloadCodec):
    """Compresses the payloads of another codec.

        codec = ZstdCodec(JsonCodec(), threshold=4096)

    A payload of at least `threshold` bytes is one frame of Zstandard, if that is smaller. All others are what the inner
    codec makes of them. A frame is known by its first four bytes, so a peer that does not compress can be read, too.
    Where the channel carries metadata, a frame also has the user property `content-encoding` with the value `zstd`.

    The channel's `max_payload` is that of a plain payload: how well something can be compressed does not decide whether
    it can be sent, and nothing unpacks to more.
    """

    encodings = ("zstd",)

    def __init__(self, inner: PayloadCodec | None = None, *, threshold: int = 1024, level: int = 3) -> None:
        """`inner` is a `JsonCodec` unless given. `level` is from 1, the fastest, to 22, the smallest.

        It compresses in the app's loop, so choose no level that takes longer than a tick may be late.
        """
        inner = JsonCodec() if inner is None else inner
        if not isinstance(inner, PayloadCodec):
            raise ConfigError(f"ZstdCodec: {inner!r} is no codec: write ZstdCodec(JsonCodec())")
        if isinstance(inner, ZstdCodec):
            raise ConfigError("ZstdCodec: its inner codec compresses already: one is enough")
        if not isinstance(threshold, int) or isinstance(threshold, bool) or threshold < 0:
            raise ConfigError(f"ZstdCodec: threshold is {threshold!r}; it must be a whole number of bytes, 0 or more")
        if not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= 22:
            raise ConfigError(f"ZstdCodec: level is {level!r}; it must be a whole number from 1 to 22")
        check_library("ZstdCodec", _MODULE, _MODULE, "zstd")
        self.inner = inner
        self.threshold = threshold
        self.level = level
        self.name = f"zstd+{inner.name}"
        self.content_type = inner.content_type
        self.has_schema = inner.has_schema
        self._limit = _LIMIT

    def __repr__(self) -> str:
        return f"ZstdCodec({self.inner!r}, threshold={self.threshold}, level={self.level})"

    def for_channel(self, max_payload: int) -> ZstdCodec:
        _library()  # now, and not when the app sends its first large message
        codec = ZstdCodec(self.inner, threshold=self.threshold, level=self.level)
        codec._limit = max_payload
        return codec

    def content_encoding(self) -> Callable[[Buffer], str]:
        return lambda payload: "zstd" if payload[:4] == MAGIC else ""

    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]:
        encode, threshold, limit = self.inner.encoder(message_type), self.threshold, self._limit
        pack: Callable[[Buffer], bytes] | None = None

        def encode_message(message: T) -> Buffer:
            nonlocal pack
            payload = encode(message)
            looks_packed = payload[:4] == MAGIC  # one that is sent as it is would be unpacked by its reader
            if len(payload) < threshold and not looks_packed:
                return payload
            if len(payload) > limit:
                raise PayloadOverflow(
                    f"a payload of {len(payload)} bytes before it is compressed, where the channel takes {limit}: send"
                    " less, or raise its max_payload"
                )
            if pack is None:
                pack = _packer(self.level)
            packed = pack(payload)
            return packed if looks_packed or len(packed) < len(payload) else payload

        return encode_message

    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        decode, limit = self.inner.decoder(message_type), self._limit

        def decode_message(payload: Buffer) -> T:
            return decode(payload if payload[:4] != MAGIC else _unpack(payload, limit))

        return decode_message

    def filling_decoder(self, message_type: type[T]) -> Callable[[Buffer, Mapping[str, object]], T]:
        decode, limit = self.inner.filling_decoder(message_type), self._limit

        def decode_filled(payload: Buffer, fields: Mapping[str, object]) -> T:
            return decode(payload if payload[:4] != MAGIC else _unpack(payload, limit), fields)

        return decode_filled


@cache
def _library() -> Any:
    """Import it: when a channel is opened, for the gateway's half declares the codec, too, and never uses it."""
    return importlib.import_module(_MODULE)


def _packer(level: int) -> Callable[[Buffer], bytes]:
    zstd = _library()
    options = {zstd.CompressionParameter.compression_level: level, zstd.CompressionParameter.checksum_flag: 1}
    compressor = zstd.ZstdCompressor(options=options)  # used again, which takes a quarter of the time
    whole = zstd.ZstdCompressor.FLUSH_FRAME

    def pack(payload: Buffer) -> bytes:
        packed: bytes = compressor.compress(payload, mode=whole)
        return packed

    return pack


def _unpack(frame: Buffer, limit: int) -> bytes:
    """Return what is in a frame. Raises `CodecError` if it is corrupt, or if that is more than `limit` bytes.

    No more than that is ever unpacked, whatever the frame says of itself.
    """
    zstd = _library()
    too_large = f"a zstd frame holds more than the channel's max_payload of {limit} bytes"
    try:
        size = zstd.get_frame_info(frame).decompressed_size
        if size is not None and size > limit:
            raise CodecError(f"{too_large}: {size}")
        decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})
        payload: bytes = decompressor.decompress(frame, limit + 1)
    except zstd.ZstdError as exc:
        raise CodecError(f"not a zstd frame: {exc}") from exc
    if len(payload) > limit:
        raise CodecError(too_large)
    if not decompressor.eof:
        raise CodecError("a zstd frame is cut off")
    if decompressor.unused_data:
        raise CodecError("more than one zstd frame, or something else, in one payload")
    return payload

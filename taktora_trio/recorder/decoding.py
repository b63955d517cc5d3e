"""Payloads as plain values: what JSON can show, whoever's codec has written them.

With the deployment its own codecs read its own types. Without it the name of the codec is known, which is enough for
those of this library: their payloads say themselves what they hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.channels.codec import Buffer, JsonCodec, MsgpackCodec, PayloadCodec, RawCodec
from taktora_trio.channels.zstd import ZstdCodec
from taktora_trio.connectors.base import Connector
from taktora_trio.errors import CodecError

__all__ = ["Decode", "as_plain", "decoder_by_name", "decoder_of"]

Decode: TypeAlias = Callable[[Buffer], Any]
"""Returns a value that is made of dictionaries, lists, texts, numbers, truth values and `None`; or bytes. Raises
`CodecError`."""

_PACKED = "zstd+"
_CODECS: dict[str, tuple[type[PayloadCodec], Any]] = {
    "json": (JsonCodec, Any),
    "msgpack": (MsgpackCodec, Any),
    "raw": (RawCodec, bytes),
}


def decoder_by_name(codec: str, max_payload: int) -> Decode:
    """Return a decoder of a channel of which no more than this is known. A codec that is not ours leaves the bytes.

    Raises `ConfigError` where its library is missing.
    """
    inner = codec.removeprefix(_PACKED)
    if inner not in _CODECS:
        return bytes
    kind, message_type = _CODECS[inner]
    chosen = kind() if inner == codec else ZstdCodec(kind())
    return chosen.for_channel(max_payload).decoder(message_type)


def decoder_of(connector: Connector, channel: ChannelDescriptor[Any]) -> Decode:
    """Return a decoder of a channel that is declared.

    A codec whose payloads say themselves what they hold needs no message type: so a message is shown as it was sent,
    without what a reader fills in. Raises `ConfigError`.
    """
    name = connector.codec.name
    if name.removeprefix(_PACKED) in _CODECS:
        return decoder_by_name(name, channel.max_payload)
    decode = connector.codec.for_channel(channel.max_payload).decoder(channel.message_type)
    return lambda payload: as_plain(decode(payload))


def as_plain(value: object) -> Any:
    """Return a value as plain ones. Raises `CodecError` for what can't be shown so."""
    try:
        return value if isinstance(value, bytes) else msgspec.to_builtins(value, builtin_types=(bytes,), str_keys=True)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as exc:
        raise CodecError(f"a {type(value).__name__} can't be shown: {exc}") from exc

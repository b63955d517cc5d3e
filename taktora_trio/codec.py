"""Payload codecs: between a message type and payload bytes. A connector has one, for all its channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast, get_origin, is_typeddict

import msgspec

from taktora_trio.errors import CodecError, ConfigError

__all__ = ["Buffer", "JsonCodec", "MsgpackCodec", "PayloadCodec", "RawCodec"]

T = TypeVar("T")
Buffer: TypeAlias = bytes | bytearray | memoryview


class PayloadCodec(ABC):
    """Makes the two functions that a channel of one message type needs.

    Both raise `CodecError`. A decoder is handed a view of shared memory that is only valid during the call: it must
    not keep the view, or slices of it, in what it returns.
    """

    name: str
    """Part of the service's description: both ends must use the codec of the same name."""

    @abstractmethod
    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]: ...

    @abstractmethod
    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]: ...

    def filling_decoder(self, message_type: type[T]) -> Callable[[Buffer, Mapping[str, object]], T]:
        """A decoder for payloads that lack some fields of the message, which are given by name and have precedence.

        Raises `ConfigError` where payloads have no fields.
        """
        raise ConfigError(f"payloads of the {self.name} codec have no fields that a topic could fill in: use JsonCodec")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _runtime_type(message_type: Any) -> type | tuple[type, ...]:
    """What `isinstance` can check of a message type; `object` where it can check nothing (unions, literals)."""
    if message_type is float:
        return (int, float)  # as the type system has it (PEP 484, the numeric tower)
    origin = get_origin(message_type)
    if message_type is Any:
        return object
    if is_typeddict(message_type):
        return dict
    if origin is None:
        return message_type if isinstance(message_type, type) else object
    return origin if origin in (list, dict, tuple, set, frozenset) else object


def _keeps_views(info: object, seen: set[int] | None = None) -> bool:
    """Whether decoding makes anything that refers to the payload instead of copying from it."""
    seen = set() if seen is None else seen
    if id(info) in seen:
        return False
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.RawType | msgspec.inspect.MemoryViewType):
        return True
    if isinstance(info, tuple):
        return any(_keeps_views(part, seen) for part in info)
    if isinstance(info, msgspec.Struct):
        return any(_keeps_views(getattr(info, name), seen) for name in info.__struct_fields__)
    return False


class _MsgspecCodec(PayloadCodec):
    """JSON and MessagePack alike: attrs classes, dataclasses, msgspec structs and plain types."""

    _encoder: msgspec.json.Encoder | msgspec.msgpack.Encoder
    _decoder_type: type[msgspec.json.Decoder[Any]] | type[msgspec.msgpack.Decoder[Any]]

    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]:
        encode = self._encoder.encode
        expected = _runtime_type(message_type)
        # To isinstance a bool is an int; to the peer's decoder it is not, nor a float.
        excluded = bool if message_type in (int, float) else ()

        def encode_message(message: T) -> Buffer:
            # msgspec encodes whatever it can, and a message of a wrong type would only fail at the peer.
            if not isinstance(message, expected) or isinstance(message, excluded):
                raise CodecError(f"the channel carries {message_type!r}, not {type(message).__name__}: {message!r:.80}")
            try:
                return encode(message)
            except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as exc:
                raise CodecError(f"cannot encode a {type(message).__name__} as {self.name}: {exc}") from exc

        return encode_message

    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        try:
            decode = self._decoder_type(message_type).decode
        except TypeError as exc:
            raise ConfigError(f"messages of type {message_type!r} can't be decoded from {self.name}: {exc}") from exc
        if _keeps_views(msgspec.inspect.type_info(message_type)):
            raise ConfigError(
                f"messages of type {message_type!r} would look into shared memory that is soon written again:"
                " use bytes instead of memoryview or msgspec.Raw"
            )

        def decode_message(payload: Buffer) -> T:
            try:
                return cast(T, decode(payload))
            except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
                raise CodecError(f"not a {self.name} {message_type!r}: {exc}") from exc

        return decode_message

    def filling_decoder(self, message_type: type[T]) -> Callable[[Buffer, Mapping[str, object]], T]:
        info = msgspec.inspect.type_info(message_type)
        by_position = isinstance(info, msgspec.inspect.StructType) and info.array_like
        if by_position or not isinstance(info, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
            raise ConfigError(f"messages of type {message_type!r} are not written with the names of their fields")
        names = {field.name: field.encode_name for field in info.fields}
        # Written together before they are read: so the message's own type has the last word on all of it.
        split = self._decoder_type(dict[str, msgspec.Raw]).decode
        encode = self._encoder.encode
        decode = self.decoder(message_type)

        def decode_filled(payload: Buffer, fields: Mapping[str, object]) -> T:
            try:
                parts = split(payload)
            except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
                raise CodecError(f"not a {self.name} {message_type!r}: {exc}") from exc
            for name, value in fields.items():
                parts[names[name]] = msgspec.Raw(encode(value))
            return decode(encode(parts))

        return decode_filled


class JsonCodec(_MsgspecCodec):
    """JSON (RFC 8259), by msgspec. The default."""

    name = "json"
    _encoder = msgspec.json.Encoder()
    _decoder_type = msgspec.json.Decoder


class MsgpackCodec(_MsgspecCodec):
    """MessagePack, by msgspec."""

    name = "msgpack"
    _encoder = msgspec.msgpack.Encoder()
    _decoder_type = msgspec.msgpack.Decoder


class RawCodec(PayloadCodec):
    """Bytes as they are; the message type is `bytes`. `bytearray` and `memoryview` can be sent too."""

    name = "raw"

    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]:
        self._check(message_type)

        def encode_bytes(message: T) -> Buffer:
            if isinstance(message, bytes | bytearray):
                return message
            if isinstance(message, memoryview):
                return message.cast("B")
            raise CodecError(f"a raw channel carries bytes, not {type(message).__name__}: encode the message first")

        return encode_bytes

    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        self._check(message_type)
        return cast("Callable[[Buffer], T]", bytes)

    def _check(self, message_type: type) -> None:
        if message_type is not bytes:
            raise ConfigError(f"the raw codec carries bytes, not {message_type!r}: declare the channel's type as bytes")

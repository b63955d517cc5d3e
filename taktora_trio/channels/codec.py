"""Payload codecs: between a message type and payload bytes. A connector has one, for all its channels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias, TypeVar, cast, get_origin, is_typeddict

import attrs
import msgspec

from taktora_trio.channels.message_types import fields_of, has_models, inspect_type, parts_of
from taktora_trio.channels.models import is_model, read_model, write_model
from taktora_trio.errors import CodecError, ConfigError, summary
from taktora_trio.escaping import escaped

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
    content_type: str = "application/octet-stream"
    """The media type of its payloads."""
    has_schema: bool = False
    """True if the JSON Schema of a message type, as msgspec makes it, is true of its payloads."""
    encodings: tuple[str, ...] = ()
    """The content encodings that a payload may have, such as `zstd`."""

    @abstractmethod
    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]: ...

    @abstractmethod
    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]: ...

    def filling_decoder(self, message_type: type[T]) -> Callable[[Buffer, Mapping[str, object]], T]:
        """Return a decoder for payloads that lack some fields. These are given by name, and have precedence.

        Raises `ConfigError` where payloads have no fields.
        """
        raise ConfigError(f"payloads of the {self.name} codec have no fields that a topic could fill in: use JsonCodec")

    def for_channel(self, max_payload: int) -> PayloadCodec:
        """Return this codec for a channel whose payloads have so many bytes at most.

        Called in the app's half when a channel is opened. The gateway's half declares the codec, and never uses it: so
        import here what only an encoder or a decoder needs.
        """
        return self

    def content_encoding(self) -> Callable[[Buffer], str] | None:
        """Return a function that names the content encoding of an encoded payload, such as `zstd`; empty for none.

        Return `None` if no payload ever has one, which is the default.
        """
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _runtime_type(message_type: Any) -> type | tuple[type, ...]:
    """Return the type that `isinstance` can check; `object` where it can check nothing (unions, literals)."""
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


def _check_type(message_type: Any) -> None:
    if message_type in (str, bytes, bool, int, float):
        return  # without msgspec's descriptions, which are then never imported
    for part in parts_of(inspect_type(message_type), set()):
        if isinstance(part, msgspec.inspect.RawType | msgspec.inspect.MemoryViewType):
            raise ConfigError(
                f"messages of type {message_type!r} would look into shared memory that is soon written again:"
                " use bytes instead of memoryview or msgspec.Raw"
            )
        if isinstance(part, msgspec.inspect.CustomType) and not is_model(part.cls):
            raise ConfigError(
                f"messages of type {message_type!r} can't be encoded: no codec knows {part.cls.__name__}; make it"
                " an attrs class, a dataclass, a msgspec struct, or a model of pydantic"
            )
        if isinstance(part, msgspec.inspect.DataclassType) and hasattr(part.cls, "__pydantic_validator__"):
            raise ConfigError(
                f"{part.cls.__name__} is a dataclass of pydantic, which would not validate what is received: derive it"
                " from pydantic.BaseModel, or take a dataclass of Python's"
            )
        if isinstance(part, msgspec.inspect.DataclassType) and attrs.has(part.cls):
            for field in part.fields:
                if field.name.startswith("_"):
                    raise ConfigError(
                        f"the field {field.name!r} of {part.cls.__name__} would not be sent, for its name begins with"
                        " '_': rename it"
                    )


def _shown(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:  # noqa: BLE001 - a type's own `__repr__`, or an int of thousands of digits
        return f"a {type(value).__name__}"


def _said(exc: Exception) -> str:
    """Return an error as one line, escaped: msgspec quotes the payload, and that comes from outside."""
    return escaped(str(exc) if isinstance(exc, msgspec.MsgspecError) else summary(exc))


def _is_same(sent: Any, back: Any) -> bool:
    """Return true if a value came back as it was: equal, or, without equality (NaN, no `__eq__`), with equal parts."""
    try:
        if sent == back:
            return True
    except Exception:  # noqa: BLE001, S110 - a type's own `__eq__`, which does not say that they differ
        pass
    if type(sent) is not type(back):
        return False
    if isinstance(sent, float | Decimal):
        return str(sent) == str(back)
    if isinstance(sent, list | tuple):
        return len(sent) == len(back) and all(map(_is_same, sent, back))
    if isinstance(sent, dict):
        return sent.keys() == back.keys() and all(_is_same(sent[key], back[key]) for key in sent)
    names = _field_names(type(sent))
    return bool(names) and all(_is_same(getattr(sent, name, None), getattr(back, name, None)) for name in names)


def _field_names(kind: type) -> tuple[str, ...]:
    import dataclasses  # a supervisor imports this module too, and is to be small

    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return (
        tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else getattr(kind, "__struct_fields__", ())
    )


class _MsgspecCodec(PayloadCodec):
    """JSON and MessagePack alike: attrs classes, dataclasses, msgspec structs, models of pydantic, and plain types.

    An annotation is not enforced where a message is made, and not every value has a form of its own (a NaN in JSON is
    `null`). So a message is decoded again before it is sent, which takes about as long as to encode it: what its reader
    could not read, or would read as something else, is an error at the sender.
    """

    has_schema = True
    _encoder: msgspec.json.Encoder | msgspec.msgpack.Encoder
    _decoder_type: type[msgspec.json.Decoder[Any]] | type[msgspec.msgpack.Decoder[Any]]

    def encoder(self, message_type: type[T]) -> Callable[[T], Buffer]:
        encode = self._encode(message_type)
        decode = self._decode(message_type)
        expected = _runtime_type(message_type)
        # To isinstance a bool is an int; to the peer's decoder it is not, nor a float.
        excluded = bool if message_type in (int, float) else ()
        is_certain = message_type in (str, bytes, bool)  # whatever can be encoded comes back

        def encode_message(message: T) -> Buffer:
            if not isinstance(message, expected) or isinstance(message, excluded):
                raise CodecError(
                    f"the channel carries {message_type!r}, not {type(message).__name__}: {_shown(message)}"
                )
            try:
                payload = encode(message)
                if is_certain:
                    return payload
                back = decode(payload)
            except Exception as exc:  # a message type's own code runs here too, and may raise anything
                raise CodecError(
                    f"cannot encode a {type(message).__name__} as {self.name}: {_said(exc)}: {_shown(message)}"
                ) from exc
            if not _is_same(message, back):
                raise CodecError(f"{self.name} would turn {_shown(message)} into {_shown(back)}")
            return payload

        return encode_message

    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        decoder = self.unchecked_decoder(message_type)
        _check_type(message_type)
        return decoder

    def unchecked_decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        """Return the decoder of a type that is known to be one of which messages can be made, such as our own."""
        decode = self._decode(message_type)

        def decode_message(payload: Buffer) -> T:
            try:
                return decode(payload)
            except Exception as exc:  # as in `encode_message`
                raise CodecError(f"not a {self.name} {message_type!r}: {_said(exc)}") from exc

        return decode_message

    def _encode(self, message_type: type[T]) -> Callable[[T], bytes]:
        return (type(self._encoder)(enc_hook=write_model) if has_models(message_type) else self._encoder).encode

    def _decode(self, message_type: type[T]) -> Callable[[Buffer], T]:
        try:
            hook = read_model if has_models(message_type) else None
            return cast("Callable[[Buffer], T]", self._decoder_type(message_type, dec_hook=hook).decode)
        except Exception as exc:  # annotations are evaluated, and may raise anything
            raise ConfigError(
                f"messages of type {message_type!r} can't be decoded from {self.name}: {summary(exc)}"
            ) from exc

    def filling_decoder(self, message_type: type[T]) -> Callable[[Buffer, Mapping[str, object]], T]:
        info = inspect_type(message_type)
        fields = fields_of(message_type)
        if fields is None or (isinstance(info, msgspec.inspect.StructType) and info.array_like):
            raise ConfigError(f"messages of type {message_type!r} are not written with the names of their fields")
        names = {field.name: field.encode_name for field in fields}
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
    content_type = "application/json"
    _encoder = msgspec.json.Encoder()
    _decoder_type = msgspec.json.Decoder


class MsgpackCodec(_MsgspecCodec):
    """MessagePack, by msgspec."""

    name = "msgpack"
    content_type = "application/vnd.msgpack"
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
                return _flat(message)
            raise CodecError(f"a raw channel carries bytes, not {type(message).__name__}: encode the message first")

        return encode_bytes

    def decoder(self, message_type: type[T]) -> Callable[[Buffer], T]:
        self._check(message_type)
        return cast("Callable[[Buffer], T]", bytes)

    def _check(self, message_type: type) -> None:
        if message_type is not bytes:
            raise ConfigError(f"the raw codec carries bytes, not {message_type!r}: declare the channel's type as bytes")


def _flat(view: memoryview) -> Buffer:
    """Return the bytes of a view, copied only if they don't lie in a row."""
    try:
        return view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
    except (TypeError, ValueError) as exc:
        raise CodecError(f"the bytes of this memoryview can't be sent: {exc}") from exc

"""Between `Metadata` with a correlation id, and what Zenoh has for them: an encoding and an attachment.

| `Metadata` | Zenoh |
|---|---|
| `content_type` | the encoding |
| `user_properties` | pairs of the attachment, in order; a name that begins with a dot gets one more |
| `response_topic` | the pair `.response` |
| `message_expiry` | the pair `.expiry`, as decimal digits |
| the header's `correlation_id` | the pair `.correlation` |

What others attach is never an error: what can't be understood is left out, or handed over as a user property.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

import msgspec

from taktora_trio.channels import Envelope, Metadata
from taktora_trio.channels.codec import PayloadCodec
from taktora_trio.connectors.zenoh.attachment import Malformed, decode, encode

__all__ = ["CORRELATION", "EXPIRY", "FOREIGN", "RESPONSE", "Beside", "Carrier", "attached", "read_beside"]

CORRELATION, RESPONSE, EXPIRY = ".correlation", ".response", ".expiry"
FOREIGN = "attachment"
"""The name of the user property that an attachment comes as which is no list of pairs."""
_LATEST = 2**32 - 1  # seconds, as `Metadata.message_expiry` has it
_NONE: Mapping[str, bytes] = MappingProxyType({})


class Beside(msgspec.Struct, frozen=True, gc=False):
    """What came beside a payload."""

    metadata: Metadata | None = None
    correlation_id: bytes = b""
    own: Mapping[str, bytes] = _NONE
    """Pairs of this package that are no metadata, such as what an acknowledgement needs. They may be of anybody."""


_NOTHING = Beside()
_TEXTS = b"false", b"true"
_TRUTHS: Mapping[str, tuple[bytes, bytes]] = {
    "application/json": _TEXTS,
    "application/vnd.msgpack": (b"\xc2", b"\xc3"),
}


class Carrier:
    """Says what goes beside the payloads of one codec."""

    def __init__(self, codec: PayloadCodec) -> None:
        self._codec = codec
        # What may be compressed is not what its type says, and bytes of any kind are the default.
        is_said = not codec.encodings and codec.content_type != PayloadCodec.content_type
        self._usual = codec.content_type if is_said else ""

    @property
    def truths(self) -> tuple[bytes, bytes]:
        """The payloads of false and of true: the codec itself is the app's half's alone."""
        return _TRUTHS.get(self._codec.content_type, _TEXTS)

    def carry(self, envelope: Envelope, own: Iterable[tuple[str, bytes]] = ()) -> tuple[str, bytes]:
        """Return the encoding and the attachment of a message; `own` as `attached` has it.

        The encoding is the codec's media type where the message names none.
        """
        metadata, correlation_id = envelope.metadata, envelope.header.correlation_id
        if metadata is None:
            return self._usual, attached(None, correlation_id, own) if correlation_id or own else b""
        return metadata.content_type or self._usual, attached(metadata, correlation_id, own)


def attached(metadata: Metadata | None, correlation_id: bytes, own: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """Return the attachment for them. `own` are further pairs, whose names begin with a dot."""
    pairs = [*own]
    if correlation_id:
        pairs.append((CORRELATION, correlation_id))
    if metadata is not None:
        if metadata.response_topic:
            pairs.append((RESPONSE, metadata.response_topic.encode()))
        if metadata.message_expiry is not None:
            pairs.append((EXPIRY, b"%d" % metadata.message_expiry))
        for name, value in metadata.user_properties:
            pairs.append((f".{name}" if name.startswith(".") else name, value.encode()))
    return encode(pairs)


def read_beside(encoding: str, attachment: bytes) -> Beside:
    """Return what an encoding and an attachment say. They may be anybody's, so nothing of them is an error."""
    if not attachment:
        return _of_encoding(encoding) if encoding else _NOTHING
    try:
        pairs = decode(attachment)
    except Malformed:
        foreign = attachment.decode(errors="backslashreplace")
        return Beside(Metadata(encoding, user_properties=((FOREIGN, foreign),)))
    own: dict[str, bytes] = {}
    properties: list[tuple[str, str]] = []
    for name, value in pairs:
        if name[:1] == "." != name[1:2]:
            own.setdefault(name, value)
        else:
            properties.append((name.removeprefix("."), value.decode(errors="backslashreplace")))
    correlation_id = own.pop(CORRELATION, b"")
    response = own.pop(RESPONSE, b"").decode(errors="replace")
    expiry = _seconds(own.pop(EXPIRY, b""))
    metadata = None
    if encoding or properties or response or expiry is not None:
        metadata = Metadata(encoding, response, expiry, tuple(properties))
    return Beside(metadata, correlation_id, own)


@lru_cache(maxsize=64)  # few are in use, and one comes with each message
def _of_encoding(encoding: str) -> Beside:
    return Beside(Metadata(encoding))


def _seconds(digits: bytes) -> int | None:
    """Return the number, or `None` where there is none that can be meant."""
    if not digits.isdigit() or len(digits) > 10:
        return None
    return min(int(digits), _LATEST)

"""What a recording holds: an MCAP file (mcap.dev) of JSON, which its own library and other tools open as it is.

Each channel of the deployment is a channel of the file, named `CONNECTOR/out/NAME` or `CONNECTOR/in/NAME`, with a JSON
Schema. Its log time is when the message was sent into shared memory. A message is an object: the value, and what came
with it. What a value does not say exactly (the payload of another codec than JSON) stands beside it.

Beside these there may be `taktora/health`, `taktora/log` and `taktora/vitals`, of the deployment itself. The metadata
record `taktora-trio` says which version of this wrote the file, and of what.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taktora_trio.channels import Envelope, Metadata

__all__ = ["FORMAT", "HEALTH", "LOG", "METADATA", "VITALS", "Recorded", "recorded", "topic_of"]

FORMAT = "1"
METADATA = "taktora-trio"
HEALTH, LOG, VITALS = "taktora/health", "taktora/log", "taktora/vitals"


class Properties(msgspec.Struct, frozen=True, omit_defaults=True):
    """The metadata of a message: see `Metadata`."""

    content_type: str = ""
    response_topic: str = ""
    message_expiry: int | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message as it is written."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    """The decoded value; for JSON the payload itself."""
    payload: bytes | None = None
    """The payload, in base64, where `value` is not the payload itself."""
    error: str = ""
    """Why the payload could not be decoded."""
    topic: str = ""
    """The concrete topic, where the channel is for many."""
    number: int
    """See `Header.sequence_number`."""
    boottime_ns: int = 0
    """See `Header.boottime_ns`."""
    correlation_id: bytes = b""
    metadata: Properties | None = None
    retained: bool = False
    redelivered: bool = False

    @property
    def content(self) -> bytes:
        """The payload as it was sent."""
        return bytes(self.value) if self.payload is None else self.payload

    @property
    def sent_metadata(self) -> Metadata | None:
        if (own := self.metadata) is None:
            return None
        return Metadata(own.content_type, own.response_topic, own.message_expiry, own.user_properties)


_encode = msgspec.json.Encoder().encode


def recorded(envelope: Envelope, codec: str, value: Any, error: str = "") -> bytes:
    """Return a message as it is written. `value` is plain, or the payload where it is not decoded."""
    header, metadata = envelope.header, envelope.metadata
    is_itself = codec == "json" and not error
    if is_itself:
        shown, payload = msgspec.Raw(envelope.payload), None
    elif isinstance(value, bytes):
        shown, payload = msgspec.Raw(b"null"), envelope.payload
    else:
        shown, payload = msgspec.Raw(_encode(value)), envelope.payload
    return _encode(
        Recorded(
            value=shown,
            payload=payload,
            error=error,
            topic=envelope.topic,
            number=header.sequence_number,
            boottime_ns=header.boottime_ns,
            correlation_id=header.correlation_id,
            metadata=None if metadata is None else Properties(*msgspec.structs.astuple(metadata)),
            retained=header.retained,
            redelivered=header.redelivered,
        )
    )


def topic_of(connector: str, direction: str, name: str) -> str:
    """Return the name of a channel in the file."""
    return f"{connector}/{direction}/{name}"

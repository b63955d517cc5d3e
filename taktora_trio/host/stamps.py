"""Stamps: what a writer adds to the metadata of each message by itself. One that adds nothing sends as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from taktora_trio.channels import Metadata
from taktora_trio.channels.codec import Buffer, PayloadCodec
from taktora_trio.transport.envelope import pack_metadata, unpack_metadata
from taktora_trio.transport.publisher import EnvelopePublisher

__all__ = ["CONTENT_ENCODING", "Send", "stamping"]

CONTENT_ENCODING = "content-encoding"
"""The user property that says how a payload is encoded beyond its content type; the name is that of HTTP's header."""

Send: TypeAlias = Callable[[Buffer, bytes, bytes, bytes], int]
"""`send(payload, topic, metadata, correlation_id)`, as `EnvelopePublisher.send`."""


def stamping(port: EnvelopePublisher, codec: PayloadCodec) -> Send:
    """Return what sends by this port. It is chosen once, so it costs nothing where there is nothing to add."""
    encoding_of = codec.content_encoding()
    if encoding_of is None or not port.spec.metadata_space:
        return port.send
    return _saying_encoding(port.send, encoding_of)


def _saying_encoding(send: Send, encoding_of: Callable[[Buffer], str]) -> Send:
    def send_saying(payload: Buffer, topic: bytes, packed: bytes, correlation_id: bytes) -> int:
        if encoding := encoding_of(payload):
            packed = _with_properties(packed, ((CONTENT_ENCODING, encoding),))
        return send(payload, topic, packed, correlation_id)

    return send_saying


def _with_properties(packed: bytes, properties: tuple[tuple[str, str], ...]) -> bytes:
    """Return the metadata with these user properties instead of any of their names that it has."""
    metadata = unpack_metadata(packed) if packed else Metadata()
    names = {name for name, _ in properties}
    others = tuple(pair for pair in metadata.user_properties if pair[0] not in names)
    return pack_metadata(
        Metadata(metadata.content_type, metadata.response_topic, metadata.message_expiry, (*others, *properties))
    )

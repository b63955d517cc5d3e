"""A message as it lies on disk: the content of a record, and its age when it comes back, perhaps after a reboot."""

from __future__ import annotations

import time
import zlib
from functools import cache
from pathlib import Path

import msgspec
from msgspec.structs import replace

from taktora_trio.boottime import boottime_ns
from taktora_trio.channels import Envelope, Header, Metadata
from taktora_trio.errors import StoreError

__all__ = ["STORED_AT", "boot_of_now", "decode", "encode", "marked"]

STORED_AT = "taktora-stored-at"
"""The user property of a message that was stored: the time of its sending, in nanoseconds since the unix epoch."""


class _Content(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    payload: bytes
    boottime_ns: int
    boot: int
    topic: str = ""
    correlation_id: bytes = b""
    metadata: Metadata | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Content).decode


@cache
def boot_of_now() -> int:
    """Return a number that tells this boot of the machine from any other."""
    return zlib.crc32(Path("/proc/sys/kernel/random/boot_id").read_bytes())


def encode(envelope: Envelope, topic: str) -> bytes:
    """Return the content of its record. `topic` is the channel's own, which is left out."""
    header = envelope.header
    return _encode(
        _Content(
            envelope.payload,
            header.boottime_ns,
            boot_of_now(),
            "" if envelope.topic == topic else envelope.topic,
            header.correlation_id,
            envelope.metadata,
        )
    )


def decode(content: bytes, number: int, timestamp_ns: int, topic: str) -> Envelope:
    """Return the message, with this sequence number. Raises `StoreError` for what is none.

    The clock by which messages age begins anew at each boot. So one of an earlier boot gets the time on this clock that
    is as long ago as it was sent, by the clock for people: that may have been set since, and nothing better is known.
    """
    try:
        found = _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise StoreError(f"record {number} is no message ({exc}): it is left out") from exc
    sent_at = found.boottime_ns
    if found.boot != boot_of_now():
        sent_at = boottime_ns() - max(0, time.time_ns() - timestamp_ns)
    header = Header(number, timestamp_ns, sent_at, found.correlation_id)
    return Envelope(found.payload, header, found.topic or topic, found.metadata)


def marked(envelope: Envelope) -> Envelope:
    """Return the message with a user property that says when it was sent."""
    metadata = envelope.metadata or Metadata()
    stored_at = (STORED_AT, str(envelope.header.timestamp_ns))
    return replace(envelope, metadata=replace(metadata, user_properties=(*metadata.user_properties, stored_at)))

"""A message's life: how much of it is left when it is published."""

from __future__ import annotations

from msgspec.structs import replace

from taktora_trio.boottime import boottime_ns
from taktora_trio.channels import Envelope

__all__ = ["EXPIRED", "aged"]

EXPIRED = "it expired before it could be published"
"""The refusal of a message whose life is over. A connection that itself keeps messages back, since nobody is there for
them, calls `on_done` with it: it is then counted as expired, and not as refused by the other side."""


def aged(envelope: Envelope, least: int = 0) -> Envelope | None:
    """Return the envelope with what is left of its life in seconds; `None` if nothing is, and `least` is 0.

    A message ages while it waits in shared memory, and in the gateway. It counts by a clock that nobody sets.
    """
    metadata = envelope.metadata
    if metadata is None or not metadata.message_expiry:
        return envelope
    age = max(0, boottime_ns() - envelope.header.boottime_ns)
    left = max(metadata.message_expiry - age // 10**9, least)
    return replace(envelope, metadata=replace(metadata, message_expiry=left)) if left > 0 else None

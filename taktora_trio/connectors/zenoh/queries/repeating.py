"""When a query that nobody has answered is repeated, and what is left of the life of its message then."""

from __future__ import annotations

import math

import trio
from msgspec.structs import replace

from taktora_trio.channels import Envelope
from taktora_trio.supervision.backoff import Backoff

__all__ = ["PATIENCE", "RETRY", "end_of_life", "with_life_left"]

RETRY = Backoff(initial=0.02, maximum=1.0, factor=2.0, jitter=0.2)
"""The pauses before the same query is asked again."""
PATIENCE = Backoff(initial=5.0, maximum=60.0, factor=2.0, jitter=0.0)
"""How long a query is waited for that does not end. Somebody may have it in hand, for as long as an app takes; or it is
lost: a router that is told of it and of a receiver's end at the same time never ends it."""


def end_of_life(envelope: Envelope) -> float:
    """Return when a message that is published now expires, by trio's clock; infinity if it never does."""
    lasts = None if envelope.metadata is None else envelope.metadata.message_expiry
    return trio.current_time() + lasts if lasts else math.inf


def with_life_left(envelope: Envelope, end: float) -> Envelope:
    """Return the envelope with the seconds until this `end_of_life`, of which there is at least one."""
    if end == math.inf or envelope.metadata is None:
        return envelope
    left = max(1, math.ceil(end - trio.current_time()))
    return replace(envelope, metadata=replace(envelope.metadata, message_expiry=left))

"""Options that every connector has: how it connects again, how much it has in flight, and how long it drains."""

from __future__ import annotations

from typing import Any

import attrs

from taktora_trio.checks import YEAR, field_name, instance_of, seconds, whole_number
from taktora_trio.errors import ConfigError
from taktora_trio.supervision.backoff import Backoff

__all__ = ["MESSAGE_OVERHEAD", "ConnectorOptions"]

MESSAGE_OVERHEAD = 480
"""Bytes that an inbound message in the backlog takes besides its payload, topic and metadata (measured)."""


def _reconnect(instance: object, attribute: attrs.Attribute[Any], value: Backoff) -> None:
    instance_of(Backoff)(instance, attribute, value)
    if value.maximum > YEAR:
        name = field_name(instance, attribute)
        raise ConfigError(f"{name} has a maximum of {value.maximum!r} seconds; a year is the most")


@attrs.frozen(kw_only=True)
class ConnectorOptions:
    """Options of a gateway's connection. A protocol derives its own from them. Times in seconds."""

    reconnect: Backoff = attrs.field(
        default=Backoff(initial=0.25, maximum=30.0, factor=2.0, jitter=0.5), validator=_reconnect
    )
    """The delays before a connection that failed or was lost is tried again. Where the other side accepts connections
    and does not answer in time, they grow to four times the maximum."""
    drain_timeout: float = attrs.field(default=1.5, validator=seconds)
    """The time for which a stop goes on publishing what is queued."""
    max_inflight: int = attrs.field(default=64, validator=whole_number(1))
    """The number of messages of one channel that may be on their way to the other side at once. A protocol, or the
    other side of one connection, may set a lower limit."""
    inbound_backlog: int = attrs.field(default=64 * 2**20, validator=whole_number(1))
    """Bytes of inbound messages that the gateway keeps while the app's channels are full. Beyond it, messages that
    the other side does not keep are discarded, counted, and shown as `Degraded`, and others are no longer read."""
    max_dead_letters: int = attrs.field(default=10_000, validator=whole_number(1))
    """The number of messages that are kept on disk because the app could not be done with them. Beyond it the oldest
    are discarded, counted, and shown as `Degraded`."""
    max_dead_letter_bytes: int = attrs.field(default=64 * 2**20, validator=whole_number(1))
    """Bytes of such messages, likewise."""

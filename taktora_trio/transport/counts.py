"""What has gone through a channel, as one half can tell at any time: nothing is counted for it in the way of a message.

The counters are those of the cursor, which both halves see. Times are those that messages carry.
"""

from __future__ import annotations

import msgspec

from taktora_trio.transport.cursor import ACKNOWLEDGED, DONE, LIMIT, SENT, Cursor
from taktora_trio.transport.publisher import EnvelopePublisher
from taktora_trio.transport.subscriber import EnvelopeSubscriber

__all__ = ["ChannelCounts", "counts_of"]


class ChannelCounts(msgspec.Struct, frozen=True):
    """The counters of a channel. Those that can't be, since somebody has written over them, are 0 or left out."""

    sent: int
    """The number of messages that were sent in this run of the domain."""
    done: int
    acknowledged: int
    """Outbound: how many the other side has acknowledged or refused."""
    bytes: int | None = None
    """Bytes of payload that this half has sent, if it is the writing one."""
    age: float | None = None
    """Seconds since the last message was sent."""
    oldest: float | None = None
    """Seconds since the oldest message was sent that is not done with."""
    latency: float | None = None
    """Seconds that a message was in the window that was done with a moment ago, if this half is the reading one."""

    @property
    def in_use(self) -> int:
        return self.sent - self.done


def counts_of(
    cursor: Cursor, window: int, publisher: EnvelopePublisher | None, subscriber: EnvelopeSubscriber | None
) -> ChannelCounts:
    """Return the counters of a channel by what this half has of it. It asks the reading end to time a message."""
    counters = cursor.counters
    sent = counters[SENT]
    sent = sent if sent <= LIMIT else 0
    done = min(max(counters[DONE], sent - window), sent)
    acknowledged = min(counters[ACKNOWLEDGED], sent)
    port = subscriber if publisher is None else publisher
    if port is None:
        return ChannelCounts(sent, done, acknowledged)
    age, oldest = port.age_of(sent), port.age_of(done + 1) if done < sent else None
    if publisher is not None:
        return ChannelCounts(sent, done, acknowledged, publisher.bytes, age, oldest)
    assert subscriber is not None
    subscriber.is_timed = True
    return ChannelCounts(sent, done, acknowledged, None, age, oldest, subscriber.latency)

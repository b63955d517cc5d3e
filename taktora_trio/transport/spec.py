"""The specification of a channel's services: the numbers that both ends must agree on, and the bytes they come to."""

from __future__ import annotations

import attrs

from taktora_trio.transport.deliveries import deliveries_size
from taktora_trio.transport.envelope import envelope_size
from taktora_trio.transport.receipts import receipts_bytes
from taktora_trio.transport.segments import PAGE, in_pages

__all__ = ["COUNTERS_BYTES", "HEALTH_PAYLOAD", "PORT_FILES", "SERVICE_FILES", "ServiceSpec"]

HEALTH_PAYLOAD = 2048
# Measured with iceoryx2 0.10 (a test compares the plan with what exists): a sample's own header, what a data segment
# holds besides samples, what connects two ports (for each envelope in the window and the history, and once), and the
# small files of a publish-subscribe service with its two event services, before any port is opened and after, apart
# from its cursor.
_SAMPLE_HEADER = 48
_SEGMENT_BASE, _SEGMENT_PER_SAMPLE = 150, 4
_CONNECTION_PER_ENVELOPE, _CONNECTION_BASE = 17, 280
SERVICE_FILES, PORT_FILES = 8 * PAGE, 2 * PAGE
COUNTERS_BYTES = 64


@attrs.frozen(kw_only=True)
class ServiceSpec:
    """All that both ends of a service must agree on, and all that decides its size."""

    name: str
    max_payload: int
    topic_space: int = 0
    metadata_space: int = 0
    window: int
    """The largest number of envelopes on their way: sent, and not acknowledged yet."""
    borrowed: int = 2
    """The largest number of envelopes that the reader holds at once (one in `borrow()`, one being decoded)."""
    loaned: int = 2
    """The largest number that the writer holds at once (one in `loan()`, one being sent)."""
    history: int
    """The number of last envelopes that the publisher keeps for a subscriber that comes later."""
    overflow: bool = False
    """If true, a full buffer drops its oldest envelope for a new one, instead of refusing the new one. For health."""
    counts_deliveries: bool = False
    """If true, it is kept in a file how often the app was given each message: see `deliveries.py`."""
    description: str
    """Codec and limits, for people. An attribute of the service, which can only be opened with the same."""

    @property
    def envelope_size(self) -> int:
        """The bytes of one envelope, whatever is in it."""
        return envelope_size(self.max_payload, self.topic_space, self.metadata_space)

    @property
    def samples(self) -> int:
        """The number of envelopes that iceoryx2 sets aside in the publisher's data segment."""
        return self.window + self.borrowed + self.history + self.loaned

    @property
    def segment_bytes(self) -> int:
        """The bytes of the publisher's data segment."""
        each = self.envelope_size + _SAMPLE_HEADER + _SEGMENT_PER_SAMPLE
        return in_pages(self.samples * each + _SEGMENT_BASE)

    @property
    def connection_bytes(self) -> int:
        """The bytes of what connects a publisher and a subscriber. The one that is opened later makes it."""
        return in_pages((self.window + self.history) * _CONNECTION_PER_ENVELOPE + _CONNECTION_BASE)

    @property
    def cursor_bytes(self) -> int:
        """The bytes of the file with its counters and receipts, which outlives both ends."""
        return COUNTERS_BYTES + receipts_bytes(self.window)

    @property
    def deliveries_bytes(self) -> int:
        """The bytes of the file of deliveries."""
        return in_pages(deliveries_size(self.window)) if self.counts_deliveries else 0

    def end_bytes(self, *, writes: bool) -> int:
        """Return the bytes that the ports of one end take: the writer's, or the reader's."""
        return (self.segment_bytes if writes else 0) + self.connection_bytes + PAGE

    @property
    def event_name(self) -> str:
        """The event service that wakes the reader: there is new data."""
        return f"{self.name}.evt"

    @property
    def space_name(self) -> str:
        """The event service that wakes a waiting writer: there is space again, or a new reader."""
        return f"{self.name}.space"

"""What both halves must agree on: the channels of a connector, and the memory that they come to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, TypeAlias

import attrs
import msgspec

from taktora_trio.transport.deliveries import deliveries_size
from taktora_trio.transport.envelope import envelope_size
from taktora_trio.transport.receipts import receipts_bytes
from taktora_trio.transport.segments import PAGE, in_pages

__all__ = [
    "COUNTERS_BYTES",
    "ENDS",
    "FORMAT",
    "KEPT_WRITERS",
    "MOST_EVENTS",
    "OTHER_DEPLOYMENT",
    "OTHER_INSTALLATION",
    "SPARE_SLOTS",
    "ChannelSpec",
    "Direction",
    "End",
    "RingPlace",
    "TrunkSpec",
    "events_for",
    "read_by",
    "written_by",
]

Direction: TypeAlias = Literal["out", "in"]
End: TypeAlias = Literal["app", "gateway"]
ENDS: tuple[End, End] = ("app", "gateway")

FORMAT = 1
"""The number of the present form of all that lies in shared memory: envelopes, rings, cursors, receipts, reports.

Whoever changes one of them gives it the next one (a test knows what each number stands for). Two halves with another
one refuse each other when the second one starts; else each would take what the other has written for something else.
"""
OTHER_DEPLOYMENT = (
    "The domain was made by another version of the deployment: stop both halves and start both from the same one (with"
    " `taktora-trio run`: stop the run and start it), or give this one a domain of its own"
)
OTHER_INSTALLATION = (
    "The domain was made by another version of taktora-trio: stop both halves and start both from the same installation"
    " (with `taktora-trio run`: stop the run and start it)"
)
KEPT_WRITERS = 48
"""Of so many writers that are gone, one after the other, a reader keeps what it has not read yet."""
MOST_EVENTS = 1_023
"""Event ids of one service. To take what has come costs iceoryx2 a look at each: 3 us for so many, 43 us for 16,384."""
COUNTERS_BYTES = 64
SPARE_SLOTS = 2
"""Slots of a ring beside its window: a loan is written to one of them while others send."""
_LINE = 64
_RING_HEADER = 64
_RINGS_HEADER = 64
# Measured with iceoryx2 0.10 (a test compares the plan with what exists): what a data segment holds besides its one
# sample, and what connects two ports. Then the small files of a direction's service, and of an event service, before
# any port is opened and after; and all of the service of the connector's health.
_SEGMENT_BASE = 256
_CONNECTION = PAGE
_DIRECTION_FILES, _EVENT_FILES = 4 * PAGE, 5 * PAGE
_HEALTH_BYTES = 64 * PAGE


class ChannelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that both ends of a channel must agree on, and all that decides its size."""

    name: str
    """The whole name, as `taktora.connector.CONNECTOR.CHANNEL.DIRECTION`."""
    direction: Direction
    max_payload: int
    topic_space: int = 0
    metadata_space: int = 0
    window: int
    """The largest number of envelopes on their way: sent, and not acknowledged yet."""
    counts_deliveries: bool = False
    """If true, it is kept in a file how often the app was given each message: see `deliveries.py`."""
    description: str
    """Codec and limits, for people. The other half is refused if it has another one."""

    @property
    def envelope_size(self) -> int:
        """The bytes of one envelope, whatever is in it."""
        return envelope_size(self.max_payload, self.topic_space, self.metadata_space)

    @property
    def slots(self) -> int:
        """The number of envelopes that there is room for."""
        return self.window + SPARE_SLOTS

    @property
    def table_bytes(self) -> int:
        """The bytes of the ring's table, which says in which slot a number lies."""
        return _lines(4 * self.window)

    @property
    def ring_bytes(self) -> int:
        """The bytes of its ring: a header, a table and the slots."""
        return _RING_HEADER + self.table_bytes + _lines(self.slots * self.envelope_size)

    @property
    def counters_bytes(self) -> int:
        """The bytes of its counters and receipts, in the file of the trunk's cursors."""
        return _lines(COUNTERS_BYTES + receipts_bytes(self.window))

    @property
    def deliveries_bytes(self) -> int:
        """The bytes of the file of deliveries."""
        return in_pages(deliveries_size(self.window)) if self.counts_deliveries else 0


class RingPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a channel's ring lies in the memory of its direction."""

    at: int
    table_at: int
    slots_at: int


@attrs.frozen(kw_only=True, slots=False)
class TrunkSpec:
    """All channels of a connector, which share their services, their memory and their cursor file."""

    name: str
    """The whole name, as `taktora.connector.CONNECTOR`."""
    channels: tuple[ChannelSpec, ...]

    def of(self, direction: Direction) -> list[ChannelSpec]:
        return [channel for channel in self.channels if channel.direction == direction]

    @cached_property
    def by_name(self) -> Mapping[str, ChannelSpec]:
        return {channel.name: channel for channel in self.channels}

    @cached_property
    def indexes(self) -> Mapping[str, int]:
        """The index of each channel, by name: it is rung by that."""
        return {channel.name: index for index, channel in enumerate(self.channels)}

    @property
    def directions(self) -> list[Direction]:
        """The directions that it has channels in."""
        return [direction for direction in ("out", "in") if self.of(direction)]

    def service(self, direction: Direction) -> str:
        """Return the name of the publish-subscribe service whose one sample holds the rings of this direction."""
        return f"{self.name}.{direction}"

    def event_service(self, end: End) -> str:
        """Return the name of the event service that wakes this half."""
        return f"{self.name}.{end}"

    @property
    def health(self) -> str:
        """The name of the service by which the gateway says how it is."""
        return f"{self.name}.health"

    def rings(self, direction: Direction) -> dict[str, RingPlace]:
        """Return where the ring of each channel lies, by name."""
        places, at = {}, _RINGS_HEADER
        for channel in self.of(direction):
            table_at = at + _RING_HEADER
            places[channel.name] = RingPlace(at=at, table_at=table_at, slots_at=table_at + channel.table_bytes)
            at += channel.ring_bytes
        return places

    def rings_bytes(self, direction: Direction) -> int:
        """Return the bytes of the one sample of a direction."""
        return _RINGS_HEADER + sum(channel.ring_bytes for channel in self.of(direction))

    def segment_bytes(self, direction: Direction) -> int:
        """Return the bytes of the publisher's data segment."""
        return in_pages(self.rings_bytes(direction) + _SEGMENT_BASE)

    def end_bytes(self, end: End) -> int:
        """Return the bytes of the segments that one half makes when it opens."""
        writes = written_by(end)
        own = self.segment_bytes(writes) if self.of(writes) else 0
        return own + _CONNECTION * len(self.directions) + 4 * PAGE

    @property
    def cursors_bytes(self) -> int:
        """The bytes of the counters and receipts of all channels, without what the file has before them."""
        return sum(channel.counters_bytes for channel in self.channels)

    @property
    def services_bytes(self) -> int:
        """The bytes of the small files of its services, and of the ports of both halves; and of its health."""
        return len(self.directions) * (_DIRECTION_FILES + _CONNECTION) + 2 * _EVENT_FILES + _HEALTH_BYTES


def written_by(end: End) -> Direction:
    """Return the direction whose channels this half writes."""
    return "out" if end == "app" else "in"


def read_by(end: End) -> Direction:
    """Return the direction whose channels this half reads."""
    return "in" if end == "app" else "out"


def events_for(channels: int) -> int:
    """Return the largest event id of a service for so many channels. Beyond 1,023 some share one."""
    return min(max(channels, 1), MOST_EVENTS)


def _lines(count: int) -> int:
    return -(-count // _LINE) * _LINE

"""The shared memory and the descriptors that a deployment will take, computed before any are taken.

A run that can't fit is refused at its start, instead of being stuck half-way when a port finds no memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from taktora_trio.errors import ConfigError, TemporaryFailure
from taktora_trio.transport.cursor import cursors_size
from taktora_trio.transport.segments import PAGE, SHM, all_bytes, free_bytes, in_pages
from taktora_trio.transport.snapshot import page_bytes, snapshot_bytes
from taktora_trio.transport.spec import ChannelSpec, End, TrunkSpec, read_by, written_by

__all__ = [
    "ChannelPlan",
    "MemoryPlan",
    "check_plan",
    "file_sizes",
    "for_end",
    "for_services",
    "plan_memory",
    "size_text",
]

# The nodes of owner, plugin and gateway, and the domain's own folder and locks.
_PER_DOMAIN = 24 * PAGE
# Descriptors, measured with iceoryx2 0.10 (a test compares).
_SERVICE, _LISTENER, _NOTIFIER, _PUBLISHER, _SUBSCRIBER = 2, 3, 3, 3, 4


class ChannelPlan(msgspec.Struct, frozen=True):
    """The memory of one channel: its envelopes, the bytes of each, and all bytes together."""

    name: str
    envelopes: int
    envelope_bytes: int
    total_bytes: int


class MemoryPlan(msgspec.Struct, frozen=True):
    """The memory of all channels of a deployment, and the free memory in /dev/shm, in bytes."""

    channels: tuple[ChannelPlan, ...]
    overhead_bytes: int
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(channel.total_bytes for channel in self.channels) + self.overhead_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.free_bytes

    def to_json(self, **more: object) -> bytes:
        """Return it as JSON, with what else is planned."""
        document = {
            **msgspec.structs.asdict(self),
            **more,
            "total_bytes": self.total_bytes,
            "fits": self.fits,
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2)

    def table(self) -> str:
        """Return the plan for people, one line a channel."""
        rows = [("channel", "envelopes", "bytes each", "total")]
        rows += [(s.name, str(s.envelopes), f"{s.envelope_bytes:,}", size_text(s.total_bytes)) for s in self.channels]
        rows += [
            ("services, health, vitals, nodes", "", "", size_text(self.overhead_bytes)),
            ("total", "", "", size_text(self.total_bytes)),
            (f"free in {SHM}", "", "", size_text(self.free_bytes)),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {count:>{widths[1]}}  {each:>{widths[2]}}  {total:>{widths[3]}}".rstrip()
            for name, count, each, total in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-3], rule, *lines[-3:]])


def plan_memory(specs: Iterable[TrunkSpec]) -> MemoryPlan:
    """Add up the channels, and what each half says of itself.

    The plan's `free_bytes` are those of /dev/shm now.
    """
    specs = list(specs)
    channels = tuple(_plan(channel) for spec in specs for channel in spec.channels)
    pages = 2 * snapshot_bytes(page_bytes(len(specs), len(channels)))
    return MemoryPlan(channels, _PER_DOMAIN + pages + sum(map(_overhead, specs)), free_bytes())


def check_plan(plan: MemoryPlan) -> None:
    """Raise `ConfigError`, with the plan's table, if the deployment can't fit: `TemporaryFailure` if others fill it."""
    if not plan.fits:
        error = TemporaryFailure if plan.total_bytes <= all_bytes() else ConfigError
        raise error(
            f"the deployment needs {size_text(plan.total_bytes)} of shared memory and {SHM} has"
            f" {size_text(plan.free_bytes)} free: lower max_payload or window, or enlarge {SHM} (docker run --shm-size,"
            " mount -o remount,size=)\n" + plan.table()
        )


def for_services(specs: Iterable[TrunkSpec]) -> int:
    """Return the descriptors of the process that keeps the services of these connectors."""
    return sum(_SERVICE * (len(spec.directions) + 2 + 3) for spec in specs)


def for_end(spec: TrunkSpec, end: End) -> int:
    """Return the descriptors of one half of a connector, at most."""
    events = 2 * (2 * _SERVICE + _LISTENER + _NOTIFIER)
    ports = {written_by(end): _PUBLISHER, read_by(end): _SUBSCRIBER}
    health = _SERVICE + (_SUBSCRIBER if end == "app" else _PUBLISHER)
    deliveries = sum(channel.counts_deliveries for channel in spec.channels)
    return events + health + deliveries + sum(_SERVICE + ports[direction] for direction in spec.directions)


def file_sizes(spec: TrunkSpec) -> list[int]:
    """Return the bytes of the large files of a connector."""
    return [cursors_size(spec), *(spec.segment_bytes(direction) for direction in spec.directions)]


def _plan(spec: ChannelSpec) -> ChannelPlan:
    total = spec.ring_bytes + spec.counters_bytes + spec.deliveries_bytes
    return ChannelPlan(spec.name, spec.slots, spec.envelope_size, total)


def _overhead(spec: TrunkSpec) -> int:
    """Return the bytes that a connector takes beside its channels."""
    segments = sum(spec.segment_bytes(direction) for direction in spec.directions)
    rings = sum(channel.ring_bytes for channel in spec.channels)
    return segments - rings + in_pages(cursors_size(spec)) - spec.cursors_bytes + spec.services_bytes


def size_text(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / 1024:.1f} KiB".replace(".0 ", " ")

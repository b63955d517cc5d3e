"""The shared memory that a deployment will take, computed before any of it is taken.

A run that can't fit is refused at its start, instead of being stuck half-way when a port finds no memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import msgspec

from taktora_trio.errors import ConfigError
from taktora_trio.transport.segments import PAGE, SHM, free_bytes, in_pages
from taktora_trio.transport.spec import PORT_FILES, SERVICE_FILES, ServiceSpec

__all__ = ["ChannelPlan", "MemoryPlan", "check_plan", "plan_memory"]

# The nodes of owner, plugin and gateway, and the domain's own folder and locks.
_PER_DOMAIN = 24 * PAGE


@attrs.frozen
class ChannelPlan:
    """The memory of one service: its envelopes, the bytes of each, and all bytes together."""

    name: str
    envelopes: int
    envelope_bytes: int
    total_bytes: int


@attrs.frozen
class MemoryPlan:
    """The memory of all services of a deployment, and the free memory in /dev/shm, in bytes."""

    services: tuple[ChannelPlan, ...]
    overhead_bytes: int
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(service.total_bytes for service in self.services) + self.overhead_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.free_bytes

    def to_json(self, **more: object) -> bytes:
        """Return it as JSON, with what else is planned."""
        document = {
            **attrs.asdict(self),
            **more,
            "total_bytes": self.total_bytes,
            "fits": self.fits,
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2)

    def table(self) -> str:
        """Return the plan for people, one line a service."""
        rows = [("service", "envelopes", "bytes each", "total")]
        rows += [(s.name, str(s.envelopes), f"{s.envelope_bytes:,}", _size(s.total_bytes)) for s in self.services]
        rows += [
            ("nodes, locks and folders", "", "", _size(self.overhead_bytes)),
            ("total", "", "", _size(self.total_bytes)),
            (f"free in {SHM}", "", "", _size(self.free_bytes)),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{name:<{widths[0]}}  {count:>{widths[1]}}  {each:>{widths[2]}}  {total:>{widths[3]}}".rstrip()
            for name, count, each, total in rows
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-3], rule, *lines[-3:]])


def plan_memory(specs: Iterable[ServiceSpec]) -> MemoryPlan:
    """Add up the services. The plan's `free_bytes` are those of /dev/shm now."""
    return MemoryPlan(tuple(map(_plan, specs)), _PER_DOMAIN, free_bytes())


def check_plan(plan: MemoryPlan) -> None:
    """Raise `ConfigError`, with the plan's table, if the deployment can't fit."""
    if not plan.fits:
        raise ConfigError(
            f"the deployment needs {_size(plan.total_bytes)} of shared memory and {SHM} has {_size(plan.free_bytes)}"
            f" free: lower max_payload or window, or enlarge {SHM} (docker run --shm-size, mount -o remount,size=)\n"
            + plan.table()
        )


def _plan(spec: ServiceSpec) -> ChannelPlan:
    own = in_pages(spec.cursor_bytes) + spec.deliveries_bytes
    total = spec.segment_bytes + spec.connection_bytes + own + SERVICE_FILES + PORT_FILES
    return ChannelPlan(spec.name, spec.samples, spec.envelope_size, total)


def _size(count: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20)):
        if count >= 1 << power:
            return f"{count / (1 << power):.1f} {unit}"
    return f"{count / 1024:.1f} KiB"

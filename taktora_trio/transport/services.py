"""The iceoryx2 services of a deployment: created by the longest-lived process, opened by the others.

A process killed while it creates a service poisons that name (every later try fails with `HangsInCreation`). So the
half that may crash only opens them.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

import iceoryx2 as iox2
import trio

from taktora_trio.errors import ServiceMismatch
from taktora_trio.transport.descriptors import check_descriptors, refusal
from taktora_trio.transport.plain import Memory
from taktora_trio.transport.ports import REPORT_BYTES, REPORTS
from taktora_trio.transport.sizing import for_services
from taktora_trio.transport.spec import ENDS, OTHER_INSTALLATION, Direction, TrunkSpec, events_for

__all__ = [
    "Report",
    "event_service",
    "open_services",
    "reports_service",
    "rings_service",
]

T = TypeVar("T")

# A killed process stays in a service's list until a survivor has cleaned it up, so there is room for a few of them.
MAX_NODES = 16
_BATCH = 32
_OF_ANOTHER_VERSION = ("Incompatible", "DoesNotSupportRequested", "VersionMismatch")
"""How iceoryx2 calls it that a service was made in another way than it is wanted now."""


class Report(ctypes.Structure):
    """A report of health as it travels: so many bytes of JSON."""

    _fields_ = [("length", ctypes.c_uint64), ("content", ctypes.c_uint8 * REPORT_BYTES)]

    @staticmethod
    def type_name() -> str:
        return f"taktora.Report.{REPORT_BYTES}"


class _SharedNode(Protocol):
    """A `SharedNode`, whose module is above this one."""

    @property
    def iox(self) -> iox2.Node: ...

    def reserve(self, needed: int, what: str) -> AbstractAsyncContextManager[None]: ...

    def map_cursors(self, spec: TrunkSpec) -> Memory: ...


@contextlib.asynccontextmanager
async def open_services(node: _SharedNode, specs: Iterable[TrunkSpec]) -> AsyncIterator[None]:
    """Create every service, or open it if a surviving half still has it, and keep it in existence during the block.

    Raises `TooFewDescriptors`, `TransportError` and `ServiceMismatch`.
    """
    specs = list(specs)
    check_descriptors(for_services(specs), f"a deployment of {len(specs)} connectors")
    held: list[object] = []
    try:
        for batch in _in_batches(specs):
            async with node.reserve(sum(spec.services_bytes for spec in batch), batch[0].name):
                for spec in batch:
                    node.map_cursors(spec).close()
                    held += [rings_service(node.iox, spec, direction, create=True) for direction in spec.directions]
                    for end in ENDS:
                        ids = events_for(len(spec.channels))
                        held.append(event_service(node.iox, spec.event_service(end), ids, create=True))
                    held.append(reports_service(node.iox, spec.health, create=True))
                    held += [event_service(node.iox, f"{spec.health}.{end}", create=True) for end in ENDS]
            await trio.lowlevel.checkpoint()
        yield
    finally:
        held.clear()


def _in_batches(things: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """Split things into batches, each to be opened in one turn.

    A batch is short enough for another process to wait for, and saves a look at all files for each thing.
    """
    things = iter(things)
    while batch := tuple(islice(things, _BATCH)):
        yield batch


def rings_service(
    node: iox2.Node, spec: TrunkSpec, direction: Direction, *, create: bool = False
) -> iox2.PortFactoryPublishSubscribe:
    """Open the service of all channels of a direction; with `create`, create it if there is none.

    A late subscriber gets the one sample that its publisher has sent.

    Raises `TooFewDescriptors` and `TransportError`.
    """
    builder = (
        node.service_builder(iox2.ServiceName.new(spec.service(direction)))
        .publish_subscribe(iox2.Slice[ctypes.c_uint64])
        .max_publishers(1)
        .max_subscribers(1)
        .max_nodes(MAX_NODES)
        .enable_safe_overflow(False)
        .history_size(1)
        .subscriber_max_buffer_size(1)
        .subscriber_max_borrowed_samples(1)
    )
    return _open(builder, spec.service(direction), create=create)


def reports_service(node: iox2.Node, name: str, *, create: bool = False) -> iox2.PortFactoryPublishSubscribe:
    """Open the service by which a gateway says how it is; with `create`, create it if there is none.

    It keeps the newest report for a plugin that comes later, and drops the oldest one for a new one.

    Raises `TooFewDescriptors` and `TransportError`.
    """
    builder = (
        node.service_builder(iox2.ServiceName.new(name))
        .publish_subscribe(Report)
        .max_publishers(1)
        .max_subscribers(1)
        .max_nodes(MAX_NODES)
        .enable_safe_overflow(True)
        .history_size(1)
        .subscriber_max_buffer_size(REPORTS)
        .subscriber_max_borrowed_samples(1)
    )
    return _open(builder, name, create=create)


def _open(builder: Any, name: str, *, create: bool) -> Any:
    """Open what this builder of iceoryx2's builds, or create it."""
    try:
        if not create:
            return builder.open()
        try:
            return builder.create()
        except (iox2.PublishSubscribeCreateError, iox2.EventCreateError) as exc:
            if str(exc) != "AlreadyExists":
                raise
            return builder.open()
    except (
        iox2.PublishSubscribeCreateError,
        iox2.PublishSubscribeOpenError,
        iox2.EventCreateError,
        iox2.EventOpenError,
    ) as exc:
        if str(exc).startswith(_OF_ANOTHER_VERSION):
            raise ServiceMismatch(f"the service {name} has another form ({exc}). {OTHER_INSTALLATION}") from exc
        raise refusal(name, exc, _explain("open" if not create else "create", name, exc)) from exc


def event_service(node: iox2.Node, name: str, ids: int = 1, *, create: bool = False) -> iox2.PortFactoryEvent:
    """Open an event service, whose events have ids up to `ids`; with `create`, create it if there is none.

    Raises `TooFewDescriptors` and `TransportError`.
    """
    builder = (
        node.service_builder(iox2.ServiceName.new(name))
        .event()
        .max_nodes(MAX_NODES)
        .max_listeners(1)
        .max_notifiers(1)
        .event_id_max_value(ids)
    )
    service: iox2.PortFactoryEvent = _open(builder, name, create=create)
    return service


def _explain(verb: Literal["open", "create"], name: str, exc: Exception) -> str:
    reasons = {
        "DoesNotExist": "the owner of the domain has not created it: run both halves from the same deployment",
        "HangsInCreation": "its creator was killed half-way: stop everything in this domain and start again",
        "InsufficientPermissions": "run both halves as the same user",
    }
    return f"cannot {verb} service {name}: {exc}; {reasons.get(str(exc), 'see the iceoryx2 documentation')}"

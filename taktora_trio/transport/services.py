"""The iceoryx2 services of a channel: created by the longest-lived process, opened by the others.

A process killed while it creates a service poisons that name (every later try fails with `HangsInCreation`). So the
half that may crash only opens them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Literal, TypeVar

import iceoryx2 as iox2
import trio

from taktora_trio.errors import ServiceMismatch
from taktora_trio.transport.descriptors import SERVICE, check_descriptors, refusal
from taktora_trio.transport.envelope import envelope_type
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.spec import SERVICE_FILES, ServiceSpec

__all__ = ["channel_service", "event_service", "in_batches", "open_services"]

T = TypeVar("T")

# A killed process stays in a service's list until a survivor has cleaned it up, so there is room for a few of them.
MAX_NODES = 16
_BATCH = 32


@contextlib.asynccontextmanager
async def open_services(node: iox2.Node, specs: Iterable[ServiceSpec]) -> AsyncIterator[None]:
    """Create every service, or open it if a surviving half still has it, and keep it in existence during the block.

    Raises `TooFewDescriptors`, `TransportError` and `ServiceMismatch`.
    """
    specs = list(specs)
    check_descriptors(SERVICE * len(specs), f"a deployment of {len(specs)} services")
    held: list[object] = []
    try:
        for batch in in_batches(specs):
            async with reserve(node.config, SERVICE_FILES * len(batch), batch[0].name):
                for spec in batch:
                    held.append(channel_service(node, spec, create=True))
                    held.append(event_service(node, spec.event_name, create=True))
                    held.append(event_service(node, spec.space_name, create=True))
            await trio.lowlevel.checkpoint()
        yield
    finally:
        held.clear()


def in_batches(things: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """Split things into batches, each to be opened in one turn.

    A batch is short enough for another process to wait for, and saves a look at all files for each thing.
    """
    things = iter(things)
    while batch := tuple(islice(things, _BATCH)):
        yield batch


def channel_service(node: iox2.Node, spec: ServiceSpec, *, create: bool = False) -> iox2.PortFactoryPublishSubscribe:
    """Open the publish-subscribe service of a channel; with `create`, create it if there is none.

    Raises `ServiceMismatch`, `TooFewDescriptors` and `TransportError`.
    """
    _check_description(node, spec)
    builder = (
        node.service_builder(iox2.ServiceName.new(spec.name))
        .publish_subscribe(envelope_type(spec.envelope_size))
        .max_publishers(1)
        .max_subscribers(1)
        .max_nodes(MAX_NODES)
        .enable_safe_overflow(spec.overflow)
        .history_size(spec.history)
        .subscriber_max_buffer_size(spec.window)
        .subscriber_max_borrowed_samples(spec.borrowed)
    )
    try:
        if not create:
            return builder.open()
        attributes = iox2.AttributeSpecifier.new().define(
            iox2.AttributeKey.new("description"), iox2.AttributeValue.new(spec.description)
        )
        try:
            return builder.create_with_attributes(attributes)
        except iox2.PublishSubscribeCreateError as exc:
            if str(exc) != "AlreadyExists":
                raise
            return builder.open()
    except (iox2.PublishSubscribeCreateError, iox2.PublishSubscribeOpenError) as exc:
        raise refusal(spec.name, exc, _explain("open" if not create else "create", spec.name, exc)) from exc


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
    try:
        if not create:
            return builder.open()
        try:
            return builder.create()
        except iox2.EventCreateError as exc:
            if str(exc) != "AlreadyExists":
                raise
            return builder.open()
    except (iox2.EventCreateError, iox2.EventOpenError) as exc:
        raise refusal(name, exc, _explain("open" if not create else "create", name, exc)) from exc


def _check_description(node: iox2.Node, spec: ServiceSpec) -> None:
    details = iox2.Service.details(
        iox2.ServiceName.new(spec.name), node.config, iox2.MessagingPattern.PublishSubscribe, iox2.ServiceType.Ipc
    )
    if details is None:
        return
    present = {attribute.key.to_string(): attribute.value.to_string() for attribute in details.attributes().values}
    theirs = present.get("description", "no description: not made by this library")
    if theirs != spec.description:
        raise ServiceMismatch(
            f"service {spec.name} exists with another format: there it is ({theirs}), here it is ({spec.description});"
            " run both halves from the same deployment, or give them different domains"
        )


def _explain(verb: Literal["open", "create"], name: str, exc: Exception) -> str:
    reasons = {
        "DoesNotExist": "the owner of the domain has not created it: run both halves from the same deployment",
        "HangsInCreation": "its creator was killed half-way: stop everything in this domain and start again",
        "IncompatibleTypes": "the peer's envelopes have another size: run both halves from the same deployment",
        "InsufficientPermissions": "run both halves as the same user",
    }
    return f"cannot {verb} service {name}: {exc}; {reasons.get(str(exc), 'see the iceoryx2 documentation')}"

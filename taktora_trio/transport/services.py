"""The iceoryx2 services of a channel: what they are called, how big they are, and who makes them.

A process killed while it creates a service poisons that name (every later try fails with `HangsInCreation`), so the
longest-lived process creates every service and the half that may crash only opens them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Literal, Protocol, TypeVar

import attrs
import iceoryx2 as iox2
import trio

from taktora_trio.errors import ServiceMismatch
from taktora_trio.transport.descriptors import SERVICE, check_descriptors, refusal
from taktora_trio.transport.envelope import envelope_size, envelope_type
from taktora_trio.transport.node import clean_up_dead_nodes
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE, in_pages

__all__ = ["HEALTH_PAYLOAD", "ServiceSpec", "batches", "open_services"]


class _Port(Protocol):
    def delete(self) -> None: ...


P = TypeVar("P", bound=_Port)
T = TypeVar("T")

# A killed process stays in a service's list until a survivor has cleaned it up, so there is room for a few of them.
MAX_NODES = 16
HEALTH_PAYLOAD = 2048
_OPEN_TRIES, _OPEN_PAUSE = 100, 0.01
_BATCH = 32
# Measured with iceoryx2 0.10 (a test compares the plan with what exists): a sample's own header, what a data segment
# holds besides samples, what connects two ports (for each envelope in the window and the history, and once), and the
# small files of a publish-subscribe service with its two event services, before any port is opened and after.
_SAMPLE_HEADER = 48
_SEGMENT_BASE, _SEGMENT_PER_SAMPLE = 150, 4
_CONNECTION_PER_ENVELOPE, _CONNECTION_BASE = 17, 280
SERVICE_FILES, PORT_FILES = 8 * PAGE, 3 * PAGE


@attrs.frozen(kw_only=True)
class ServiceSpec:
    """Everything that both ends must agree on, and everything that decides a service's size."""

    name: str
    max_payload: int
    topic_space: int = 0
    metadata_space: int = 0
    window: int
    """How many envelopes may be on their way: sent, and not acknowledged yet."""
    borrowed: int = 2
    """How many envelopes the reader may hold at once (one in `borrow()`, one being decoded)."""
    loaned: int = 2
    """How many the writer may hold at once (one in `loan()`, one being sent)."""
    history: int
    """How many of the last envelopes the publisher keeps for a subscriber that comes later."""
    overflow: bool = False
    """A full buffer gives way to the newest instead of refusing it. Only for health, where the newest counts."""
    description: str
    """For people, as an attribute of the service: codec and limits. Who opens it with another one is refused."""

    @property
    def envelope_size(self) -> int:
        return envelope_size(self.max_payload, self.topic_space, self.metadata_space)

    @property
    def samples(self) -> int:
        """How many envelopes iceoryx2 sets aside in the publisher's data segment."""
        return self.window + self.borrowed + self.history + self.loaned

    @property
    def segment_bytes(self) -> int:
        """What the publisher's data segment takes."""
        each = self.envelope_size + _SAMPLE_HEADER + _SEGMENT_PER_SAMPLE
        return in_pages(self.samples * each + _SEGMENT_BASE)

    @property
    def connection_bytes(self) -> int:
        """What connects a publisher and a subscriber; the one that is opened later takes it."""
        return in_pages((self.window + self.history) * _CONNECTION_PER_ENVELOPE + _CONNECTION_BASE)

    def end_bytes(self, *, writes: bool) -> int:
        """What the ports at one end take: of the writer, or of the reader."""
        return (self.segment_bytes if writes else 0) + self.connection_bytes + PAGE

    @property
    def event_name(self) -> str:
        """The event service that tells the reader of new data."""
        return f"{self.name}.evt"

    @property
    def space_name(self) -> str:
        """The event service that tells a waiting writer of new space (and of a new reader)."""
        return f"{self.name}.space"


@contextlib.asynccontextmanager
async def open_services(node: iox2.Node, specs: Iterable[ServiceSpec]) -> AsyncIterator[None]:
    """Create every service (or open it, where a surviving half still has it) and keep it in existence.

    Raises `TooFewDescriptors`, `TransportError`, and `ServiceMismatch`.
    """
    specs = list(specs)
    check_descriptors(SERVICE * len(specs), f"a deployment of {len(specs)} services")
    held: list[object] = []
    try:
        for batch in batches(specs):
            async with reserve(node.config, SERVICE_FILES * len(batch), batch[0].name):
                for spec in batch:
                    held.append(_pubsub(node, spec, create=True))
                    held.append(_event(node, spec.event_name, create=True))
                    held.append(_event(node, spec.space_name, create=True))
            await trio.lowlevel.checkpoint()
        yield
    finally:
        held.clear()


def batches(things: Iterable[T]) -> Iterator[tuple[T, ...]]:
    """As many as are opened in one go: no longer than another process waits, and few enough looks at all files."""
    things = iter(things)
    while batch := tuple(islice(things, _BATCH)):
        yield batch


async def open_publisher(node: iox2.Node, spec: ServiceSpec) -> tuple[iox2.PortFactoryPublishSubscribe, iox2.Publisher]:
    factory = _pubsub(node, spec)
    return factory, await _open_port(
        node,
        spec.name,
        spec.segment_bytes + spec.connection_bytes,
        lambda: (
            factory.publisher_builder()
            .max_loaned_samples(spec.loaned)
            # Within the window nothing is refused; and RetryUntilDelivered would block the thread.
            .backpressure_strategy(iox2.BackpressureStrategy.DiscardData)
            .create()
        ),
    )


async def open_subscriber(node: iox2.Node, spec: ServiceSpec, history: int) -> iox2.Subscriber:
    """Attach, and be given the last `history` envelopes first."""
    factory = _pubsub(node, spec)
    return await _open_port(
        node,
        spec.name,
        spec.connection_bytes,
        lambda: factory.subscriber_builder().buffer_size(spec.window).history_request(history).create(),
    )


async def open_notifier(node: iox2.Node, name: str) -> iox2.Notifier:
    factory = _event(node, name)
    return await _open_port(node, name, 0, lambda: factory.notifier_builder().create())


async def open_listener(node: iox2.Node, name: str) -> iox2.Listener:
    factory = _event(node, name)
    return await _open_port(node, name, PAGE, lambda: factory.listener_builder().create())


async def _open_port(node: iox2.Node, name: str, needed: int, create: Callable[[], P]) -> P:
    """Create a port and take its memory, `needed` bytes.

    Where a killed predecessor still occupies its place, clean up and try again for a second.
    """
    for attempt in range(_OPEN_TRIES):
        try:
            with contextlib.ExitStack() as undo:
                async with reserve(node.config, needed, name):
                    port = create()
                    undo.callback(port.delete)
                undo.pop_all()
                return port
        except (
            iox2.PublisherCreateError,
            iox2.SubscriberCreateError,
            iox2.NotifierCreateError,
            iox2.ListenerCreateError,
        ) as exc:
            if "ExceedsMaxSupported" not in str(exc) or attempt == _OPEN_TRIES - 1:
                taken = f"cannot attach to {name}: {exc}; its one place is taken: is the channel open already?"
                raise refusal(name, exc, taken) from exc
        # Nothing announces that the operating system has finished with a killed process.
        await sleep(_OPEN_PAUSE)
        await clean_up_dead_nodes(node)
    raise AssertionError("unreachable")


def _pubsub(node: iox2.Node, spec: ServiceSpec, *, create: bool = False) -> iox2.PortFactoryPublishSubscribe:
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


def _event(node: iox2.Node, name: str, *, create: bool = False) -> iox2.PortFactoryEvent:
    builder = (
        node.service_builder(iox2.ServiceName.new(name))
        .event()
        .max_nodes(MAX_NODES)
        .max_listeners(1)
        .max_notifiers(1)
        .event_id_max_value(1)
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

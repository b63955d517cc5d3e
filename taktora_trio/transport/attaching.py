"""Attaching to services: each port is opened with its memory reserved, in the place of a killed one if need be."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import iceoryx2 as iox2

from taktora_trio.errors import TransportError
from taktora_trio.transport.cleaning import clean_up_dead_nodes
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.listener_socket import SocketListener
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.ports import REPORT_BYTES, REPORTS
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE
from taktora_trio.transport.services import (
    Report,
    event_service,
    reports_service,
    rings_service,
)
from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = [
    "Notifying",
    "Received",
    "Served",
    "ServedReports",
    "Subscribing",
    "SubscribingReports",
    "open_listener",
    "open_notifier",
    "open_port",
    "open_publisher",
    "open_report_publisher",
    "open_report_subscriber",
    "open_subscriber",
]

_OPEN_TRIES, _OPEN_PAUSE = 100, 0.01
_REPORTS_SEGMENT = (REPORTS + 4) * (REPORT_BYTES + 128) + 4 * PAGE


class _Port(Protocol):
    def delete(self) -> None: ...


P = TypeVar("P", bound=_Port)
S = TypeVar("S")


class _Served:
    """A publisher with its service."""

    def __init__(self, service: iox2.PortFactoryPublishSubscribe, publisher: iox2.Publisher) -> None:
        self.service = service
        self.publisher = publisher

    def update_connections(self) -> None:
        self.publisher.update_connections()

    def close(self) -> None:
        # Explicitly, for a traceback may refer to us: a publisher that anybody refers to keeps its only place occupied,
        # and as long as anybody refers to a service, it counts our node.
        self.publisher.delete()
        del self.service


class Served(_Served):
    """The publisher of a direction. Use `open_publisher`."""

    _sample: iox2.SampleMutUninit | None = None

    def allocate(self, words: int) -> tuple[int, Callable[[], None]]:
        """See `Publishing`. It stays where it is for as long as the publisher is there, which sends no other."""
        self._sample = self.publisher.loan_slice_uninit(words)
        return self._sample.payload_ptr, _nothing

    def send(self) -> None:
        sample, self._sample = self._sample, None
        assert sample is not None
        sample.assume_init().send()

    @property
    def has_subscriber(self) -> bool:
        return bool(self.service.dynamic_config.number_of_subscribers)


class ServedReports(_Served):
    """The publisher of reports. Use `open_report_publisher`."""

    def send(self, report: bytes) -> None:
        sample = self.publisher.loan_uninit()
        there = Report.from_address(sample.payload_ptr)
        there.length = len(report)
        ctypes.memmove(there.content, report, len(report))
        sample.assume_init().send()


def _nothing() -> None: ...


class Received:
    """A sample that has come."""

    def __init__(self, sample: iox2.Sample) -> None:
        self._sample: iox2.Sample | None = sample
        self.address = sample.payload_ptr
        self.words = sample.payload().len()

    def delete(self) -> None:
        sample, self._sample = self._sample, None
        if sample is not None:
            sample.delete()


class _Reopenable(Generic[S, P]):
    """A port with its service. It can be opened again, since iceoryx2 tries only once to connect one with another."""

    def __init__(
        self,
        node: iox2.Node,
        name: str,
        needed: int,
        open_service: Callable[[iox2.Node], S],
        create: Callable[[S], P],
    ) -> None:
        """`needed` is as for `open_port`."""
        self._node, self._name, self._needed = node, name, needed
        self._open_service, self._create = open_service, create
        self._service: S | None = None
        self._port: P | None = None

    @property
    def is_open(self) -> bool:
        return self._port is not None

    async def open(self) -> None:
        """Open it, or open it again. Where that fails, there is no port."""
        self._delete()
        self._service = service = self._open_service(self._node)
        self._port = await open_port(self._node, self._name, self._needed, lambda: self._create(service))

    def close(self) -> None:
        self._delete()
        self._service = None
        del self._node  # a traceback may refer to us, and would keep it

    def _delete(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            port.delete()


class Subscribing(_Reopenable[iox2.PortFactoryPublishSubscribe, iox2.Subscriber]):
    """The subscriber of a direction. Use `open_subscriber`."""

    def receive(self) -> Received | None:
        """Return what has come. Raises `TransportError`."""
        try:
            sample = None if self._port is None else self._port.receive()
        except iox2.ReceiveError as exc:
            raise TransportError(str(exc)) from exc
        return None if sample is None else Received(sample)

    @property
    def has_publisher(self) -> bool:
        """True if there is one, or one was killed and is not cleaned up yet."""
        return self._service is not None and self._service.dynamic_config.number_of_publishers > 0


class SubscribingReports(_Reopenable[iox2.PortFactoryPublishSubscribe, iox2.Subscriber]):
    """The subscriber of reports. Use `open_report_subscriber`."""

    def receive(self) -> bytes | None:
        """Return the next one. Raises `TransportError`."""
        sample = None if self._port is None else self._port.receive()
        if sample is None:
            return None
        try:
            report = Report.from_address(sample.payload_ptr)
            length = report.length
            if length > REPORT_BYTES:
                raise TransportError(f"a report of health claims {length} bytes, where {REPORT_BYTES} fit")
            return bytes(report.content[:length])
        finally:
            sample.delete()


class Notifying(_Reopenable[iox2.PortFactoryEvent, iox2.Notifier]):
    """A notifier. Use `open_notifier`. Opened again, it voids what `of` has returned."""

    def of(self, number: int) -> Callable[[], int]:
        """Return what rings by this id, and returns how many it has reached: nobody where it could not be opened."""
        if self._port is None:
            return int
        return partial(self._port.notify_with_custom_event_id, iox2.EventId.new(number))

    @property
    def has_listener(self) -> bool:
        """True if there is one, or one was killed and is not cleaned up yet."""
        return self._service is not None and self._service.dynamic_config.number_of_listeners > 0


async def open_publisher(node: iox2.Node, spec: TrunkSpec, direction: Direction) -> Served:
    """Open the one publisher of a direction."""
    factory = rings_service(node, spec, direction)
    words = spec.rings_bytes(direction) // 8
    publisher = await open_port(
        node,
        spec.service(direction),
        spec.segment_bytes(direction) + PAGE,
        lambda: (
            factory.publisher_builder()
            .initial_max_slice_len(words)
            .max_loaned_samples(1)
            .override_sample_preallocation(1)
            # There is one sample, and room for it; RetryUntilDelivered would block the thread.
            .backpressure_strategy(iox2.BackpressureStrategy.DiscardData)
            .create()
        ),
    )
    return Served(factory, publisher)


async def open_report_publisher(node: iox2.Node, name: str) -> ServedReports:
    """Open the one publisher of reports."""
    factory = reports_service(node, name)
    publisher = await open_port(
        node,
        name,
        _REPORTS_SEGMENT,
        lambda: (
            factory.publisher_builder()
            .max_loaned_samples(1)
            .backpressure_strategy(iox2.BackpressureStrategy.DiscardData)
            .create()
        ),
    )
    return ServedReports(factory, publisher)


async def open_subscriber(node: iox2.Node, spec: TrunkSpec, direction: Direction) -> Subscribing:
    """Open the one subscriber of a direction, which gets the sample of a publisher that is there already, too."""
    subscribing = Subscribing(
        node, spec.service(direction), PAGE, lambda node: rings_service(node, spec, direction), _subscriber
    )
    await subscribing.open()
    return subscribing


async def open_report_subscriber(node: iox2.Node, name: str) -> SubscribingReports:
    """Open the one subscriber of reports, which gets the newest one of a publisher that is there already, too."""
    subscribing = SubscribingReports(node, name, 2 * PAGE, lambda node: reports_service(node, name), _subscriber)
    await subscribing.open()
    return subscribing


def _subscriber(service: iox2.PortFactoryPublishSubscribe) -> iox2.Subscriber:
    return service.subscriber_builder().history_request(1).create()


async def open_notifier(node: iox2.Node, name: str, ids: int = 1) -> Notifying:
    """Open the one notifier of an event service with ids up to `ids`."""
    notifying = Notifying(
        node, name, 0, lambda node: event_service(node, name, ids), lambda service: service.notifier_builder().create()
    )
    await notifying.open()
    return notifying


async def open_listener(node: iox2.Node, name: str, ids: int = 1) -> SocketListener:
    """Open the one listener of an event service with ids up to `ids`."""
    factory = event_service(node, name, ids)
    return SocketListener(await open_port(node, name, PAGE, lambda: factory.listener_builder().create()))


async def open_port(node: iox2.Node, name: str, needed: int, create: Callable[[], P]) -> P:
    """Create a port, with `needed` bytes of memory reserved for it.

    While a killed predecessor still occupies its place, it cleans up and tries again, for a second.
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
                taken = f"cannot attach to {name}: {exc}; its one place is taken: is it open already?"
                raise refusal(name, exc, taken) from exc
        # Nothing announces that the operating system has finished with a killed process.
        await sleep(_OPEN_PAUSE)
        await clean_up_dead_nodes(node)
    raise AssertionError("unreachable")

"""Attaching to services: each port is opened with its memory reserved, in the place of a killed one if need be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

import iceoryx2 as iox2

from taktora_trio.transport.cleaning import clean_up_dead_nodes
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE
from taktora_trio.transport.services import event_service, rings_service
from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = [
    "Ringing",
    "Served",
    "Taking",
    "open_listener",
    "open_notifier",
    "open_port",
    "open_publisher",
    "open_subscriber",
]

_OPEN_TRIES, _OPEN_PAUSE = 100, 0.01


class _Port(Protocol):
    def delete(self) -> None: ...


P = TypeVar("P", bound=_Port)
S = TypeVar("S")


class Served:
    """A publisher with its service."""

    def __init__(self, service: iox2.PortFactoryPublishSubscribe, publisher: iox2.Publisher) -> None:
        self.service = service
        self.publisher = publisher

    def close(self) -> None:
        # Explicitly, for a traceback may refer to us: a publisher that anybody refers to keeps its only place occupied,
        # and as long as anybody refers to a service, it counts our node.
        self.publisher.delete()
        del self.service


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


class Taking(_Reopenable[iox2.PortFactoryPublishSubscribe, iox2.Subscriber]):
    """A subscriber. Use `open_subscriber`."""

    def receive(self) -> iox2.Sample | None:
        """Return what has come. Raises `iox2.ReceiveError`."""
        return None if self._port is None else self._port.receive()

    @property
    def has_publisher(self) -> bool:
        """True if there is one, or one was killed and is not cleaned up yet."""
        return self._service is not None and self._service.dynamic_config.number_of_publishers > 0


class Ringing(_Reopenable[iox2.PortFactoryEvent, iox2.Notifier]):
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


async def open_subscriber(
    node: iox2.Node, name: str, needed: int, open_service: Callable[[iox2.Node], iox2.PortFactoryPublishSubscribe]
) -> Taking:
    """Open the one subscriber of a service, which gets the newest sample of a publisher that is there already, too."""
    taking = Taking(node, name, needed, open_service, lambda it: it.subscriber_builder().history_request(1).create())
    await taking.open()
    return taking


async def open_notifier(node: iox2.Node, name: str, ids: int = 1) -> Ringing:
    """Open the one notifier of an event service with ids up to `ids`."""
    ringing = Ringing(
        node, name, 0, lambda node: event_service(node, name, ids), lambda service: service.notifier_builder().create()
    )
    await ringing.open()
    return ringing


async def open_listener(node: iox2.Node, name: str, ids: int = 1) -> iox2.Listener:
    """Open the one listener of an event service with ids up to `ids`."""
    factory = event_service(node, name, ids)
    return await open_port(node, name, PAGE, lambda: factory.listener_builder().create())


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

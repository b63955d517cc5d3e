"""Attaching to services: each port is opened with its memory reserved, in the place of a killed one if need be."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol, TypeVar

import iceoryx2 as iox2

from taktora_trio.transport.cleaning import clean_up_dead_nodes
from taktora_trio.transport.descriptors import refusal
from taktora_trio.transport.pauses import sleep
from taktora_trio.transport.reservation import reserve
from taktora_trio.transport.segments import PAGE
from taktora_trio.transport.services import event_service, rings_service
from taktora_trio.transport.spec import Direction, TrunkSpec

__all__ = ["Served", "open_listener", "open_notifier", "open_port", "open_publisher", "open_subscriber"]

_OPEN_TRIES, _OPEN_PAUSE = 100, 0.01


class _Port(Protocol):
    def delete(self) -> None: ...


P = TypeVar("P", bound=_Port)


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


async def open_subscriber(node: iox2.Node, spec: TrunkSpec, direction: Direction) -> iox2.Subscriber:
    """Open the one subscriber of a direction, which gets the sample of a publisher that is there already, too."""
    factory = rings_service(node, spec, direction)
    return await open_port(
        node, spec.service(direction), PAGE, lambda: factory.subscriber_builder().history_request(1).create()
    )


async def open_notifier(node: iox2.Node, name: str, ids: int = 1) -> iox2.Notifier:
    """Open the one notifier of an event service with ids up to `ids`."""
    factory = event_service(node, name, ids)
    return await open_port(node, name, 0, lambda: factory.notifier_builder().create())


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

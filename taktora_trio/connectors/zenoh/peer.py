"""The network within this process, as the tests of an app see it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import attrs
import trio

from taktora_trio.channels import ChannelDescriptor
from taktora_trio.connectors.peer import MemoryPeer, OnPublished
from taktora_trio.connectors.zenoh.guest import Guest
from taktora_trio.connectors.zenoh.memory.network import MemoryNetwork
from taktora_trio.connectors.zenoh.memory.node import open_memory_node
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Sample
from taktora_trio.digest import sha256

__all__ = ["ZenohMemoryPeer"]


class ZenohMemoryPeer(MemoryPeer):
    """A network in memory, a connector's line to it, and a guest there that the test speaks by.

    Two connectors of a run that are declared with the same endpoints have the same network.
    """

    def __init__(
        self,
        channels: Sequence[ChannelDescriptor[Any]],
        declared: ZenohOptions,
        run: str,
        name: str,
        on_published: OnPublished,
    ) -> None:
        """The connector is declared so; `name` is the gateway's, and `run` that of the tests."""
        where = " ".join((*declared.places, "", *(declared.listen or ())))
        self._of_guest = ZenohOptions(session="memory", connect=_endpoint(run, where))
        there = MemoryNetwork.line_at(self._of_guest.places)
        self.options = attrs.evolve(
            declared, session="memory", connect=_endpoint(run, f"{where} {name}"), listen=(), zenoh_config=None
        )
        """The options by which the connector is on that network."""
        self._line = MemoryNetwork.lay_line(self.options.places, there.network)
        self._line.watchers.append(self._watch)
        self._guest = Guest(channels)
        self._on_published = on_published

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with (
            open_memory_node(self._of_guest) as node,
            node.open_session() as session,
            trio.open_nursery() as nursery,
        ):
            await self._guest.start(session, self._on_published, takes_all=False)
            nursery.start_soon(self._guest.serve)
            yield
            nursery.cancel_scope.cancel()

    def _watch(self, how: Literal["put", "ask"], sample: Sample) -> None:
        # What the app has put last is known at once, without a turn of the guest's: it may have ended then.
        if how == "put":
            self._on_published(self._guest.published(sample))

    def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        """See `MemoryPeer`, and `Guest.publish` for the options."""
        self._guest.publish(topic, payload, **options)

    def cut(self) -> None:
        self._line.cut()

    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        self._line.set(unreachable=unreachable, refuses=refusing)
        if delay is not None:
            self._guest.set_delay(delay)

    def close(self) -> None:
        for options in (self.options, self._of_guest):
            MemoryNetwork.forget(options.places)


def _endpoint(run: str, what: str) -> str:
    return f"tcp/{run}-{sha256(what.encode()).hexdigest()[:12]}:7447"

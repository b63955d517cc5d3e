"""The real routers of a deployment under test, and the test's own nodes at each."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio_util import AsyncValue

from taktora_trio.connectors.zenoh.connector import ZenohConnector
from taktora_trio.connectors.zenoh.guest import Guest
from taktora_trio.connectors.zenoh.nodes import open_node
from taktora_trio.connectors.zenoh.options import ZenohOptions
from taktora_trio.connectors.zenoh.session import Quality, Sample, Session
from taktora_trio.errors import ConfigError, ConnectorError
from taktora_trio.testing.backend import Broker
from taktora_trio.testing.live import LivePeer, OnPublishedBy, for_connector
from taktora_trio.testing.network import Network, open_network
from taktora_trio.testing.zenoh.router import open_router

__all__ = ["open_zenoh_peers"]

_REFUSED = bytes.fromhex("02000300")
"""What a router answers to whom it won't have: the transport message Close, of two bytes, behind their number."""
_CHUNK = 65_536
_SETTLED = "taktora/test/settled"
_PATIENCE = 5.0  # seconds for what comes at once


class _Line:
    """What a router says to one connector, or what it would say if it refused it."""

    def __init__(self) -> None:
        self.refuses = False

    async def hand_on(self, server: trio.abc.ReceiveStream, send: Callable[[bytes], Awaitable[None]]) -> None:
        """See `HandOn`. A router says nothing before it is asked, neither then."""
        while data := await server.receive_some(_CHUNK):
            if self.refuses:
                await send(_REFUSED)
                return
            await send(bytes(data))


class ZenohPeer(LivePeer):
    """A real router, behind a network of the connector's own, and a guest there that the test speaks by."""

    def __init__(
        self, connector: ZenohConnector, at: ZenohOptions, network: Network, line: _Line, on_published: OnPublishedBy
    ) -> None:
        """`at` are the options of the test's own nodes, and `line` is what the network hands on by."""
        self._name, self._at, self._on_published = connector.name, at, on_published
        self._network, self._line = network, line
        self._guest = Guest(connector.channels)
        self._subscribed: dict[str, AsyncValue[bool]] = {}
        self._session: Session | None = None
        self._settling: Session | None = None
        self._settled = trio.Event()
        self.settings = {"connect": f"tcp/127.0.0.1:{network.port}"}
        if connector.options.mode != "client":  # it is not to find whoever else is on the machine, nor the other way
            options = f"connector.{connector.name}"
            self.settings |= {f"{options}.scouting": "false", f"{options}.listen": "tcp/127.0.0.1:0"}

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Be at the router in the block."""
        # A node never gets by the network what it has put itself: so the second one is for that.
        async with _session(self._at) as session, _session(self._at) as self._settling, trio.open_nursery() as nursery:
            self._session = session
            await self._guest.start(session, partial(self._on_published, self._name), takes_all=True)
            await session.subscribe(_SETTLED, self._hear_settled)
            nursery.start_soon(self._guest.serve)
            nursery.start_soon(self._watch, session)
            nursery.start_soon(self._watch, self._settling)
            await self.settle()
            yield
            nursery.cancel_scope.cancel()

    async def _watch(self, session: Session) -> None:
        lost = await session.wait_until_lost()
        raise ConnectorError(f"the test's own connection to the router at {self._at.address} has ended: {lost}")

    async def publish(self, topic: str, payload: bytes, **options: Any) -> None:
        """See `LivePeer`, and `Guest.publish` for the options."""
        await self._until_subscribed(topic)
        self._guest.publish(topic, payload, **options)
        await self._guest.flush()

    async def _until_subscribed(self, topic: str) -> None:
        """Wait until the test's node knows of a subscriber, for else it puts nothing.

        A gateway is `Up` before all others know what it wants. One that can't connect wants nothing.
        """
        session = self._session
        assert session is not None
        if not self._guest.puts(topic) or self._network.is_down or self._line.refuses:
            return
        if topic not in self._subscribed:
            known = self._subscribed[topic] = AsyncValue(False)
            await session.watch_subscribers(topic, partial(setattr, known, "value"))
        with trio.move_on_after(_PATIENCE):
            await self._subscribed[topic].wait_value(True)

    async def settle(self) -> None:
        """Put something by another node, again and again: it comes to the guest behind what the router had before."""
        assert self._settling is not None
        self._settled = trio.Event()
        with trio.fail_after(_PATIENCE):
            while not self._settled.is_set():
                self._settling.put(_SETTLED, b"", Quality())
                with trio.move_on_after(0.05):  # the router may not know of the guest yet
                    await self._settled.wait()

    def _hear_settled(self, sample: Sample) -> None:
        self._settled.set()

    def cut(self) -> None:
        self._network.cut()

    def set(self, *, unreachable: bool | None = None, refusing: bool | None = None, delay: float | None = None) -> None:
        if unreachable is not None:
            self._network.is_down = unreachable
        if refusing is not None:
            self._line.refuses = refusing
        if delay is not None:
            self._guest.set_delay(delay)


@contextlib.asynccontextmanager
async def open_zenoh_peers(
    connectors: Sequence[ZenohConnector],
    known_as: Mapping[str, str],
    folder: Path,
    broker: Broker,
    on_published: OnPublishedBy,
) -> AsyncIterator[Mapping[str, LivePeer]]:
    """See `PeerOpener`. Without an endpoint each router of the deployment is one of the test's own.

    Connectors that are declared with the same endpoints have the same one.
    """
    async with contextlib.AsyncExitStack() as stack:
        endpoints: dict[object, str] = {}
        peers: dict[str, LivePeer] = {}
        for connector in connectors:
            if connector.options.session == "memory":
                raise ConfigError(
                    f"connector {connector.name!r} has its network in memory by ZenohOptions(session='memory'), and so"
                    " no real one: leave session out, for open_app says where the router is"
                )
            given = for_connector(broker, connector.name)
            key: object = given or (connector.options.places, connector.options.listen)
            if key not in endpoints:
                endpoints[key] = given or (await stack.enter_async_context(open_router(folder))).endpoint
            host, port = _address(endpoints[key])
            line = _Line()
            connect = partial(trio.open_tcp_stream, host, port)
            network = await stack.enter_async_context(open_network(connect, line.hand_on))
            peer = ZenohPeer(connector, ZenohOptions(connect=endpoints[key]), network, line, on_published)
            await stack.enter_async_context(peer.connected())
            peers[connector.name] = peer
        yield peers


def _address(endpoint: str) -> tuple[str, int]:
    protocol, _, address = endpoint.partition("/")
    host, _, port = address.rpartition(":")
    if protocol != "tcp" or not host or not port.isdecimal():
        raise ConfigError(f"a test reaches its router by TCP: write tcp/HOST:PORT, not {endpoint!r}")
    return host, int(port)


@contextlib.asynccontextmanager
async def _session(options: ZenohOptions) -> AsyncIterator[Session]:
    async with open_node(options) as node:
        await node.wait_until_linked()
        async with node.open_session() as session:
            yield session

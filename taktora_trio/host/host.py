"""ConnectorHost: what an app gets. It opens writers and readers, and knows each connector's health."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import trio
from trio_util import move_on_when

from taktora_trio.channels import ChannelDescriptor, Inbound, Outbound
from taktora_trio.connectors.base import Connector
from taktora_trio.connectors.plan import channel_name
from taktora_trio.errors import ConfigError
from taktora_trio.health import FULL_FOR, ConnectorHealth, HealthBoard, HealthEvents
from taktora_trio.opening import NoPublicConstructor
from taktora_trio.processes.patience import sleep_running

if TYPE_CHECKING:  # supervisor and gateway import this module with the app's, and are to be small
    from taktora_trio.channels.exchange import Exchange
    from taktora_trio.executor import Observer
    from taktora_trio.host.asking.requester import Requester
    from taktora_trio.host.asking.responder import Responder
    from taktora_trio.host.asking.work import Handler
    from taktora_trio.host.figures import HostStatistics
    from taktora_trio.host.gateways import Gateways
    from taktora_trio.host.reader import ChannelReader, OnError
    from taktora_trio.host.writer import ChannelWriter
    from taktora_trio.transport.publisher import EnvelopePublisher
    from taktora_trio.transport.trunk import Trunk
    from taktora_trio.vitals.record import HealthRecord

__all__ = ["ConnectorHost"]

A = TypeVar("A")
Q = TypeVar("Q")
T = TypeVar("T")
log = logging.getLogger(__name__)

_REJECTED_FOR = 5.0  # seconds for which a message that can't be read is shown


class ConnectorHost(metaclass=NoPublicConstructor, opened_by="open_connector_host(node, connectors)"):
    """The app's view of its connectors, the same in both deployment shapes. The app function is called with it."""

    def __init__(
        self,
        connectors: Sequence[Connector],
        trunks: Mapping[str, Trunk],
        board: HealthBoard,
        gateways: Gateways,
        revive: Callable[[], object] | None,
        observers: Sequence[Observer],
        settings: Any,
        record: HealthRecord,
    ) -> None:
        from taktora_trio.host.figures import HostFigures  # `host.open` has imported it

        self.observers = observers
        """The deployment's, for the app's executors: `Executor(observers=host.observers)`."""
        self._settings = settings
        self._trunks = trunks
        self._board = board
        self._gateways = gateways
        self._revive = revive
        self._owners = {id(channel): connector for connector in connectors for channel in connector.channels}
        self._declared = [channel for connector in connectors for channel in connector.channels]
        self._in_use: set[int] = set()
        self._ends: dict[int, ChannelReader[Any] | ChannelWriter[Any]] = {}  # that are open
        self._vitals = HostFigures(connectors, trunks, board, record, self._ends)
        # They outlive the writers that the app opens and closes, so that all are flushed at once, at the end.
        self._publishers: dict[int, EnvelopePublisher] = {}

    def __repr__(self) -> str:
        return f"ConnectorHost({self._board!r})"

    @property
    def settings(self) -> Any:
        """The app's own settings, an object of the class that the deployment declares: `Deployment(..., settings=C)`.

        Write `settings: C = host.settings`, and type checkers know them. Raises `ConfigError` if it declares none.
        """
        if self._settings is None:
            raise ConfigError("the app has no settings: declare a class for them, as Deployment(..., settings=Class)")
        return self._settings

    @contextlib.asynccontextmanager
    async def open_writer(self, channel: Outbound[T]) -> AsyncIterator[ChannelWriter[T]]:
        """Open the app's end of an outbound channel, for as long as the block lasts.

        Raises `ConfigError` for a channel that the deployment does not declare, and `trio.BusyResourceError` if it is
        open already: a channel has one writer, which any number of tasks may share.
        """
        from taktora_trio.host.writer import writer_on  # `host.open` has imported it

        connector = self._connector_of(channel, Outbound, "open_reader")
        await trio.lowlevel.checkpoint()  # an app with thousands of channels is to give signs of life meanwhile
        full = partial(self._board.degrade, connector.name, f"channel {channel.name} is full", FULL_FOR)
        with self._reserve(channel):
            if id(channel) not in self._publishers:
                name = channel_name(connector, channel)
                self._publishers[id(channel)] = self._trunks[connector.name].publisher(name)
            # Without a checkpoint at the end: a cancelled app with thousands of channels would raise a `Cancelled` for
            # each, and Python looks at all that came before it, each time.
            with contextlib.closing(writer_on(self._publishers[id(channel)], connector, channel, full)) as writer:
                self._ends[id(channel)] = writer
                yield writer

    @contextlib.asynccontextmanager
    async def open_reader(self, channel: Inbound[T], *, on_error: OnError = "keep") -> AsyncIterator[ChannelReader[T]]:
        """Open the app's end of an inbound channel, for as long as the block lasts. Raises as `open_writer` does.

        `on_error` says what becomes of a message that can't be read, because its payload can't be decoded or its
        envelope is corrupt. In each case it is counted in `reader.statistics()`, and the next message still comes:

        - `"keep"`: it is logged with its topic (the 1st, 2nd, 4th, ...), shown as `Degraded` for 5 s, and kept in
          `reader.rejected`; `receive` goes on to the next message.
        - `"raise"`: `receive` raises `CodecError` (with its topic) or `TransportError`. The message is in hand then: an
          app that ends by it gets it again, up to the channel's `max_deliveries`.
        - `"dead-letter"`: it is logged and shown, and goes to the dead letters.
        - a function: it is called with the `Rejected` message, then `receive` goes on to the next one. What the
          function raises, `receive` raises.
        """
        from taktora_trio.host.reader import open_reader  # `host.open` has imported it

        connector = self._connector_of(channel, Inbound, "open_writer")
        await trio.lowlevel.checkpoint()  # as above
        shown = f"channel {channel.name} gets messages that can't be read"
        rejected = partial(self._board.degrade, connector.name, shown, _REJECTED_FOR)
        trunk = self._trunks[connector.name]
        with self._reserve(channel):
            async with open_reader(trunk, connector, channel, on_error=on_error, on_rejected=rejected) as reader:
                self._ends[id(channel)] = reader
                yield reader

    @contextlib.asynccontextmanager
    async def open_requester(self, exchange: Exchange[Q, A], *, limit: int = 1000) -> AsyncIterator[Requester[Q, A]]:
        """Open the end of an exchange at which the app asks, for as long as the block lasts. Raises as `open_writer`.

        `limit` is the number of requests that wait for their replies at once; further ones wait for these.
        """
        from taktora_trio.host.asking.requester import check_exchange, open_requester  # most apps don't ask

        check_exchange(exchange, limit)
        request, reply = exchange.for_requester
        async with (
            self.open_writer(request) as writer,
            self.open_reader(reply, on_error="raise") as reader,
            open_requester(exchange, writer, reader, limit) as requester,
        ):
            yield requester

    async def serve(
        self,
        exchange: Exchange[Q, A],
        handler: Handler[Q, A],
        *,
        concurrency: int = 32,
        max_kept: int = 10_000,
        max_kept_bytes: int = 16 * 1024 * 1024,
        task_status: trio.TaskStatus[Responder[Q, A]] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Answer the requests of an exchange by a handler, until cancelled. Raises as `open_reader` does.

            async def add(request: Request[Numbers]) -> int:
                return request.value.a + request.value.b

            await host.serve(ADD, add)

        At most `concurrency` handlers run at once, and as many as the exchange's window has room for; further requests
        wait. A handler that raises
        `RequestFailed` answers with its reason. Any other exception is logged, and answered with its summary. A request
        whose deadline has passed is not begun, and a handler is cancelled at that deadline.

        A request that comes again, up to a minute after its deadline, is answered again, and the handler is not called
        again: the last `max_kept` requests are known, whose replies have `max_kept_bytes` together.
        """
        from taktora_trio.host.asking.responder import check_serving, serve  # most apps don't

        check_serving(exchange, handler, concurrency=concurrency, max_kept=max_kept, max_kept_bytes=max_kept_bytes)
        requests, replies = exchange.for_responder
        async with self.open_reader(requests, on_error="raise") as reader, self.open_writer(replies) as writer:
            codec = self._owners[id(replies)].codec.for_channel(replies.max_payload)
            await serve(
                exchange,
                handler,
                reader,
                writer,
                codec,
                concurrency=concurrency,
                max_kept=max_kept,
                max_kept_bytes=max_kept_bytes,
                task_status=task_status,
            )

    def health(self, connector: str | None = None) -> ConnectorHealth:
        """Return the present health of the connector of that name, which may be left out where there is only one."""
        return self._board.state(self._name_of(connector))

    def states(self) -> dict[str, ConnectorHealth]:
        """Return the present health of every connector, by name."""
        return self._board.states()

    def statistics(self) -> HostStatistics:
        """Return the figures of every channel and connector as this half has them now, exactly.

            host.statistics().channel("temperature").in_use

        It costs about 10 us for each channel. Others see the same figures, and the gateway's, by
        `taktora-trio status`, up to a second old.
        """
        return self._vitals.statistics()

    def health_events(self) -> HealthEvents:
        """Subscribe to every change of health from now on: `async for event in host.health_events()`."""
        return self._board.events()

    async def wait_for_health(self, *kinds: type[ConnectorHealth], connector: str | None = None) -> ConnectorHealth:
        """Wait until the connector's health is of one of these kinds, and return it; at once if it is already."""
        return await self._board.wait_for(self._name_of(connector), *kinds)

    def revive_gateway(self) -> None:
        """Start the gateway again if it was given up. Else have it connect at once where it is not connected, and ask
        the other side again for what it refused.

        Raises `ConfigError` where the supervisor is not ours.
        """
        if self._revive is None:
            raise ConfigError(
                "the gateway's supervisor is not ours: start it there, for example by systemctl start; one that runs"
                " connects at once at `taktora-trio revive`"
            )
        self._revive()

    def _name_of(self, connector: str | None) -> str:
        names = list(self._board.states())
        if connector is None and len(names) == 1:
            return names[0]
        if connector not in names:
            raise ConfigError(f"there is no connector {connector!r} in this deployment: name one of {', '.join(names)}")
        return connector

    def _connector_of(self, channel: object, kind: type[ChannelDescriptor[Any]], other: str) -> Connector:
        if not isinstance(channel, ChannelDescriptor):
            raise ConfigError(f"{channel!r} is no channel: give the {kind.__name__}(...) that the connector has")
        if not isinstance(channel, kind):
            raise ConfigError(f"channel {channel.name!r} is an {type(channel).__name__}: use {other} for it")
        connector = self._owners.get(id(channel))
        if connector is None:
            if channel in self._declared:
                todo = "an equal one does: use that object, for two connectors may have channels that are equal"
            elif channel.exchange:
                todo = f"it is one of exchange {channel.exchange!r}: list its for_requester, its for_responder, or both"
            else:
                names = ", ".join(repr(declared.name) for declared in self._declared)
                todo = f"they have {names}: list it in its connector's channels, too"
            raise ConfigError(f"channel {channel.name!r} belongs to no connector of this deployment; {todo}")
        return connector

    @contextlib.contextmanager
    def _reserve(self, channel: ChannelDescriptor[Any]) -> Iterator[None]:
        if id(channel) in self._in_use:
            raise trio.BusyResourceError(f"channel {channel.name!r} is open already: share that one between tasks")
        self._in_use.add(id(channel))
        try:
            yield
        finally:
            self._in_use.discard(id(channel))
            self._ends.pop(id(channel), None)

    async def _close(self, seconds: float) -> None:
        """Let the gateway publish what the app has sent; say so if it can't in that time."""
        with trio.CancelScope(shield=True):
            async with move_on_when(sleep_running, seconds), trio.open_nursery() as nursery:
                for port in self._publishers.values():
                    if port.waiting > 0:  # there may be thousands that have sent nothing
                        nursery.start_soon(port.flush)
        for channel, port in self._publishers.items():
            # A gateway that is there says itself, at its own end, what it could not publish.
            if port.waiting > 0 and not (port.has_reader and self._gateways.has_gateway(self._owners[channel].name)):
                text = "%s: closed with %d messages not acknowledged by the other side: they are lost"
                log.warning(
                    text,
                    port.spec.name,
                    port.waiting,
                    extra={"event": "outbound-lost", "channel": channel, "count": port.waiting},
                )

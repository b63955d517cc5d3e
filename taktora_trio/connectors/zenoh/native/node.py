"""Joins the network by the library, and knows whether the node is linked to others."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator
from functools import partial

import trio
import zenoh
from trio_util import AsyncValue

from taktora_trio.connectors.connection import ConnectFailed, ConnectionLost, ConnectRefused
from taktora_trio.connectors.zenoh.configuring import configuration, own_text
from taktora_trio.connectors.zenoh.handover import Handover
from taktora_trio.connectors.zenoh.native.link import LinkSocket, find_link_socket
from taktora_trio.connectors.zenoh.native.sender import Sender
from taktora_trio.connectors.zenoh.native.session import NativeSession, direct
from taktora_trio.connectors.zenoh.native.values import reason
from taktora_trio.connectors.zenoh.options import LEASE, ZenohOptions
from taktora_trio.connectors.zenoh.preflight import is_heard_out, why_not_joined
from taktora_trio.connectors.zenoh.session import Node, Session
from taktora_trio.errors import ConfigError

__all__ = ["open_node"]

_SLOW = 0.5  # of the time for connecting: whoever refuses a node takes less
_TO_BE_TAKEN = 0.3  # seconds for the other side to take what was sent, before the link is broken off
_UNSENT = 64 * 1024  # bytes: less than any socket's buffer holds
_TO_CLOSE = 2.0  # seconds for the library, which takes 40 ms; where it can't be hurried, it goes on in its thread
_ENDINGS = {
    "": "no other node is linked to this one any more",
    "closed": "the other side closed the connection",
    "reset": "the other side reset the connection",
    "silent": "the other side gave no sign of life, or took nothing any more",
    "left": "what the other side sent means nothing, or the library gave it up",
}


class NativeNode(Node):
    """A node by the library."""

    def __init__(self, library: zenoh.Session, options: ZenohOptions) -> None:
        self._library, self._options = library, options
        self._handover = Handover(options.inbound_backlog)
        self._links = AsyncValue(0)
        self._socket: LinkSocket | None = None  # of a client's only link,
        self._ending = ""  # and how that ended

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Count the links while the block lasts."""

        def changed(event: zenoh.TransportEvent) -> None:
            if event.kind == zenoh.SampleKind.PUT:
                self._handover.tell(partial(self._count, 1))
                return
            if self._socket is not None:  # now, for soon the other side answers to our end
                self._ending = self._socket.ending(self._options.lease or LEASE)
            self._handover.tell(partial(self._count, -1))

        self._library.info.declare_transport_events_listener(direct(changed), history=True)
        try:
            if self._is_client:
                self._socket = next(iter(await trio.to_thread.run_sync(self._sockets)), None)
                if self._socket is not None:
                    self._socket.break_off_after(self._options.lease or LEASE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._handover.raise_failure)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._handover.close()
            if self._socket is not None:
                self._socket.close()

    @property
    def _is_client(self) -> bool:
        return self._options.mode == "client"

    def _count(self, change: int) -> None:
        self._links.value += change

    def _sockets(self) -> list[LinkSocket]:
        found = (find_link_socket(link.src, link.dst) for link in self._library.info.links())
        return [socket for socket in found if socket is not None]

    async def wait_until_linked(self) -> None:
        await self._links.wait_value(lambda links: links > 0)

    @contextlib.asynccontextmanager
    async def open_session(self) -> AsyncIterator[Session]:
        lost = AsyncValue[ConnectionLost | None](None)
        handover = Handover(self._options.inbound_backlog)

        async def notice() -> None:
            await self._links.wait_value(lambda links: links <= 0)
            lose(self._loss())

        def lose(loss: ConnectionLost) -> None:
            sender.close()
            lost.value = lost.value or loss

        def failed(failure: Exception) -> None:
            if not isinstance(failure, zenoh.ZError):
                raise failure
            lose(ConnectionLost(reason(failure)))

        sender = Sender(handover.tell, failed, self._is_clear)
        patience = self._options.connect_timeout
        async with trio.open_nursery() as nursery:
            session = NativeSession(self._library, handover, sender, lost, patience, nursery.start_soon)
            nursery.start_soon(notice)
            nursery.start_soon(handover.raise_failure)
            nursery.start_soon(sender.serve)
            try:
                yield session
            finally:
                waiting = handover.close()
                sender.close()
                session.close()
                with trio.CancelScope(shield=True):
                    if sender.is_calling:
                        await self._unblock()
                    with trio.move_on_after(_TO_CLOSE):
                        await sender.ended.wait()
                    # Where the other side takes nothing the library gives the link up after 5 s.
                    await trio.to_thread.run_sync(session.end, waiting, sender.ended.is_set())
                nursery.cancel_scope.cancel()

    def _is_clear(self) -> bool:
        """Return whether the other side takes what is sent, as far as the kernel knows."""
        return self._socket is not None and self._socket.unsent <= _UNSENT

    def _loss(self) -> ConnectionLost:
        return ConnectionLost(_ENDINGS[self._ending], silent=self._ending == "silent")

    async def _unblock(self) -> None:
        """Break off each link whose other side takes nothing: what is called then ends."""
        sockets = await trio.to_thread.run_sync(self._sockets)
        try:
            with trio.move_on_after(_TO_BE_TAKEN):
                while any(socket.unsent for socket in sockets):  # noqa: ASYNC110 - the kernel tells nobody
                    await trio.sleep(0.005)
            for socket in (*sockets, *([] if self._socket is None else [self._socket])):
                if socket.unsent:
                    socket.break_off()
        finally:
            for socket in sockets:
                socket.close()

    async def leave(self) -> None:
        """Say goodbye, in bounded time, whatever is cancelled meanwhile."""
        with trio.CancelScope(shield=True):
            await self._unblock()
        await _close_in_time(self._library)


async def _close_in_time(library: zenoh.Session) -> None:
    """Close the library's session, whatever is cancelled: what takes longer goes on in its thread."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _TO_CLOSE):
        await trio.to_thread.run_sync(_close, library, abandon_on_cancel=True)


def _close(library: zenoh.Session) -> None:
    with contextlib.suppress(zenoh.ZError):  # it took too long
        library.close()


class _Opening:
    """Opens the library's session in a thread that nobody may wait for any more."""

    def __init__(self, config: zenoh.Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._library: zenoh.Session | None = None
        self._is_left = False

    def run(self) -> zenoh.Session:
        library = zenoh.open(self._config)
        with self._lock:
            self._library = library
            is_left = self._is_left
        if is_left:
            _close(library)
        return library

    def leave(self) -> zenoh.Session | None:
        """Have it closed once it is open. Return it if it is."""
        with self._lock:
            self._is_left = True
            return self._library


async def _open(config: zenoh.Config) -> zenoh.Session:
    """Open the library's session. Cancelled, it returns at once: the thread ends within the time for connecting."""
    opening = _Opening(config)
    try:
        return await trio.to_thread.run_sync(opening.run, abandon_on_cancel=True)
    except trio.Cancelled:
        library = opening.leave()
        if library is not None:
            await _close_in_time(library)
        raise


def _config(options: ZenohOptions) -> zenoh.Config:
    try:
        config = zenoh.Config.from_json5(own_text(options))
        for place, value in configuration(options).items():
            config.insert_json5(place, json.dumps(value))
    except zenoh.ZError as exc:
        raise ConfigError(f"ZenohOptions: the configuration is refused: {reason(exc)}") from None
    return config


async def _join(options: ZenohOptions) -> zenoh.Session:
    """Open the library's session. Raises `ConnectFailed` and `ConnectRefused`.

    The library tells neither. But whoever refuses a node does so at once, again and again, and takes connections: the
    second time it is believed.
    """
    is_client = options.mode == "client"
    try:
        config = await trio.to_thread.run_sync(_config, options) if options.zenoh_config else _config(options)
    except ConfigError as exc:  # a file that is half written now may be whole the next time
        raise ConnectFailed(str(exc)) from None
    for is_last in (False, True):
        began = trio.current_time()
        try:
            return await _open(config)
        except zenoh.ZError as exc:
            if not is_client:
                raise ConnectFailed(reason(exc)) from None
        is_overdue = trio.current_time() - began > _SLOW * options.connect_timeout
        if is_overdue or not await is_heard_out(options):
            break
        if is_last:
            what = "its login, or its certificate; `taktora-trio doctor` finds out"
            raise ConnectRefused(f"{options.address} refuses this node: {what}")
    raise ConnectFailed(await why_not_joined(options), overdue=is_overdue)


@contextlib.asynccontextmanager
async def open_node(options: ZenohOptions) -> AsyncIterator[NativeNode]:
    """Join the network. In client mode raises `ConnectFailed` if there is no router within `connect_timeout`."""
    library = await _join(options)
    node = NativeNode(library, options)
    try:
        async with node.served():
            yield node
    finally:
        await node.leave()

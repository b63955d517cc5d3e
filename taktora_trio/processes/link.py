"""The link between a supervisor and each of its child processes: a socket, and the messages on it.

The child inherits its end. Its end of file means that the supervisor is gone, however it ended. (PR_SET_PDEATHSIG would
be bound to the thread that spawned the child, which trio ends when it has been idle.)

The supervisor tells the plugin when a gateway starts or fails. The plugin may ask for the gateway to be revived; a
gateway that was not given up then gets the request to connect at once. Each is told from which level up to log, and
sends that back. A gateway tells the supervisor how its start goes, until each of its connectors has been `Up`.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import AsyncGenerator
from typing import Literal, TypeAlias

import msgspec
import trio

from taktora_trio.health import Failure

__all__ = [
    "VARIABLE",
    "ConnectorState",
    "GatewayFailed",
    "GatewayStarted",
    "LinkEnd",
    "LogFrom",
    "Message",
    "ReviveGateway",
]

log = logging.getLogger(__name__)

VARIABLE = "TAKTORA_SUPERVISOR"
"""In a child's environment: the inherited descriptor, the supervisor's process id, and the child's incarnation."""
_LIMIT = 64 * 1024  # bytes of one message


class GatewayStarted(msgspec.Struct, frozen=True, tag=True):
    """The supervisor has started this incarnation of the gateway. Reports of earlier ones no longer count."""

    incarnation: int
    pid: int
    connectors: tuple[str, ...] = ()
    """The connectors that this gateway has; none stands for all."""


class GatewayFailed(msgspec.Struct, frozen=True, tag=True):
    """A gateway process has ended: how, and what comes next."""

    pid: int
    failure: Failure
    connectors: tuple[str, ...] = ()
    """The connectors that it had; none stands for all."""


class ReviveGateway(msgspec.Struct, frozen=True, tag=True):
    """Start the gateway again, or, where it runs, connect at once.

    The plugin sends it to the supervisor, and the supervisor to a gateway that it has not given up.
    """


class LogFrom(msgspec.Struct, frozen=True, tag=True):
    """Log from this level up, from now on. A child sends it back when it does."""

    level: Literal["debug", "info", "warning", "error", "critical"]


class ConnectorState(msgspec.Struct, frozen=True, tag=True):
    """The health of a connector whose gateway has just started: who has replaced one that worked wants to know."""

    connector: str
    is_up: bool
    description: str
    """For people: the state, and why it is so."""
    is_refused: bool = False
    """True if the other side has refused it, which lasts until somebody changes something."""


Message: TypeAlias = GatewayStarted | GatewayFailed | ReviveGateway | LogFrom | ConnectorState
_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.Encoder().encode


class LinkEnd:
    """One end of the link. Messages keep their bounds (SOCK_SEQPACKET, unix(7))."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send a message if that takes no waiting. (A peer that reads nothing is about to be ended by its watchdog.)"""
        try:
            self._socket.send(_encode(message))
        except OSError as exc:
            log.debug("a message on the link was not taken: %s", exc, extra={"event": "link-full"})

    async def messages(self) -> AsyncGenerator[Message]:
        """Yield each message of the peer, until the peer is gone or this end is closed."""
        while self._socket.fileno() >= 0:
            try:
                await trio.lowlevel.wait_readable(self._socket)
            except trio.ClosedResourceError:
                return
            try:
                data = self._socket.recv(_LIMIT)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return
            if not data:
                return
            try:
                message = _decode(data)
            except msgspec.DecodeError as exc:  # what a peer sends must not end us
                log.warning("a message on the link makes no sense: %s", exc, extra={"event": "link-nonsense"})
                continue
            yield message

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()

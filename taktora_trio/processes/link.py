"""The link between a child and its supervisor: an inherited socket.

Its end of file means that the supervisor is gone, however it ended. (PR_SET_PDEATHSIG would be bound to the thread that
spawned the child, which trio ends when it has been idle.) Over it the supervisor tells the plugin of the gateway's
comings and goings, and the plugin may ask for the gateway to be revived; a gateway that was not given up is then told.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import msgspec
import trio

from taktora_trio.errors import ConfigError
from taktora_trio.health import Failure
from taktora_trio.processes.pidfd import wait_for_exit

__all__ = [
    "ChildLink",
    "GatewayFailed",
    "GatewayStarted",
    "Message",
    "ReviveGateway",
    "SupervisorLink",
    "inherited_link",
    "open_link",
]

log = logging.getLogger(__name__)

_VARIABLE = "TAKTORA_SUPERVISOR"
_DYING = 2.0  # seconds; more than any process takes to end that has been killed
_LIMIT = 64 * 1024  # bytes of one message


class GatewayStarted(msgspec.Struct, frozen=True, tag=True):
    """The supervisor has started that incarnation of the gateway; reports of earlier ones no longer count."""

    incarnation: int
    pid: int


class GatewayFailed(msgspec.Struct, frozen=True, tag=True):
    """That gateway process has ended, and this is how, and what comes next."""

    pid: int
    failure: Failure


class ReviveGateway(msgspec.Struct, frozen=True, tag=True):
    """The gateway is to be started again, or to connect at once. The plugin asks its supervisor, that the gateway."""


Message: TypeAlias = GatewayStarted | GatewayFailed | ReviveGateway
_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.Encoder().encode


class _End:
    """One end of the socket. Messages keep their bounds (SOCK_SEQPACKET, unix(7))."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send it if that takes no waiting; a peer that reads nothing is about to be ended by its watchdog."""
        try:
            self._socket.send(_encode(message))
        except OSError as exc:
            log.debug("a message on the link was not taken: %s", exc)

    async def messages(self) -> AsyncIterator[Message]:
        """What the peer sends, until it is gone, or this end is closed."""
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
                log.warning("a message on the link makes no sense: %s", exc)
                continue
            yield message

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            trio.lowlevel.notify_closing(self._socket)
        self._socket.close()


class ChildLink(_End):
    """The supervisor's end, to one incarnation of a child."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        super().__init__(ours)
        self._theirs = theirs

    @property
    def fd(self) -> int:
        """What the child is to inherit."""
        return self._theirs.fileno()

    def environment(self, incarnation: int) -> dict[str, str]:
        """What the child needs besides the inherited descriptor."""
        return {_VARIABLE: f"{self.fd} {os.getpid()} {incarnation}"}

    def child_has_it(self) -> None:
        """Only the child holds its end now."""
        self._theirs.close()


class SupervisorLink(_End):
    """The child's end, which tells who its supervisor is, and which incarnation it is itself."""

    def __init__(self, sock: socket.socket, pid: int, incarnation: int) -> None:
        super().__init__(sock)
        self.pid = pid
        self.incarnation = incarnation

    @property
    def is_gone(self) -> bool:
        """Whether the supervisor has ended; its process id may then be another's."""
        return os.getppid() != self.pid

    async def wait_until_gone(self) -> None:
        """Wait until the supervisor has ended, however it did."""
        if not self.is_gone:
            await wait_for_exit(self.pid)


@contextlib.contextmanager
def open_link() -> Iterator[ChildLink]:
    """In the supervisor, for each incarnation: pass `fd` and `environment` to it, then call `child_has_it`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link = ChildLink(ours, theirs)
    try:
        yield link
    finally:
        link.child_has_it()
        link.close()


def inherited_link() -> SupervisorLink | None:
    """In a child: the link to its supervisor, or `None` where nobody of ours supervises it. Ask once.

    Raises `ConfigError` if the variable that tells of it is not from a supervisor of ours.
    """
    value = os.environ.pop(_VARIABLE, None)
    if value is None:
        return None
    try:
        fd, pid, incarnation = map(int, value.split())
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except (ValueError, OverflowError, OSError) as exc:
        raise ConfigError(f"{_VARIABLE}={value!r} is not from a supervisor of ours: unset it") from exc
    return SupervisorLink(sock, pid, incarnation)

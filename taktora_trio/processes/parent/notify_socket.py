"""Hearing what a supervised process says, by systemd's protocol (sd_notify(3)); the child's side is `LifeSigns`."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Mapping

import msgspec
import trio

__all__ = ["Notification", "NotifySocket", "open_notify_socket"]

_DIGITS = 20  # fewer than these fit into 64 bits
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


class Notification(msgspec.Struct, frozen=True):
    """One datagram of a supervised process: assignments, by name."""

    values: Mapping[str, str]

    @property
    def ready(self) -> bool:
        return self.values.get("READY") == "1"

    @property
    def alive(self) -> bool:
        return self.values.get("WATCHDOG") == "1"

    @property
    def stopping(self) -> bool:
        return self.values.get("STOPPING") == "1"

    @property
    def status(self) -> str:
        """For people; any text at all."""
        return self.values.get("STATUS", "")

    @property
    def errno(self) -> int:
        return self._number("ERRNO")

    @property
    def extend(self) -> float:
        """The seconds more that it asks for."""
        return self._number("EXTEND_TIMEOUT_USEC") / 1e6

    @property
    def exit_status(self) -> int | None:
        """The exit code that it was asked to end with."""
        return self._number("EXIT_STATUS") if "EXIT_STATUS" in self.values else None

    def _number(self, name: str) -> int:
        value = self.values.get(name, "")
        return int(value) if value.isdecimal() and len(value) < _DIGITS else 0


class NotifySocket:
    """The socket of one incarnation. It hears that process and nobody else."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.pid = 0
        """The process to hear, once it is known. What comes earlier waits."""

    def environment(self, watchdog: float | None) -> dict[str, str]:
        """Variables for the child's environment."""
        address: str = self._socket.getsockname()
        name = address.decode() if isinstance(address, bytes) else address
        env = {"NOTIFY_SOCKET": name.replace("\0", "@", 1)}
        if watchdog is not None:
            env["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        return env

    async def receive(self) -> Notification:
        """Return the next notification."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with contextlib.suppress(trio.WouldBlock):
                return self.receive_nowait()

    def receive_nowait(self) -> Notification:
        """Return the next notification. Raises `trio.WouldBlock` if there is none."""
        while True:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
            except BlockingIOError:
                raise trio.WouldBlock from None
            senders = [
                _CREDENTIALS.unpack(value)[0]
                for level, kind, value in ancillary
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
            ]
            if senders == [self.pid]:
                lines = data.decode(errors="replace").splitlines()
                return Notification(dict(line.split("=", 1) for line in lines if "=" in line))


@contextlib.contextmanager
def open_notify_socket() -> Iterator[NotifySocket]:
    # An abstract address: it needs no folder, and nothing is left of it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.bind(f"\0taktora-{os.getpid()}-{os.urandom(8).hex()}")
        yield NotifySocket(sock)

"""The socket of a link: what the library does not tell of it is asked of the kernel.

The library says that a link has ended, and not why. And it closes a link only when all is written that waits, for which
it takes up to 17 seconds where the other side takes nothing. So a second descriptor of the socket is kept: it tells
what the other side did, and what it has not taken, and can end the link at once. Links that are not over TCP have none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import struct
import sys
import termios
from typing import Literal

__all__ = ["LinkSocket", "find_link_socket"]

_LAST_DATA_RECEIVED = struct.Struct("52x I")  # tcpi_last_data_recv of tcp_info (linux/tcp.h), in ms
_NO_LINGER = struct.pack("ii", 0, 0)  # socket(7)
_SOON = 0.2  # seconds: what ends a link so soon behind the other side's last word is no silence
_MOST_OF_IT = 0.6  # a node that lives says something in each quarter of its lease
_ENDPOINT = re.compile(r"(?:tcp|tls|ws)/\[?(?P<host>[^\[\]?#]+)\]?:(?P<port>\d+)(?:[?#].*)?")


class LinkSocket:
    """A descriptor of its own of a link's socket. It keeps the socket open: close it."""

    def __init__(self, descriptor: socket.socket) -> None:
        self._socket = descriptor

    @property
    def unsent(self) -> int:
        """The bytes that the other side's machine has not taken (SIOCOUTQ, tcp(7))."""
        count = bytearray(4)
        with contextlib.suppress(OSError, ValueError):  # it is closed
            fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, count)
        return int.from_bytes(count, sys.byteorder)

    def ending(self, lease: float) -> Literal["closed", "reset", "silent", "left"]:
        """Return how a link ended that the library has closed: by the other side, by its silence, or by the library.

        `lease` is the time in seconds after which a silent node usually is taken for lost. When the other side's end
        is answered by ours or ours by its own, nobody tells: but what was silent for so long has not closed it.
        """
        silence = self._silence
        try:
            if not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                return "silent" if silence > _MOST_OF_IT * lease else "closed"
        except BlockingIOError:
            return "silent" if silence > _SOON else "left"
        except OSError:
            return "reset"
        return "left"

    @property
    def _silence(self) -> float:
        """The seconds since the other side has sent something."""
        with contextlib.suppress(OSError):
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
            return float(_LAST_DATA_RECEIVED.unpack(info)[0]) / 1000
        return 0.0

    def break_off_after(self, seconds: float) -> None:
        """Have the kernel end the link when the other side's machine has taken nothing for so long (tcp(7)).

        The library notices a silent node, but first writes what waits. Over TLS it does so for ever.
        """
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * seconds))

    def break_off(self) -> None:
        """End the link at once, with all that waits."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the descriptor, at once: the kernel goes on with what waits.

        The library has its sockets linger for 10 seconds. So the last one to close a socket whose other side was cut
        off would wait so long, and this is called in trio's thread.
        """
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._socket.close()


def find_link_socket(source: str, destination: str) -> LinkSocket | None:
    """Return the socket of this process between these endpoints, as `tcp/127.0.0.1:7447`; `None` if it has none."""
    wanted = _address(source), _address(destination)
    if None in wanted:
        return None
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115 - a Path stays interned
                continue
            descriptor = socket.socket(fileno=os.dup(int(name)))
            with contextlib.suppress(OSError):  # of other sockets, which are not connected
                if (_plain(descriptor.getsockname()), _plain(descriptor.getpeername())) == wanted:
                    return LinkSocket(descriptor)
            descriptor.close()
    return None


def _address(endpoint: str) -> tuple[str, int] | None:
    match = _ENDPOINT.fullmatch(endpoint)
    return None if match is None else (match["host"], int(match["port"]))


def _plain(name: object) -> tuple[str, int] | None:
    match name:
        case (str(host), int(port), *_):
            return host, port
    return None

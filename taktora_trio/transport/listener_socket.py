"""The socket of an iceoryx2 listener, which trio waits for like any other."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from functools import partial

import iceoryx2 as iox2
import trio

from taktora_trio.errors import TransportError

__all__ = ["SocketListener", "socket_of"]

_LOOKING = threading.Lock()
_NEAR = 32
_found = 0


class SocketListener:
    """A listener as `Listening` has it. Closes what it is given if its socket is not found."""

    def __init__(self, listener: iox2.Listener) -> None:
        try:
            fd = socket_of(listener)
        except BaseException:
            listener.delete()
            raise
        # The functions themselves, for they are called at each wake-up.
        self.try_wait = listener.try_wait
        self.sleep = partial(trio.lowlevel.wait_readable, fd)
        self.rouse = partial(trio.lowlevel.notify_closing, fd)
        self.delete = listener.delete


def socket_of(listener: iox2.Listener) -> int:
    """Return the descriptor of the listener's unix datagram socket. It is found by the name that it is bound to.

    iceoryx2 does not give it out. Comparing the open descriptors before and after would mistake another thread's.
    """
    global _found  # only a hint
    ending = f"_{listener.id.value}.event"
    # One thread at a time: for a moment there are duplicates of every socket, which another would take for its own.
    with _LOOKING:
        for entry in _descriptors():
            try:
                if not os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):  # noqa: PTH115 - Path takes 3 x as long
                    continue
                # A duplicate, for the object closes what it is given; the original belongs to the listener.
                with socket.socket(fileno=os.dup(entry)) as candidate:
                    name = candidate.getsockname() if candidate.family == socket.AF_UNIX else ""
            except OSError:
                continue  # closed meanwhile
            if isinstance(name, str) and name.endswith(ending):
                _found = entry
                return entry
    raise TransportError(
        "the socket of an iceoryx2 listener was not found in /proc/self/fd: is this Linux, with /proc?"
    )


def _descriptors() -> Iterator[int]:
    """Yield all open descriptors; first those behind the one that was found last, where as a rule the next one is."""
    yield from range(_found, _found + _NEAR)
    yield from sorted(map(int, os.listdir("/proc/self/fd")), reverse=True)

"""Waiting for the peer: an iceoryx2 listener's socket, awaited by trio like any other."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import iceoryx2 as iox2
import trio

from taktora_trio.errors import TransportError
from taktora_trio.transport.attaching import open_listener

__all__ = ["Wakeup", "open_wakeup"]

_LOOKING = threading.Lock()
_NEAR = 32
_found = 0


class Wakeup:
    """The receiving end of an event service.

    Notifications are aggregated and may come early. So call `clear()`, look for what you wait for, and `wait()` if it
    is not there; every time in this order.
    """

    def __init__(self, listener: iox2.Listener, fd: int) -> None:
        self._listener = listener
        self._fd = fd

    def clear(self) -> None:
        """Forget the notifications that have come so far."""
        self._listener.try_wait()

    async def wait(self) -> None:
        """Wait for a notification that was not cleared. Raises `trio.ClosedResourceError` if closed meanwhile."""
        await trio.lowlevel.wait_readable(self._fd)

    def interrupt(self) -> None:
        """Have those that are in `wait()` now raise `trio.ClosedResourceError`."""
        trio.lowlevel.notify_closing(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            self.interrupt()
            self._fd = -1
            self._listener.delete()


async def open_wakeup(node: iox2.Node, name: str) -> Wakeup:
    """Listen to the event service `name`."""
    listener = await open_listener(node, name)
    try:
        # One thread at a time: for a moment there are duplicates of every socket, which another would take for its own.
        with _LOOKING:
            return Wakeup(listener, _socket_of(listener))
    except BaseException:
        listener.delete()
        raise


def _descriptors() -> Iterator[int]:
    """Yield all open descriptors; first those behind the one that was found last, where as a rule the next one is.

    A deployment of 200 channels has thousands, and to go through all of them for each listener took most of its start.
    """
    yield from range(_found, _found + _NEAR)
    yield from sorted(map(int, os.listdir("/proc/self/fd")), reverse=True)


def _socket_of(listener: iox2.Listener) -> int:
    """Return the descriptor of the listener's unix datagram socket. It is found by the name that it is bound to.

    iceoryx2 does not give it out. Comparing the open descriptors before and after would mistake another thread's.
    """
    global _found  # only a hint
    ending = f"_{listener.id.value}.event"
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

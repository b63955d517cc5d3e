"""Waiting for the peer: an iceoryx2 listener's socket, awaited by trio like any other."""

from __future__ import annotations

import iceoryx2 as iox2
import trio

from taktora_trio.transport.attaching import open_listener
from taktora_trio.transport.listener_socket import socket_of

__all__ = ["Wakeup", "open_wakeup"]


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
        return Wakeup(listener, socket_of(listener))
    except BaseException:
        listener.delete()
        raise

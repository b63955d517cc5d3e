"""A connection's socket beside its stream: answers that gather there, and writes without a turn of the loop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import trio

__all__ = ["Direct"]

_MOST = 1024  # bytes: to gather more saves nothing
_BEHIND = 65_536  # bytes that are read behind a large message
_PARTS = 64  # in one call; Linux allows 1,024 (IOV_MAX)


class Direct:
    """The socket below a stream. trio's streams let other tasks run at each read and write, which costs as much as a
    dozen messages: these don't, for where somebody has just waited.

    All raise `trio.BrokenResourceError`, as streams do.
    """

    def __init__(self, socket: trio.SocketStream, *, has_layers: bool) -> None:
        """With `has_layers`, such as TLS, it only waits."""
        self._socket = socket
        self._has_layers = has_layers
        self._behind: memoryview | None = None

    async def gather(self, enough: int, longest: float) -> None:
        """Wait until so many bytes have come or the other side has ended, but no longer than so many seconds.

        The kernel counts them (SO_RCVLOWAT, socket(7)), so nobody is woken in between.
        """
        with _breaking():
            self._wake_at(min(enough, _MOST))
            try:
                with trio.move_on_after(longest):
                    await trio.lowlevel.wait_readable(self._socket.socket)
            finally:
                self._wake_at(1)

    def read_now(self, most: int) -> bytes | None:
        """Return what has come, empty at the end; `None` if nothing has, or if there are layers."""
        if self._has_layers:
            return None
        with _breaking():
            try:
                return os.read(self._socket.socket.fileno(), most)
            except BlockingIOError:
                return None

    async def read_into(self, room: memoryview) -> tuple[int, bytes] | None:
        """Wait for something to come, and read it to there; return how much, and what came behind it.

        Nothing has come at the end. `None` if there are layers, with nothing done.
        """
        if self._has_layers:
            return None
        if self._behind is None:
            self._behind = memoryview(bytearray(_BEHIND))
        with _breaking():
            count = (await self._socket.socket.recvmsg_into([room, self._behind]))[0]
        behind = count - len(room)
        return (count, b"") if behind <= 0 else (len(room), bytes(self._behind[:behind]))

    def write_now(self, data: bytes | memoryview) -> bytes | memoryview:
        """Write what the kernel takes at once, and return the rest; all of it if there are layers."""
        if self._has_layers:
            return data
        with _breaking():
            try:
                written = os.write(self._socket.socket.fileno(), data)
            except BlockingIOError:
                return data
        return memoryview(data)[written:]

    async def write_parts(self, parts: list[bytes]) -> bool:
        """Write these as they are, many with one call; return false, with nothing done, if there are layers."""
        if self._has_layers:
            return False
        sock = self._socket.socket
        with _breaking():
            for start in range(0, len(parts), _PARTS):
                views = [memoryview(part) for part in parts[start : start + _PARTS]]
                try:
                    while views:
                        written = await sock.sendmsg(views)
                        while views and written >= len(views[0]):
                            written -= len(views[0])
                            views.pop(0).release()
                        if written:
                            views[0] = views[0][written:]
                finally:
                    for view in views:
                        view.release()
        return True

    def _wake_at(self, length: int) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, length)


@contextlib.contextmanager
def _breaking() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise trio.BrokenResourceError(str(exc)) from exc

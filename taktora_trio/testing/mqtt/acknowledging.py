"""Holds up what a broker acknowledges, and nothing else that it says."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import trio

__all__ = ["Acknowledging"]

_CHUNK = 65_536
_HELD = (0x40, 0x50)  # PUBACK, PUBREC (MQTT 3.1.1, section 2.2.1); PUBCOMP follows a PUBREC that was let go


class Acknowledging:
    """The pace at which a broker acknowledges messages: see `HandOn`."""

    def __init__(self) -> None:
        self._delay = 0.0
        self._changed = trio.Event()

    def set_delay(self, seconds: float) -> None:
        """Change the time from each message to its acknowledgement, also of those that are held up now."""
        self._delay = seconds
        self._wake()

    async def hand_on(self, server: trio.abc.ReceiveStream, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand on what a broker says on one connection, acknowledgements after the delay. The order of each stays."""
        held = deque[tuple[float, bytes]]()

        async def let_go() -> None:
            while True:
                changed = self._changed
                while held and held[0][0] + self._delay <= trio.current_time():
                    await send(held.popleft()[1])
                with trio.move_on_at(held[0][0] + self._delay if held else float("inf")):
                    await changed.wait()

        async def take() -> None:
            packets = _Packets()
            while data := await server.receive_some(_CHUNK):
                through = b""
                for packet in packets.split(bytes(data)):
                    if packet[0] & 0xF0 in _HELD and (self._delay or held):
                        held.append((trio.current_time(), packet))
                        self._wake()
                    else:
                        through += packet
                if through:
                    await send(through)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(let_go)
                nursery.start_soon(take)
        except* trio.BrokenResourceError:  # either end is gone
            pass

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class _Packets:
    """Splits a stream into packets (section 2.2)."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yield the packets that are complete by now, each as it came."""
        self._rest += data
        while (length := _length(self._rest)) is not None and len(self._rest) >= length:
            packet, self._rest = self._rest[:length], self._rest[length:]
            yield packet


def _length(data: bytes) -> int | None:
    """Return the length of the packet that begins here; `None` if that is not known yet (section 2.2.3)."""
    length = 0
    for index, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return 2 + index + length
    return None if len(data) < 5 else len(data)  # no packet of MQTT

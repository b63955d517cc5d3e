"""Reading a stream line by line."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

__all__ = ["Lines", "read_lines"]

_LONGEST = 64 * 1024  # bytes after which a line without an end is one all the same


class Lines:
    """Cuts what is read into lines, without their ends.

    A line of more than 64 KiB comes in pieces, so that a writer without line ends fills no memory.
    """

    def __init__(self) -> None:
        self.rest = b""
        """The line that has no end yet."""

    def feed(self, chunk: bytes | bytearray) -> list[bytes]:
        """Return the lines that end with this."""
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        if len(self.rest) >= _LONGEST:
            lines.append(self.rest)
            self.rest = b""
        return lines


async def read_lines(stream: trio.abc.ReceiveStream, *, unfinished: bool = True) -> AsyncGenerator[bytes]:
    """Yield the lines of a stream, without their ends, until the stream ends or breaks.

    The last line may have no end; without `unfinished` such a line is left out.
    """
    lines = Lines()
    try:
        async for chunk in stream:
            for line in lines.feed(chunk):
                yield line
    except trio.BrokenResourceError:  # its writer was killed
        pass
    if lines.rest and unfinished:
        yield lines.rest

"""Reading a stream line by line."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

__all__ = ["read_lines"]

_LONGEST = 64 * 1024  # bytes after which a line without an end is one all the same


async def read_lines(stream: trio.abc.ReceiveStream, *, unfinished: bool = True) -> AsyncGenerator[bytes]:
    """Yield the lines of a stream, without their ends, until the stream ends or breaks.

    The last line may have no end; without `unfinished` such a line is left out. A line of more than 64 KiB comes in
    pieces, so that a writer without line ends fills no memory.
    """
    rest = b""
    try:
        async for chunk in stream:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
            if len(rest) >= _LONGEST:
                yield rest
                rest = b""
    except trio.BrokenResourceError:  # its writer was killed
        pass
    if rest and unfinished:
        yield rest

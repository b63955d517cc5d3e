"""The output of children, which goes through their supervisor to its own standard streams, line by line.

A child must never wait for whoever reads its output, and neither must the supervisor. So the children's pipes are
always read, and the lines that a slow reader (a stopped terminal, a stuck pager, a full disk) does not take are kept up
to a limit. Beyond it, the oldest lines are dropped, and a line says how many.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal, Self, TypeAlias

import trio

from taktora_trio.processes.lines import Lines

__all__ = ["Pipe", "Stream", "Tag", "Writer", "open_writer"]

_KEPT = 8 * 2**20  # bytes
_PAUSE = 1.0  # seconds before what was refused is tried again
_CHUNK = 64 * 1024  # bytes that are read at once: what a pipe holds, unless it was made larger (pipe(7))
_CHUNKS = 16  # what a larger one holds, unless root has made it
_PIECE = 4096  # PIPE_BUF: the bytes that a pipe takes without blocking if it polls as writable (pipe(7))

Stream: TypeAlias = Literal["stdout", "stderr"]
Tag: TypeAlias = Callable[[str, Stream, bytes], bytes]


def _line(text: bytes) -> bytes:
    return text + b"\n"


class Pipe:
    """The end of a pipe that is read, to which one child writes. Each line goes to `line`, without its end."""

    def __init__(self, fd: int, line: Callable[[bytes], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._line = line
        self._lines = Lines()
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    async def serve(self) -> None:
        """Take all lines, until nobody has the other end any more."""
        while not self._has_ended:
            await trio.lowlevel.wait_readable(self._fd)
            self._take()

    def take_all(self) -> None:
        """Take what is there, without waiting: everything that a child has written which has ended."""
        for _ in range(_CHUNKS):  # a child of its own may write for ever
            if not self._take():
                return

    def _take(self) -> bool:
        """Take a chunk. Returns false if there is none."""
        if self._has_ended:  # `take_all` has seen that, while `serve` was about to
            return False
        try:
            chunk = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        for text in self._lines.feed(chunk):
            self._line(text)
        if not chunk:
            self._has_ended = True
            if rest := self._lines.rest:
                self._line(rest)
        return True


class Writer:
    """Writes lines to one of our own standard streams. `write` never waits. `tag` makes a line of its own messages."""

    def __init__(self, fd: int, tag: Callable[[bytes], bytes] = _line) -> None:
        self._fd = fd
        self._tag = tag
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._dropped = 0
        self._rest = b""
        self._more = trio.Event()

    def write(self, line: bytes) -> None:
        """Write a line, which has its end."""
        self._lines.append(line)
        self._size += len(line)
        while self._size > _KEPT:
            self._size -= len(self._lines.popleft())
            self._dropped += 1
        self._more.set()

    async def serve(self) -> None:
        """Write the lines as fast as they are read. Runs until cancelled.

        A write that fails (a full disk) is tried again. Once nobody reads any more, lines are dropped: the children
        live all the same.
        """
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._take():
                try:
                    await _wait_writable(self._fd)
                    self._write_piece()
                except OSError as exc:
                    if isinstance(exc, BrokenPipeError):
                        self._drop()
                    await trio.sleep(_PAUSE)  # nothing announces that there is room again, or a reader of a FIFO

    def flush(self, seconds: float) -> None:
        """Write the lines that are left, at the end of the loop. Gives up once `seconds` are over."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        deadline = time.monotonic() + seconds
        while self._take() and poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            self._write_piece()

    def _drop(self) -> None:
        self._dropped += len(self._lines) + bool(self._rest)
        self._lines.clear()
        self._size, self._rest = 0, b""

    def _write_piece(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[os.write(self._fd, self._rest[:_PIECE]) :]

    def _take(self) -> bytes:
        """Return the bytes to write next: the rest of those that were begun, or else some whole lines."""
        if self._rest:
            return self._rest
        taken: list[bytes] = []
        size = 0
        if self._dropped:
            taken.append(self._tag(b"... %d lines were dropped, since nobody took them" % self._dropped))
            self._dropped = 0
        while self._lines and size < _PIECE:
            line = self._lines.popleft()
            self._size -= len(line)
            size += len(line)
            taken.append(line)
        self._rest = b"".join(taken)
        return self._rest


async def _wait_writable(fd: int) -> None:
    try:
        await trio.lowlevel.wait_writable(fd)
    except PermissionError:  # a regular file: epoll(7) does not take it, and writing to it does not wait for anybody
        await trio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def open_writer(fd: int, tag: Callable[[bytes], bytes] = _line) -> AsyncIterator[Writer]:
    """Open a writer for a descriptor. At the end of the block it writes what is left, for a second at most."""
    with _never_blocking(fd) as own:
        writer = Writer(own, tag)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.serve)
                try:
                    yield writer
                finally:
                    nursery.cancel_scope.cancel()
        finally:  # whatever ends the block: its last lines say why
            with contextlib.suppress(OSError):
                writer.flush(1.0)


@contextlib.contextmanager
def _never_blocking(fd: int) -> Iterator[int]:
    """Open a terminal once more, so that it is set non-blocking for nobody else who has it.

    A terminal polls as writable when it takes a single byte, and a write of more would wait for its reader.
    """
    if not os.isatty(fd):
        yield fd
        return
    try:
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it is another user's
        yield fd
        return
    try:
        yield own
    finally:
        os.close(own)

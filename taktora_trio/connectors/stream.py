"""For protocols over a byte stream: connecting and logging in, splitting into lines, and the connection itself."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable

import trio
from trio_util import move_on_when

from taktora_trio.connectors.connection import ConnectFailed, Connection, ConnectionLost
from taktora_trio.errors import leaves
from taktora_trio.escaping import escaped

__all__ = ["LineSplitter", "StreamConnection", "connect_tcp", "read_line"]

_CHUNK = 65_536  # bytes of a read: some hundred small messages, then the other tasks have their turn
_MOST_ANSWERS = 2**20  # bytes of answers to be written, beyond which nothing more is read that we would answer


@contextlib.asynccontextmanager
async def connect_tcp(
    host: str, port: int, log_in: Callable[[trio.SocketStream], Awaitable[object]], *, within: float
) -> AsyncIterator[trio.SocketStream]:
    """Connect and log in `within` so many seconds, yield the stream, and close it at the end of the block.

    The time covers `log_in(stream)` too, since a peer may accept a connection and never say anything. Raises
    `ConnectFailed` if the peer can't be reached, is too slow, or ends the connection, and whatever `log_in` raises.
    """
    stream = None
    stream = None
    async with contextlib.AsyncExitStack() as stack:
        try:
            with trio.fail_after(within):
                stream = await stack.enter_async_context(await trio.open_tcp_stream(host, port))
                await log_in(stream)
        except trio.TooSlowError:
            told = f"the other side did not answer within {within:g} s"
            raise ConnectFailed(told, overdue=stream is not None) from None
        except (OSError, trio.BrokenResourceError) as exc:
            reasons = dict.fromkeys(str(cause) for cause in leaves(exc.__cause__ or exc))  # one for each address
            raise ConnectFailed(f"no connection: {escaped('; '.join(reasons))}") from exc
        yield stream


async def read_line(stream: trio.abc.ReceiveStream, longest: int) -> bytes:
    """Return the peer's next line, without its end. For a log-in, before the stream has a connection.

    Raises `ConnectFailed` if the stream ends before the line does, if the line has more than `longest` bytes, and if
    anything comes behind it: nobody would read that.
    """
    line = b""
    while b"\n" not in line and len(line) <= longest:
        data = await stream.receive_some(_CHUNK)
        if not data:
            raise ConnectFailed("the other side closed the connection instead of an answer")
        line += data
    line, _, behind = line.partition(b"\n")
    if len(line) > longest or behind:
        raise ConnectFailed(f"the other side answered with more than a line: '{escaped(line)}'")
    return line


class LineSplitter:
    """Splits what a peer sends into lines, and bounds them: a peer that never ends a line must not fill our memory."""

    def __init__(self, longest: int) -> None:
        """`longest` is how many bytes a line may have, without its end."""
        self._longest = longest
        self._rest = b""

    def split(self, data: bytes) -> list[bytes]:
        """Return the lines that this data completes, without their ends. Raises `ConnectionLost` if one is too long."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if any(len(line) > self._longest for line in (*lines, self._rest)):
            raise ConnectionLost(f"the other side sent a line of more than {self._longest} bytes")
        return lines


class StreamConnection(Connection):
    """Reads from a stream, writes to it, and notices its end. A protocol defines what is sent and what comes.

    Enter `served` in `Client.connect`, after the log-in. Until that block is left it reads and writes, even if the
    block is cancelled: what is queued at a stop can still be published, and its answers are heard.
    """

    def __init__(self, stream: trio.abc.Stream, silence: float = math.inf) -> None:
        """A peer that says nothing for `silence` seconds is lost; `ping` is called that often, to have it answer."""
        self._stream = stream
        self._silence = silence
        self._unsent = bytearray()
        self._answers = 0  # bytes of what is unsent
        self._is_writing = self._is_paused = False
        self._heard = True  # something, since that was looked at last
        self._more, self._written, self._resumed, self._ended = (trio.Event() for _ in range(4))
        self._lost: ConnectionLost | None = None

    @abstractmethod
    def receive(self, data: bytes) -> None:
        """Call `on_message` and `on_done` for what is in this data. Raise `ConnectionLost` if it breaks the protocol.

        The data may end anywhere in a message. It is not called while reading is paused; a call that pauses may finish.
        """

    def ping(self) -> None:
        """Ask the peer for a sign of life: send something that it answers at once."""

    def send(self, data: bytes, *, is_answer: bool = False) -> None:
        """Send this behind everything before it, without waiting. Once the connection is lost nothing is sent.

        `is_answer` is for an answer to something that came: while many of them wait to be written, nothing more is
        read. Else a peer that makes us answer, and does not read it, would fill our memory.
        """
        if self._lost is None:
            self._unsent += data
            self._answers += len(data) * is_answer
            self._more.set()

    def pause_reading(self) -> None:
        if not self._is_paused:
            self._is_paused, self._resumed = True, trio.Event()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._heard = True  # what the peer has said meanwhile is still to be read
        self._resumed.set()

    async def wait_until_lost(self) -> ConnectionLost:
        await self._ended.wait()
        assert self._lost is not None
        return self._lost

    async def wait_for(self, answer: trio.Event) -> None:
        """Wait until `receive` sets this event. Raises the `ConnectionLost` if the connection ends before that."""
        async with move_on_when(self._ended.wait):
            await answer.wait()
            return
        assert self._lost is not None
        raise self._lost

    async def farewell(self) -> None:
        """Wait until everything is written."""
        await trio.lowlevel.checkpoint()
        while self._lost is None and (self._unsent or self._is_writing):
            await self._wait_for_writing()

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve the stream for the block."""
        scopes = []
        async with trio.open_nursery() as nursery:
            try:
                for task in (self._read, self._write, self._watch):
                    scopes.append(trio.CancelScope(shield=True))
                    nursery.start_soon(self._run, task, scopes[-1])
                yield
            finally:
                for scope in scopes:
                    scope.cancel()

    async def _run(self, task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        with scope:
            try:
                await task()
            except ConnectionLost as lost:
                self._lose(lost)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
                self._lose(ConnectionLost(f"the connection broke: {exc.__cause__ or exc}"))

    def _lose(self, lost: ConnectionLost) -> None:
        if self._lost is None:
            self._lost = lost
            self._unsent.clear()
            self._ended.set()
            self._written.set()

    async def _read(self) -> None:
        while self._lost is None:
            data = await self._stream.receive_some(_CHUNK)
            while self._is_paused:
                await self._resumed.wait()
            while self._answers > _MOST_ANSWERS and self._lost is None:
                await self._wait_for_writing()
            if not data:
                raise ConnectionLost("the other side closed the connection")
            self._heard = True
            self.receive(bytes(data))  # no copy: bytes is what it is

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            data, self._unsent, self._answers = self._unsent, bytearray(), 0
            self._is_writing = True
            await self._stream.send_all(data)
            self._is_writing = False
            self._written.set()

    async def _watch(self) -> None:
        if self._silence < math.inf:
            while self._heard or self._is_paused:
                self._heard = False
                self.ping()
                await trio.sleep(self._silence)
            raise ConnectionLost(f"the other side has said nothing for {self._silence:g} s", silent=True)

    async def _wait_for_writing(self) -> None:
        self._written = trio.Event()
        await self._written.wait()

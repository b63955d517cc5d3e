"""Promises of a connection over a stream, in virtual time on a stream in memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from taktora_trio import (
    ConnectFailed,
    ConnectionLost,
    Envelope,
    Incoming,
    LineSplitter,
    OnDone,
    StreamConnection,
    connect_tcp,
    read_line,
)


class Chat(StreamConnection):
    """Records what comes; a `?` is answered, and a `!` is not allowed."""

    def __init__(self, stream: trio.abc.Stream, silence: float = math.inf) -> None:
        super().__init__(stream, silence)
        self.came: list[bytes] = []
        self.pinged: list[float] = []
        self.answered = trio.Event()

    def publish(self, channel: str, envelope: Envelope, on_done: OnDone, *, again: bool = False) -> None: ...

    def acknowledge(self, message: Incoming) -> None: ...

    def ping(self) -> None:
        self.pinged.append(trio.current_time())

    def receive(self, data: bytes) -> None:
        self.came.append(data)
        if b"!" in data:
            raise ConnectionLost("no shouting")
        if b"a" in data:
            self.answered.set()
        if b"?" in data:
            self.send(bytes(2**18), is_answer=True)


@contextlib.asynccontextmanager
async def open_chat(silence: float = math.inf) -> AsyncIterator[tuple[Chat, trio.abc.HalfCloseableStream]]:
    ours, theirs = memory_stream_pair()
    chat = Chat(ours, silence)
    async with chat.served():
        yield chat, theirs


async def test_what_is_sent_arrives_in_order_and_is_written_before_the_farewell() -> None:
    async with open_chat() as (chat, peer):
        for number in range(100):
            chat.send(b"%d " % number)
        await chat.farewell()
        assert await peer.receive_some() == b"".join(b"%d " % number for number in range(100))


async def test_while_it_is_paused_nothing_is_received() -> None:
    async with open_chat() as (chat, peer):
        chat.pause_reading()
        chat.pause_reading()
        await peer.send_all(b"one")
        await wait_all_tasks_blocked()
        assert chat.came == []
        chat.resume_reading()
        await wait_all_tasks_blocked()
        assert chat.came == [b"one"]
        await peer.send_all(b"two")
        await wait_all_tasks_blocked()
        assert chat.came == [b"one", b"two"]


async def test_what_may_not_come_ends_it() -> None:
    async with open_chat() as (chat, peer):
        await peer.send_all(b"hey!")
        assert str(await chat.wait_until_lost()) == "no shouting"
        await peer.send_all(b"more")
        chat.send(b"nobody hears this")
        await wait_all_tasks_blocked()
        assert chat.came == [b"hey!"]
        await chat.farewell()  # at once


async def test_the_end_of_the_stream_ends_it_and_whoever_waits_for_an_answer_hears_of_it() -> None:
    async with open_chat() as (chat, peer):
        await peer.send_all(b"a")
        await chat.wait_for(chat.answered)
        await peer.send_eof()
        with pytest.raises(ConnectionLost, match="closed the connection"):
            await chat.wait_for(trio.Event())
        assert not (await chat.wait_until_lost()).silent


async def test_a_silent_peer_is_lost_when_it_has_not_answered_for_so_long(autojump_clock: MockClock) -> None:
    async with open_chat(silence=10) as (chat, peer):
        await trio.sleep(5)
        await peer.send_all(b"here")
        lost = await chat.wait_until_lost()
        assert (trio.current_time(), lost.silent) == (20, True)
        assert chat.pinged == [0, 10]


async def test_while_it_is_paused_nobody_is_taken_for_silent(autojump_clock: MockClock) -> None:
    async with open_chat(silence=10) as (chat, peer):
        chat.pause_reading()
        await peer.send_all(b"here")
        await trio.sleep(95)
        chat.resume_reading()
        await trio.sleep(10)
        assert chat.came == [b"here"]
        await chat.wait_until_lost()
        assert trio.current_time() == 110


async def test_a_peer_that_does_not_read_our_answers_is_not_read_either() -> None:
    ours, theirs = lockstep_stream_pair()  # to send waits until it is received
    chat = Chat(ours)
    async with chat.served(), trio.open_nursery() as nursery:

        async def ask() -> None:
            for _ in range(100):
                await theirs.send_all(b"?")

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert 4 <= len(chat.came) < 10
        with trio.fail_after(5):
            while len(chat.came) < 100:
                await theirs.receive_some()


async def test_where_it_is_cancelled_it_works_until_it_is_left() -> None:
    ours, theirs = memory_stream_pair()
    chat = Chat(ours)
    with trio.CancelScope() as scope:
        async with chat.served():
            try:
                scope.cancel()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True), trio.fail_after(5):
                    chat.send(b"last words")
                    assert await theirs.receive_some() == b"last words"
                    await theirs.send_all(b"a")
                    await chat.answered.wait()
    assert scope.cancelled_caught


def test_lines_are_split_wherever_the_pieces_end_and_bounded() -> None:
    lines = LineSplitter(4)
    assert [lines.split(data) for data in (b"on", b"e\n\ntwo", b"\nfour", b"\n")] == [
        [],
        [b"one", b""],
        [b"two"],
        [b"four"],
    ]
    for too_long in (b"12345", b"12345\n"):
        with pytest.raises(ConnectionLost, match="a line of more than 4 bytes"):
            LineSplitter(4).split(too_long)


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ([b"wel", b"come\n"], None),
        ([b"wel"], "closed the connection instead of an answer"),
        ([b"welcomed"], "more than a line"),
        ([b"welcomes", b"\n"], "more than a line"),
        ([b"welcome\nmore"], "more than a line"),
    ],
)
async def test_the_answer_to_a_log_in_is_one_line(pieces: list[bytes], failure: str | None) -> None:
    ours, theirs = memory_stream_pair()
    for piece in pieces:
        await theirs.send_all(piece)
    await theirs.send_eof()
    with pytest.raises(ConnectFailed, match=failure) if failure else contextlib.nullcontext():
        assert await read_line(ours, 7) == b"welcome"


async def wait_for_a_line(stream: trio.SocketStream) -> None:
    await read_line(stream, 100)


@pytest.mark.parametrize("peer", ["silent", "closes", "gone"])
async def test_whoever_can_not_be_connected_to_fails_in_time_and_leaves_nothing_open(peer: str) -> None:
    closed = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        if peer == "silent":
            assert await stream.receive_some() == b""
        closed.set()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        if peer == "gone":
            await listeners[0].aclose()
        else:
            nursery.start_soon(trio.serve_listeners, serve, listeners)
        expected = {
            "silent": "did not answer within 0.05 s",
            "closes": "instead of an answer",
            "gone": "no connection: .*refused",
        }
        with trio.fail_after(5), pytest.raises(ConnectFailed, match=expected[peer]) as caught:
            async with connect_tcp("127.0.0.1", port, wait_for_a_line, within=0.05 if peer == "silent" else 5):
                raise AssertionError("nobody has let us in")
        assert caught.value.overdue == (peer == "silent")
        if peer != "gone":
            with trio.fail_after(5):
                await closed.wait()
        nursery.cancel_scope.cancel()

"""HTTP for anybody who connects: good clients are answered, and bad ones cost little and hurt nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
import trio
from trio.testing import MockClock

from taktora_trio.operate.endpoint.http import Limits, Request, Response

from .asking import ask, open_client, open_server


async def echo(request: Request) -> Response:
    parts = (request.method, request.path, request.query, request.body.decode("latin-1"))
    return Response(content=" ".join(parts).encode(), headers=(("x-own", "1"),))


async def raw(address: tuple[str, int], data: bytes) -> bytes:
    """Send these bytes, and return all that comes until the other side ends the connection."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        received = b""
        try:
            await stream.send_all(data)
            while piece := await stream.receive_some():
                received += piece
        except trio.BrokenResourceError:
            pass
        return received


async def test_one_request_after_another_on_a_connection() -> None:
    async with open_server(echo) as address, open_client(address) as client:
        assert (await client.ask("/a?b=c")).text == "GET /a b=c "
        reply = await client.ask("/d", "POST", b"body")
        assert reply.text == "POST /d  body"
        assert reply.headers["x-own"] == "1"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["content-security-policy"]


async def test_head_has_no_content() -> None:
    async with open_server(echo) as address:
        answer = await raw(address, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"content-length: 8" in head.lower()
    assert content == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # without a host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999\r\n\r\n" + b"z" * 5000, 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), 400),  # TLS
    ],
)
async def test_what_is_no_request_ends_its_connection_alone(sent: bytes, status: int) -> None:
    async with open_server(echo) as address, open_client(address) as good:
        with trio.fail_after(20):
            answer = await raw(address, sent)
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert (await good.ask("/")).status == 200


async def test_a_body_in_chunks_is_bounded_too() -> None:
    chunks = b"".join(b"400\r\n" + b"x" * 0x400 + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
    async with open_server(echo) as address:
        answer = await raw(address, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_what_comes_too_slowly_is_given_up(autojump_clock: MockClock) -> None:
    async with open_server(echo) as address:
        began = trio.current_time()
        answer = await raw(address, b"GET / HTTP/1.1\r\nHost: loc")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)
        began = trio.current_time()
        assert await raw(address, b"") == b""  # nothing at all
        assert trio.current_time() - began == pytest.approx(75, abs=0.1)


async def test_who_takes_nothing_of_an_answer_is_let_go(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def flood() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(65536)
        finally:
            ended.set()

    async def endless(request: Request) -> Response:
        return Response(pieces=flood())

    async with open_server(endless) as address:
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with trio.fail_after(60):
                await ended.wait()


async def test_an_answer_may_go_on_until_its_client_goes() -> None:
    ended = trio.Event()

    async def news() -> AsyncGenerator[bytes, None]:
        try:
            for number in range(1_000_000):
                yield b"%d\n" % number
                await trio.lowlevel.checkpoint()
        finally:
            ended.set()

    async def endless(request: Request) -> Response:
        return Response(pieces=news())

    async with open_server(endless) as address:
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            received = b""
            while b"\n3\n" not in received:
                received += await stream.receive_some()
        with trio.fail_after(20):
            await ended.wait()


async def test_only_so_many_connections_at_a_time() -> None:
    async with open_server(echo, Limits(connections=2)) as address:
        async with open_client(address) as one, open_client(address) as two:
            assert [(await client.ask("/")).status for client in (one, two)] == [200, 200]
            assert (await ask(address, "/")).status == 503
            assert (await one.ask("/")).status == 200
        with trio.fail_after(20):
            while (await ask(address, "/")).status == 503:  # until the two are seen to have gone
                await trio.lowlevel.checkpoint()


async def test_requests_that_come_together_are_answered_in_turn() -> None:
    async with open_server(echo) as address, open_client(address) as client:
        request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
        await client.stream.send_all(
            request % 1 + request % 2 + b"GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answers = b""
        while piece := await client.stream.receive_some():
            answers += piece
    assert [answers.find(b"GET /%d" % number) for number in (1, 2, 3)] == sorted(
        answers.index(b"GET /%d" % number) for number in (1, 2, 3)
    )


async def test_who_waits_to_be_told_to_go_on_is() -> None:
    async with open_server(echo) as address:
        stream = await trio.open_tcp_stream(*address)
        async with stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b"hi")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")

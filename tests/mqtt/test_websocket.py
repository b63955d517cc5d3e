"""The websocket as a stream, against a server that is played by hand."""

from __future__ import annotations

import base64
import contextlib
import hashlib

import attrs
import pytest
import trio
import trio.testing

from taktora_trio.connectors.mqtt.address import BrokerAddress
from taktora_trio.connectors.mqtt.sessions.session import ConnectFailed
from taktora_trio.connectors.mqtt.sessions.websocket import WebsocketStream, open_websocket

ADDRESS = BrokerAddress.parse("ws://host:1/mqtt")
CLOSE = b"\x88\x02\x03\xe9"  # 1001: going away
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@attrs.define
class Server:
    stream: trio.abc.Stream
    request: bytes = b""

    async def read_request(self) -> None:
        while not self.request.endswith(b"\r\n\r\n"):
            self.request += await self.stream.receive_some(1000)

    async def accept(self, more: bytes = b"") -> None:
        await self.read_request()
        [key] = [line.split()[1] for line in self.request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key")]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        await self.stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept + more
        )

    async def answer(self, answer: bytes) -> None:
        await self.read_request()
        await self.stream.send_all(answer)


@attrs.define
class Ends:
    """Both ends of a connection on which nothing was said yet."""

    client: trio.abc.Stream
    server: Server

    async def open(self, address: BrokerAddress = ADDRESS, more: bytes = b"") -> WebsocketStream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.server.accept, more)
            return await open_websocket(self.client, address)


@pytest.fixture
async def ends() -> Ends:
    client, server = trio.testing.memory_stream_pair()
    return Ends(client, Server(server))


@pytest.mark.parametrize(
    ("url", "request_line", "host"),
    [
        ("ws://host", "GET / HTTP/1.1", "host:80"),
        ("ws://host:1/mqtt", "GET /mqtt HTTP/1.1", "host:1"),
        ("ws://host/mqtt?token=a%2Bb&x=1", "GET /mqtt?token=a%2Bb&x=1 HTTP/1.1", "host:80"),
        ("ws://host?token=1", "GET /?token=1 HTTP/1.1", "host:80"),
        ("ws://host/a%20b%2Fc%3Fd%0D%0Ae", "GET /a%20b%2Fc%3Fd%0D%0Ae HTTP/1.1", "host:80"),
        ("ws://[fe80::1%25eth0]:1/", "GET / HTTP/1.1", "[fe80::1]:1"),  # RFC 6874, section 1: the zone is not sent
    ],
)
async def test_what_is_asked_for_is_what_was_written(url: str, request_line: str, host: str, ends: Ends) -> None:
    await ends.open(BrokerAddress.parse(url))
    first, *headers = ends.server.request.decode().split("\r\n")
    assert first == request_line
    assert f"Host: {host}" in headers


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
NO_WEBSOCKETS = {
    "a header that is not ASCII": SWITCHING + b"Upgrade: websocket\r\nConnection: \xff\r\n\r\n",
    "a subprotocol that is not ASCII": SWITCHING + b"Sec-WebSocket-Protocol: \xe9\r\n\r\n",
    "no headers": SWITCHING + b"\r\n",
    "no status": b"HTTP/1.1 \xff\r\n\r\n",
    "garbage": b"\xff\r\n\r\n",
    "an endless line": b"x" * 100_000,
}


@pytest.mark.parametrize("answer", NO_WEBSOCKETS)
async def test_whatever_is_no_websocket_is_a_failed_connection(answer: str, ends: Ends) -> None:
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.server.answer, NO_WEBSOCKETS[answer])
            with pytest.raises(ConnectFailed):
                await open_websocket(ends.client, ADDRESS)


async def test_a_host_that_has_no_place_in_a_request(ends: Ends) -> None:
    with pytest.raises(ConnectFailed, match="no websocket can be asked for"):
        await open_websocket(ends.client, BrokerAddress("x" * 63, 65_535, transport="websocket"))


async def test_what_is_sent_after_the_broker_has_closed_is_a_broken_stream(ends: Ends) -> None:
    """From when its CLOSE was read, though the socket would take more. The message does not repeat the data."""
    websocket = await ends.open(more=b"\x82\x02hi" + CLOSE)
    assert await websocket.receive_some() == b"hi"
    assert await websocket.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError, match=r"\Athe broker has closed the websocket\Z"):
        await websocket.send_all(b"secret payload")
    await websocket.aclose()


@pytest.mark.parametrize("after", [b"\x89\x00", CLOSE, b"\x82\x02hi"], ids=["ping", "close", "data"])
async def test_what_comes_after_a_close_is_its_end_at_most(after: bytes, ends: Ends) -> None:
    websocket = await ends.open(more=CLOSE + after)
    with contextlib.suppress(trio.BrokenResourceError):
        assert await websocket.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await websocket.send_all(b"x")

"""The proxy does to real connections what it says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import attrs
import pytest
import trio

from taktora_trio.chaos.looking import look_until
from taktora_trio.chaos.proxy import Mode, Proxy, open_proxy


@attrs.define
class Rig:
    """An echo server, and the proxy in front of it."""

    proxy: Proxy
    accepted: list[trio.SocketStream]

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.proxy.port)
        await exchange(stream, b"hello")
        return stream


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    accepted: list[trio.SocketStream] = []

    async def echo(stream: trio.SocketStream) -> None:
        accepted.append(stream)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in stream:
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, [listener])
        async with open_proxy(listener.socket.getsockname()[1]) as proxy:
            yield Rig(proxy, accepted)
        nursery.cancel_scope.cancel()


async def receive(stream: trio.SocketStream, count: int, seconds: float = 5) -> bytes:
    data = b""
    with trio.fail_after(seconds):
        while len(data) < count:
            chunk = await stream.receive_some(count - len(data))
            assert chunk, "closed"
            data += chunk
    return data


async def exchange(stream: trio.SocketStream, data: bytes) -> None:
    """Send it, and wait until it has come back."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        assert await receive(stream, len(data)) == data


async def is_silent(stream: trio.SocketStream, seconds: float = 0.2) -> bool:
    with trio.move_on_after(seconds):
        await stream.receive_some(1)
        return False
    return True


async def test_it_passes_everything_both_ways_in_order(rig: Rig) -> None:
    async with await rig.connect() as stream:
        await exchange(stream, bytes(range(256)) * 4096)


async def test_an_end_on_one_side_is_an_end_on_the_other(rig: Rig) -> None:
    async with await rig.connect() as stream:
        await rig.accepted[0].aclose()
        with trio.fail_after(5):
            assert await stream.receive_some(1) == b""


async def test_a_cut_resets_what_there_is_and_lets_new_ones_pass(rig: Rig) -> None:
    streams = [await rig.connect() for _ in range(3)]
    assert rig.proxy.connections == 3
    rig.proxy.cut()
    for stream in streams:
        async with stream:
            with trio.fail_after(5), pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some(1)
            assert isinstance(caught.value.__cause__, ConnectionResetError)
    async with await rig.connect():
        assert (rig.proxy.connections, rig.proxy.accepted) == (1, 4)


async def test_a_half_open_connection_stays_and_carries_nothing(rig: Rig) -> None:
    async with await rig.connect() as stream:
        rig.proxy.go_half_open()
        await stream.send_all(b"lost")
        assert await is_silent(stream)
        await rig.accepted[0].aclose()  # of which this side does not learn
        assert await is_silent(stream)
        await stream.send_all(b"lost, too")
        async with await rig.connect():
            pass
    with trio.fail_after(5):
        await look_until(lambda: not rig.proxy.connections)


async def test_a_stall_holds_everything_back_and_loses_nothing(rig: Rig) -> None:
    async with await rig.connect() as stream:
        rig.proxy.set_mode(Mode.STALL)
        await stream.send_all(b"later")
        assert await is_silent(stream)
        rig.proxy.set_mode(Mode.PASS)
        assert await receive(stream, 5) == b"later"


async def test_a_slow_connection_comes_in_small_pieces(rig: Rig) -> None:
    async with await rig.connect() as stream:
        rig.proxy.set_mode(Mode.SLOW, piece=10, delay=0.02)
        began = trio.current_time()
        await exchange(stream, b"0123456789" * 5)
        assert trio.current_time() - began >= 5 * 0.02
        rig.proxy.set_mode(Mode.PASS)
        await exchange(stream, b"x" * 100_000)


async def test_refused_connections_are_reset_and_those_there_are_go_on(rig: Rig) -> None:
    async with await rig.connect() as stream:
        rig.proxy.set_mode(Mode.REFUSE)
        await exchange(stream, b"still there")
        with trio.fail_after(5), pytest.raises((trio.BrokenResourceError, OSError)):
            async with await trio.open_tcp_stream("127.0.0.1", rig.proxy.port) as refused:
                await refused.receive_some(1)
        rig.proxy.set_mode(Mode.PASS)
        async with await rig.connect():
            pass


async def test_without_a_server_connections_are_reset() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with open_proxy(port) as proxy, await trio.open_tcp_stream("127.0.0.1", proxy.port) as stream:
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)

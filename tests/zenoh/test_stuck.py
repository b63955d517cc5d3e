"""A router that takes nothing, says nothing, or goes again and again: each end is bounded, and nothing stays behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest
import trio

from taktora_trio import Backoff, Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.connectors.connection import Connection
from taktora_trio.testing.census import census, more
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.network import open_network
from taktora_trio.testing.zenoh.router import ZenohRouter, open_router
from tests.patience import PATIENCE
from tests.zenoh.outsider import open_outsider

pytestmark = pytest.mark.zenoh

LARGE = bytes(10_000)
MANY = 1_500  # of these are more than sockets and the library's queue hold
BOUND = 3.0  # seconds for an end: a tenth of that is usual, and the library alone takes 10 to 17
Came: TypeAlias = trio.MemoryReceiveChannel[tuple[str, bytes]]
QUICKLY = Backoff(initial=0.01, maximum=0.1)


def driver(port: int, *, acknowledged: bool = False, **routing: Any) -> Driver:
    channels = [
        Outbound("out", bytes, ZenohRouting("topic/out", acknowledged=acknowledged, **routing), max_payload=20_000),
        Inbound("in", bytes, ZenohRouting("topic/in", acknowledged=acknowledged)),
    ]
    options = ZenohOptions(connect=f"tcp/127.0.0.1:{port}", connect_timeout=1.0, reconnect=QUICKLY)
    return Driver(ZenohConnector(channels, options=options, codec=RawCodec()), "client")


@pytest.fixture
async def router(tmp_path: Path) -> AsyncIterator[ZenohRouter]:
    async with open_router(tmp_path, lease=2.0) as router:
        yield router


@pytest.fixture
async def came(router: ZenohRouter) -> AsyncIterator[Came]:
    """What comes to somebody else."""
    async with open_outsider(router.endpoint) as outsider:
        yield outsider.subscribe("topic/out")


async def fill(client: Driver, connection: Connection, router: ZenohRouter, came: Came) -> None:
    """Have the router stop, and publish more than anything holds."""
    client.publish(connection, "out", client.envelopes("out", b"first"))
    with trio.fail_after(PATIENCE):
        await came.receive()  # so it is known that somebody wants it
    os.kill(router.pid, signal.SIGSTOP)
    client.publish(connection, "out", client.envelopes("out", *[LARGE] * MANY))


async def until_nothing_is_left(before: tuple[int, int, int]) -> None:
    with trio.move_on_after(PATIENCE):
        while more(before, census()):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
    assert not more(before, census())


async def settled(client: Driver) -> int:
    """Wait until no more is done, and return how many are."""
    done = -1
    while done < len(client.done):
        done = len(client.done)
        await trio.sleep(0.2)
    return done


@pytest.mark.parametrize("congestion_control", ["block", "drop"])
async def test_a_connection_is_left_though_the_router_takes_nothing(
    router: ZenohRouter, came: Came, congestion_control: str
) -> None:
    client = driver(router.port, congestion_control=congestion_control)
    before = census()
    async with client.connected() as connection:
        await fill(client, connection, router, came)
        if congestion_control == "drop":
            await client.until_done(1 + MANY)  # what finds no room is dropped
        else:
            assert await settled(client) <= MANY, "it waits"
        leaving = trio.current_time()
    assert trio.current_time() - leaving < BOUND
    await until_nothing_is_left(before)


async def test_a_router_that_stops_is_silent_and_the_connection_ends(router: ZenohRouter, came: Came) -> None:
    """Though a thread waits for it to take what is put."""
    client = driver(router.port)
    async with client.connected() as connection:
        await fill(client, connection, router, came)
        lost = await client.lost(connection)
        assert lost.silent
        leaving = trio.current_time()
    assert trio.current_time() - leaving < BOUND
    os.kill(router.pid, signal.SIGCONT)
    async with client.connected():  # and the next one works
        pass


async def test_whoever_is_cancelled_while_it_connects_to_a_deaf_router_is_not_held_up(router: ZenohRouter) -> None:
    async with open_network(router.port) as network:
        client = driver(network.port)
        async with client.connected():  # what is made once is made
            pass
        network.is_deaf = True
        await trio.sleep(0.05)
        before = census()
        with trio.move_on_after(PATIENCE), trio.move_on_after(0.2) as cancelled:
            async with client.connected():
                pass
        assert trio.current_time() - cancelled.deadline < 0.5  # it would take a second
        assert cancelled.cancelled_caught
        await until_nothing_is_left(before)


@pytest.mark.parametrize("acknowledged", [False, True])
async def test_connections_that_come_and_go_leave_nothing(router: ZenohRouter, acknowledged: bool) -> None:
    """Neither tasks nor threads nor descriptors, nor memory of the library's or ours."""
    process = psutil.Process()
    client = driver(router.port, acknowledged=acknowledged)
    async with open_outsider(router.endpoint) as outsider:
        came = outsider.answer("topic/out") if acknowledged else outsider.subscribe("topic/out")

        async def once() -> None:
            done = len(client.done)
            async with client.connected() as connection:
                client.publish(connection, "out", client.envelopes("out", b"message"))
                await client.until_done(done + 1)
                with trio.fail_after(PATIENCE):
                    await came.receive()

        for _ in range(30):
            await once()
        gc.collect()
        before, threads, memory = census(), process.num_threads(), process.memory_info().rss
        for _ in range(50):
            await once()
        gc.collect()
        grown = process.memory_info().rss - memory
        await until_nothing_is_left(before)
        assert process.num_threads() <= threads + 4, "the library's come one by one, up to a bound; some of ours wait"
        assert grown < 700_000, "a leak of 14 KB for each connection is seen"

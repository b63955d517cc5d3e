"""Gateways as peers and as routers: one node for as long as the gateway, connected while others are linked to it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from taktora_trio import Backoff, ConnectFailed, Inbound, Outbound, RawCodec, ZenohConnector, ZenohOptions, ZenohRouting
from taktora_trio.connectors.connection import Connection
from taktora_trio.connectors.retry import Retry
from taktora_trio.connectors.zenoh.membership import NobodyThere
from taktora_trio.testing.driver import Driver
from taktora_trio.testing.server import free_port
from tests.zenoh.serving import served

pytestmark = pytest.mark.zenoh

QUICKLY = Backoff(initial=0.02, maximum=0.1)
PATIENCE = 5.0  # seconds


def driver(sends: str, takes: str, **options: Any) -> Driver:
    channels = [
        Outbound("out", bytes, ZenohRouting(sends, acknowledged=True)),
        Inbound("in", bytes, ZenohRouting(takes, acknowledged=True)),
    ]
    given = ZenohOptions(scouting=False, reconnect=QUICKLY, **{"connect_timeout": PATIENCE, **options})
    return Driver(ZenohConnector(channels, options=given, codec=RawCodec()), sends)


async def connect(driver: Driver) -> None:
    async with driver.connected():
        pass


async def stay(driver: Driver, leaves: trio.Event, task_status: trio.TaskStatus[Connection]) -> None:
    async with served(driver), driver.connected() as connection:
        task_status.started(connection)
        await leaves.wait()


async def exchange(one: Driver, through: Connection, other: Driver, to: Connection, payload: bytes) -> None:
    """Send a message and wait until it is acknowledged."""
    done = len(one.done)
    one.publish(through, "out", one.envelopes("out", payload))
    [message] = await other.take(1)
    assert message.payload == payload
    to.acknowledge(message)
    await one.until_done(done + 1)


async def test_a_peer_waits_for_another_one_and_lasts_longer_than_its_connections() -> None:
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    first = driver("a", "b", mode="peer", connect=endpoint, connect_timeout=0.1)
    async with served(first):
        for _ in range(2):
            with trio.fail_after(PATIENCE), pytest.raises(NobodyThere, match="no other node is linked to this one"):
                await connect(first)
            first.client.ended(NobodyThere(""))
            retry = first.client.next_attempt(Retry(PATIENCE, "", False))
            assert retry.delay == 0  # it waits as long for others to come
            leaves = trio.Event()
            with trio.fail_after(3 * PATIENCE):
                async with trio.open_nursery() as nursery:
                    second = driver("b", "a", mode="peer", listen=endpoint)
                    there = await nursery.start(stay, second, leaves)
                    async with first.connected() as here:
                        await exchange(first, here, second, there, b"to the second")
                        await exchange(second, there, first, here, b"to the first")
                        leaves.set()
                        lost = await here.wait_until_lost()
            assert str(lost) == "no other node is linked to this one any more"
            first.client.ended(lost)
            first.client.next_attempt(retry)


async def test_a_gateway_is_the_router_of_others() -> None:
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    async with (
        served(driver("c", "d", mode="router", listen=endpoint)) as router,
        served(driver("a", "b", mode="peer", connect=endpoint)) as first,
        served(driver("b", "a", mode="peer", connect=endpoint)) as second,
    ):
        with trio.fail_after(3 * PATIENCE):
            async with first.connected() as one, second.connected() as other, router.connected():
                await exchange(first, one, second, other, b"by the router")


async def test_an_endpoint_that_is_taken_is_said_and_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp/127.0.0.1:{taken.getsockname()[1]}"
        async with served(driver("a", "b", mode="peer", listen=endpoint, connect_timeout=0.1)) as peer:
            with trio.fail_after(PATIENCE), pytest.raises(ConnectFailed) as failed:
                await connect(peer)
            assert not isinstance(failed.value, NobodyThere)
            assert str(failed.value).isprintable()
            taken.close()
            with trio.fail_after(PATIENCE), pytest.raises(NobodyThere):
                await connect(peer)

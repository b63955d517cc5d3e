"""How plain Zenoh sessions on several hosts behave when something fails: the table of docs/zenoh-networks.md.

python -m tests.zenoh.networks.measure
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import trio

from tests.hosts.network import Network, open_network
from tests.zenoh.networks.nodes import LEASE, Node, endpoint, open_node, open_router

PUTS = 3000
PAUSE = 0.002  # seconds between two puts


def say(what: str, *found: str) -> None:
    sys.stdout.write(f"| {what} | {'; '.join(found)} |\n")


def after(event: dict[str, Any], began: float) -> str:
    seconds = event["at"] - began
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else f"{seconds:.1f} s"


def open_client(net: Network, host: str, *connect: str) -> AbstractAsyncContextManager[Node]:
    return open_node(
        net.hosts[host],
        "client",
        connect__endpoints=list(connect),
        scouting__multicast__enabled=False,
        transport__link__tx__lease=round(1000 * LEASE),
    )


async def lost_during(sender: Node, receiver: Node, act: Callable[[], Awaitable[object]]) -> str:
    """Return what became of puts while this was done."""
    before, rounds = len(receiver.told("sample")), len(sender.told("put"))
    await sender.do("put", key="t/a", times=PUTS, pause=PAUSE)
    await receiver.until("sample", before + 200)
    await act()
    await sender.until("put", rounds + 1)
    await trio.sleep(0.5)
    numbers = [int(sample["text"]) for sample in receiver.told("sample")[before:]]
    order = "in order" if numbers == sorted(set(numbers)) else "not in order"
    return f"{PUTS - len(numbers)} of {PUTS} puts lost, the others {order}"


@contextlib.asynccontextmanager
async def open_triangle(net: Network) -> AsyncIterator[tuple[Node, Node, Node, Node]]:
    """Three routers, each linked to the others by a segment of its own, and clients at the first and the third."""
    for segment, hosts in {"s12": ("h1", "h2"), "s23": ("h2", "h3"), "s13": ("h1", "h3")}.items():
        net.segment(segment, *hosts)
    h1, h2, h3 = net.hosts.values()
    async with (
        open_router(h1) as r1,
        open_router(h2, endpoint(h1, "s12")) as r2,
        open_router(h3, endpoint(h2, "s23"), endpoint(h1, "s13")),
        open_client(net, "h1", "tcp/127.0.0.1:7447") as sender,
        open_client(net, "h3", "tcp/127.0.0.1:7447") as receiver,
    ):
        await receiver.do("subscribe", key="t/**")
        await trio.sleep(1)
        yield r1, r2, sender, receiver


async def measure_links() -> None:
    with open_network(loopback=False) as net:
        async with open_triangle(net) as (r1, r2, sender, receiver):
            found: list[str] = []

            async def change(what: Callable[..., None], count: int, *, there: bool) -> None:
                began = time.monotonic()
                what("h1", "s13")
                told = await r1.until("link", count, there=there, what="router")
                found.append(f"told after {after(told, began)}")

            lost = await lost_during(sender, receiver, partial(change, net.cut, 1, there=False))
            say("a link of three routers is cut: the puts go the other way", found[0], lost)
            lost = await lost_during(sender, receiver, partial(change, net.join, 3, there=True))
            say("the link is back", found[1], lost)
            say("a router is killed that the puts don't go by", await lost_during(sender, receiver, r2.kill))


async def measure_hosts() -> None:
    with open_network(loopback=False) as net:
        net.segment("lan", "r1", "r2", "a", "b")
        r1, r2 = net.hosts["r1"], net.hosts["r2"]
        async with (
            open_router(r1) as first,
            open_router(r2, endpoint(r1)) as second,
            open_client(net, "a", endpoint(r1), endpoint(r2)) as a,
            open_client(net, "b", endpoint(r2)) as b,
        ):
            await b.do("subscribe", key="t/**")
            await b.do("answer", key="q", hold=True)
            await b.do("token", key="token/b")
            await a.do("watch", key="token/*")
            await a.until("token")
            began = 0.0

            async def kill() -> None:
                nonlocal began
                began = time.monotonic()
                await first.kill()

            lost = await lost_during(a, b, kill)
            told, again = await a.until("link", there=False), await a.until("link", 2, there=True)
            say(
                "a client's router is killed, and it has another endpoint",
                f"told after {after(told, began)}, linked there after {after(again, began)}",
                lost,
            )
            gone, there = await a.until("token", there=False), await a.until("token", 2, there=True)
            say(
                "the token of another client, seen by it",
                f"gone after {after(gone, began)}, there again after {after(there, began)}",
            )
            await a.do("ask", key="q", timeout=30)
            await b.until("query")
            began = time.monotonic()
            net.cut("b")
            says = [
                f"told after {after(await b.until('link', there=False), began)}",
                f"its router after {after(await second.until('link', there=False, what='client'), began)}",
                f"a query to it ends after {after(await a.until('asked'), began)}",
                f"its token is gone after {after(await a.until('token', 2, there=False), began)}",
            ]
            say("a client's host is cut off", *says)
            began = time.monotonic()
            net.join("b")
            say("the host is back", f"linked after {after(await b.until('link', 2, there=True), began)}")


async def measure_peers() -> None:
    with open_network(loopback=False) as net:
        net.segment("lan", "a", "b")
        open_peer = partial(open_node, mode="peer", transport__link__tx__lease=round(1000 * LEASE))
        async with open_peer(net.hosts["a"]) as a, open_peer(net.hosts["b"]) as b:
            opened, linked = b.told("open")[0], await a.until("link")
            say(
                "peers find each other by multicast",
                f"within {after(linked, min(opened['at'], linked['at']))} of the second one's start",
            )
            began = time.monotonic()
            net.cut("b")
            say("a peer's host is cut off", f"told after {after(await a.until('link', there=False), began)}")
            await b.until("link", there=False)
            began = time.monotonic()
            net.join("b")
            say("the host is back", f"linked after {after(await a.until('link', 2, there=True), began)}")


async def main() -> None:
    sys.stdout.write("| what happens | what is seen |\n|---|---|\n")
    await measure_links()
    await measure_hosts()
    await measure_peers()


if __name__ == "__main__":
    trio.run(main)

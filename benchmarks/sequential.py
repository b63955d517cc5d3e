"""The peer of `to_broker.py`: told how many, it awaits one `aiomqtt.Client.publish` after the other.

That is how an app would publish without this library, from trio: aiomqtt under trio-asyncio. The loop runs on the
asyncio side, so that it crosses between the two once an order and not once a message, and TCP_NODELAY is set, without
which each acknowledgement would take 40 ms or more: the faster of what one may reasonably write.
"""

from __future__ import annotations

import socket
import sys

import aiomqtt
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from benchmarks import message

__all__ = ["MESSAGES", "ORDERS"]

ORDERS, MESSAGES = "benchmark/sequential/orders", "benchmark/sequential/messages"
_SOCKET_OPTIONS = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]


async def _publish_sequentially(port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port, socket_options=_SOCKET_OPTIONS) as client:
        await client.subscribe(ORDERS, qos=1)
        number = 1
        await client.publish(MESSAGES, message.pack(number), qos=1)  # the first one says: ready for orders
        async for order in client.messages:
            assert isinstance(order.payload, bytes)
            for _ in range(int(order.payload)):
                number += 1
                await client.publish(MESSAGES, message.pack(number), qos=1)


async def _main(port: int) -> None:
    async with trio_asyncio.open_loop():
        await aio_as_trio(_publish_sequentially)(port)  # until the broker is gone, or it is told to end


if __name__ == "__main__":
    trio.run(_main, int(sys.argv[1]))

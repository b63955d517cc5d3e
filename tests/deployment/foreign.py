"""A client of paho's, which knows nothing of an app, in a test of trio's."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import paho.mqtt.client as paho
import trio
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


@contextlib.asynccontextmanager
async def open_client(port: int, version: int, topic: str) -> AsyncIterator[tuple[paho.Client, Any]]:
    """Open a client of paho's that hears a topic, and what it has heard."""
    heard, answers = trio.open_memory_channel[Any](math.inf)
    ready, token = trio.Event(), trio.lowlevel.current_trio_token()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion(version))
    client.on_message = lambda *args: token.run_sync_soon(heard.send_nowait, args[2])
    client.on_connect = lambda *args: client.subscribe(topic, 1) and None
    client.on_subscribe = lambda *args: token.run_sync_soon(ready.set)
    await trio.to_thread.run_sync(client.connect, "127.0.0.1", port)
    client.loop_start()
    try:
        await ready.wait()
        yield client, answers
    finally:
        client.disconnect()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await trio.to_thread.run_sync(client.loop_stop)

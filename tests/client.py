"""An independent MQTT client for tests: paho with its own network thread, its messages as a trio channel."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import paho.mqtt.client as paho
import trio
from paho.mqtt.enums import CallbackAPIVersion

from taktora_trio.connectors.mqtt.wire.message import Message
from tests.patience import PATIENCE


class Client:
    """Publishes, and has what has come."""

    def __init__(self, client: paho.Client, messages: trio.MemoryReceiveChannel[Message]) -> None:
        self._client = client
        self.messages = messages

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Queue it; paho's thread sends in order."""
        assert self._client.publish(topic, payload, qos, retain).rc == paho.MQTT_ERR_SUCCESS

    async def publish_acknowledged(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1, and wait until the broker has it, and with it all that was published before."""
        info = self._client.publish(topic, payload, qos=1)
        await trio.to_thread.run_sync(info.wait_for_publish, PATIENCE)
        assert info.is_published()

    async def receive(self, seconds: float = PATIENCE) -> Message:
        with trio.fail_after(seconds):
            return await self.messages.receive()


@contextlib.asynccontextmanager
async def open_client(port: int, *filters: str, qos: int = 1) -> AsyncIterator[Client]:
    """Connected, and subscribed to the filters, when the block begins."""
    token = trio.lowlevel.current_trio_token()
    sending, receiving = trio.open_memory_channel[Message](math.inf)
    ready = trio.Event()

    def put(message: Message) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            sending.send_nowait(message)

    def on_connect(client: paho.Client, *args: Any) -> None:
        if filters:
            client.subscribe([(topic_filter, qos) for topic_filter in filters])
        else:
            token.run_sync_soon(ready.set)

    def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(trio.RunFinishedError):  # a test that failed may be over before this thread is
            token.run_sync_soon(
                put, Message(message.topic, bytes(message.payload), message.qos, retained=message.retain)
            )

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(100)
    client.on_connect = on_connect
    client.on_message = on_message
    client.on_subscribe = lambda *args: token.run_sync_soon(ready.set)
    await trio.to_thread.run_sync(client.connect, "127.0.0.1", port)
    client.loop_start()
    try:
        with trio.fail_after(PATIENCE):
            await ready.wait()
        yield Client(client, receiving)
    finally:
        client.disconnect()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
            await trio.to_thread.run_sync(client.loop_stop)
        receiving.close()

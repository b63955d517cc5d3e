"""MQTT 5 properties through the gateway and the app, in both shapes: real processes, a real broker."""

from __future__ import annotations

import math
import re
import signal
import uuid
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
import trio
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from taktora_trio.transport.domain import Domain
from tests.command import MODES, ROOT, open_run
from tests.mosquitto import Mosquitto

# As they come: made of a counter, 16 bytes of a UUID, one that ends in zeros, a UUID as text, and of any other length.
IDS = [b"7", bytes(range(240, 256)), b"ends in zero\0", bytes(16), str(uuid.uuid4()).encode(), bytes(42), bytes(300)]


def client_of(
    port: int,
    token: trio.lowlevel.TrioToken,
    put: Callable[[paho.MQTTMessage], None],
    ready: trio.Event,
    topic_filter: str = "taktora/answers/#",
) -> paho.Client:
    def subscribe(client: paho.Client, *args: Any) -> None:
        client.subscribe(topic_filter, 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda *args: token.run_sync_soon(put, args[2])
    client.on_connect = subscribe
    client.on_subscribe = lambda *args: token.run_sync_soon(ready.set)
    client.connect("127.0.0.1", port)
    client.loop_start()
    return client


def properties_of(**fields: Any) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in fields.items():
        setattr(properties, name, value)
    return properties


@pytest.mark.parametrize("mode", MODES)
async def test_what_is_said_about_a_request_comes_back_with_its_answer(
    mode: str, broker: Mosquitto, domain: Domain
) -> None:
    sending, answers = trio.open_memory_channel[Any](math.inf)
    ready = trio.Event()
    async with open_run("examples.answer:deployment", mode, broker, domain) as run:
        await run.until_event("health-up")
        token = trio.lowlevel.current_trio_token()
        client = await trio.to_thread.run_sync(client_of, broker.port, token, sending.send_nowait, ready)
        try:
            with trio.fail_after(20):
                await ready.wait()
                for data in IDS:
                    properties = properties_of(
                        ResponseTopic="taktora/answers/me",
                        CorrelationData=data,
                        ContentType="text/plain",
                        UserProperty=[("trace", "a"), ("trace", "b"), ("", "ü")],
                    )
                    client.publish("taktora/asked/x", b"what", 1, properties=properties)
                    answer = await answers.receive()
                    assert (answer.topic, answer.payload) == ("taktora/answers/me", b"what")
                    assert getattr(answer.properties, "CorrelationData", b"") == data
                    assert answer.properties.ContentType == "text/plain"
                    assert answer.properties.UserProperty == [("trace", "a"), ("trace", "b"), ("", "ü")]
                    assert not hasattr(answer.properties, "ResponseTopic")
                for topic in ("elsewhere", ""):
                    wrong = properties_of(ResponseTopic=topic) if topic else None
                    client.publish("taktora/asked/x", b"nobody can answer", 1, properties=wrong)
                client.publish(
                    "taktora/asked/x", b"no id", 1, properties=properties_of(ResponseTopic="taktora/answers/")
                )
                answer = await answers.receive()
                assert (answer.topic, answer.payload) == ("taktora/answers/", b"no id")
                assert not hasattr(answer.properties, "CorrelationData")
        finally:
            client.disconnect()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await trio.to_thread.run_sync(client.loop_stop)
        run.signal(signal.SIGTERM)
        assert await run.wait(5) == 0


def test_the_page_shows_what_was_run_here() -> None:
    shown = re.findall("```python\n(.*?)```", (ROOT / "docs/topics.md").read_text(), re.DOTALL)
    example = (ROOT / "examples/answer.py").read_text()
    assert [block in example for block in shown if "correlation_id=" in block] == [True]

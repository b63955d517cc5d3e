"""One message that a real broker ends the connection at: mosquitto takes no topic of more than 200 levels."""

from __future__ import annotations

import pytest
import trio

from taktora_trio.channels import Outbound
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.health import Degraded
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.domain import Domain
from tests.brokers.live import open_live
from tests.brokers.sessions import Kind, each_session
from tests.client import open_client
from tests.mosquitto import Mosquitto

ANY = Outbound("any", bytes, MqttRouting("deep/#", qos=1), max_payload=64, max_topic=2000)
GOOD = Outbound("good", bytes, MqttRouting("good", qos=1), max_payload=64)
FAST = Backoff(initial=0.02, maximum=0.2)


@each_session
async def test_a_message_that_a_broker_ends_the_connection_at_blocks_nobody_for_long(
    session: Kind, broker: Mosquitto, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    options = session.options(broker.url, reconnect=FAST)
    async with open_client(broker.port, "#") as client, open_live([ANY, GOOD], options, domain) as live:
        await live.until_up()
        async with live.host.open_writer(ANY) as deep, live.host.open_writer(GOOD) as good:
            await deep.send(b"before", topic="deep/a")
            await deep.send(b"poison", topic="deep" + "/a" * 250)
            await deep.send(b"after", topic="deep/b")
            for number in range(10):
                await good.send(b"%d" % number)
            arrived: list[bytes] = []
            with trio.fail_after(20):
                while not {b"after", b"9"} <= set(arrived):
                    arrived.append((await client.receive(20)).payload)
        with trio.fail_after(5):
            await live.host.wait_for_health(Degraded)
        shown = [event.after for event in live.events if isinstance(event.after, Degraded)]
        assert shown == [Degraded("channel any: 1 message set aside")]
    firsts = list(dict.fromkeys(arrived))
    assert [payload for payload in firsts if payload.isdigit()] == [b"%d" % number for number in range(10)]
    assert [payload for payload in firsts if payload in (b"before", b"poison", b"after")] == [b"before", b"after"]
    assert "set aside a message on 'deep/a/a" in caplog.text

"""mosquitto as Debian ships it: while it has 20 messages of QoS 2 from a client, it drops what else comes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import trio

from taktora_trio.channels import Outbound
from taktora_trio.chaos.proxy import open_proxy
from taktora_trio.connectors.mqtt.routing import MqttRouting
from taktora_trio.supervision.backoff import Backoff
from taktora_trio.transport.domain import Domain
from tests.brokers.live import open_live
from tests.brokers.sessions import Kind, each_session
from tests.client import open_client
from tests.mosquitto import open_mosquitto

DEFAULTS = ["max_inflight_messages 20", "max_queued_messages 1000"]
CHANNELS = [Outbound(name, bytes, MqttRouting(f"test/{name}", qos=2), max_payload=16) for name in ("a", "b", "c")]
AT_LEAST_ONCE = Outbound("d", bytes, MqttRouting("test/d", qos=1), max_payload=16)
EACH = 250


@each_session
async def test_of_a_thousand_messages_of_qos_2_each_arrives_once(session: Kind, domain: Domain, tmp_path: Path) -> None:
    lasting = session.lasting_qos == 2
    options = {"persistent": lasting, "reconnect": Backoff(initial=0.02, maximum=0.1)}
    arrived, done = list[bytes](), trio.Event()
    async with (
        open_mosquitto(tmp_path, DEFAULTS) as broker,
        open_client(broker.port, "test/#", qos=1) as client,
        open_proxy(broker.port) as proxy,
        open_live([*CHANNELS, AT_LEAST_ONCE], session.options(f"mqtt://{proxy.address}", **options), domain) as live,
        trio.open_nursery() as nursery,
    ):
        await live.until_up()

        async def send(channel: Outbound[bytes]) -> None:
            async with live.host.open_writer(channel) as writer:
                for number in range(EACH):
                    await writer.send(b"%s%d" % (channel.name.encode(), number))
                await done.wait()  # what it has sent is the broker's only then

        for channel in (*CHANNELS, AT_LEAST_ONCE):
            nursery.start_soon(send, channel)
        while len(set(arrived)) < EACH * (len(CHANNELS) + 1):
            arrived.append((await client.receive(20)).payload)
            if lasting and len(arrived) in (200, 500):
                proxy.cut()  # what is half done then is finished next, and nothing else is put on top of it
        done.set()
    expected = {b"%s%d" % (channel.name.encode(), number): 1 for channel in CHANNELS for number in range(EACH)}
    assert Counter(each for each in arrived if not each.startswith(b"d")) == expected

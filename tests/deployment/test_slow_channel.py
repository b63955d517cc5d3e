"""A channel on whose message the app works on and on: how far it holds up another one, with mosquitto's defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from taktora_trio import Inbound, MqttConnector, MqttOptions, MqttRouting, RawCodec, Up
from taktora_trio.testing.program import open_program
from tests.client import open_client
from tests.mosquitto import open_mosquitto

FAST = Inbound("fast", bytes, MqttRouting("test/fast", qos=1))


@pytest.mark.parametrize(
    ("protocol", "slow_qos"),
    [("3.1.1", 2), ("5", 1), ("5", 2)],
    ids=["another QoS", "as many in flight as there is room for", "both"],
)
async def test_what_the_app_has_in_hand_on_one_channel_does_not_stop_another(
    protocol: Any, slow_qos: Any, tmp_path: Path
) -> None:
    slow = Inbound("slow", bytes, MqttRouting("test/slow", qos=slow_qos))
    payloads = [b"%d" % number for number in range(300)]
    async with open_mosquitto(tmp_path, ["max_inflight_messages 20"]) as broker, open_client(broker.port) as client:
        options = MqttOptions(broker=broker.url, protocol=protocol)
        async with (
            open_program(MqttConnector([slow, FAST], options=options, codec=RawCodec())) as host,
            host.open_reader(slow) as working,
            host.open_reader(FAST) as fast,
        ):
            with trio.fail_after(20):
                await host.wait_for_health(Up)
                client.publish("test/slow", b"work", slow_qos)
                assert (await working.receive()).value == b"work"  # and it is not done with it
                for payload in payloads:
                    client.publish("test/fast", payload, 1)
                assert [(await fast.receive()).value for _ in payloads] == payloads

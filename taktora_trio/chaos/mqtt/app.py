"""The deployment under test: the app's numbers go to an MQTT broker, which gives them back."""

from __future__ import annotations

from taktora_trio.channels import Inbound, Outbound
from taktora_trio.chaos.app import RECONNECT, Numbered, deploy
from taktora_trio.chaos.mqtt.connector import FaultyMqttConnector
from taktora_trio.connectors.mqtt.options import MqttOptions
from taktora_trio.connectors.mqtt.routing import MqttRouting

__all__ = ["NUMBERS_TOPIC", "deployment"]

NUMBERS_TOPIC = "chaos/numbers"
NUMBERS = Outbound("numbers", Numbered, MqttRouting(NUMBERS_TOPIC, qos=1), max_payload=128)
ECHO = Inbound("echo", Numbered, MqttRouting(NUMBERS_TOPIC, qos=1), max_payload=128, window=256)

deployment = deploy(
    FaultyMqttConnector(
        [NUMBERS, ECHO],
        options=MqttOptions(
            keepalive=2,  # seconds; less would take a machine that is merely busy for a broker that is gone
            connect_timeout=1.0,
            drain_timeout=0.5,
            reconnect=RECONNECT,
        ),
    ),
    NUMBERS,
    ECHO,
)

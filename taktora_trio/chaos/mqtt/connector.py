"""FaultyMqttConnector: MQTT's connector, made to fail on demand."""

from __future__ import annotations

from taktora_trio.chaos.faulty import Faulty
from taktora_trio.connectors.mqtt.connector import MqttConnector

__all__ = ["FaultyMqttConnector"]


class FaultyMqttConnector(Faulty, MqttConnector):
    """An `MqttConnector` whose gateway half fails on demand."""

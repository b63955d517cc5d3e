"""KIT: MQTT's, by a mosquitto of its own."""

from __future__ import annotations

from taktora_trio.chaos.kit import Kit
from taktora_trio.chaos.mqtt.app import NUMBERS_TOPIC
from taktora_trio.chaos.mqtt.subscriber import open_subscriber
from taktora_trio.testing.mqtt.mosquitto import find_mosquitto, open_mosquitto

__all__ = ["KIT"]

KIT = Kit(
    target="taktora_trio.chaos.mqtt.app:deployment",
    reach=lambda address: ["--broker", f"mqtt://{address}"],
    check=find_mosquitto,
    open_broker=open_mosquitto,
    open_subscriber=lambda port: open_subscriber(port, NUMBERS_TOPIC),
)

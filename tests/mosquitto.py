"""A real broker for tests: mosquitto on a free port of loopback, with the configuration that a test asks for."""

from taktora_trio.testing.mqtt.mosquitto import Mosquitto, find_mosquitto, open_mosquitto
from taktora_trio.testing.server import free_port

__all__ = ["Mosquitto", "find_mosquitto", "free_port", "open_mosquitto"]
